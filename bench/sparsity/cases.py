"""What ``python -m bench sparsity`` computes: spikes of a structure and density, contenders, and exact weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.timing.cases import SEED, Case, Floats

Spikes: TypeAlias = NDArray[np.bool_]
Rng: TypeAlias = np.random.Generator

DENSITIES = (0.001, 0.005, 0.02, 0.1, 0.5)
STRUCTURED_DENSITIES = (0.001, 0.02, 0.1)
QUICK_DENSITIES = (0.001, 0.01, 0.1)
INSIDE = 0.5
"""Largest density inside what is active: of an active patch, channel, or place on an edge."""
PATCH = 7
"""Side of an active patch: not that of the blocks which strategies skip, and not aligned with them."""
STEPS = 64
"""Weights are multiples of 1/64, at most 2 in size: every sum of them is exact in float32, in any order."""


@dataclass(frozen=True)
class Workload:
    """A layer and spikes of one structure and density."""

    case: Case
    structure: str
    density: float

    @property
    def name(self) -> str:
        """A key."""
        return f"{self.case.name}/{self.structure}/{self.density:g}"

    def spikes(self) -> Spikes:
        """Binary frames (T, B, *S, C_in), equal for every library."""
        return STRUCTURES[self.structure](self.case, self.density, np.random.default_rng(SEED))

    def weight(self) -> Floats:
        """Exactly representable weights (C_out, *kernel, C_in): every strategy must give the dense result bit for bit."""
        rng = np.random.default_rng(SEED + 1)
        steps = np.rint(rng.standard_normal(self.case.weight_shape) * STEPS * math.sqrt(2 / self.case.depth))
        return np.asarray(np.clip(steps, -2 * STEPS, 2 * STEPS) / STEPS, np.float32)


def iid(case: Case, density: float, rng: Rng) -> Spikes:
    """Every place and channel for itself."""
    return rng.random((case.T, case.B, *case.space, case.c_in), dtype=np.float32) < density


def patches(case: Case, density: float, rng: Rng) -> Spikes:
    """Spikes within square patches, chosen anew for every frame; silence around them."""
    H, W = case.space
    sides = [np.minimum(PATCH, size - np.arange(0, size, PATCH)) for size in (H, W)]
    area = np.broadcast_to(np.outer(*sides), (case.T, case.B, len(sides[0]), len(sides[1])))
    order = rng.permutation(area.size)
    reached = np.cumsum(area.reshape(-1)[order])
    count = np.searchsorted(reached, min(1.0, density / INSIDE) * reached[-1]) + 1
    live = np.isin(np.arange(area.size), order[:count]).reshape(area.shape)
    active = live.repeat(PATCH, axis=2).repeat(PATCH, axis=3)[:, :, :H, :W, None]
    return active & iid(case, density * reached[-1] / reached[min(count, area.size) - 1], rng)


def channels(case: Case, density: float, rng: Rng) -> Spikes:
    """Spikes in some channels, the same in all frames; the others are silent."""
    count = max(1, min(case.c_in, round(case.c_in * density / INSIDE)))
    live = np.isin(np.arange(case.c_in), rng.permutation(case.c_in)[:count])
    return live & iid(case, min(1.0, density * case.c_in / count), rng)


def events(case: Case, density: float, rng: Rng) -> Spikes:
    """An edge that crosses the image as an event camera sees it: a band of spikes, and no event while it rests.

    The edge moves in the second half of the frames (at densities above a quarter, in all), in a direction of its own in
    every sample. The band is as wide as the density asks.
    """
    H, W = case.space
    moving = case.T // 2 if density <= INSIDE / 2 else case.T
    share = min(1.0, density * case.T / moving / INSIDE)
    y, x = np.meshgrid(np.linspace(-1, 1, H), np.linspace(-1, 1, W), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi, (1, case.B, 1, 1))
    place = np.linspace(-0.9, 0.9, moving)[:, None, None, None]
    distance = np.abs(np.cos(angle) * y + np.sin(angle) * x - place).reshape(moving, case.B, H * W)
    count = max(1, round(share * H * W))
    reach = np.partition(distance, count - 1, axis=-1)[..., count - 1, None]
    active = np.zeros((case.T, case.B, H, W, 1), bool)
    active[case.T - moving :] = (distance <= reach).reshape(moving, case.B, H, W, 1)
    return active & iid(case, min(1.0, density * case.T / moving / share), rng)


STRUCTURES: dict[str, Callable[[Case, float, Rng], Spikes]] = {
    "iid": iid,
    "patches": patches,
    "channels": channels,
    "events": events,
}
CHANNELS = 8
"""Input channels from which silent ones are worth a structure of their own."""


def structures(case: Case) -> list[str]:
    """Structures that differ on a layer."""
    return [name for name in STRUCTURES if name != "channels" or case.c_in >= CHANNELS]


@dataclass(frozen=True)
class Contender:
    """A way to the currents of all frames."""

    name: str
    label: str
    kind: str
    """``dense``, ``tac`` or ``sparse``: currents alone; ``layer``: the operator, neurons included, or these alone."""
    chunk: int = 1
    preserve: bool = False

    @property
    def aggregation(self) -> str:
        """The operators' default."""
        return "normalized_decay" if self.preserve else "decay"


DENSE = Contender("dense", "dense", "dense")
STRATEGIES = {
    contender.name: contender
    for contender in (
        Contender("scatter", "event-driven scatter", "sparse"),
        Contender("rows", "gather of active patches", "sparse"),
        Contender("matrix", "sparse matrix product", "sparse"),
        Contender("blocks", "block skipping", "sparse"),
        Contender("table", "packed bits and tables", "sparse"),
        Contender("frames", "silent frames skipped", "sparse"),
        Contender("brainevent", "brainevent", "sparse"),
    )
}
TAC = {
    contender.name: contender
    for contender in (
        *(Contender(f"collapse{K}", f"collapse K={K}", "tac", K) for K in (4, 8, 16)),
        *(Contender(f"preserve{K}", f"preserve K={K}", "tac", K, preserve=True) for K in (2, 4)),
    )
}
RULE = Contender("rule", "the operator, by its rule", "layer")
WAYS = {
    contender.name: contender
    for contender in (
        Contender("by dense", "by dense products", "layer"),
        Contender("by events", "by its loops over events", "layer"),
        Contender("by tables", "by its tables", "layer"),
    )
}
NEURONS = Contender("neurons", "the neurons alone", "layer")
LAYERS = {RULE.name: RULE, **WAYS, NEURONS.name: NEURONS}
CONTENDERS = {DENSE.name: DENSE, **TAC, **STRATEGIES, **LAYERS}


@cache
def measured_density(workload: Workload) -> float:
    """Share of spikes that the draw really has."""
    return float(workload.spikes().mean())
