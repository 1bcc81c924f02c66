"""Frames of counts of one recording's events: by time, by count, or in so many parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacops._values import as_int, as_list, check_count, check_number, fail, show

from .events import CELLS, Arrays, as_events, check_events, count_events, equal_parts, sensor

__all__ = ["events_to_frames"]

FUNCTION = "events_to_frames"


def events_to_frames(
    events: Any, sensor_size: Any, time_window: Any, event_count: Any, n_time_bins: Any
) -> NDArray[np.float32]:
    """Counts (T, height, width, polarities), `tacops.events_to_frames` has the rules."""
    arrays = _fields(events)
    on = check_events(arrays, _refuse)
    size = _size(sensor_size, 1 if on is None else 2)
    width, height = sensor(arrays, size, _refuse)
    frame = _frames(arrays, time_window, event_count, n_time_bins, height * width)
    T = int(frame.max()) + 1 if n_time_bins is None else as_int(n_time_bins) or 0
    return count_events(arrays, on, frame, (T, height, width, 1 if on is None else 2))


def _refuse(rule: str, got: object) -> Exception:
    if rule.startswith("have a sensor_size that holds its"):
        return fail(FUNCTION, "sensor_size", f"(width, height) that {rule.partition('that ')[2]}", str(got))
    return ValueError(f"{FUNCTION}: events must {rule}; got {got}")


def _fields(events: Any) -> Arrays:
    """The arrays of a structured array of events, or of a mapping."""
    plain = isinstance(events, np.ndarray) and not isinstance(events, np.ma.MaskedArray)
    found = as_events(events) if plain else None
    if found is None:
        names = getattr(getattr(events, "dtype", None), "names", None)
        rule = "a NumPy structured array with the fields x, y, t and perhaps p"
        got = f"{type(events).__name__} of the fields {', '.join(names)}" if names else show(events)
        raise fail(FUNCTION, "events", rule, got, TypeError)
    return found


def _size(sensor_size: Any, polarities: int) -> NDArray[Any] | None:
    if sensor_size is None:
        return None
    entries = as_list(sensor_size)
    if not isinstance(entries, (tuple, list)) or not 2 <= len(entries) <= 3:
        raise fail(FUNCTION, "sensor_size", "(width, height) or (width, height, polarities)", show(sensor_size))
    size = [check_count(FUNCTION, "sensor_size", entry) for entry in entries]
    if size[2:] not in ([], [polarities]):
        rule = f"(width, height, {polarities}), as many polarities as the events have (a sum over the last axis merges two)"
        raise fail(FUNCTION, "sensor_size", rule, show(sensor_size))
    return np.array(size)


def _frames(arrays: Arrays, window: Any, count: Any, bins: Any, pixels: int) -> NDArray[np.int64]:
    """The frame of each event, by the one rule that is given."""
    given = {"time_window": window, "event_count": count, "n_time_bins": bins}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        rule = "alone: exactly one of time_window, event_count and n_time_bins says how events are cut into frames"
        raise fail(FUNCTION, named[0] if named else "time_window", rule, ", ".join(named) or "none")
    t = arrays["t"]
    if bins is not None:
        T = check_count(FUNCTION, "n_time_bins", bins)
        _check_cells("n_time_bins", T, pixels)
        return equal_parts(t, T, _refuse)
    if count is not None:
        each = check_count(FUNCTION, "event_count", count)
        _check_cells("event_count", -(-t.size // each), pixels)
        place = np.empty(t.size, np.int64)
        place[np.argsort(t, kind="stable")] = np.arange(t.size)
        return place // each
    return _windows(t, window, pixels)


def _windows(t: NDArray[Any], window: Any, pixels: int) -> NDArray[np.int64]:
    """Windows of equal duration that begin with the first event: exact, where all are integers."""
    whole = as_int(window)
    duration = whole if whole is not None else check_number(FUNCTION, "time_window", window)
    if not 0 < duration < math.inf:
        raise fail(FUNCTION, "time_window", "positive and finite, in the unit of t", show(window))
    first, last = (v.item() for v in (t.min(), t.max()))
    _check_cells("time_window", (float(last) - float(first)) / float(min(duration, 2**1000)) + 1, pixels)
    if t.dtype.kind == "f" or whole is None:
        # of integers the difference is taken first, because float64 has not all of them
        delta = t.astype(np.float64) - first if t.dtype.kind == "f" else _since(t, first).astype(np.float64)
        return np.floor(delta / float(duration)).astype(np.int64)
    delta = _since(t, first)
    return (delta // np.uint64(min(whole, 2**64 - 1))).astype(np.int64)


def _since(t: NDArray[Any], first: int) -> NDArray[np.uint64]:
    delta: NDArray[np.uint64] = t.astype(np.uint64) - np.uint64(first % 2**64)  # modulo 2^64: right for all integers
    return delta


def _check_cells(argument: str, frames: float, pixels: int) -> None:
    if not frames * pixels <= CELLS // 2:
        rule = f"such that frames have at most {CELLS // 2:,} numbers of each polarity"
        raise fail(FUNCTION, argument, rule, f"{frames:.3g} frames of {pixels:,} pixels")
