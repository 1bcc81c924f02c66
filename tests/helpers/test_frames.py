"""Frames of events: by time, by count, and in parts; from structured arrays of any order of fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacops import advise, events_to_frames

RNG = np.random.default_rng(0)
TONIC = [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)]
N = 200


def recording(dtype: Any = TONIC, sort: bool = True) -> Any:
    """Events of a sensor of 5 x 4 pixels in 1000 units of time, the first at 7."""
    events = np.zeros(N, dtype)
    events["x"], events["y"] = RNG.integers(0, 5, N), RNG.integers(0, 4, N)
    t = np.append(RNG.integers(7, 1000, N - 1), 7)
    events["t"] = np.sort(t) if sort else t
    if "p" in events.dtype.names:
        events["p"] = RNG.integers(0, 2, N)
    events["x"][0], events["y"][0] = 4, 3
    return events


def by_hand(events: Any, frame: Any, T: int) -> Any:
    """One event after the other."""
    out = np.zeros((T, 4, 5, 2), np.float32)
    for event, n in zip(events, frame, strict=True):
        out[int(n), event["y"], event["x"], int(event["p"] > 0)] += 1
    return out


@pytest.mark.parametrize("sort", [True, False])
def test_rules(sort: bool) -> None:
    events = recording(sort=sort)
    t = events["t"]
    windows = (t - 7) // 100
    np.testing.assert_array_equal(
        events_to_frames(events, time_window=100), by_hand(events, windows, windows.max() + 1)
    )
    halves = np.floor((t - 7) / 62.5).astype(int)
    np.testing.assert_array_equal(events_to_frames(events, time_window=62.5), by_hand(events, halves, halves.max() + 1))
    places = np.empty(N, int)
    places[np.argsort(t, kind="stable")] = np.arange(N)
    np.testing.assert_array_equal(events_to_frames(events, event_count=30), by_hand(events, places // 30, 7))
    parts = np.minimum((t - 7) * 8 // (t.max() - 7), 7)
    np.testing.assert_array_equal(events_to_frames(events, n_time_bins=8), by_hand(events, parts, 8))


def test_fields_by_name() -> None:
    """The order and types of fields don't matter; polarities may be -1 and 1, or missing; times floating."""
    events = recording()
    want = events_to_frames(events, n_time_bins=5)
    other = np.zeros(N, [("p", np.int8), ("t", np.float64), ("noise", np.float32), ("y", np.uint16), ("x", np.int32)])
    for name in "xyt":
        other[name] = events[name]
    other["p"] = np.where(events["p"], 1, -1)
    np.testing.assert_array_equal(events_to_frames(other, n_time_bins=5), want)
    alone = events_to_frames(events[["t", "x", "y"]], n_time_bins=5)
    np.testing.assert_array_equal(alone[..., 0], want.sum(-1))
    assert alone.dtype == np.float32


def test_sensor_and_layout() -> None:
    events = recording()
    frames = events_to_frames(events, event_count=50, sensor_size=(8, 6, 2))
    assert frames.shape == (4, 6, 8, 2)
    np.testing.assert_array_equal(frames[:, :4, :5], events_to_frames(events, event_count=50))
    first = events_to_frames(events, event_count=50, sensor_size=(8, 6), layout="channels_first")
    np.testing.assert_array_equal(first, np.moveaxis(frames, -1, 1))


def test_whole_numbers_beyond_floats() -> None:
    """Times in nanoseconds since 1970: a window's end is not a float's."""
    start = 2**62 + 1
    events = np.zeros(3, [("t", np.int64), ("x", np.int16), ("y", np.int16)])
    events["t"] = [start, start + 2**55 - 1, start + 2**55]
    frames = events_to_frames(events, time_window=2**55)
    assert frames[:, 0, 0, 0].tolist() == [2, 1]


def _one(**fields: Any) -> Any:
    events = recording()
    for name, value in fields.items():
        events[name][3] = value
    return events


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (recording(), {}, "time_window must be alone: exactly one of time_window, event_count and n_time_bins .*; got none"),
    (recording(), {"time_window": 5, "event_count": 3}, "time_window must be alone.*; got time_window, event_count"),
    (recording(), {"time_window": 0}, "time_window must be positive and finite, in the unit of t; got 0"),
    (recording(), {"event_count": 1.5}, "event_count must be an int; got 1.5"),
    (recording(), {"n_time_bins": 2**40}, "n_time_bins must be such that frames have at most 67,108,864 numbers"),
    (recording(), {"time_window": 1e-9}, "time_window must be such that frames have at most"),
    (recording(), {"n_time_bins": 4, "sensor_size": (3, 3)}, r"sensor_size must be \(width, height\) that holds its events"),
    (recording(), {"n_time_bins": 4, "sensor_size": 3}, r"sensor_size must be \(width, height\) or"),
    (recording(), {"n_time_bins": 4, "layout": "first"}, "layout must be one of 'channels_last', 'channels_first'"),
    (np.zeros((3, 4)), {"n_time_bins": 4}, "events must be a NumPy structured array with the fields x, y, t and perhaps p"),
    (recording(), {"n_time_bins": 4, "sensor_size": (99, 99, 1)}, r"sensor_size must be \(width, height, 2\), as many polarities"),
    (recording()[["x", "y", "t"]], {"n_time_bins": 4, "sensor_size": (99, 99, 2)}, r"sensor_size must be \(width, height, 1\)"),
    (np.zeros(3, [("a", int), ("b", int)]), {"n_time_bins": 4}, "events must be .*; got ndarray of the fields a, b"),
    (np.ma.array(recording()), {"n_time_bins": 4}, "events must be a NumPy structured array .*; got MaskedArray"),
    (_one(x=-1), {"n_time_bins": 4}, "events must hold pixel coordinates of at least 0"),
    (recording()[:0], {"n_time_bins": 4}, "events must hold events in nonempty arrays of one length"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_refusals(number: int) -> None:
    events, options, words = BAD[number]
    with pytest.raises((TypeError, ValueError), match=f"^events_to_frames: {words}"):
        events_to_frames(events, **options)


def test_advise_says_what_to_do_with_events_and_recordings() -> None:
    """Neither is taken for a batch: events need frames, one recording of square pictures an axis for its batch of one."""
    with pytest.raises(
        TypeError, match=r"^advise: spikes must be frames .* tacops.events_to_frames makes of .* x, y, t, p"
    ):
        advise(recording())
    for shape, one, many in (
        ((16, 28, 28), r"\(16, 1, 28, 28, 1\)", r"\(16, 28, 28, 1\)"),
        ((16, 28, 28, 2), r"\(16, 1, 28, 28, 2\)", r"\(16, 28, 28, 1, 2\)"),
    ):
        spikes = RNG.random(shape) < 0.2
        with pytest.raises(
            ValueError, match=rf"^advise: spikes must be reshaped to {one} if this is one recording, to {many} if"
        ):
            advise(spikes)
    with pytest.raises(ValueError, match=r"to \(16, 1, 2, 28, 28\) if this is one recording"):
        advise(RNG.random((16, 2, 28, 28)) < 0.2, layout="channels_first")
    assert advise(RNG.random((16, 28, 28, 1)) < 0.2).samples == 28
