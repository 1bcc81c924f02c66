"""What can be said without a GPU or a TPU about the libraries that run on them: what they are asked for, not what they answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacops

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
SPIKES = RNG.random((8, 4, 7, 7, 2)) < 0.4
WEIGHT = RNG.normal(0, 0.5, (4, 3, 3, 2)).astype(np.float32)
SHARDED = """
import jax, jax.numpy as jnp, numpy as np, tacops
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from tests.test_accelerators import SPIKES, WEIGHT
assert len(jax.devices()) == 4
mesh = Mesh(np.array(jax.devices()), ("batch",))
spread = NamedSharding(mesh, P(None, "batch"))
spikes, weight = jnp.asarray(SPIKES), jnp.asarray(WEIGHT)
for options in ({"chunk_size": 1}, {"chunk_size": 4}, {"chunk_size": 4, "mode": "preserve"}):
    layer = jax.jit(lambda x, w: tacops.tac_conv(x, w, padding=1, reproducible=True, **options))
    alone = layer(spikes, weight)
    shared = layer(jax.device_put(spikes, spread), jax.device_put(weight, NamedSharding(mesh, P())))
    assert shared.spikes.sharding.is_equivalent_to(spread, 5), shared.spikes.sharding
    assert len(shared.membrane.sharding.device_set) == 4
    assert np.array_equal(alone.spikes, shared.spikes) and np.array_equal(alone.membrane, shared.membrane)
print("same")
"""


def _layer(x: Any, w: Any) -> Any:
    return tuple(tacops.tac_conv(x, w, chunk_size=4, padding=1))


def _linear(x: Any, w: Any) -> Any:
    return tuple(tacops.tac_linear(x, w, chunk_size=4))


def _products(jaxpr: Any) -> Iterator[Any]:
    """Matrix products and convolutions, inner programs' too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from _products(value.jaxpr)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """``pretend(platform)`` is JAX, said to run on another machine; nothing traced so stays behind."""
    jax = pytest.importorskip("jax", reason="what JAX is asked for is not checked: JAX is not installed")

    def run_on(platform: str) -> Any:
        monkeypatch.setattr(jax, "default_backend", lambda: platform)
        jax.clear_caches()
        return jax

    yield run_on
    jax.clear_caches()


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_jax_is_asked_for_full_float32(platform: str, pretend: Callable[[str], Any]) -> None:
    """Every product and convolution, in the program that the adapter writes for each kind of machine."""
    jax = pretend(platform)
    names = set()
    for function, weight in ((_layer, WEIGHT), (_linear, WEIGHT[:, 0, 0, :])):
        program = jax.make_jaxpr(function)(jax.numpy.asarray(SPIKES), jax.numpy.asarray(weight))
        products = list(_products(program.jaxpr))
        assert products
        for product in products:
            precision = product.params["precision"]
            asked = precision if isinstance(precision, tuple) else (precision,)
            assert set(asked) == {jax.lax.Precision.HIGHEST}, product
        names |= {product.primitive.name for product in products}
    assert ("conv_general_dilated" in names) == (platform != "cpu")


@pytest.mark.parametrize(("platform", "runs_on"), [("cuda", "gpu"), ("tpu", "tpu")])
def test_jax_lowers_for_machines_that_are_not_here(platform: str, runs_on: str, pretend: Callable[[str], Any]) -> None:
    """A portable program in full precision, for NVIDIA GPUs and for TPUs."""
    jax = pretend(runs_on)
    exported = jax.export.export(jax.jit(_layer), platforms=[platform])(
        jax.ShapeDtypeStruct(SPIKES.shape, bool), jax.ShapeDtypeStruct(WEIGHT.shape, np.float32)
    )
    assert exported.platforms == (platform,)
    program = exported.mlir_module()
    assert "stablehlo.convolution" in program
    assert program.count("precision HIGHEST") == 2  # of both operands
    assert "precision DEFAULT" not in program


def test_jax_batches_on_several_devices() -> None:
    """Four devices, each with a quarter of the batch, fire what one fires; the result stays spread."""
    pytest.importorskip("jax", reason="sharded batches are not checked: JAX is not installed")
    environment = {
        "PATH": "/usr/bin:/bin",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "same\n"


def test_jax_reuses_a_donated_membrane() -> None:
    """A streaming step may hand its membrane over."""
    jax = pytest.importorskip("jax", reason="donated membranes are not checked: JAX is not installed")

    def stream(u: Any, x: Any, w: Any) -> Any:
        return tuple(tacops.conv_lif(x, w, padding=1, membrane=u))

    membrane = jax.numpy.zeros((4, 7, 7, 4))
    x, w = jax.numpy.asarray(SPIKES), jax.numpy.asarray(WEIGHT)
    want = jax.jit(stream)(membrane, x, w)
    got = jax.jit(stream, donate_argnums=0)(membrane, x, w)
    assert membrane.is_deleted()
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_mlx_takes_no_winograd_in_reproducible_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metal chooses Winograd inside `conv_general`, which is therefore not called."""
    mx = pytest.importorskip("mlx.core", reason="what MLX is asked for is not checked: MLX is not installed")

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("conv_general was called")

    x, w = mx.array(SPIKES), mx.array(WEIGHT)
    monkeypatch.setattr(mx, "conv_general", refuse)
    out = tacops.conv_lif(x, w, padding=1, reproducible=True)
    want = tacops.conv_lif(SPIKES, WEIGHT, padding=1, reproducible=True)
    np.testing.assert_array_equal(np.asarray(out.spikes), want.spikes)
    with pytest.raises(AssertionError, match="conv_general was called"):
        tacops.conv_lif(x, w, padding=1)


def test_torch_asks_cudnn_for_full_float32() -> None:
    """The flag is set for a convolution on a GPU, for its time only."""
    torch = pytest.importorskip("torch", reason="what PyTorch is asked for is not checked: PyTorch is not installed")
    from types import SimpleNamespace

    from tacops.backends.torch_ import _full_precision

    before = torch.backends.cudnn.allow_tf32
    with _full_precision(SimpleNamespace(device=SimpleNamespace(type="cuda"))):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before
