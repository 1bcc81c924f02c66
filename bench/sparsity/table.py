"""``python -m bench sparsity-table``: a stored result as Markdown, put between markers in a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.shared.page import put_tables
from bench.shared.tables import markdown
from bench.sparsity.cases import CONTENDERS
from bench.sparsity.conclusion import STRUCTURES, conclusion, winner
from bench.sparsity.report import BASE_HEAD, base_rows, conditions, head, strategy_rows
from bench.sparsity.result import SparsityResult, crossover, percent, read_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("result", type=Path, metavar="RESULT.json", help="written by python -m bench sparsity --json")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="PAGE.md",
        help="replace what is between <!-- sparsity:begin --> and <!-- sparsity:end -->",
    )
    parser.add_argument("--plot", type=Path, metavar="STEM", help="draw STEM.svg and STEM.png again, and no tables")
    parser.add_argument("--full", action="store_true", help="every strategy on every backend, and the conditions")
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the page is up to date")


def main(args: argparse.Namespace) -> int:
    """Print the tables or put them into a page; 0 if all is well, 1 if a checked page is out of date, 2 for bad input."""

    def plot(result: SparsityResult, stem: Path) -> None:
        from bench.sparsity.plot import save_plots

        save_plots(result, stem)

    return put_tables("sparsity", args, read_json, full if args.full else short, plot)


def short(result: SparsityResult) -> str:
    """One table: where the fastest strategy of all beats the fastest dense path of all, and by how much."""
    cases = list(result.cases)
    structures = list(dict.fromkeys(structure for _, structure in result.panels()))
    about = result.machine
    title = "Densities at which some sparse strategy beats the fastest dense convolution, and its largest gain, on "
    rows = [(STRUCTURES[name], *(_cell(result, case, name) for case in cases)) for name in structures]
    return f"{title}{about['processor']}, {about['cores']} cores.\n\n{markdown(('spikes', *cases), rows)}"


def _cell(result: SparsityResult, case: str, structure: str) -> str:
    dense = result.curve(case, structure, None, "dense")
    densities = sorted(dense)
    crossing = crossover(result.best_curve(case, structure), dense)
    if (case, structure) not in result.panels() or not crossing.wins:
        return "none" if (case, structure) in result.panels() else ""
    where = f"below {percent(crossing.high)}" if crossing.low is None and crossing.high else crossing.text(densities)
    found = winner(result, case, structure, "dense")
    if found is None:
        return where
    row, gain = found
    return f"{where}; {gain:.1f} x at {percent(row.density)} ({row.backend}, {CONTENDERS[row.contender].label})"


def full(result: SparsityResult) -> str:
    """Everything."""
    parts = [" ".join(conclusion(result)), short(result)]
    for case in result.cases:
        parts += [f"### {case}: {result.cases[case]['text']}", "Milliseconds for all frames:"]
        parts += [markdown(BASE_HEAD, base_rows(result, case))]
        for structure in (structure for name, structure in result.panels() if name == case):
            parts += [f"{STRUCTURES[structure].capitalize()}, the density below which a strategy beats:"]
            parts += [markdown(head(result, case, structure), strategy_rows(result, case, structure))]
    parts += ["### Conditions", "\n".join(f"- {line}" for line in conditions(result))]
    for title, entries in (("Not measured", result.missing), ("Failed", result.failed)):
        if entries:
            parts += [f"### {title}", "\n".join(f"- {name}: {reason}" for name, reason in entries.items())]
    return "\n\n".join(parts)
