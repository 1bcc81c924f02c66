"""Rate coding: grey levels to spike trains, the same bits on every platform."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.datasets import Images

TIME_STEPS = 16


def rate_code(images: Images, time_steps: int = TIME_STEPS, seed: int = 0) -> NDArray[np.bool_]:
    """Code each grey level g as independent spikes with probability g / 256 per time step.

    The random bytes are the raw 64-bit output of PCG64 in little-endian order, which NumPy guarantees never to change
    (its distributions it may). Image number b always gets the same bytes, however many images are coded with it.

    Parameters
    ----------
    images : (B, H, W) uint8
        Grey levels, 0 to 255.
    time_steps : int
        Number of frames T.
    seed : int
        Seed of the generator.

    Returns
    -------
    spikes : (T, B, H, W, 1) bool
    """
    batch, height, width = images.shape
    count = batch * time_steps * height * width
    raw = np.random.PCG64(seed).random_raw(-(-count // 8))
    draws = raw.astype("<u8").view(np.uint8)[:count].reshape(batch, time_steps, height, width)
    spikes = draws < images[:, None]
    return np.ascontiguousarray(np.moveaxis(spikes, 1, 0))[..., None]
