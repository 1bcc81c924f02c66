"""What tacops promises about other shares of spikes and about training steps, as values for `bench.speed.targets`."""

from __future__ import annotations

from collections.abc import Iterable

from bench.speed.result import SpeedResult
from bench.timing.cases import SIZES

__all__ = ["Found", "engines", "over_peers", "reproducible", "step_over_peers"]

Found = Iterable[tuple[str, float | None, float | None]]
"""Name, value and limit, of which none is known here."""


def cases(result: SpeedResult, share: float | None = None) -> list[str]:
    """Layers that targets speak of, at one share of spikes, or at every other than the usual one; recordings, too, then."""
    named = {case: about for case, about in result.cases.items() if about.get("base")}
    if share is None:
        return list(named)
    return [case for case, about in named.items() if about["density"] == share and about["base"] in SIZES]


def over_peers(result: SpeedResult, share: float) -> Found:
    """Exact on NumPy against the fastest SNN library."""
    for case in cases(result, share):
        peer = result.fastest(case, "peer")
        yield case, result.ratio(case, (peer.subject, "exact"), ("tacops numpy", "exact")) if peer else None, None


def step_over_peers(result: SpeedResult) -> Found:
    """A training step by weight on PyTorch against the fastest SNN library's."""
    for case in cases(result):
        peer = result.fastest(case, "peer", "step")
        yield case, result.ratio(case, (peer.subject, "step"), ("tacops torch", "step")) if peer else None, None


def engines(result: SpeedResult) -> Iterable[tuple[str, float | None]]:
    """PyTorch's time over NumPy's."""
    for case in cases(result):
        yield case, result.ratio(case, ("tacops torch", "exact"), ("tacops numpy", "exact"))


def reproducible(result: SpeedResult) -> Iterable[tuple[str, float | None]]:
    """Reproducible mode's time over the default path's, on NumPy."""
    for case in cases(result):
        yield case, result.ratio(case, ("tacops numpy", "reproducible"), ("tacops numpy", "exact"))
