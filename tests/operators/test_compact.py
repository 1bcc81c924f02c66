"""Compact spikes: the same spikes, one byte each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tacops
from tacops.backends import Backend
from tests.support.cases import grid_layer

RESETS = ("subtract", "zero", "none", "late")


def _both(backend: Backend, **options: Any) -> tuple[Any, Any]:
    layer = grid_layer(31)
    arrays = [backend.from_numpy(array) for array in layer]
    plain = tacops.tac_conv(*arrays, **options)
    return plain, tacops.tac_conv(*arrays, compact=True, **options)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("options", [{}, {"mode": "preserve"}, {"reproducible": True}, {"threshold": 1.5}], ids=str)
def test_same_spikes_in_bytes(backend: Backend, reset: str, options: dict[str, Any]) -> None:
    """Bool spikes equal the floating ones, and the membrane is untouched by the choice."""
    plain, compact = _both(backend, chunk_size=2, beta=0.5, reset=reset, **options)
    spikes = backend.to_numpy(compact.spikes)
    assert spikes.dtype == np.bool_
    np.testing.assert_array_equal(spikes, backend.to_numpy(plain.spikes))
    assert 0.02 < spikes.mean() < 0.98
    np.testing.assert_array_equal(backend.to_numpy(compact.membrane), backend.to_numpy(plain.membrane))


def test_the_next_layer_takes_them(backend: Backend) -> None:
    """Compact spikes are as good an input as floating ones."""
    plain, compact = _both(backend, chunk_size=1, beta=0.5, padding=1)
    channels = plain.spikes.shape[-1]
    weight = backend.from_numpy(np.arange(2 * channels, dtype=np.float32).reshape(2, 1, 1, channels) / 16)
    want, got = (tacops.conv_lif(train.spikes, weight, beta=0.5) for train in (plain, compact))
    np.testing.assert_array_equal(backend.to_numpy(got.membrane), backend.to_numpy(want.membrane))


def test_lif_and_linear(backend: Backend) -> None:
    current = backend.from_numpy(np.linspace(0, 2, 24, dtype=np.float32).reshape(4, 2, 3))
    for call in (tacops.lif, lambda x, **o: tacops.tac_linear(x, x[0, ...], chunk_size=2, **o)):
        np.testing.assert_array_equal(
            backend.to_numpy(call(current, compact=True).spikes), backend.to_numpy(call(current).spikes)
        )


def test_errors() -> None:
    current = np.ones((2, 1, 1))
    with pytest.raises(TypeError, match=r"^lif: compact must be True or False; got 1$"):
        tacops.lif(current, compact=1)  # type: ignore[arg-type]


def test_refused_with_a_surrogate(need: Any) -> None:
    x = need("torch").from_numpy(np.ones((2, 1, 1)))
    with pytest.raises(ValueError, match="compact must be False with a surrogate"):
        tacops.lif(x, compact=True, surrogate=tacops.surrogate.arctan())
