"""Layers with arbitrary weights, and how they are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacops import SpikeTrain, tac_conv
from tacops.backends import Backend
from tests.support.cases import as_numpy, to_backend

Array = NDArray[Any]


def run(backend: Backend, *arrays: Array, function: Callable[..., Any] = tac_conv, **options: Any) -> SpikeTrain:
    """Call in reproducible mode, and bring the answer to the host."""
    given = {"reproducible": True, **{name: to_backend(backend, value) for name, value in options.items()}}
    return as_numpy(backend, function(*(to_backend(backend, a) for a in arrays), **given))


def layer(
    seed: int = 0,
    *,
    steps: int = 6,
    batch: int = 3,
    size: int = 8,
    c_in: int = 8,
    c_out: int = 8,
    dtype: str = "float32",
) -> tuple[Array, Array, Array]:
    """Binary spikes and Gaussian weights and biases."""
    rng = np.random.default_rng(seed)
    x = (rng.random((steps, batch, size, size, c_in)) < 0.3).astype(dtype)
    w = (rng.normal(0.1, 1.0, (c_out, 3, 3, c_in)) / np.sqrt(4 * c_in)).astype(dtype)
    return x, w, rng.normal(0.0, 0.1, c_out).astype(dtype)
