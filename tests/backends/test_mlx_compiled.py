"""What MLX compiles by itself on GPUs, here for a CPU: the same answers as operation by operation, and gradients."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tacops import Grid, SpikeTrain, lif, surrogate, tac_conv
from tacops.backends import Backend
from tests.support.cases import assert_same

# A decay that is a power of two multiplies exactly, so it doesn't matter whether a compiler contracts the addition.
LAYERS: dict[str, dict[str, Any]] = {
    "exact": {"chunk_size": 1},
    "zero": {"chunk_size": 1, "reset": "zero", "compact": True},
    "per channel": {"chunk_size": 2, "beta": np.array([0.5, 1, 0.25], "f4"), "threshold": np.array([1, 2, 0.75], "f4")},
    "collapse": {"chunk_size": 16, "aggregation": "sum"},
    "collapse all": {"chunk_size": 40, "aggregation": "sum"},
    "preserve": {"chunk_size": 3, "mode": "preserve"},
    "preserve, held longer than a block": {"chunk_size": 20, "mode": "preserve"},
    "reproducible": {"chunk_size": 4, "beta": 0.9, "reproducible": True},
    "counts": {"chunk_size": 4, "beta": 0.9, "reproducible": Grid(input_step=0.5, input_max=4)},
}


@pytest.fixture
def mlx(
    need: Callable[[str], Backend], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """MLX's adapter, which has compiled nothing yet."""
    need("mlx")
    from tacops.backends import mlx_

    # MLX keeps what it compiles there, and two processes that write the same file load halves of it
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.getbasetemp()))
    mlx_._block.cache_clear()
    mlx_._weighted_sum.cache_clear()
    return mlx_


def layer(mlx: Any, name: str, steps: int = 37) -> SpikeTrain:
    """Run a layer from a membrane; more steps than two blocks, the last block and the last chunk are shorter."""
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 5, (steps, 2, 5, 4, 2)) / 2
    weight, bias = rng.integers(-6, 9, (3, 3, 3, 2)) / 16, rng.integers(-2, 3, 3) / 16
    start = rng.integers(-8, 8, (2, 5, 4, 3)) / 8
    spikes = np.float32(frames) if name == "counts" else frames > 1.5
    arrays = (mlx.BACKEND.from_numpy(np.asarray(a)) for a in (spikes, np.float32(weight), np.float32(bias)))
    options = {"beta": 0.5, "padding": 1, "membrane": mlx.BACKEND.from_numpy(np.float32(start)), **LAYERS[name]}
    options |= {key: mlx.mx.array(value) for key, value in options.items() if isinstance(value, np.ndarray)}
    train = tac_conv(*arrays, **options)
    return SpikeTrain(*(mlx.BACKEND.to_numpy(array) for array in train))


@pytest.mark.parametrize("name", LAYERS)
def test_equal(mlx: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit; the second call finds every program."""
    want = layer(mlx, name)
    assert 0.02 < want.spikes.mean() < 0.98
    assert mlx._block.cache_info().currsize == 0
    monkeypatch.setattr(mlx, "_compiles", lambda: True)
    for _ in range(2):
        programs = mlx._block.cache_info().misses
        got = layer(mlx, name)
        assert_same("membrane", got.membrane, want.membrane)
        assert_same("spikes", got.spikes, want.spikes)
    assert 0 < mlx._block.cache_info().misses == programs


def test_long_simulation_needs_few_programs(mlx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many for 333 steps as for 37: one for whole blocks, one for the rest."""
    monkeypatch.setattr(mlx, "_compiles", lambda: True)
    for steps in (37, 333):
        mlx._block.cache_clear()
        layer(mlx, "exact", steps)
        assert mlx._block.cache_info().currsize == 2


def test_launches(mlx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 steps are 14 compiled kernels and one that joins them; everything else is a view, and nothing is gathered."""
    monkeypatch.setattr(mlx, "_compiles", lambda: True)
    current = mlx.BACKEND.from_numpy(np.ones((16, 2, 3), "f4"))
    graph = io.StringIO()
    mlx.mx.export_to_dot(graph, *lif(current))
    found = re.findall(r'label ?= ?"(\w+)", shape=rectangle', graph.getvalue())
    views = {"Slice", "Squeeze", "ExpandDims", "StopGradient", "CustomTransforms"}
    launched = [re.sub("(Compiled).*", r"\1", name) for name in found if name not in views]
    assert views <= set(found)
    assert launched.count("Compiled") <= 14
    assert sorted(set(launched)) == ["Compiled", "Concatenate"]
    assert launched.count("Concatenate") == 1


def test_gradients(mlx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to those of what isn't compiled: inside a transformation MLX looks through `mx.compile`."""
    rng = np.random.default_rng(4)
    frames, weight = rng.random((20, 2, 6)) < 0.4, rng.normal(0, 0.5, (3, 3, 6)).astype("f4")
    spikes, start = mlx.mx.array(frames[:, :, :, None]), mlx.BACKEND.from_numpy(weight[:, :, :1].copy())
    choice: dict[str, Any] = {"beta": 0.5, "surrogate": surrogate.arctan(), "remat": True, "padding": 1}

    def rate(weight: Any) -> Any:
        return tac_conv(spikes, weight, chunk_size=2, mode="preserve", **choice).spikes.mean()

    (want,) = mlx.BACKEND.gradient(rate, [start])
    monkeypatch.setattr(mlx, "_compiles", lambda: True)
    (got,) = mlx.BACKEND.gradient(rate, [start])
    assert np.abs(mlx.BACKEND.to_numpy(want)).max() > 1e-3
    np.testing.assert_allclose(mlx.BACKEND.to_numpy(got), mlx.BACKEND.to_numpy(want), rtol=1e-5)


def test_broken_rule_in_a_transformation(mlx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN, as without: what the core adds to the spikes goes into the programs."""
    monkeypatch.setattr(mlx, "_compiles", lambda: True)
    weight = mlx.mx.full((2, 3, 1), 0.25)
    function = mlx.mx.compile(lambda x: tuple(tac_conv(x, weight, chunk_size=2, reproducible=True)))
    for value in (1.0, 0.3):
        spikes, _ = function(mlx.mx.full((20, 1, 8, 1), value))
        assert mlx.mx.all(mlx.mx.isnan(spikes)).item() is (value == 0.3)
