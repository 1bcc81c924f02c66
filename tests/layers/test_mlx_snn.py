"""Parity with an installed mlx-snn, called through its public interface; the equations are checked in test_properties.py."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tacops
from tacops.backends import Backend

BETA = 0.5
CLASSES = {"collapse": "TemporalAggregatedConv", "preserve": "TACTemporalPreserve"}


@pytest.mark.parametrize("chunk_size", [1, 4])
@pytest.mark.parametrize("mode", sorted(CLASSES))
def test_same_spikes_without_bias(mode: str, chunk_size: int, need: Callable[[str], Backend]) -> None:
    """``aggregation="decay"`` without bias is its operator; weights k / 16 make both exact. T = 10: the last chunk is short."""
    backend = need("mlx")
    pytest.importorskip("mlxsnn", reason="mlx-snn is not installed")
    rng = np.random.default_rng(7)
    frames = (rng.random((10, 2, 6, 5, 3)) < 0.4).astype(np.float32)
    weight = (rng.integers(-6, 9, (4, 3, 3, 3)) / 16).astype(np.float32)
    layer: Any = getattr(importlib.import_module("mlxsnn.operators"), CLASSES[mode])(
        3, 4, 3, beta=BETA, chunk_size=chunk_size, padding=1, bias=False
    )
    layer.load_weights([("conv.weight", backend.from_numpy(weight))], strict=False)
    theirs, state = layer(backend.from_numpy(frames), layer.init_state(2, (6, 5)))
    ours = tacops.tac_conv(
        backend.from_numpy(frames),
        backend.from_numpy(weight),
        chunk_size=chunk_size,
        mode=mode,  # type: ignore[arg-type]
        beta=BETA,
        aggregation="decay",
        padding=1,
    )
    spikes = backend.to_numpy(ours.spikes)
    assert 0.02 < spikes.mean() < 0.98
    np.testing.assert_array_equal(spikes, backend.to_numpy(theirs))
    membranes = [backend.to_numpy(array) for array in state.values() if tuple(array.shape) == ours.membrane.shape]
    assert any(np.array_equal(membrane, backend.to_numpy(ours.membrane)) for membrane in membranes)
