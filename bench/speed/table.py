"""``python -m bench speed-table``: a stored result as Markdown, put between markers in a page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench.shared.page import put_tables
from bench.shared.tables import markdown, milliseconds
from bench.speed.report import (
    HEAD,
    SWEEP_HEAD,
    case_rows,
    conditions,
    extras,
    library_rows,
    sweep_rows,
    target_rows,
)
from bench.speed.result import SpeedResult, read_json
from bench.speed.targets import targets
from bench.timing.cases import MODES, SIZES

SHORT_MODES = ("collapse16", "preserve4")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("result", type=Path, metavar="RESULT.json", help="written by python -m bench speed --json")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="PAGE.md",
        help="replace what is between <!-- speed:begin --> and <!-- speed:end -->",
    )
    parser.add_argument("--plot", type=Path, metavar="STEM", help="draw STEM.svg and STEM.png again, and no tables")
    parser.add_argument("--full", action="store_true", help="every row, the targets and the conditions")
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the page is up to date")


def main(args: argparse.Namespace) -> int:
    """Print the tables or put them into a page; 0 if all is well, 1 if a checked page is out of date, 2 for bad input."""

    def plot(result: SpeedResult, stem: Path) -> None:
        from bench.speed.roofline import save_plots

        save_plots(result, stem)

    return put_tables("speed", args, read_json, full if args.full else short, plot)


def short(result: SpeedResult) -> str:
    """One table: milliseconds of a layer by library and size, and one sentence on how they were taken."""
    sizes = [case for case in result.cases if case in SIZES] or list(result.cases)
    layers = "; ".join(f"{size}: {result.cases[size]['text']}" for size in sizes)
    about = result.machine
    head = f"Milliseconds for one layer on {about['processor']}, {about['cores']} cores ({layers})."
    return f"{head}\n\n{markdown(('mode', 'library', *sizes), short_rows(result, sizes))}"


def short_rows(result: SpeedResult, sizes: Sequence[str]) -> list[tuple[str, ...]]:
    """The exact path of all, then what aggregation makes of tacops."""
    kinds = {"tacops": 0, "plain": 1, "peer": 2}
    names = sorted(
        (name for name in result.subjects if result.subjects[name]["kind"] in kinds),
        key=lambda name: kinds[result.subjects[name]["kind"]],
    )
    rows = []
    for mode in ("exact", *SHORT_MODES):
        for name in names if mode == "exact" else result.names("tacops"):
            found = [result.find(size, name, mode) for size in sizes]
            if any(found):
                cells = (milliseconds(row.seconds) if row else "" for row in found)
                rows.append((MODES[mode].label, name, *cells))
    return rows


def full(result: SpeedResult) -> str:
    """Everything."""
    parts = ["### Targets", markdown(("target", "goal", "measured", "met"), target_rows(targets(result)))]
    parts += ["### Libraries", markdown(("library", "versions", "configuration", "same spikes"), library_rows(result))]
    for case in result.cases:
        parts += [f"### {case}: {result.cases[case]['text']}", markdown(HEAD, case_rows(result, case))]
    if result.sweep:
        parts += ["### Growth", markdown(SWEEP_HEAD, sweep_rows(result))]
    parts += ["### Conditions", "\n".join(f"- {line}" for line in [*extras(result), *conditions(result)])]
    for title, entries in (("Not installed", result.missing), ("Failed", result.failed)):
        if entries:
            parts += [f"### {title}", "\n".join(f"- {name}: {reason}" for name, reason in entries.items())]
    return "\n\n".join(parts)
