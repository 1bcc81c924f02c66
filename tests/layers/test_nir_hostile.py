"""NIR: factors of every shape, and networks and graphs that no writer should make: refused in one sentence, by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacops import Stream
from tacops.layers import FrozenLayer, Scale
from tests.support.layer_frameworks import Array

nir = pytest.importorskip("nir", reason="nir is not installed (it is part of the extra dev)")
from tacops.backends.nir_layers import from_nir, to_nir

RNG = np.random.default_rng(4)
ZERO: dict[str, Any] = {"chunk_size": 1, "reset": "zero"}


def dense(**arrays: Array) -> FrozenLayer:
    return FrozenLayer({"weight": np.full((4, 3), 0.5, np.float32), **arrays}, ZERO)


@pytest.mark.parametrize("factors", [(6, 4), (5, 1, 1), (6, 1), (1, 4), (5, 6, 4), (4,), (1,), ()])
def test_factors_broadcast_to_a_frame_of_either_layout(factors: tuple[int, ...]) -> None:
    """Of a frame of 5 x 6 pixels of 4 channels, whatever axes the factors have."""
    values = RNG.uniform(0.25, 2.0, factors).astype(np.float32)
    weight = RNG.normal(0.1, 0.5, (3, 2, 2, 4)).astype(np.float32)
    frames = RNG.random((12, 2, 5, 6, 4)) < 0.4
    for layout in ("channels_last", "channels_first"):
        last = layout == "channels_last"
        own = values if last or not factors else np.moveaxis(values.reshape((1,) * (3 - len(factors)) + factors), -1, 0)
        layers = [Scale(own), FrozenLayer({"weight": weight}, {**ZERO, "layout": layout})]
        first = np.moveaxis(frames, -1, 2)
        want = layers[1](layers[0](frames if last else first)).spikes
        got = Stream(from_nir(to_nir(layers, (5, 6, 4) if last else (4, 5, 6)))).feed(first)
        assert got is not None
        assert 0.05 < want.mean() < 0.95
        np.testing.assert_array_equal(got.spikes, np.moveaxis(want, -1, 2) if last else want)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_factors_that_fit_no_frame(layout: str) -> None:
    conv = FrozenLayer({"weight": np.ones((3, 2, 2, 4), np.float32)}, {**ZERO, "layout": layout})
    for shape in ((5,), (1, 1, 1, 1), (7, 1, 1), (2, 2)):
        with pytest.raises(ValueError, match=r"^to_nir: layers\[0\] must be of factors that broadcast to frames of sh"):
            to_nir([Scale(np.ones(shape, np.float32)), conv], (4, 5, 6) if layout == "channels_first" else (5, 6, 4))
    with pytest.raises(
        ValueError, match=r"^to_nir: layers\[1\] must be of factors that broadcast to frames of shape \(4,\)"
    ):
        to_nir(
            [dense(), Scale(np.ones(5, np.float32)), FrozenLayer({"weight": np.ones((2, 4), np.float32)}, ZERO)], (3,)
        )
    for value in (np.nan, np.inf, 1e300):
        with pytest.raises(ValueError, match=r"^to_nir: layers\[0\] must be of factors that are finite in float32"):
            to_nir([Scale(np.array(value)), conv], (4, 5, 6) if layout == "channels_first" else (5, 6, 4))
