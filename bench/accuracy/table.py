"""Results of ``python -m bench accuracy`` as Markdown, for ``python -m bench table``."""

from __future__ import annotations

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
from bench.accuracy.result import AccuracyResult, from_dict
from bench.shared.tables import folded, markdown

__all__ = ["from_dict", "full", "plot", "short"]


def plot(result: AccuracyResult, stem: Path) -> list[Path]:
    """Draw it again."""
    from bench.accuracy.plot import save_plots  # needs Matplotlib

    return save_plots(result, stem)


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
    parts = ["### All tasks", short(result)]
    parts += ["### Task by task"]
    parts += [folded(title(result, task), markdown(HEAD, mode_rows(result, task))) for task in result.tasks]
    parts += ["### What `advise` says, and what training says", markdown(ADVICE_HEAD, advice_rows(result))]
    parts += ["### The paper's figures and ours", markdown(PAPER_HEAD, paper_rows(result))]
    if learned_rows(result):
        parts += [folded("Learned aggregation", markdown(LEARNED_HEAD, learned_rows(result)))]
    parts += ["### Conditions", "\n".join(f"- {line}" for line in conditions(result))]
    return "\n\n".join(parts)
