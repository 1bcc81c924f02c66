"""Events of an event camera, and the frames of counts that are made of them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacops._files.damage import one_line

__all__ = ["BESIDE", "EVENTS", "EXTRAS", "Arrays", "FileError", "as_events", "bin_events", "refusal"]

CELLS = 2**27
"""Numbers in the frames that are made of events."""
EVENTS = {"x", "y", "t"}
BESIDE = {"offsets", "sensor_size"}
"""Arrays beside a structured one."""
EXTRAS = {"p", *BESIDE}

Array = NDArray[Any]
Arrays = Mapping[str, Array]


def as_events(array: Array) -> dict[str, Array] | None:
    """The fields of a structured array of events, whatever their order; None if it is another array."""
    names = array.dtype.names or ()
    return {name: array[name] for name in ("x", "y", "t", "p") if name in names} if set(names) >= EVENTS else None


def bin_events(arrays: Arrays, *, frames: int = 16, samples: int = 32, seed: int = 0) -> NDArray[np.float32]:
    """Event counts (T, B, height, width, polarities): every recording in `frames` parts of equal duration.

    Parameters
    ----------
    arrays : mapping of str to array
        x, y, t of shape (N,), times in any unit and order; perhaps p (N,), 0 or -1 for OFF and 1 for ON; offsets (B + 1,);
        sensor_size (width, height, ...).
    frames, samples, seed : int
        As for `read_spikes`.
    """
    x, y, t = (arrays[n] for n in ("x", "y", "t"))
    on = _polarity(arrays)
    if x.ndim != 1 or len({a.shape for a in (x, y, t, x if on is None else on)}) != 1 or not x.size:
        shapes = ", ".join(f"{n} {arrays[n].shape}" for n in ("x", "y", "t", "p") if n in arrays)
        raise refusal("hold events in nonempty arrays of one length", shapes)
    if x.dtype.kind not in "iu" or y.dtype.kind not in "iu":
        raise refusal("hold integer pixel coordinates", f"x of {x.dtype}, y of {y.dtype}")
    if t.dtype.kind not in "iuf" or (t.dtype.kind == "f" and not np.isfinite(t).all()):
        raise refusal("hold finite event times", "NaN or infinity" if t.dtype.kind == "f" else f"t of {t.dtype}")
    sides = 1 if on is None else 2
    width, height = _sensor(arrays, x, y)
    cells = frames * height * width * sides
    if cells > CELLS:
        raise refusal(f"give at most {CELLS:,} numbers per recording", f"{frames} x {height} x {width} x {sides}")
    offsets = _offsets(arrays, x.size)
    count = len(offsets) - 1
    chosen = sorted(random.Random(seed).sample(range(count), min(count, samples, max(1, CELLS // cells))))
    out = np.zeros((len(chosen), frames, height, width, sides), np.float32)
    for place, i in enumerate(chosen):
        part = slice(int(offsets[i]), int(offsets[i + 1]))
        if part.start == part.stop:
            continue
        row, column = y[part].astype(np.int64), x[part].astype(np.int64)  # in range: the sensor holds them
        flat = ((_frame(t[part], frames) * height + row) * width + column) * sides
        if on is not None:
            flat += on[part]
        out[place] = np.bincount(flat, minlength=cells).reshape(out.shape[1:])
    return np.moveaxis(out, 0, 1)


def _frame(t: Array, frames: int) -> NDArray[np.int64]:
    """Which of `frames` parts of equal duration each event lies in: exactly, where times are integers."""
    delta: Array
    ends: Array
    first, last = (v.item() for v in (t.min(), t.max()))
    if first == last:
        return np.zeros(t.shape, np.int64)
    k = np.arange(1, frames)
    if t.dtype.kind == "f":
        first, span = float(first), float(last) - float(first)
        if not math.isfinite(span * frames):
            raise refusal("hold event times whose span is a number in float64", f"{first} to {last}")
        delta, ends = t.astype(np.float64) - first, k * span / frames
    else:
        whole, rest = divmod(last - first, frames)
        delta = t.astype(np.uint64) - np.uint64(first % 2**64)  # modulo 2^64: right for every integer type
        ends = k.astype(np.uint64) * np.uint64(whole) + ((k * rest + frames - 1) // frames).astype(np.uint64)
    return np.searchsorted(ends, delta, side="right").astype(np.int64)


def _polarity(arrays: Arrays) -> NDArray[np.bool_] | None:
    """Where events are ON; None without polarities."""
    if "p" not in arrays:
        return None
    p = arrays["p"]
    if p.dtype.kind not in "biuf" or not any(((p == off) | (p == 1)).all() for off in (0, -1)):
        got = f"{p.min()} to {p.max()}, {p.dtype}" if p.dtype.kind in "biuf" else p.dtype
        raise refusal("hold polarities p of 0 and 1, or of -1 and 1", got)
    on: NDArray[np.bool_] = p > 0
    return on


def _sensor(arrays: Arrays, x: Array, y: Array) -> tuple[int, int]:
    """Width and height, which must hold all events."""
    width, height = int(x.max()) + 1, int(y.max()) + 1
    if int(x.min()) < 0 or int(y.min()) < 0:
        raise refusal("hold pixel coordinates of at least 0", f"x {int(x.min())}, y {int(y.min())}")
    if "sensor_size" in arrays:
        size = arrays["sensor_size"]
        given = [int(v) for v in size.ravel()[:2]] if size.dtype.kind in "iu" else []
        if len(given) < 2 or given[0] < width or given[1] < height:
            got = given or f"{size.dtype} of shape {size.shape}"
            raise refusal(f"have a sensor_size that holds its events ({width} x {height})", got)
        width, height = given
    return width, height


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
