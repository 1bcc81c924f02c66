"""Frames of real events, as a layer's input."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.shared.datasets import load_recordings
from bench.shared.encoding import event_frames, frames_of_equal_time

__all__ = ["event_input"]

SENSOR = 34
"""Pixels of N-MNIST's sensor, either way."""
MICROSECONDS = 315_000
"""Of one recording that are cut into frames: its three saccades."""


@lru_cache(maxsize=1)
def event_input(frames: int, samples: int) -> NDArray[np.float32]:
    """The first recordings of N-MNIST as binary frames (frames, samples, 34, 34, 2), a channel for each polarity.

    Raises
    ------
    DatasetError
        If the recordings are not there.
    """
    recordings: dict[str, Any] = load_recordings()
    shape = (frames, SENSOR, SENSOR, 2)
    found = []
    for start, end in zip(recordings["offsets"][:samples], recordings["offsets"][1:], strict=False):
        t, x, y, p = (recordings[name][start:end] for name in "txyp")
        kept = t < MICROSECONDS
        found.append(
            event_frames(frames_of_equal_time(t[kept], frames, 0, MICROSECONDS), y[kept], x[kept], p[kept], shape)
        )
    return np.stack(found, axis=1).astype(np.float32)
