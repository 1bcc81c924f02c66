"""What the commands share that put a stored result's tables between markers in a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.shared.files import DAMAGE, OutputError, check_output, reason, write_whole
from bench.shared.plots import plot_files
from bench.shared.results import ResultError


def put_tables(
    name: str,
    args: argparse.Namespace,
    read: Callable[[Path], Any],
    tables: Callable[[Any], str],
    plot: Callable[[Any, Path], object],
) -> int:
    """Print tables or put them into a page; 0 if all is well, 1 if a checked page is out of date, 2 for bad input.

    Parameters
    ----------
    name : str
        Of the benchmark: ``NAME-table`` is the command, ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` the markers.
    args : Namespace
        With ``result``, ``into``, ``plot`` and ``check``.
    read, tables, plot : callable
        Path to result, result to Markdown, and what draws the result to a stem.
    """
    try:
        result = read(args.result)
        if args.plot:
            check_output(*plot_files(args.plot))
            _made(plot, result, args.plot, of=args.result)
            return 0
        text = _made(tables, result, of=args.result)
        if args.into is None:
            print(text)
            return 0
        page = args.into.read_text()
        changed = replaced(page, text, str(args.into), name)
        if args.check:
            print(f"{args.into}: {'up to date' if changed == page else 'OUT OF DATE'}")
            return 0 if changed == page else 1
        write_whole(args.into, changed.encode())
    except (ResultError, OSError, UnicodeError) as error:
        print(f"python -m bench {name}-table: {error}", file=sys.stderr)
        return 2
    return 0


def _made(make: Callable[..., Any], *given: Any, of: Path) -> Any:
    """What is made of a stored result: its numbers may be of any size and kind, since nothing seals them."""
    try:
        return make(*given)
    except OutputError:
        raise
    except DAMAGE as error:
        raise ResultError(
            f"{of} is damaged: no table can be made of it ({type(error).__name__}: {reason(error)})"
        ) from error


def markers(name: str) -> tuple[str, str]:
    """The lines before and after a benchmark's tables."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def replaced(page: str, text: str, path: str, name: str) -> str:
    """Replace what is between the markers of `name`."""
    begin, end = markers(name)
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise ResultError(f"{path} must have one line {begin} and one {end} after it")
    return f"{page[: page.index(begin)]}{begin}\n{text}\n{page[page.index(end) :]}"
