"""Numbers that are made on the host, the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["singles", "uniform"]


def uniform(seed: int, T: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """Multiples of 2^-24 in [0, 1), which float32 holds exactly, of shape (T, *shape).

    Made of the raw 64-bit output of PCG64 in little-endian order, which NumPy guarantees never to change (its distributions
    it may), sample after sample: sample b of a batch gets the same numbers, however many are drawn.

    Parameters
    ----------
    seed : int
    T : int
    shape : sequence of int
        (B, ...).
    """
    count = T * math.prod(shape)
    raw = np.random.PCG64(seed).random_raw(-(-count // 2)).astype("<u8", copy=False)
    bits = raw.view("<u4")[:count].reshape(shape[0], T, *shape[1:]) >> np.uint32(8)
    return np.moveaxis(bits, 0, 1).astype(np.float32, order="C") * np.float32(2.0**-24)


def singles(numbers: Sequence[float]) -> NDArray[np.float32]:
    """Numbers as an array of float32, which must hold them exactly."""
    return np.array(numbers, np.float32)
