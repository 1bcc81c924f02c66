"""Events of an event camera, and the frames of counts that are made of them.

What is wrong with events is said by whoever was given them: ``refuse(rule, got)`` makes the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELLS", "EVENTS", "Arrays", "Refuse", "as_events", "check_events", "count_events", "equal_parts", "sensor"]

CELLS = 2**27
"""Numbers in the frames that are made of events."""
EVENTS = {"x", "y", "t"}

Array = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Refuse: TypeAlias = Callable[[str, object], Exception]


def as_events(array: Array) -> dict[str, Array] | None:
    """The fields of a structured array of events, whatever their order; None if it is another array."""
    names = array.dtype.names or ()
    return {name: array[name] for name in ("x", "y", "t", "p") if name in names} if set(names) >= EVENTS else None


def check_events(arrays: Arrays, refuse: Refuse) -> NDArray[np.bool_] | None:
    """Refuse what are no events; where they are ON, or None without polarities.

    Parameters
    ----------
    arrays : mapping of str to array
        x, y, t of shape (N,), times in any unit and order; perhaps p (N,), 0 or -1 for OFF and 1 for ON.
    refuse : callable
    """
    x, y, t = (arrays[n] for n in ("x", "y", "t"))
    on = _polarity(arrays, refuse)
    if x.ndim != 1 or len({a.shape for a in (x, y, t, x if on is None else on)}) != 1 or not x.size:
        shapes = ", ".join(f"{n} {arrays[n].shape}" for n in ("x", "y", "t", "p") if n in arrays)
        raise refuse("hold events in nonempty arrays of one length", shapes)
    if x.dtype.kind not in "iu" or y.dtype.kind not in "iu":
        raise refuse("hold integer pixel coordinates", f"x of {x.dtype}, y of {y.dtype}")
    if t.dtype.kind not in "iuf" or (t.dtype.kind == "f" and not np.isfinite(t).all()):
        raise refuse("hold finite event times", "NaN or infinity" if t.dtype.kind == "f" else f"t of {t.dtype}")
    return on


def count_events(
    arrays: Arrays, on: NDArray[np.bool_] | None, frame: NDArray[np.int64], shape: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    """Counts (T, height, width, polarities) of events that lie in a frame each."""
    _, height, width, sides = shape
    row, column = arrays["y"].astype(np.int64), arrays["x"].astype(np.int64)  # in range: the sensor holds them
    flat = ((frame * height + row) * width + column) * sides
    if on is not None:
        flat += on
    return np.bincount(flat, minlength=math.prod(shape)).reshape(shape).astype(np.float32)


def equal_parts(t: Array, frames: int, refuse: Refuse) -> NDArray[np.int64]:
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
            raise refuse("hold event times whose span is a number in float64", f"{first} to {last}")
        delta, ends = t.astype(np.float64) - first, k * span / frames
    else:
        whole, rest = divmod(last - first, frames)
        delta = t.astype(np.uint64) - np.uint64(first % 2**64)  # modulo 2^64: right for every integer type
        ends = k.astype(np.uint64) * np.uint64(whole) + ((k * rest + frames - 1) // frames).astype(np.uint64)
    return np.searchsorted(ends, delta, side="right").astype(np.int64)


def _polarity(arrays: Arrays, refuse: Refuse) -> NDArray[np.bool_] | None:
    """Where events are ON; None without polarities."""
    if "p" not in arrays:
        return None
    p = arrays["p"]
    if p.dtype.kind not in "biuf" or not any(((p == off) | (p == 1)).all() for off in (0, -1)):
        got = f"{p.min()} to {p.max()}, {p.dtype}" if p.dtype.kind in "biuf" else p.dtype
        raise refuse("hold polarities p of 0 and 1, or of -1 and 1", got)
    on: NDArray[np.bool_] = p > 0
    return on


def sensor(arrays: Arrays, size: Array | None, refuse: Refuse) -> tuple[int, int]:
    """Width and height, which must hold all events; those of `size`, (width, height, ...), if it is given."""
    x, y = arrays["x"], arrays["y"]
    width, height = int(x.max()) + 1, int(y.max()) + 1
    if int(x.min()) < 0 or int(y.min()) < 0:
        raise refuse("hold pixel coordinates of at least 0", f"x {int(x.min())}, y {int(y.min())}")
    if size is None:
        return width, height
    given = [int(v) for v in size.ravel()[:2]] if size.dtype.kind in "iu" else []
    if len(given) < 2 or given[0] < width or given[1] < height:
        got = given or f"{size.dtype} of shape {size.shape}"
        raise refuse(f"have a sensor_size that holds its events ({width} x {height})", got)
    return given[0], given[1]
