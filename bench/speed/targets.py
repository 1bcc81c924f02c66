"""What tacops promises about speed and memory, held against a result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from bench.speed import promises
from bench.speed.result import SpeedResult, SpeedRow
from bench.timing.cases import COMPUTE_BOUND, MODES, SIZES

REFERENCE = "tacops array_api"
"""The generic backend is a reference, not promised to be fast."""
COLLAPSE = ("tacops numpy", "tacops jax", "tacops torch")
REPRODUCIBLE = ("tacops numpy", "tacops jax")
Value: TypeAlias = tuple[str, float | None, float | None]
"""Name, value and limit."""


@dataclass(frozen=True)
class Target:
    """A promise, what was measured, and whether that keeps it."""

    text: str
    goal: str
    values: dict[str, float]
    """By size or backend; empty if it wasn't measured."""
    failing: list[str]
    """Those that miss the goal."""
    unit: str = "x"
    limits: dict[str, float] = field(default_factory=dict)
    """What a value could be at best, by the run's own measurements."""
    limit: str = "at the ceiling"
    """What that is."""

    @property
    def met(self) -> bool | None:
        """None if nothing was measured."""
        return not self.failing if self.values else None

    def as_dict(self) -> dict[str, Any]:
        """For the file."""
        return {**asdict(self), "met": self.met}


def targets(result: SpeedResult) -> list[Target]:
    """All promises; those about other shares of spikes and training steps where these were measured."""
    return [*_usual(result), *(target for target in _more(result) if target.values)]


def _more(result: SpeedResult) -> list[Target]:
    over = {share: promises.over_peers(result, share) for share in (0.01, 0.05)}
    return [
        with_traffic("exact on NumPy at 1 % of spikes over the fastest SNN library", 8.0, over[0.01]),
        with_traffic("exact on NumPy at 5 % of spikes over the fastest SNN library", 5.0, over[0.05]),
        at_most("exact on PyTorch over exact on NumPy, any share of spikes", 1.1, promises.engines(result)),
        at_most("reproducible over default on NumPy, any share of spikes", 1.1, promises.reproducible(result)),
        at_least(
            "training step by weight on PyTorch over the fastest SNN library's", 2.0, promises.step_over_peers(result)
        ),
    ]


def _usual(result: SpeedResult) -> list[Target]:
    return [
        at_least(
            "exact on NumPy over the fastest SNN library",
            1.3,
            (_over_peers(result, size, size, "tacops numpy", "exact") for size in SIZES),
        ),
        at_least("exact on NumPy, share of the matrix products alone", 0.75, _gemm_shares(result)),
        at_least("exact on the fastest backend over the fastest SNN library", 1.7, _fastest(result)),
        at_least("collapse K = T = 16 over exact, same backend", 13.8, _collapse_over_own(result)),
        at_least("collapse K = T = 16 over the fastest SNN library's exact", 16.0, _collapse_over_peers(result)),
        at_least("preserve K = 4 over exact, same backend", 1.5, _preserve(result)),
        with_call("time over plain code in the same library, its worst mode", 1.1, _over_plain(result)),
        at_most("reproducible over default", 1.25, _reproducible(result)),
        at_most("overhead of a call on NumPy", 50.0, _overhead(result), "us"),
        at_most("peak memory beside the result over the input, on NumPy", 1.0, _memory(result)),
        at_most("growth of that memory when T or B doubles", 1.1, _memory_growth(result)),
    ]


def at_least(text: str, goal: float, values: Iterable[Value]) -> Target:
    """Every value must reach the goal."""
    known = list(values)
    found = {name: value for name, value, _ in known if value is not None}
    limits = {name: limit for name, _, limit in known if limit is not None}
    return Target(text, f">= {goal:g}", found, [name for name, value in found.items() if value < goal], limits=limits)


def at_most(text: str, goal: float, values: Iterable[tuple[str, float | None]], unit: str = "x") -> Target:
    """No value may exceed the goal."""
    found = {name: value for name, value in values if value is not None}
    return Target(text, f"<= {goal:g}", found, [name for name, value in found.items() if value > goal], unit)


def with_traffic(text: str, goal: float, values: Iterable[Value]) -> Target:
    """Every value must reach the goal; limits are what it would be if the layer took as long as its memory traffic."""
    return replace(at_least(text, goal, values), limit="by memory traffic alone")


def with_call(text: str, goal: float, values: Iterable[Value]) -> Target:
    """No value may exceed the goal; limits are what plain code would take if it had our overhead of a call."""
    known = list(values)
    limits = {name: limit for name, _, limit in known if limit is not None}
    target = at_most(text, goal, ((name, value) for name, value, _ in known))
    return replace(target, limits=limits, limit="by the call alone")


def _over(result: SpeedResult, name: str, slower: SpeedRow | None, faster: SpeedRow | None) -> Value:
    """How many times as long one takes as the other, and as the other would at its ceiling."""
    if slower is None or faster is None:
        return name, None, None
    value, fraction = slower.seconds / faster.seconds, result.ceiling(faster)
    return name, value, value / fraction if fraction else None


def _over_peers(result: SpeedResult, name: str, case: str, subject: str, mode: str) -> Value:
    return _over(result, name, result.fastest(case, "peer"), result.find(case, subject, mode))


def _over_exact(result: SpeedResult, case: str, subject: str, mode: str) -> Value:
    rows = (result.find(case, subject, name) for name in ("exact", mode))
    return _over(result, f"{_short(subject)} {case}", *rows)


def _gemm_shares(result: SpeedResult) -> Iterable[Value]:
    for size in COMPUTE_BOUND:
        gemm, row = result.gemm(size, MODES["exact"]), result.find(size, "tacops numpy", "exact")
        yield size, gemm / row.seconds if gemm and row else None, None


def _fastest(result: SpeedResult) -> Iterable[Value]:
    for size in SIZES:
        best = result.fastest(size, "tacops")
        if best:
            yield _over(result, f"{size} {_short(best.subject)}", result.fastest(size, "peer"), best)


def _collapse_over_own(result: SpeedResult) -> Iterable[Value]:
    for subject in COLLAPSE:
        for size in COMPUTE_BOUND:
            yield _over_exact(result, size, subject, "collapse16")


def _collapse_over_peers(result: SpeedResult) -> Iterable[Value]:
    for subject in COLLAPSE:
        for size in COMPUTE_BOUND:
            yield _over_peers(result, f"{_short(subject)} {size}", size, subject, "collapse16")


def _preserve(result: SpeedResult) -> Iterable[Value]:
    for subject in _backends(result):
        for size in SIZES:
            yield _over_exact(result, size, subject, "preserve4")


def _over_plain(result: SpeedResult) -> Iterable[Value]:
    """The worst mode of each backend and case."""
    for subject in _backends(result):
        backend = _short(subject).split(",")[0]
        call = _call_seconds(result, backend)
        for case in result.layers():
            plain = {mode: result.find(case, f"plain {backend}", mode) for mode in MODES}
            ours = {mode: result.find(case, subject, mode) for mode in MODES}
            ratios = {mode: (o.seconds / p.seconds, p) for mode, o in ours.items() if o and (p := plain[mode])}
            if ratios:
                mode = max(ratios, key=lambda mode: ratios[mode][0])
                ratio, row = ratios[mode]
                yield f"{_short(subject)} {case} {mode}", ratio, 1 + call / row.seconds if call else None


def _call_seconds(result: SpeedResult, backend: str) -> float:
    """What every call costs beside plain code: overhead, and the threads that NumPy's plain code doesn't wake."""
    times = result.overhead.get(backend)
    return times["tacops"] - times["plain"] + times.get("threads", 0.0) if times else 0.0


def _reproducible(result: SpeedResult) -> Iterable[tuple[str, float | None]]:
    for subject in REPRODUCIBLE:
        for size in SIZES:
            yield f"{_short(subject)} {size}", result.ratio(size, (subject, "reproducible"), (subject, "exact"))


def _overhead(result: SpeedResult) -> Iterable[tuple[str, float | None]]:
    times = result.overhead.get("numpy")
    yield "numpy", (times["tacops"] - times["plain"]) * 1e6 if times else None


def _memory(result: SpeedResult) -> Iterable[tuple[str, float | None]]:
    memory = result.memory
    yield "numpy", memory["work"] / memory["input"] if memory else None


def _memory_growth(result: SpeedResult) -> Iterable[tuple[str, float | None]]:
    """The work area is bounded."""
    memory = result.memory
    for axis in ("T", "B"):
        yield axis, memory[f"work_2{axis}"] / memory["work"] if memory else None


def _backends(result: SpeedResult) -> list[str]:
    return [name for name in result.names("tacops") if name != REFERENCE]


def _short(subject: str) -> str:
    return subject.split(" ", 1)[1]
