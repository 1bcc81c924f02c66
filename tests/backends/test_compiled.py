"""NumPy's compiled loops: the conformance suite runs through them, and they equal NumPy's own operations bit for bit."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tacops import Grid, SpikeTrain, lif, tac_conv, tac_linear
from tacops.backends import get_backend
from tacops.backends._cpu import loops, neurons
from tacops.testing import Check, NotApplicable, conformance_checks

LAYERS: dict[str, dict[str, Any]] = {
    "subtract": {},
    "zero": {"reset": "zero", "threshold": 0.7},
    "none": {"reset": "none"},
    "late": {"reset": "late", "beta": 0.97, "threshold": 0.7},
    "per channel": {
        "beta": np.linspace(0.2, 1.0, 5, dtype=np.float32),
        "threshold": np.linspace(0.3, 2, 5, dtype="f4"),
    },
    "compact": {"compact": True},
    "preserve": {"chunk_size": 3, "mode": "preserve"},
    "collapse": {"chunk_size": 3},
    "reproducible": {"reproducible": True},
    "counts": {"reproducible": Grid(input_step=0.5, input_max=4), "chunk_size": 2},
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Compile for inputs of any size, and collect which loops ran."""
    seen: set[str] = set()

    def spy(name: str) -> Callable[..., Any]:
        loop = getattr(loops, name)

        def call(*args: Any) -> Any:
            seen.add(name)
            return loop(*args)

        return call

    for name in ("hold", "sum_chunk", "count_off_grid"):
        monkeypatch.setattr(loops, name, spy(name))
    monkeypatch.setattr("tacops.backends._cpu.neurons.COMPILE", 0)
    return seen


@pytest.mark.parametrize("check", list(conformance_checks()), ids=str)
def test_conformance(check: Check, calls: set[str]) -> None:
    """The suite, whose inputs are too small for compiled loops otherwise."""
    try:
        check(get_backend("numpy"))
    except NotApplicable as reason:
        pytest.skip(str(reason))


def layer(name: str, dtype: str) -> SpikeTrain:
    """Run a layer of odd sizes on halves and quarters, from a membrane, in one of the modes above."""
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 5, (7, 3, 11, 9, 2)) / 2
    weight, bias = rng.normal(0, 0.4, (5, 3, 3, 2)).astype(dtype), rng.normal(0, 0.1, 5).astype(dtype)
    start = rng.normal(0, 1, (3, 11, 9, 5)).astype(dtype)
    options = {
        key: value.astype(dtype) if key in ("beta", "threshold") and name == "per channel" else value
        for key, value in LAYERS[name].items()
    }
    spikes = frames.astype(dtype) if name == "counts" else frames > 1.5
    train = tac_conv(spikes, weight, bias, padding=1, membrane=start, **{"chunk_size": 1, **options})
    assert 0.02 < train.spikes.mean() < 0.98
    return train


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_loops_equal_operations(name: str, dtype: str, calls: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, where both compute the same sums."""
    if name == "collapse":
        # the operations sum chunks by BLAS, the loops in order: only sums of few, exact terms are the same
        monkeypatch.setitem(LAYERS, name, {**LAYERS[name], "aggregation": "sum"})
    got = layer(name, dtype)
    assert "hold" in calls
    assert ("sum_chunk" in calls) == (name in ("preserve", "collapse"))
    assert ("count_off_grid" in calls) == (name == "counts")
    monkeypatch.setattr(neurons, "compiled", lambda: None)
    calls.clear()
    want = layer(name, dtype)
    assert not calls
    assert got.spikes.dtype == want.spikes.dtype
    if name == "preserve":  # sums of rounded weights, in two orders
        assert np.mean(got.spikes != want.spikes) < 1e-3
        np.testing.assert_allclose(got.membrane, want.membrane, atol=1e-4)
    else:
        np.testing.assert_array_equal(got.spikes, want.spikes)
        np.testing.assert_array_equal(got.membrane, want.membrane)


def test_strided_currents_and_vectors(calls: set[str]) -> None:
    """Neurons alone, of every second channel; a linear layer."""
    rng = np.random.default_rng(6)
    current = rng.normal(0, 1, (4, 3, 10)).astype(np.float32)
    got = lif(current[..., ::2], repeat=2)
    assert "hold" in calls
    want = lif(np.ascontiguousarray(current[..., ::2]), repeat=2)
    np.testing.assert_array_equal(got.spikes, want.spikes)
    assert np.any(tac_linear(rng.random((4, 3, 6)) < 0.5, np.eye(6, dtype=np.float32), chunk_size=2).spikes)


@pytest.mark.parametrize("dtype", ["float16", ">i2", ">f4"])
def test_dtypes_that_numba_lacks(dtype: str, calls: set[str]) -> None:
    """Inputs of half precision, or of another machine's byte order, are summed by NumPy."""
    spikes = np.random.default_rng(7).integers(0, 2, (4, 2, 5, 5, 2))
    weight = np.random.default_rng(8).normal(0, 1, (3, 3, 3, 2)).astype(np.float32)
    got = tac_conv(spikes.astype(dtype), weight, chunk_size=2, aggregation="sum")
    assert "sum_chunk" not in calls
    np.testing.assert_array_equal(got.membrane, tac_conv(spikes, weight, chunk_size=2, aggregation="sum").membrane)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, 0.25, 5.0, -4.5])
def test_off_grid_inputs_are_found_by_the_loop(spoilt: float, calls: set[str]) -> None:
    """One bad number among good ones."""
    spikes = np.ones((2, 1, 5, 5, 1), np.float32)
    grid = Grid(input_step=0.5, input_max=4)
    weight = np.ones((1, 3, 3, 1), np.float32)
    tac_conv(spikes, weight, chunk_size=2, reproducible=grid)
    spikes[1, 0, 4, 3, 0] = spoilt
    with pytest.raises(ValueError, match=r"multiples of 0\.5 between -4 and 4"):
        tac_conv(spikes, weight, chunk_size=2, reproducible=grid)
    assert "count_off_grid" in calls


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Numba that is missing, or refuses this NumPy, is done without."""

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if len(args) > 2 and "loops" in (args[2] or ()):  # `from . import loops`
            raise ImportError("Numba needs NumPy 1.0 or less")
        return real(name, *args, **kwargs)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert neurons._import() is None
