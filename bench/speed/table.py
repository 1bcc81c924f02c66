"""Results of ``python -m bench speed`` as Markdown, for ``python -m bench table``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.shared.tables import folded, markdown, milliseconds
from bench.speed.extended import tables
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
    """Four rows, each with the fastest library: what other SNN libraries take, and what tacops does in three modes."""
    sizes = _sizes(result)
    lines = [("other SNN libraries, exact", "peer", "exact")]
    lines += [(f"tacops, {MODES[mode].label}", "tacops", mode) for mode in ("exact", *reversed(SHORT_MODES))]
    rows = [(label, *(_fastest(result, kind, size, mode) for size in sizes)) for label, kind, mode in lines]
    return f"{_head(result)}\n\n{markdown(('milliseconds, the fastest library', *sizes), rows)}"


def _fastest(result: SpeedResult, kind: str, size: str, mode: str) -> str:
    """Milliseconds of the fastest library of a kind, and its name."""
    found = [(row.seconds, name) for name in result.names(kind) if (row := result.find(size, name, mode))]
    return f"{milliseconds(min(found)[0])} ({min(found)[1].removeprefix('tacops ')})" if found else ""


def _sizes(result: SpeedResult) -> list[str]:
    return [case for case in result.cases if case in SIZES] or result.layers()


def _head(result: SpeedResult) -> str:
    """What was timed, and where."""
    layers = "; ".join(f"{size}: {result.cases[size]['text']}" for size in _sizes(result))
    about = result.machine
    return f"Milliseconds for one layer on {about['processor']}, {about['cores']} cores ({layers})."


def all_rows(result: SpeedResult, sizes: Sequence[str]) -> list[tuple[str, ...]]:
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
    sizes = _sizes(result)
    parts = ["### All libraries", _head(result), markdown(("mode", "library", *sizes), all_rows(result, sizes))]
    parts += ["### Targets", markdown(("target", "goal", "measured", "met"), target_rows(targets(result)))]
    parts += ["### Libraries", markdown(("library", "versions", "configuration", "same spikes"), library_rows(result))]
    parts += ["### Layer by layer"]
    for case in result.layers():
        parts += [folded(f"{case}: {result.cases[case]['text']}", markdown(HEAD, case_rows(result, case)))]
    for title, head, rows in tables(result):
        name, _, about = title.partition(": ")
        parts += [folded(name, *([f"In {about}."] if about else []), markdown(head, rows))]
    if result.sweep:
        parts += [folded("Growth", markdown(SWEEP_HEAD, sweep_rows(result)))]
    parts += ["### Conditions", "\n".join(f"- {line}" for line in [*extras(result), *conditions(result)])]
    for title, entries in (("Not installed", result.missing), ("Failed", result.failed)):
        if entries:
            parts += [f"### {title}", "\n".join(f"- {name}: {reason}" for name, reason in entries.items())]
    return "\n\n".join(parts)
