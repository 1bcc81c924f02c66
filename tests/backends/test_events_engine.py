"""NumPy's engine: whichever way a layer takes, by products, by events or by tables, exact sums give the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.spikes.digests import differing, load_reference, records
from tacops import Grid
from tacops.backends import get_backend
from tacops.backends._cpu import choose, sparse, tiles
from tacops.testing import Check, NotApplicable, conformance_checks
from tests.support.engine_layers import GEOMETRIES, SPARSE, EngineLayer, assert_same, run

pytest.importorskip("numba", reason="the engine's loops are not tried: Numba is not installed")

DENSITIES = (0.0, 0.01, 0.05, 0.2, 1.0)
PER_CHANNEL = {"beta": np.linspace(0.2, 1, 5), "threshold": np.linspace(0.3, 2, 5)}
NEURONS: dict[str, dict[str, Any]] = {
    "subtract": {},
    "zero": {"reset": "zero", "threshold": 0.7},
    "none": {"reset": "none"},
    "late": {"reset": "late", "beta": 0.97, "threshold": 0.7},
    "per channel": PER_CHANNEL,
    "compact": {"compact": True, "reset": "late"},
    "compact preserve": {"compact": True, "chunk_size": 3, "mode": "preserve"},
    "preserve": {"chunk_size": 3, "mode": "preserve"},
    "preserve late": {"chunk_size": 2, "mode": "preserve", "reset": "late", **PER_CHANNEL},
    "collapse": {"chunk_size": 3},
    "collapse weighted": {"chunk_size": 2, "aggregation": [0.5, 1.5]},
}


@pytest.fixture(autouse=True)
def ways(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Which layers followed their spikes, and whether they had tables: no test passes because nothing did."""
    seen: list[bool] = []

    def spy(*args: Any) -> Any:
        seen.append(args[9])
        return sparse.run_sparse(*args)

    monkeypatch.setattr(choose, "run_sparse", spy)
    return seen


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometries(name: str, dtype: str, ways: list[bool]) -> None:
    """Every kernel, stride, dilation, padding, groups and number of axes; bool and floating input."""
    layer = GEOMETRIES[name]
    for density in DENSITIES:
        for kind in ("bool", dtype):
            x, w, given = layer.arrays(density, dtype, kind)
            if name == "channels first":
                given["layout"] = "channels_first"
                x, w = np.moveaxis(x, -1, 2), np.moveaxis(w, -1, 1)
            want = run("dense", x, w, given)
            assert not ways
            for way in SPARSE:
                assert_same(run(way, x, w, given), want)
            assert ways[0] is False
            ways.clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("membrane", [False, True])
@pytest.mark.parametrize("name", NEURONS)
def test_neurons(name: str, membrane: bool, dtype: str, ways: list[bool]) -> None:
    """Every reset, parameters per channel, compact spikes, chunks, from rest and from a membrane."""
    options = {key: np.asarray(value, dtype) if key == "aggregation" else value for key, value in NEURONS[name].items()}
    layer = EngineLayer(frames=7, membrane=membrane, options={"padding": 1, **options})
    for density in DENSITIES:
        x, w, given = layer.arrays(density, dtype)
        want = run("dense", x, w, given)
        assert density == 0 or want.spikes.any()
        for way in SPARSE:
            assert_same(run(way, x, w, given), want)
    # a last, shorter chunk is a layer of its own; what is summed has no table
    assert any(ways) == ("chunk_size" not in options)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int64", "float16", "float32", "float64", ">i2", ">f4"])
@pytest.mark.parametrize("density", DENSITIES)
def test_counts_and_analog_input(kind: str, density: float) -> None:
    """An event carries its value, of any dtype; frames of spikes among frames of counts."""
    whole = "i" in kind
    grid = Grid(input_step=1 if whole else 0.5, input_max=3)
    values = (1.0, 2.0, 3.0) if kind == "uint8" else (1.0, -2.0, 3.0) if whole else (1.0, -0.5, 2.5)
    for channels in (1, 2, 19):
        layer = EngineLayer(c_in=channels, values=values, options={"padding": 1, "reproducible": grid})
        x, w, given = layer.arrays(density, kind=kind)
        x[1] = x[1] != 0  # a frame of spikes, which takes the other loop
        want = run("dense", x, w, given)
        for way in SPARSE:
            assert_same(run(way, x, w, given), want)


def test_binary_samples_of_counts(ways: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is chosen by a sample; a frame that holds something else goes by its events."""
    monkeypatch.setattr(choose, "_count", lambda frames: (0.3, True))
    layer = EngineLayer(options={"padding": 1, "reproducible": Grid(input_max=3)})
    x, w, given = layer.arrays(0.3, kind="uint8")
    x[2, 1, 4, 4] = 3
    want = run("dense", x, w, given)
    assert_same(run("tables", x, w, given), want)
    assert ways == [True]


@pytest.mark.parametrize("name", ["same", "skewed", "3-D", "1-D", "groups", "far padding", "dense"])
def test_tiles_and_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one sample apart, several samples together, all on two threads, in many compiled calls."""
    monkeypatch.setattr(tiles, "count_cores", lambda: 2)
    layer = replace(GEOMETRIES[name], membrane=True, frames=5)
    x, w, given = layer.arrays(0.2)
    late = {"chunk_size": 2, "mode": "preserve", "padding": given.get("padding", 0)}
    wants = [run("dense", x, w, given), run("dense", x, w, {**given, **late} if w.ndim > 2 else given)]
    monkeypatch.setattr(tiles, "PARALLEL", 0)
    for size in (1, 1500, 1 << 20):
        monkeypatch.setattr(tiles, "TILE", size)
        monkeypatch.setattr(sparse, "STRETCH", 100 * size)
        for way in SPARSE:
            assert_same(run(way, x, w, given), wants[0])
            assert_same(run(way, x, w, {**given, **late} if w.ndim > 2 else given), wants[1])


def test_memory_that_lies_apart_or_can_t_be_written() -> None:
    """Strided, unaligned and read-only input is read as it is, and no input is changed."""
    layer = EngineLayer(c_in=18, options={"padding": 1})
    x, w, given = layer.arrays(0.2, kind="float32")
    want = run("dense", x, w, given)
    strided = np.repeat(x, 2, axis=-1)[..., ::2]
    room = np.empty(x.nbytes + 1, np.uint8)
    unaligned = np.ndarray(x.shape, x.dtype, room.data, 1)
    unaligned[...] = x
    for array in (x, w, given["bias"]):
        array.flags.writeable = False
    loops = choose._loops(w.dtype)
    kinds = set(loops.run_frames.signatures)
    for some in (x, strided, unaligned, x > 0, np.asfortranarray(x)):
        before = some.copy()
        for way in SPARSE:
            assert_same(run(way, some, w, given), want)
        np.testing.assert_array_equal(some, before)
    assert set(loops.run_frames.signatures) == kinds  # ten seconds each


@pytest.mark.parametrize("way", SPARSE)
def test_streaming(way: choose.Way) -> None:
    """Two halves of time, the membrane passed on, are the whole."""
    x, w, given = EngineLayer(frames=6, options={"padding": 1}).arrays(0.2)
    want = run(way, x, w, given)
    first = run(way, x[:2], w, given)
    second = run(way, x[2:], w, {**given, "membrane": first.membrane})
    np.testing.assert_array_equal(np.concatenate([first.spikes, second.spikes]), want.spikes)
    np.testing.assert_array_equal(second.membrane, want.membrane)


@pytest.mark.parametrize("way", SPARSE)
def test_numbers_beyond_floats(way: choose.Way, ways: list[bool]) -> None:
    """Infinite and missing inputs give what products give; infinite weights, which make silence NaN, go by products."""
    x, w, given = EngineLayer(c_in=3, options={"padding": 1, "reproducible": False}, bias=False).arrays(0.2)
    x = x.astype(np.float32)
    x[1, 0, 3, 3, 0], x[2, 1, 5, 5, 1] = np.inf, np.nan
    w[0, 1, 1, 0] = 0.0
    got, want = run(way, x, w, given), run("dense", x, w, given)
    assert ways
    np.testing.assert_array_equal(np.isfinite(got.membrane), np.isfinite(want.membrane))
    ways.clear()
    w[0, 1, 1, 1] = np.inf
    assert_same(run(way, x, w, given), run("dense", x, w, given))
    assert not ways


@pytest.mark.parametrize("way", SPARSE)
def test_frames_are_checked_as_their_events_are_listed(way: choose.Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pass of its own over spikes and counts at hand; what is off the grid is refused as ever, wherever it is."""
    monkeypatch.setattr(tiles, "TILE", 1500)
    layer = EngineLayer(c_in=17, values=(1.0, -2.0), options={"padding": 1, "reproducible": Grid(input_max=2)})
    x, w, given = layer.arrays(0.2, kind="float32")
    want = run("dense", x, w, given)
    with monkeypatch.context() as patch:
        patch.setattr("tacops.backends.numpy_.NumPyBackend.on_grid", None)  # which can't be called
        assert_same(run(way, x, w, given), want)
    places = (0, 0, 0, 0, 0), (2, 1, 3, 3, 15), (-1, -1, -1, -1, -1)
    for place in places:
        for odd in (0.5, 3.0, -3.0, np.nan, np.inf):
            strange = x.copy()
            strange[place] = odd
            with pytest.raises(ValueError, match=r"spikes must be multiples of 1\.0 between -2 and 2 in"):
                run(way, strange, w, given)


@pytest.mark.parametrize("way", SPARSE)
def test_half_precision_goes_by_products(way: choose.Way, ways: list[bool]) -> None:
    """No loop is compiled for it."""
    x, w, given = EngineLayer(options={"padding": 1, "reproducible": False}).arrays(0.2, "float16")
    assert run(way, x, w, given).spikes.dtype == np.float16
    assert not ways


@pytest.mark.parametrize("way", SPARSE)
@pytest.mark.parametrize("check", list(conformance_checks()), ids=str)
def test_conformance(check: Check, way: choose.Way) -> None:
    """The suite, whose layers are too small to leave products otherwise."""
    with choose.force(way):
        try:
            check(get_backend("numpy"))
        except NotApplicable as reason:
            pytest.skip(str(reason))


@pytest.mark.parametrize("way", SPARSE)
def test_digests(way: choose.Way, ways: list[bool]) -> None:
    """The spikes that every machine fires."""
    with choose.force(way):
        assert not differing(records(get_backend("numpy")), load_reference())
    assert ways


@pytest.mark.parametrize("way", SPARSE)
def test_loops_refuse_resets_they_don_t_know(way: choose.Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `hold` does: never another reset."""
    x, w, given = EngineLayer().arrays(0.2)
    real: Callable[..., Any] = choose.run_layer

    def strange(*args: Any) -> Any:
        return real(*args[:5], args[5]._replace(reset=7), *args[6:])

    monkeypatch.setattr("tacops.backends.numpy_.run_layer", strange)
    with pytest.raises(ValueError, match="unknown reset"):
        run(way, x, w, given)
