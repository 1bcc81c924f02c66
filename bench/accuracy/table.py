"""``python -m bench accuracy-table``: a stored result as Markdown, put between markers in a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.accuracy.report import (
    ADVICE_HEAD,
    HEAD,
    LEARNED_HEAD,
    PAPER_HEAD,
    advice_rows,
    conditions,
    learned_rows,
    mode_rows,
    paper_rows,
    short_head,
    short_rows,
    title,
)
from bench.accuracy.result import AccuracyResult, read_json
from bench.shared.page import put_tables
from bench.shared.tables import markdown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("result", type=Path, metavar="RESULT.json", help="written by python -m bench accuracy --json")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="PAGE.md",
        help="replace what is between <!-- accuracy:begin --> and <!-- accuracy:end -->",
    )
    parser.add_argument("--short", action="store_true", help="one table with a row per task, for a README")
    parser.add_argument("--plot", type=Path, metavar="STEM", help="draw the plots again, and no tables")
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the page is up to date")


def main(args: argparse.Namespace) -> int:
    """Print the tables or put them into a page; 0 if all is well, 1 if a checked page is out of date, 2 for bad input."""

    def plot(result: AccuracyResult, stem: Path) -> None:
        from bench.accuracy.plot import save_plots

        save_plots(result, stem)

    return put_tables("accuracy", args, read_json, short if args.short else full, plot)


def short(result: AccuracyResult) -> str:
    """One table, and one sentence on how it was made."""
    about = result.machine
    head = (
        f"Accuracy in percent, mean ± standard deviation over seeds or folds, and speed-ups from the same run on "
        f"{about['processor']}, {about['cores']} cores."
    )
    return f"{head}\n\n{markdown(short_head(result), short_rows(result))}"


def full(result: AccuracyResult) -> str:
    """Everything."""
    parts = []
    for task in result.tasks:
        parts += [f"### {title(result, task)}", markdown(HEAD, mode_rows(result, task))]
    parts += ["### What `advise` says, and what training says", markdown(ADVICE_HEAD, advice_rows(result))]
    parts += ["### The paper's figures and ours", markdown(PAPER_HEAD, paper_rows(result))]
    if learned_rows(result):
        parts += ["### Learned aggregation", markdown(LEARNED_HEAD, learned_rows(result))]
    parts += ["### Conditions", "\n".join(f"- {line}" for line in conditions(result))]
    return "\n\n".join(parts)
