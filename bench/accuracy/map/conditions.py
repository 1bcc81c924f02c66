"""The map's conditions: all that the accuracy of aggregation may depend on, varied one factor at a time and together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bench.accuracy.modes import VARIANTS

ReadOut = Literal["rate", "last", "count", "membrane"]


@dataclass(frozen=True)
class Condition:
    """One training's conditions; the defaults are the middle of the map."""

    data: str = "fashion"
    training: int = 2000
    """Training samples."""
    tested: int = 2000
    """Test samples."""
    epochs: int = 4
    learning_rate: float = 5e-3
    """Adam's at the start; it falls to 0 along a cosine."""
    brightest: float = 1.0
    """Probability per frame that a white pixel spikes."""
    time_steps: int = 16
    beta: float = 0.9
    depth: int = 2
    """Convolutions; the first two halve height and width."""
    width: int = 16
    """Channels of the first convolution; the others have twice as many."""
    kernel: int = 3
    norm: bool = False
    """Batch normalisation between convolution and neurons."""
    scale: float = 1.0
    """Of the initial weights; 1: uniform within sqrt(6 / inputs)."""
    readout: ReadOut = "rate"
    """Linear of the firing rates; of the last frame's spikes; output neurons whose spikes are counted, or whose
    membranes, which never fire, are averaged."""
    surrogate: str = "fast_sigmoid"
    slope: float = 5.0
    everywhere: bool = False
    """Collapse in every layer, not only in the first."""
    library: Literal["jax", "torch"] = "jax"
    """What trains: PyTorch is sooner with large networks, JAX with small ones."""

    def changes(self, other: Condition) -> dict[str, Any]:
        """Where this condition differs from another.

        Examples
        --------
        >>> Condition(beta=0.5).changes(Condition())
        {'beta': 0.5}
        """
        theirs = asdict(other)
        return {name: value for name, value in asdict(self).items() if value != theirs[name]}


Levels = tuple[Mapping[str, Any], ...]
"""What a factor changes in the middle of the map, level by level."""

FACTORS: dict[str, Levels] = {
    "read-out": tuple({"readout": readout} for readout in ("count", "last", "membrane")),
    "batch normalisation": ({"norm": True},),
    "initial weights": tuple({"scale": scale} for scale in (0.1, 0.25, 0.5, 2.0)),
    "learning rate": tuple({"learning_rate": rate} for rate in (1e-4, 5e-4, 1e-3, 2e-2)),
    "data set": ({"data": "mnist"},),
    "greatest firing rate": tuple({"brightest": p} for p in (0.05, 0.1, 0.25, 0.5)),
    "frames T": tuple({"time_steps": T} for T in (4, 8, 32)),
    "decay beta": tuple({"beta": beta} for beta in (0.5, 0.75, 0.95, 0.99)),
    "convolutions": tuple({"depth": depth} for depth in (1, 3, 4)),
    "channels": tuple({"width": width} for width in (4, 8, 32)),
    "epochs": tuple({"epochs": epochs} for epochs in (1, 2, 12)),
    "surrogate": (
        *({"slope": slope} for slope in (1.0, 25.0, 100.0)),
        {"surrogate": "arctan", "slope": 2.0},
        {"surrogate": "sigmoid", "slope": 25.0},
        {"surrogate": "triangular", "slope": 1.0},
    ),
    "collapse in every layer": ({"everywhere": True},),
    "training samples": tuple({"training": count} for count in (300, 1000, 10_000)),
}
"""For images as rate codes; every K is trained at every level."""

MOTION: dict[str, Levels] = {
    "data set": ({"data": "dots"},),
    **{name: FACTORS[name] for name in ("decay beta", "convolutions", "batch normalisation", "read-out")},
    "channels": ({"width": 8}, {"width": 32}),
    "kernel": ({"kernel": 5},),
    "learning rate": ({"learning_rate": 1e-3},),
    "epochs": ({"epochs": 2}, {"epochs": 12}),
    "surrogate": ({"slope": 25.0},),
    "training samples": ({"training": 1000}, {"training": 10_000}),
}
"""For moving dots."""


@dataclass(frozen=True)
class Map:
    """Factors around a middle, and the modes that are compared with exact there."""

    middle: Condition
    factors: Mapping[str, Levels]
    modes: tuple[str, ...]
    title: str
    seeds: int = 2
    """Of each condition."""
    searched: bool = True
    """Whether promising factors are tried together, and what looks like a gain again with fresh seeds."""

    def conditions(self) -> Iterator[tuple[str, Condition]]:
        """Each condition with its factor; the middle first."""
        yield "middle of the map", self.middle
        for factor, levels in self.factors.items():
            yield from ((factor, replace(self.middle, **level)) for level in levels)


MAPS = {
    "codes": Map(
        Condition(),
        FACTORS,
        ("collapse2", "collapse4", "collapse8", "collapse16"),
        "images as rate codes",
    ),
    "large": Map(
        Condition(training=60_000, tested=10_000, epochs=5, width=32, kernel=5, norm=True, library="torch"),
        {"data set": ({"data": "mnist", "epochs": 2},)},
        ("collapse2", "collapse4", "collapse8", "collapse16", "preserve4"),
        "all training images, a larger network",
        seeds=3,
        searched=False,
    ),
    "motion": Map(Condition(data="patches"), MOTION, ("collapse2", "preserve2", "preserve4"), "moving dots"),
}


def modes_of(part: Map, condition: Condition) -> tuple[str, ...]:
    """The modes of a map that a condition allows: those whose chunks are no longer than all of its frames."""
    return tuple(name for name in part.modes if VARIANTS[name].mode.chunk_size <= condition.time_steps)
