"""Results of ``python -m bench speed`` as Markdown, for ``python -m bench table``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
from bench.speed.result import SpeedResult, from_dict
from bench.speed.targets import targets
from bench.timing.cases import MODES, SIZES

__all__ = ["from_dict", "full", "plot", "short"]

SHORT_MODES = ("collapse16", "preserve4")


def plot(result: SpeedResult, stem: Path) -> list[Path]:
    """Draw it again."""
    from bench.speed.roofline import save_plots  # needs Matplotlib

    return save_plots(result, stem)


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
