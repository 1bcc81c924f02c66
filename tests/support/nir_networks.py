"""Networks for tests of NIR, and frames to feed them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tacops.layers import FrozenLayer
from tests.support.layer_frameworks import Array

RNG = np.random.default_rng(0)
T = 20
FRAMES = RNG.random((T, 1, 2, 10, 10)) < 0.3
"""Channels first; two layers of 3 x 3 make 6 x 6 x 6 neurons of them, 4320 spikes or not in all."""
SHAPE = (2, 10, 10)
RANDOM = [RNG.normal(0.1, 0.3, shape).astype(np.float32) for shape in ((4, 3, 3, 2), (6, 3, 3, 4))]
TIES = [RNG.integers(-3, 5, shape).astype(np.float32) / 8 for shape in ((4, 3, 3, 2), (6, 3, 3, 4))]
KINDS: dict[str, dict[str, Any]] = {
    "LIF": {"beta": 0.9},
    "LIF, binary": {"beta": 0.75},
    "IF": {"beta": 1.0},
    "CubaLIF": {"beta": 0.9, "synapse_decay": 0.5},
    "CubaLIF, binary": {"beta": 0.75, "synapse_decay": 0.5},
}


def network(weights: list[Array], **options: Any) -> dict[str, FrozenLayer]:
    given = {"chunk_size": 1, "reset": "zero", "layout": "channels_first", "threshold": 0.75, **options}
    return {f"conv{n}": FrozenLayer({"weight": weight}, given) for n, weight in enumerate(weights)}


def run(layers: dict[str, Any], x: Any) -> Any:
    for layer in layers.values():
        x = layer(x)
        x = getattr(x, "spikes", x)
    return x
