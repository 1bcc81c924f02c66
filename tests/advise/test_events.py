"""advise: events in every form that libraries write, and those that are refused by one sentence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops._cli.advise import add_arguments, main
from tacops.backends._io.recordings import bin_recordings
from tacops.backends._io.spikes import read_spikes

RNG = np.random.default_rng(0)


def events(count: int = 300) -> dict[str, Any]:
    return {
        "x": RNG.integers(0, 7, count),
        "y": RNG.integers(0, 5, count),
        "t": np.sort(RNG.integers(0, 10**6, count)),
        "p": RNG.integers(0, 2, count),
    }


def counted(arrays: dict[str, Any], frames: int) -> Any:
    """The frames by exact arithmetic, event after event."""
    times = [Fraction(int(t)) if arrays["t"].dtype.kind in "iu" else Fraction(float(t)) for t in arrays["t"]]
    first, span = min(times), max(times) - min(times) or 1
    out = np.zeros((frames, 1, 5, 7, 2), np.float32)
    for time, x, y, p in zip(times, arrays["x"], arrays["y"], arrays["p"], strict=True):
        out[min(int((time - first) * frames / span), frames - 1), 0, int(y), int(x), int(p > 0)] += 1
    return out


def pinned(arrays: dict[str, Any]) -> dict[str, Any]:
    """With an event in the last corner, which fixes the size of the sensor."""
    last = {"x": 6, "y": 4, "t": arrays["t"][-1], "p": 1}
    return {name: np.append(array, np.array(last[name], array.dtype)) for name, array in arrays.items()}


DTYPES: dict[str, Any] = {
    "Tonic": [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")],
    "any order": [("t", "<u4"), ("p", "<i1"), ("y", "<u2"), ("x", "<u2")],
    "big-endian, more fields": [("t", ">i8"), ("id", "<f4", (2,)), ("x", ">u8"), ("y", ">u8"), ("p", ">f4")],
}


@pytest.mark.parametrize("name", DTYPES)
def test_structured_arrays(tmp_path: Path, name: str) -> None:
    """In .npy files and in .npz files, alone, called by name, and with offsets and a sensor size beside them."""
    arrays = pinned(events())
    packed = np.zeros(len(arrays["t"]), DTYPES[name])
    for field, values in arrays.items():
        packed[field] = values
    want = counted(arrays, 8)
    np.save(tmp_path / "a.npy", packed)
    np.savez(tmp_path / "one.npz", packed)
    np.savez_compressed(tmp_path / "named.npz", events=packed, labels=np.arange(3))
    for file, array in (("a.npy", None), ("one.npz", None), ("named.npz", "events")):
        np.testing.assert_array_equal(read_spikes(tmp_path / file, frames=8, name=array), want)
    first = read_spikes(tmp_path / "a.npy", frames=8, layout="channels_first")
    np.testing.assert_array_equal(np.moveaxis(first, 2, -1), want)
    two: dict[str, Any] = {
        "events": np.concatenate([packed, packed]),
        "offsets": np.array([0, len(packed), 2 * len(packed)], np.uint64),
    }
    np.savez(tmp_path / "two.npz", **two, sensor_size=np.array([9, 8, 2]))
    found = read_spikes(tmp_path / "two.npz", frames=8)
    assert found.shape == (8, 2, 8, 9, 2)
    np.testing.assert_array_equal(found[:, 1:, :5, :7], want)
    assert found.sum() == 2 * want.sum()


def test_command_line_takes_structured_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    packed = np.zeros(300, DTYPES["Tonic"])
    for field, values in events().items():
        packed[field] = values
    np.save(tmp_path / "a.npy", packed)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert main(parser.parse_args([str(tmp_path / "a.npy")])) == 0
    assert "1 sample of 16 frames" in capsys.readouterr().out
    np.save(tmp_path / "other.npy", np.zeros(3, [("a", "i4"), ("b", "i4")]))
    assert main(parser.parse_args([str(tmp_path / "other.npy")])) == 2
    error = capsys.readouterr().err
    assert "FILE must hold bool, integer or floating arrays, or events with the fields x, y, t; got " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "uint32", "int64", "uint64", ">u8"])
def test_integer_coordinates_of_every_type(kind: str) -> None:
    arrays = pinned(events())
    want = counted(arrays, 8)
    arrays |= {name: arrays[name].astype(kind) for name in "xy"}
    np.testing.assert_array_equal(bin_recordings(arrays, frames=8), want)


def between(low: int, high: int, kind: str) -> Any:
    """Times that span all of a type."""
    inner = [low + int(f * (high - low)) for f in RNG.random(297)]
    return np.array([low, *sorted(inner), high, high], dtype=kind)


TIMES = {
    "negative": np.arange(-300, 0),
    "all of int64": between(-(2**63), 2**63 - 1, "int64"),
    "all of uint64": between(0, 2**64 - 1, "uint64"),
    "all of int8": between(-128, 127, "int8"),
    "nanoseconds since 1970": 1_700_000_000 * 10**9 + np.arange(300),
    "uint64, late": np.arange(300).astype(np.uint64) + np.uint64(2**64 - 300),
    "on the borders": np.arange(300) // 10,
    "float32": np.sort(RNG.random(300, np.float32)),
    "float64 on the borders": np.arange(300) / 10,
    "large float64": np.sort(RNG.uniform(-1e300, 1e300, 300)),
    "subnormal": np.arange(300) * 5e-324,
    "equal": np.full(300, 7),
}


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("frames", [1, 7, 16])
def test_times_are_binned_exactly(name: str, frames: int) -> None:
    """Every event is in its frame, whatever the times' type, span and offset; the sum says that none is lost."""
    arrays = {**events(), "t": TIMES[name]}
    arrays["x"][-1], arrays["y"][-1] = 6, 4
    found = bin_recordings(arrays, frames=frames)
    want = counted(arrays, frames)
    if name in ("float64 on the borders", "subnormal"):  # borders are rounded to the next float
        assert np.abs(found.sum((1, 2, 3, 4)) - want.sum((1, 2, 3, 4))).max() <= 1 + (name == "subnormal")
    else:
        np.testing.assert_array_equal(found, want)
    before = {key: array.copy() for key, array in arrays.items()}
    bin_recordings(arrays, frames=frames)
    assert all(np.array_equal(before[key], array) for key, array in arrays.items())


@pytest.mark.parametrize("pair", [(0, 1), (-1, 1), (False, True), (0.0, 1.0), (-1.0, 1.0)])
def test_polarities(pair: tuple[Any, Any]) -> None:
    arrays = pinned(events())
    want = counted(arrays, 8)
    arrays["p"] = np.array([pair[p] for p in arrays["p"]])
    np.testing.assert_array_equal(bin_recordings(arrays, frames=8), want)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a NaN time": ({"t": np.array([0.0, np.nan, 2.0])}, "hold finite event times; got NaN or infinity"),
    "an infinite time": ({"t": np.array([0.0, 1.0, np.inf])}, "hold finite event times; got NaN or infinity"),
    "minus infinity": ({"t": np.array([-np.inf, 1.0, 2.0], np.float16)}, "hold finite event times; got NaN or inf"),
    "a span beyond float64": ({"t": np.array([-1.7e308, 0.0, 1.7e308])}, "hold event times whose span is a number"),
    "times that are bool": ({"t": np.array([False, True, True])}, "hold finite event times; got t of bool"),
    "four polarities": (
        {"p": np.array([0, 3, 1])},
        r"hold polarities p of 0 and 1, or of -1 and 1; got 0 to 3, int64",
    ),
    "three polarities": ({"p": np.array([-1, 0, 1])}, "hold polarities p of 0 and 1, or of -1 and 1; got -1 to 1"),
    "a polarity of 255": ({"p": np.array([0, 255, 0], np.uint8)}, "hold polarities p of 0 and 1"),
    "a NaN polarity": ({"p": np.array([0, np.nan, 1])}, "hold polarities p of 0 and 1, or of -1 and 1; got "),
    "half a polarity": ({"p": np.array([0, 0.5, 1])}, "hold polarities p of 0 and 1"),
    "a column of polarities": ({"p": np.ones((3, 1))}, "hold events in nonempty arrays of one length"),
    "uint64 coordinates": ({"x": np.array([0, 2**64 - 1, 2], np.uint64)}, "give at most .* numbers per recording"),
    "coordinates below zero": ({"x": np.array([0, -(2**63), 2])}, "hold pixel coordinates of at least 0"),
    "a NaN sensor": (
        {"sensor_size": np.array([np.nan, 2])},
        "have a sensor_size that holds its events .*; got float64",
    ),
    "a short sensor": ({"sensor_size": np.array([3])}, "have a sensor_size that holds its events"),
    "a sensor of uint64": (
        {"sensor_size": np.array([2**64 - 1, 2], np.uint64)},
        "give at most .* numbers per recording",
    ),
    "offsets of floats": ({"offsets": np.array([0.0, 3.0])}, "have offsets that rise from 0 to its 3 events"),
    "offsets beyond int64": ({"offsets": np.array([0, 2**64 - 1, 3], np.uint64)}, "have offsets that rise"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_frames_can_be_made_of_is_refused(tmp_path: Path, name: str) -> None:
    change, words = WRONG[name]
    arrays = {"x": np.array([0, 1, 2]), "y": np.array([0, 1, 1]), "t": np.array([1.0, 2.0, 3.0]), **change}
    with pytest.raises(ValueError, match=f"^advise: FILE must {words}"):
        bin_recordings(arrays)
    np.savez(tmp_path / "events.npz", **arrays)
    with pytest.raises(ValueError, match=rf"^advise: FILE must {words}.* \(.*events\.npz\)$"):
        read_spikes(tmp_path / "events.npz")
