"""The engine's tests can fail: every mistake planted in its loops is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tacops import Grid
from tacops.backends._cpu import tiles
from tests.support.engine_layers import GEOMETRIES, SPARSE, EngineLayer, assert_same, run

pytest.importorskip("numba", reason="the engine's loops are not tried: Numba is not installed")

from tests.support import engine_mutants  # it needs Numba

COUNTS: dict[str, Any] = {"padding": 1, "reproducible": Grid(input_max=3)}
SMALL = {
    **{name: replace(layer, frames=2, batch=2) for name, layer in GEOMETRIES.items() if name != "wide"},
    "wide": EngineLayer(space=(2, 3), c_in=3, c_out=115, frames=1, batch=2, options={"padding": 1}),
    "preserve": EngineLayer(
        (4, 4), frames=4, membrane=True, options={"padding": 1, "chunk_size": 2, "mode": "preserve"}
    ),
    "membrane": EngineLayer((4, 4), frames=2, membrane=True, options={"padding": 1}),
    "counts": EngineLayer((4, 4), frames=2, values=(1, -2, 3), options=COUNTS),
    "counts, one channel": EngineLayer((4, 4), c_in=1, frames=2, values=(1, 3), options=COUNTS),
    "counts, many channels": EngineLayer((4, 4), c_in=18, frames=2, values=(1, -2, 3), options=COUNTS),
}


def differences() -> Iterator[str]:
    """Layers that the engine, as it is now, gets wrong."""
    x, w, given = SMALL["counts"].arrays(0.3, kind="float32")
    for odd in (0.5, 4.0, -4.0):
        x[1, 1, 2, 2, 0] = odd
        try:
            run("events", x, w, given)
        except ValueError:
            continue
        yield f"{odd} is not refused"
    for name, layer in SMALL.items():
        x, w, given = layer.arrays(0.3, kind="int8" if layer.values != (1.0,) else "bool")
        want = run("dense", x, w, given)
        try:
            for way in SPARSE:
                assert_same(run(way, x, w, given), want)
        except Exception:  # noqa: BLE001 (an index out of bounds is found as well as a wrong sum)
            yield name


@pytest.fixture(autouse=True)
def rows_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a few rows, and a sample that looks like spikes whatever the frames hold."""
    monkeypatch.setattr(tiles, "TILE", 600)
    monkeypatch.setattr("tacops.backends._cpu.choose._count", lambda frames: (0.3, frames.weights is None))


def test_without_a_mistake_nothing_differs() -> None:
    """The loops in Python, unchanged."""
    with engine_mutants.planted(None):
        assert not list(differences())


@pytest.mark.parametrize("name", engine_mutants.MUTANTS)
def test_every_mistake_is_found(name: str) -> None:
    """By some layer."""
    with engine_mutants.planted(name):
        assert any(differences())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [16, 32, 64])
@pytest.mark.parametrize("kind", ["add_rows", "add_scaled_rows", "add_coded_rows"])
def test_sums_in_registers(kind: str, columns: int, dtype: Any) -> None:
    """What LLVM is told to do is what the text of Python says, at columns on from any, from one start or from many."""
    import numba

    from tacops.backends._cpu import registers

    adder = getattr(registers, kind)

    def add(*given: Any) -> None:
        rows, column, starts, sites, values, lines, count, walk, initial, step, out = given
        adder(rows, column, starts, sites, values, lines, count, walk, initial, step, out, columns)

    compiled = numba.njit(add)

    rng = np.random.default_rng(3)
    places, size, width = 5, 7, columns + 16
    rows = rng.integers(-9, 9, (90, width)).astype(dtype)
    starts = np.sort(rng.integers(0, 12, 3 * size + 1)).astype(np.int32)
    sites, values = rng.integers(0, 40, 40).astype(np.int32), rng.integers(1, 5, 40).astype(dtype)
    lines = np.array([[0, 20], [size, 31], [2 * size, 25]])
    for walk in ((-1, 1, size, 3, 0, 2, places), (-2, 2, size, 1, 1, 2, places), (5, 3, size, 2, 0, 1, places)):
        for step in (0, width):
            for column in (0, 16):
                initial = rng.integers(-9, 9, places * width).astype(dtype)
                got, want = np.zeros_like(initial), np.zeros_like(initial)
                given = rows, column, starts, sites, values, lines, 3, walk, initial, step
                compiled(*given, got)
                getattr(engine_mutants, kind)(*given, want, columns)
                np.testing.assert_array_equal(got, want)
                assert want.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_live_bits(dtype: Any) -> None:
    """Sixteen comparisons at once; not a number is live, minus zero is not."""
    import numba

    from tacops.backends._cpu import registers

    live_bits, first_bit = registers.live_bits, registers.first_bit
    bits = numba.njit(lambda x, at: live_bits(x, at))
    first = numba.njit(lambda x: first_bit(x))
    x = np.zeros(40, dtype)
    x[[3, 5, 18, 20]] = 1
    if dtype != np.uint8:
        x[7], x[8] = np.nan, -0.0
    for at in range(24):
        want = sum(1 << n for n in range(16) if x[at + n] != 0)
        assert bits(x, at) == want
        assert not want or first(want) == (want & -want).bit_length() - 1
