"""Tables of ``python -m bench speed`` beyond layers at the usual share of spikes: other shares, training steps, their memory, streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.shared.tables import milliseconds
from bench.speed.result import SpeedResult, SpeedRow
from bench.timing.cases import ALL_MODES, STEPS

__all__ = ["Table", "density_tables", "memory_table", "step_table", "stream_table", "tables"]

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, head and rows."""
ORDER = {"tacops": 0, "plain": 1, "peer": 2}
"""Of kinds of libraries."""
CELLS = "milliseconds (times as fast as the fastest SNN library, fraction of the ceiling)"


def tables(result: SpeedResult) -> list[Table]:
    """Those for which there are numbers."""
    return [*density_tables(result), *step_table(result), *memory_table(result), *stream_table(result)]


def density_tables(result: SpeedResult) -> list[Table]:
    """For each layer the time of every library at every share of spikes."""
    found = []
    for base in dict.fromkeys(about["base"] for about in result.cases.values() if about.get("base")):
        shares = _shares(result, base)
        modes = dict.fromkeys(row.mode for row in result.rows if row.case in shares and row.mode not in STEPS)
        rows = [
            (_name(name, mode), *(_cell(result, result.find(case, name, mode)) for case in shares))
            for mode in modes
            for name in _names(result)
            if sum(result.find(case, name, mode) is not None for case in shares) > (len(shares) > 1)
        ]
        if rows:
            head = ("library", *(f"{100 * share:.3g} %" for share in shares.values()))
            found.append((f"{base}, exact, by the share of spikes in its input: {CELLS}", head, rows))
    return found


def _shares(result: SpeedResult, base: str) -> dict[str, float]:
    """Cases of one layer, the layer itself, too, that were timed forwards, by their share of spikes."""
    timed = {row.case for row in result.rows if row.mode not in STEPS}
    cases = {case: result.layer(case).density for case in result.cases if result.base(case) == base and case in timed}
    return dict(sorted(cases.items(), key=lambda item: item[1]))


def step_table(result: SpeedResult) -> list[Table]:
    """The time of a training step of every library for every layer."""
    timed = [row for row in result.rows if row.mode in STEPS]
    cases = list(dict.fromkeys(row.case for row in timed))
    rows = []
    for mode in STEPS:
        for name in _names(result):
            found = [result.find(case, name, mode) for case in cases]
            if any(found):
                far = [row.differs for row in found if row and row.differs is not None]
                rows.append(
                    (
                        STEPS[mode].label,
                        name,
                        *(_cell(result, row) for row in found),
                        f"{max(far):.0e}" if far else "",
                    )
                )
    head = ("step", "library", *cases, "gradient differs")
    return [(f"Training steps, forward and backward: {CELLS}", head, rows)] if rows else []


def memory_table(result: SpeedResult) -> list[Table]:
    """The peak memory of a training step over T."""
    if not result.step_memory:
        return []
    values = result.step_memory[0].values
    rows = [
        (
            row.subject,
            *(f"{peak / 2**20:.0f}" for peak in row.peak),
            f"{row.slope:.2f}" if len(row.values) > 1 else "",
        )
        for row in result.step_memory
    ]
    head = ("library", *(f"T = {T}" for T in values), "slope")
    return [("Peak memory of a training step by weight, MiB beside its inputs", head, rows)]


def stream_table(result: SpeedResult) -> list[Table]:
    """What `tacops.Stream` takes for every frame, and whether its memory grows with their number."""
    if not result.streams:
        return []
    first = result.streams[0]
    rows = [
        (
            row.subject,
            *(milliseconds(seconds[key]) for seconds in (row.inside, row.complete) for key in ("median", "worst")),
            " / ".join(f"{kept / 2**10:.1f}" for kept in row.kept),
            " / ".join(f"{peak / 2**20:.1f}" for peak in row.peak),
        )
        for row in result.streams
    ]
    timed = [f"{words}, {which}" for words in ("inside a chunk", "completes one") for which in ("median", "worst")]
    after = " / ".join(map(str, first.frames))
    head = ("library", *timed, f"KiB kept after {after} frames", "MiB beyond the start, at most, after as many")
    return [(f"Stream, frame by frame: milliseconds that a frame takes ({first.network})", head, rows)]


def _names(result: SpeedResult) -> Iterable[str]:
    subjects: Mapping[str, Mapping[str, str]] = result.subjects
    return sorted(
        (name for name in subjects if subjects[name]["kind"] in ORDER), key=lambda name: ORDER[subjects[name]["kind"]]
    )


def _name(name: str, mode: str) -> str:
    return name if mode == "exact" else f"{name}, {ALL_MODES[mode].label}"


def _cell(result: SpeedResult, row: SpeedRow | None) -> str:
    """Milliseconds, and what they are compared with."""
    if row is None:
        return ""
    by = "step_both" if row.mode == "step_both" else "step" if row.mode in STEPS else "exact"
    peer, ceiling = result.fastest(row.case, "peer", by), result.ceiling(row)
    beside = [f"{peer.seconds / row.seconds:.2f} x"] if peer else []
    beside += [f"{ceiling:.0%}" if ceiling <= 1.05 else "> 100%"] if ceiling else []
    return f"{milliseconds(row.seconds)} ({', '.join(beside)})" if beside else milliseconds(row.seconds)
