"""Which trainings the map consists of: a screen, factors together, and fresh seeds for whatever looks like a gain."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bench.accuracy.map.conditions import Condition, Map, modes_of

Stage = Literal["screen", "together", "confirm"]
CONFIRMED = (100, 101, 102, 103, 104)
"""Seeds. What the screen selects is confirmed by others, so that being selected is no advantage."""
PROMISING = 0.005
"""Gain in the screen, over all its seeds, from which on a condition is confirmed and a factor combined with others."""
COMBINED, LISTED = 4, 16
"""Factors that are tried together, and conditions that are confirmed: the most promising ones."""


WORDS = {
    "data": "data {}",
    "training": "{} training samples",
    "tested": "{} test samples",
    "epochs": "{} epochs",
    "learning_rate": "learning rate {}",
    "brightest": "firing rate up to {}",
    "time_steps": "T = {}",
    "beta": "beta {}",
    "depth": "{} convolutions",
    "width": "{} channels",
    "kernel": "kernel {}",
    "norm": "batch normalisation",
    "scale": "initial weights x {}",
    "readout": "read-out {}",
    "surrogate": "surrogate {}",
    "slope": "slope {}",
    "everywhere": "collapse in every layer",
    "library": "trained by {}",
}
"""How a change of each condition is called."""


@dataclass(frozen=True)
class Point:
    """A condition of the map, and the seeds and modes that are trained there."""

    stage: Stage
    factor: str
    condition: Condition
    modes: tuple[str, ...]
    """Besides exact, which is always trained."""
    seeds: tuple[int, ...]

    def label(self, middle: Condition) -> str:
        """The level in words.

        Examples
        --------
        >>> Point("screen", "decay beta", Condition(beta=0.5), (), (0,)).label(Condition())
        'beta 0.5'
        """
        return words(self.condition.changes(middle))


Found = Mapping[Point, Sequence[Mapping[str, Any]]]
"""One record of `bench.accuracy.map.train.train` for each seed of a point."""


def words(changes: Mapping[str, Any]) -> str:
    """Changes of a condition in words.

    Examples
    --------
    >>> words({"beta": 0.5, "everywhere": True, "depth": 3})
    'beta 0.5, collapse in every layer, 3 convolutions'
    """
    return ", ".join(WORDS[name].format(value) for name, value in changes.items()) or "the middle of the map"


def screen(part: Map) -> list[Point]:
    """The middle and every level of every factor."""
    return [
        Point("screen", factor, condition, modes_of(part, condition), tuple(range(part.seeds)))
        for factor, condition in part.conditions()
    ]


def together(part: Map, found: Found) -> list[Point]:
    """The most promising factors' best levels, two at a time and all at once."""
    best: dict[str, tuple[float, Condition]] = {}
    for point, records in found.items():
        gain = best_gain(point, records)[1]
        if gain >= PROMISING and point.factor not in ("middle of the map", "data set"):
            best[point.factor] = max(best.get(point.factor, (0.0, part.middle)), (gain, point.condition), key=_first)
    chosen = sorted(best.values(), key=_first, reverse=True)[:COMBINED]
    levels = [condition.changes(part.middle) for _, condition in chosen]
    groups: list[Iterable[Mapping[str, Any]]] = list(itertools.combinations(levels, 2))
    if len(levels) > 2:
        groups.append(levels)
    conditions = [_all(part.middle, group) for group in groups]
    seeds = tuple(range(part.seeds))
    return [Point("together", "together", each, modes_of(part, each), seeds) for each in conditions]


def confirm(found: Found) -> list[Point]:
    """The conditions whose best mode gained most, with fresh seeds for that mode."""
    ranked = sorted(
        ((*best_gain(point, records), point) for point, records in found.items()), key=lambda each: -each[1]
    )
    return [
        Point("confirm", point.factor, point.condition, (mode,), CONFIRMED)
        for mode, gain, point in ranked[:LISTED]
        if gain >= PROMISING
    ]


def best_gain(point: Point, records: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """The mode that gained most over exact, and its mean gain."""
    gains = {mode: statistics.fmean(record[mode]["gain"] for record in records) for mode in point.modes}
    mode = max(gains, key=lambda name: gains[name])
    return mode, gains[mode]


def point_from(content: Mapping[str, Any]) -> Point:
    """A point as it is stored."""
    condition = Condition(**content["condition"])
    return Point(content["stage"], content["factor"], condition, tuple(content["modes"]), tuple(content["seeds"]))


def stored(point: Point) -> dict[str, Any]:
    """A point for a file."""
    return asdict(point)


def shortened(part: Map) -> Map:
    """A look at the map: its middle and one level of each factor, with little data."""
    middle = replace(part.middle, training=300, epochs=1)
    factors = {name: levels[:1] for name, levels in part.factors.items() if name not in ("epochs", "training samples")}
    return replace(part, middle=middle, factors=factors, modes=part.modes[:1] + part.modes[-1:])


def _all(middle: Condition, group: Iterable[Mapping[str, Any]]) -> Condition:
    changed = middle
    for level in group:
        changed = replace(changed, **level)
    return changed


def _first(pair: tuple[float, Condition]) -> float:
    return pair[0]
