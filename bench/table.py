"""``python -m bench table``: the tables of a stored result, printed or put between the markers of a page."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from bench.shared.files import DAMAGE, OutputError, check_output, write_whole
from bench.shared.page import replaced
from bench.shared.plots import plot_files
from bench.shared.results import ResultError, fault, read_content

KINDS = {
    "demo": "bench.demo.table",
    "speed": "bench.speed.table",
    "accuracy": "bench.accuracy.table",
    "accuracy map": "bench.accuracy.map.table",
    "sparsity": "bench.sparsity.table",
}
"""Which module makes the tables of which benchmark's results."""


class Tables(Protocol):
    """What a module named in ``KINDS`` offers."""

    def from_dict(self, content: Any, name: str) -> Any:
        """The result in a file of this name, or `ResultError`."""

    def short(self, result: Any) -> str:
        """Markdown for a README."""

    def full(self, result: Any) -> str:
        """Markdown with everything."""

    def plot(self, result: Any, stem: Path) -> list[Path]:
        """Draw ``stem.svg`` and ``stem.png``, and return their paths."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "result",
        type=Path,
        metavar="RESULT.json",
        help="written with --json by python -m bench (the demonstration), or its commands speed, accuracy, sparsity",
    )
    parser.add_argument(
        "page",
        type=Path,
        nargs="?",
        metavar="PAGE.md",
        help="replace what is between its lines <!-- KIND:begin --> and <!-- KIND:end -->, such as <!-- speed:begin --> "
        "(default: print the tables)",
    )
    parser.add_argument("--full", action="store_true", help="every table and the conditions, instead of one table")
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the page is up to date")
    parser.add_argument("--plot", type=Path, metavar="STEM", help="draw the plots again, and no tables")


def main(args: argparse.Namespace) -> int:
    """Print tables or put them into a page; 0 if all is well, 1 if a checked page is out of date, 2 for bad input."""
    try:
        if args.check and args.page is None:
            raise ResultError("--check: a PAGE.md must be named")
        kind, tables = choose(content := read_content(args.result), str(args.result))
        result = tables.from_dict(content, str(args.result))
        if args.plot:
            check_output(*plot_files(args.plot))
            print("wrote", *_made(tables.plot, result, args.plot, of=args.result))
            return 0
        text = _made(tables.full if args.full else tables.short, result, of=args.result)
        if args.page is None:
            print(text)
            return 0
        page = args.page.read_text()
        changed = replaced(page, text, str(args.page), kind)
        if args.check:
            print(f"{args.page}: {'up to date' if changed == page else 'OUT OF DATE'}")
            return 0 if changed == page else 1
        write_whole(args.page, changed.encode())
    except (ResultError, OSError, UnicodeError) as error:
        print(f"python -m bench table: {error}", file=sys.stderr)
        return 2
    return 0


def choose(content: Any, name: str) -> tuple[str, Tables]:
    """The benchmark that a file says it is of, and what makes its tables."""
    said = content.get("benchmark") if isinstance(content, dict) else None
    kind = said.removeprefix("tacops ") if isinstance(said, str) else ""
    if kind not in KINDS:
        raise ResultError(f"{name} is no result of python -m bench {_either()}")
    return kind, cast(Tables, importlib.import_module(KINDS[kind]))


def _made(make: Callable[..., Any], *given: Any, of: Path) -> Any:
    """What is made of a stored result: its numbers may be of any size and kind, since nothing seals them."""
    try:
        return make(*given)
    except OutputError:
        raise
    except DAMAGE as error:
        raise ResultError(f"{of} is damaged, so nothing can be made of it: {fault(error)}") from error


def _either() -> str:
    *others, last = KINDS
    return f"{', '.join(others)} or {last}"
