"""What a user has set for MLX: nothing of it changes reproducible mode, and nothing is set by us."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tacops
from tests.support import ROOT

mx = pytest.importorskip("mlx.core", reason="MLX's settings are not checked: MLX is not installed")

IMPORT = """
import os, mlx.core, tacops.backends
before = dict(os.environ)
print(tacops.backends.get_backend("mlx").describe()["precision"])
assert dict(os.environ) == before
"""

LONG = """
import resource, sys
import mlx.core as mx
import numpy as np
import tacops

x = mx.array(np.random.default_rng(0).random((int(sys.argv[1]), 1, 4), dtype="f4"))
w = mx.eye(4)

def rate(w):
    choice = {"surrogate": tacops.surrogate.arctan(), "remat": sys.argv[2] == "remat"}
    return tacops.tac_linear(x, w, chunk_size=1, **choice).spikes.sum()

mx.eval(rate(w) if sys.argv[2] == "forward" else mx.grad(rate)(w))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, mx.get_peak_memory())
"""


def run(*command: str, **environment: str) -> str:
    """What a program prints."""
    given = {key: value for key, value in os.environ.items() if key != "MLX_ENABLE_TF32"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", *command], cwd=ROOT, env=given | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_environment_is_left_alone() -> None:
    """Whether MLX may use TF32 is the user's to say, and ours to report; a CPU has none."""
    assert run(IMPORT) == "full float32"
    assert run(IMPORT, MLX_ENABLE_TF32="0") == "full float32 (MLX_ENABLE_TF32=0)"


@pytest.mark.parametrize(("value", "allowed"), [(None, True), ("1", True), ("0", False)])
def test_describe_on_a_gpu(monkeypatch: pytest.MonkeyPatch, value: str | None, allowed: bool) -> None:
    """On a GPU it is allowed unless forbidden."""
    from tacops.backends import mlx_

    monkeypatch.delenv("MLX_ENABLE_TF32", raising=False)
    if value is not None:
        monkeypatch.setenv("MLX_ENABLE_TF32", value)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu, 0))
    assert mlx_._rounds_operands() is allowed
    assert mlx_.BACKEND.describe()["precision"].startswith("TF32" if allowed else "full float32")


def narrow(x: Any) -> Any:
    """Round to 11 bits, as TF32 does."""
    mantissa, exponent = np.frexp(np.asarray(x))
    return mx.array(np.ldexp(np.round(mantissa * 2.0**11) / 2.0**11, exponent).astype("f4"))


@pytest.mark.parametrize("groups", [1, 2])
def test_reproducible_under_tf32(monkeypatch: pytest.MonkeyPatch, groups: int) -> None:
    """Weights and counts of more than 11 bits, whose products a TF32 unit would round."""
    from tacops.backends import mlx_

    rng = np.random.default_rng(2)
    frames = rng.integers(0, 3000, (6, 2, 6, 4)).astype("f4")
    weight = rng.normal(0, 2e-4, (4, 3, 4 // groups)).astype("f4")
    options: dict[str, Any] = {"chunk_size": 2, "groups": groups, "aggregation": "sum", "beta": 0.9}
    options["reproducible"] = tacops.Grid(weight_bits=9, input_max=3000)
    want = tacops.tac_conv(frames, weight, **options)
    assert 0.02 < want.spikes.mean() < 0.98
    product = mx.matmul
    monkeypatch.setattr(mx, "matmul", lambda a, b: product(narrow(a), narrow(b)))
    rounded = tacops.tac_conv(mx.array(frames), mx.array(weight), **options)
    assert np.abs(np.asarray(rounded.membrane) - want.membrane).max() > 0
    monkeypatch.setattr(mlx_, "_rounds_operands", lambda: True)
    got = tacops.tac_conv(mx.array(frames), mx.array(weight), **options)
    np.testing.assert_array_equal(np.asarray(got.membrane), want.membrane)
    np.testing.assert_array_equal(np.asarray(got.spikes), want.spikes)


def test_devices_and_streams() -> None:
    """On a stream of the user's, and with the CPU named as default device: the same."""
    rng = np.random.default_rng(3)
    frames, weight = rng.random((5, 2, 6, 3)) < 0.4, rng.normal(0, 0.4, (4, 3, 3)).astype("f4")
    want = tacops.conv_lif(frames, weight, reproducible=True)
    with mx.stream(mx.new_stream(mx.cpu)):
        got = tacops.conv_lif(mx.array(frames), mx.array(weight), reproducible=True)
        np.testing.assert_array_equal(np.asarray(got.membrane), want.membrane)
        np.testing.assert_array_equal(np.asarray(got.spikes), want.spikes)


@pytest.mark.parametrize("kind", ["forward", "gradient", "remat"])
def test_memory_is_linear_in_time(kind: str) -> None:
    """8000 steps of four neurons need little more than MLX itself; they took 2 GiB, each result knowing all the others."""
    short, long = (tuple(map(int, run(LONG, str(steps), kind).split())) for steps in (1000, 8000))
    assert long[0] - short[0] < 600  # MiB, the graph on the host
    assert long[1] < 10 * short[1]  # bytes of arrays


def test_steps_are_cut_in_small_pieces() -> None:
    """No operation has more than 16 results, whatever the number of steps; order and gradient are kept."""
    from tacops.backends import mlx_

    for steps in (1, 15, 16, 17, 255, 256, 257, 700):
        x = mx.arange(2 * steps).reshape(steps, 2).astype(mx.float32)
        cut = mlx_.BACKEND.unstack(x)
        assert len(cut) == steps
        np.testing.assert_array_equal(np.stack([np.asarray(step) for step in cut]), np.asarray(x))
        weights = np.random.default_rng(steps).integers(1, 9, steps).tolist()

        def total(x: Any, weights: Any = weights) -> Any:
            return sum(w * step.sum() for w, step in zip(weights, mlx_.BACKEND.unstack(x), strict=True))

        np.testing.assert_array_equal(
            np.asarray(mx.grad(total)(x)), np.array(weights, "f4")[:, None] * np.ones(2, "f4")
        )
