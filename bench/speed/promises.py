"""What tacops promises about other shares of spikes and about training steps, as values for `bench.speed.targets`."""

from __future__ import annotations

from collections.abc import Iterable

from bench.speed.ceilings import least_seconds
from bench.speed.result import SpeedResult
from bench.timing.cases import EXACT, SIZES

__all__ = ["Found", "engines", "over_peers", "reproducible", "step_over_peers"]

Found = Iterable[tuple[str, float | None, float | None]]
"""Name, value, and what it could be at best, by the run's own measurements."""


def cases(result: SpeedResult, share: float | None = None) -> list[str]:
    """Layers that targets speak of, at one share of spikes, or at every other than the usual one; recordings, too, then."""
    named = {case: about for case, about in result.cases.items() if about.get("base")}
    if share is None:
        return list(named)
    return [case for case, about in named.items() if about["density"] == share and about["base"] in SIZES]


def over_peers(result: SpeedResult, share: float) -> Found:
    """Exact on NumPy against the fastest SNN library; at best it takes as long as its memory traffic, which no spikes save."""
    for case in cases(result, share):
        peer = result.fastest(case, "peer")
        if peer is None:
            yield case, None, None
            continue
        least = least_seconds(result.layer(case), EXACT, None, result.bandwidth(case))
        value = result.ratio(case, (peer.subject, "exact"), ("tacops numpy", "exact"))
        yield case, value, peer.seconds / least if least else None


def step_over_peers(result: SpeedResult) -> Found:
    """A training step by weight on PyTorch against the fastest SNN library's; at best it takes as long as its products."""
    for case in cases(result):
        peer, ours = result.fastest(case, "peer", "step"), result.find(case, "tacops torch", "step")
        if peer is None or ours is None:
            yield case, None, None
            continue
        share = result.ceiling(ours)
        yield case, peer.seconds / ours.seconds, peer.seconds / (share * ours.seconds) if share else None


def engines(result: SpeedResult) -> Iterable[tuple[str, float | None]]:
    """PyTorch's time over NumPy's."""
    for case in cases(result):
        yield case, result.ratio(case, ("tacops torch", "exact"), ("tacops numpy", "exact"))


def reproducible(result: SpeedResult) -> Iterable[tuple[str, float | None]]:
    """Reproducible mode's time over the default path's, on NumPy."""
    for case in cases(result):
        yield case, result.ratio(case, ("tacops numpy", "reproducible"), ("tacops numpy", "exact"))
