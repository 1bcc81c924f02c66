"""Which way NumPy's engine chooses: by counted spikes and the layer's shape, never by the clock."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

import tacops
from bench.timing.cases import CASES, TINY
from tacops._core.neurons import LIFStep
from tacops._core.synapses import Convolve
from tacops.backends import Window, get_backend
from tacops.backends._cpu import choose, memory
from tacops.backends._cpu.frames import Frames

pytest.importorskip("numba", reason="the engine's loops are not tried: Numba is not installed")


def way(x: Any, w: Any, window: Window, chunk: int = 1) -> choose.Way:
    """What the rule says of a layer."""
    frames = Frames(x, None if chunk == 1 else np.full(chunk, 1 / chunk, w.dtype))
    return choose.find_way(frames, w, window)[0]


def chosen(name: str, density: float, kind: Any = np.float32, chunk: int = 1) -> choose.Way:
    """What it says of a layer of the benchmark."""
    case = CASES[name]
    rng = np.random.default_rng(0)
    x = (rng.random((case.T, case.B, *case.space, case.c_in), dtype=np.float32) < density).astype(kind)
    dims = len(case.space)
    window = Window((1,) * dims, ((case.padding,) * 2,) * dims, (1,) * dims, case.groups)
    return way(x, np.ones(case.weight_shape, np.float32), window, chunk)


@pytest.mark.parametrize("kind", [bool, np.float32])
def test_benchmarks_layers(kind: Any) -> None:
    """Two channels have tables, one is multiplied; others follow their spikes where those are few."""
    assert chosen("S1", 0.001, kind) == "events"
    assert {chosen("S1", density, kind) for density in (0.05, 0.1, 1.0)} == {"tables"}
    assert {chosen("S2", density, kind) for density in (0.01, 0.1, 1.0)} == {"dense"}
    for name in ("S3", "S4", "D1", "LIN"):
        assert {chosen(name, density, kind) for density in (0.0, 0.01, 0.05, 0.1)} == {"events"}
        assert {chosen(name, density, kind) for density in (0.6, 1.0)} == {"dense"}
    assert chosen("DW", 0.02, kind) == "events"
    assert chosen("DW", 0.5, kind) == "dense"


def test_sums_of_frames_are_denser() -> None:
    """What is aggregated has the spikes of K frames, and is of no 0 and 1."""
    assert chosen("S3", 0.05, chunk=4) == "events"
    assert chosen("S3", 0.05, chunk=16) == "dense"
    assert chosen("S1", 0.5, chunk=4) == "dense"


def test_counts_have_no_table() -> None:
    """Twos among the ones."""
    case = CASES["S1"]
    x = np.random.default_rng(0).integers(0, 3, (case.T, case.B, *case.space, case.c_in)).astype(np.uint8)
    assert way(x, np.ones(case.weight_shape, np.float32), Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)) == "dense"


def test_small_layers_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would end before their spikes are counted."""

    def count(frames: Frames) -> Any:
        raise AssertionError("counted")

    monkeypatch.setattr(choose, "_count", count)
    x, w = TINY.arrays()
    tacops.conv_lif(x, w, padding=1)


def test_limits_are_where_costs_cross() -> None:
    """The two statements of the rule agree."""
    for frames, weight, window in (
        ((16, 8, 28, 28, 32), (64, 3, 3, 32), Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)),
        ((16, 8, 32, 32, 4), (32, 3, 3, 4), Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)),
        ((16, 8, 28, 28, 64), (64, 3, 3, 1), Window((1, 1), ((1, 1), (1, 1)), (1, 1), 64)),
        ((16, 8, 28, 28, 2), (64, 3, 3, 2), Window((2, 2), ((1, 1), (1, 1)), (1, 1), 1)),
    ):
        shape = choose.shape_of(frames, weight, window)
        below, above = choose.limits(shape)
        for density in np.linspace(0, 1, 101):
            cost = choose.costs(shape, float(density))
            assert (density < below) == (cost["events"] < choose.MARGIN * cost["dense"])
            if above < np.inf:
                assert (density > above) == (cost["tables"] < cost["events"])


@pytest.mark.parametrize(
    "shape", [(40, 7, 30, 41, 3), (300, 50, 64), (64, 3, 9, 200), (2, 1, 3, 400, 500, 2), (3, 2, 5)]
)
def test_samples_are_even(shape: tuple[int, ...]) -> None:
    """Neither the borders of frames nor a part of the time are met too often; the same sample every time."""
    index = np.ix_(*(np.arange(n) for n in shape))
    for axis in range(min(3, len(shape) - 1)):
        x = np.broadcast_to(index[axis] < max(1, shape[axis] // 3), shape)
        found = choose._count(Frames(x, None))
        assert abs(found[0] - x.mean()) < 0.08
        assert found == choose._count(Frames(x.copy(), None))
        assert found[1]


def test_a_poisoned_step_is_the_core_s() -> None:
    """Spikes that carry poison are no business of fast loops."""
    backend = get_backend("numpy")
    step = LIFStep(backend, 0.5, 1.0, "subtract", poison=np.asarray(np.nan, np.float32))
    conv = Convolve(backend, Window((), (), (), 1), np.eye(4, dtype=np.float32), None)
    for forced in choose.WAYS:
        with choose.force(forced):
            spikes, membrane = backend.schedule(conv, step, np.ones((3, 2, 4), np.float32), None, 1)
        assert np.isnan(spikes).all()
        assert np.isnan(membrane).all()


@pytest.mark.parametrize("forced", ["events", "tables"])
@pytest.mark.parametrize("kind", [bool, np.int16])
def test_work_area_is_bounded(forced: choose.Way, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside input and output, twice the frames and samples need no more memory."""
    monkeypatch.setattr("tacops.backends._cpu.tiles.count_cores", lambda: 1)
    rng = np.random.default_rng(0)
    channels = 2 if forced == "tables" else 16
    w = rng.normal(0, 0.3, (8, 3, 3, channels)).astype(np.float32)
    peaks = []
    for factor in (1, 1, 2):  # the first call loads what is loaded once
        memory._arena.block = memory._NOTHING
        x = (rng.random((4 * factor, 32 * factor, 64, 64, channels), dtype=np.float32) < 0.05).astype(kind)
        with choose.force(forced):
            tracemalloc.start()
            train = tacops.conv_lif(x, w, padding=1, compact=True)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        peaks.append(peak - train.spikes.nbytes - train.membrane.nbytes)
    assert max(peaks) < 8e6  # of an input of 8 to 67 MB
    assert peaks[2] < 1.2 * peaks[1]


def test_without_numba() -> None:
    """Today's products, whatever is asked for."""
    code = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import numpy as np, tacops
from tacops.backends._cpu import choose, memory
x, w = np.random.default_rng(0).random((4, 2, 9, 9, 2)) < 0.1, np.ones((4, 3, 3, 2), "f4")
want = tacops.conv_lif(x, w)
for way in choose.WAYS:
    with choose.force(way):
        assert choose._loops(w.dtype) is None
        got = tacops.conv_lif(x, w)
    assert (got.membrane == want.membrane).all()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def test_force_ends_with_its_block() -> None:
    """Also by an exception, and one in another."""
    with choose.force("events"):
        with pytest.raises(KeyError), choose.force("dense"):
            raise KeyError
        assert choose._forced == "events"
    assert choose._forced is None
