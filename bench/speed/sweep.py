"""How the time of a layer grows with frames, chunk, batch and channels: sizes, and the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.speed.result import Slope
from bench.timing.cases import EXACT, STEPS, Case, Mode, collapse, preserve, resized

BASE = Case("sweep", 16, 8, (16, 16), 32, 32)
SPARSE = 0.01
"""Share of spikes in the mode that is called sparse: exact, too."""


@dataclass(frozen=True)
class Axis:
    """One size that grows while the others stay."""

    name: str
    mode: str
    values: tuple[int, ...]
    expected: str

    def points(self) -> dict[int, tuple[Case, Mode]]:
        """Layer and mode for each value."""
        if self.name == "K":
            make = preserve if self.mode == "preserve" else collapse
            return {value: (BASE, make(value)) for value in self.values}
        mode = STEPS.get(self.mode, EXACT)
        base = replace(BASE, density=SPARSE) if self.mode == "sparse" else BASE
        return {value: (resized(base, self.name, value), mode) for value in self.values}

    @property
    def label(self) -> str:
        """The mode in words."""
        return f"exact, {100 * SPARSE:g} % of spikes" if self.mode == "sparse" else _labels().get(self.mode, self.mode)


def _labels() -> dict[str, str]:
    return {name: mode.label for name, mode in STEPS.items()}


AXES = (
    Axis("T", "exact", (4, 8, 16, 32, 64), "1: every frame costs the same"),
    Axis("T", "sparse", (4, 8, 16, 32, 64), "1: every frame costs the same"),
    Axis("T", "step", (4, 8, 16, 32, 64), "1: every frame costs the same"),
    Axis("B", "exact", (2, 4, 8, 16, 32), "1: every sample costs the same"),
    Axis("C", "exact", (8, 16, 32, 64, 128), "from 1, where the neurons are the work, to 2, where the convolution is"),
    Axis("K", "collapse", (1, 2, 4, 8, 16), "-1: K frames share one convolution and one step of the neurons"),
    Axis("K", "preserve", (1, 2, 4, 8, 16), "from -1, where the convolution is the work, to 0, where the neurons are"),
)


def short(axis: Axis) -> Axis:
    """Three of the values."""
    return Axis(axis.name, axis.mode, axis.values[1:4], axis.expected)


def fit(subject: str, axis: Axis, values: Sequence[int], seconds: Sequence[float]) -> Slope:
    """Fit a power law to the medians."""
    slope = np.polyfit(np.log(values), np.log(seconds), 1)[0]
    return Slope(subject, axis.mode, axis.name, list(values), list(seconds), float(slope))
