"""Frames of the recordings in a file: every one in as many parts of equal duration."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from tacops._files.damage import one_line

from .events import CELLS, Array, Arrays, check_events, count_events, equal_parts, sensor

__all__ = ["BESIDE", "EXTRAS", "FileError", "bin_recordings", "refusal"]

BESIDE = {"offsets", "sensor_size"}
"""Arrays beside a structured one."""
EXTRAS = {"p", *BESIDE}


def bin_recordings(arrays: Arrays, *, frames: int = 16, samples: int = 32, seed: int = 0) -> NDArray[np.float32]:
    """Event counts (T, B, height, width, polarities): every recording in `frames` parts of equal duration.

    Parameters
    ----------
    arrays : mapping of str to array
        As for `check_events`; perhaps offsets (B + 1,), and sensor_size (width, height, ...).
    frames, samples, seed : int
        As for `read_spikes`.
    """
    on = check_events(arrays, refusal)
    sides = 1 if on is None else 2
    width, height = sensor(arrays, arrays.get("sensor_size"), refusal)
    cells = frames * height * width * sides
    if cells > CELLS:
        raise refusal(f"give at most {CELLS:,} numbers per recording", f"{frames} x {height} x {width} x {sides}")
    offsets = _offsets(arrays, arrays["x"].size)
    count = len(offsets) - 1
    chosen = sorted(random.Random(seed).sample(range(count), min(count, samples, max(1, CELLS // cells))))
    out = np.zeros((len(chosen), frames, height, width, sides), np.float32)
    for place, i in enumerate(chosen):
        part = slice(int(offsets[i]), int(offsets[i + 1]))
        if part.start == part.stop:
            continue
        own = {name: arrays[name][part] for name in ("x", "y", "t")}
        frame = equal_parts(own["t"], frames, refusal)
        out[place] = count_events(own, None if on is None else on[part], frame, (frames, height, width, sides))
    return np.moveaxis(out, 0, 1)


def _offsets(arrays: Arrays, events: int) -> Array:
    offsets = arrays.get("offsets", np.array([0, events]))
    ordered = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) >= 2
    if not ordered or int(offsets[0]) != 0 or int(offsets[-1]) != events or (offsets[1:] < offsets[:-1]).any():
        raise refusal(f"have offsets that rise from 0 to its {events} events", f"shape {offsets.shape}")
    return offsets


class FileError(ValueError):
    """A file is not as it must be; the message is one sentence."""


def refusal(rule: str, got: object) -> FileError:
    """The sentence for a file that is not as it must be."""
    return FileError(f"advise: FILE must {rule}; got {one_line(str(got))}")
