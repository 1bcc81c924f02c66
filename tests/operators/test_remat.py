"""Rematerialisation: the same answers and gradients, and less memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import surrogate
from tacops._core.remat import run_in_parts
from tacops.backends import Backend
from tests.support.cases import assert_same, float_layer

LAYER = float_layer(61, steps=11)
BETA = np.linspace(0.7, 0.9, 6, dtype=np.float32)
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "exact": (tacops.conv_lif, {}),
    "collapse": (tacops.tac_conv, {"chunk_size": 2}),
    "preserve": (tacops.tac_conv, {"chunk_size": 2, "mode": "preserve", "reset": "zero"}),
    "reproducible": (tacops.tac_conv, {"chunk_size": 3, "reproducible": True}),
}
# what takes long is done once: JAX outside jit, and PyTorch's compiler (test_torch_compile)
WAYS = [
    *(("jax", call, True) for call in CALLS),
    ("jax", "exact", False),
    *(("mlx", call, compiled) for call in CALLS for compiled in (False, True)),
    *(("torch", call, False) for call in CALLS),
]
TORCH_PEAK = """
import re, sys, torch, tacops
x = torch.rand(1024, 2, 32, 32, 16) < 0.1
w = torch.randn(16, 3, 3, 16, requires_grad=True)
tacops.conv_lif(x, w.detach(), padding=1)
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before = peak()
train = tacops.conv_lif(x, w, padding=1, surrogate=tacops.surrogate.arctan(), remat=sys.argv[1] == "True")
(train.spikes.mean() + train.membrane.mean()).backward()
assert w.grad.abs().max() > 0
print(peak() - before)
"""


@pytest.mark.parametrize(("name", "call", "compiled"), WAYS)
def test_equal_answers_and_gradients(need: Callable[[str], Backend], name: str, call: str, compiled: bool) -> None:
    """Spikes and membranes bit for bit, gradients but for the order of sums; weight, bias, decay, threshold, membrane."""
    backend, (operator, options) = need(name), CALLS[call]
    x, weight, bias = (backend.from_numpy(a) for a in LAYER)
    start = operator(x, weight, bias, **options).membrane
    more = {
        "bias": bias,
        "beta": backend.from_numpy(BETA),
        "threshold": 1.0 + weight[:, 0, 0, 0] ** 2,
        "membrane": start,
    }

    def loss(remat: bool, x: Any, weight: Any, *arrays: Any) -> Any:
        named = dict(zip(more, arrays, strict=True))
        train = operator(x, weight, **named, **options, surrogate=surrogate.arctan(), remat=remat)
        return (train.spikes * train.spikes).sum() + (train.membrane * train.membrane).sum()

    xp = backend.namespace(x)
    arrays = [xp.astype(x, weight.dtype), weight, *more.values()]
    compile_ = backend.compile if compiled else lambda function: function
    plain, again = (
        compile_(lambda *a, remat=remat: backend.gradient(lambda *b: loss(remat, *b), a))(*arrays)
        for remat in (False, True)
    )
    for got, want in zip(again, plain, strict=True):
        got, want = backend.to_numpy(got), backend.to_numpy(want)
        assert np.abs(want).max() > 1e-3
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())
    answers = [operator(*arrays[:2], bias, **options, remat=remat) for remat in (False, True)]
    for one, other in zip(*answers, strict=True):
        assert_same("answer", backend.to_numpy(other), backend.to_numpy(one))


def test_torch_compile(need: Callable[[str], Backend]) -> None:
    """torch.compile traces a checkpoint, too (without its code generator, which takes seconds)."""
    need("torch")
    import torch

    x, weight = torch.from_numpy(LAYER.spikes), torch.from_numpy(LAYER.weight).requires_grad_()

    def loss(weight: Any) -> Any:
        return tacops.tac_conv(x, weight, chunk_size=2, surrogate=surrogate.arctan(), remat=True).spikes.sum()

    [want] = torch.autograd.grad(loss(weight), weight)
    [got] = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(weight), weight)
    assert want.abs().max() > 1e-3
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ["numpy", "array_api"])
def test_nothing_changes_without_gradients(need: Callable[[str], Backend], name: str) -> None:
    """A backend without gradients has nothing to compute again."""
    backend = need(name)
    arrays = [backend.from_numpy(a) for a in LAYER]
    for one, other in zip(*(tacops.conv_lif(*arrays, remat=remat) for remat in (False, True)), strict=True):
        assert_same("answer", backend.to_numpy(other), backend.to_numpy(one))


@pytest.mark.parametrize(
    ("steps", "chunk", "parts"), [(1, 1, 1), (4, 1, 2), (5, 1, 2), (16, 1, 4), (16, 4, 2), (9, 16, 1)]
)
def test_parts(steps: int, chunk: int, parts: int) -> None:
    """The square root of the number of chunks, about; no chunk is cut."""
    seen = []

    def run(frames: Any, membrane: Any) -> tuple[Any, Any]:
        seen.append(len(frames))
        return frames, membrane

    backend = tacops.backends.get_backend("numpy")
    spikes, _ = run_in_parts(backend, run, np.arange(steps), None, (), chunk)
    assert spikes.tolist() == list(range(steps))
    assert len(seen) == parts
    assert all(size % chunk == 0 for size in seen[:-1])


def test_jax_memory(need: Callable[[str], Backend]) -> None:
    """What XLA sets aside for a gradient falls to less than a half."""
    need("jax")
    import jax
    import jax.numpy as jnp

    x, weight = jnp.ones((64, 2, 16, 16, 4), bool), jnp.full((4, 3, 3, 4), 0.03)

    def size(remat: bool) -> int:
        def loss(weight: Any) -> Any:
            train = tacops.conv_lif(x, weight, padding=1, surrogate=surrogate.arctan(), remat=remat)
            return train.spikes.mean() + train.membrane.mean()

        return int(jax.jit(jax.grad(loss)).lower(weight).compile().memory_analysis().temp_size_in_bytes)

    assert size(True) < size(False) / 2


def test_mlx_memory(need: Callable[[str], Backend]) -> None:
    """MLX's peak falls to less than a half."""
    need("mlx")
    import mlx.core as mx

    x, weight = mx.ones((64, 2, 32, 32, 8), mx.bool_), mx.full((8, 3, 3, 8), 0.03)

    def peak(remat: bool) -> int:
        def loss(weight: Any) -> Any:
            train = tacops.conv_lif(x, weight, padding=1, surrogate=surrogate.arctan(), remat=remat)
            return train.spikes.mean() + train.membrane.mean()

        mx.eval(x, weight)
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(mx.grad(loss)(weight))
        return mx.get_peak_memory() - before

    assert peak(True) < peak(False) / 2


def test_torch_memory(need: Callable[[str], Backend]) -> None:
    """What a process of its own grows by, beyond the forward pass, falls to less than a half."""
    need("torch")
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak is read from Linux's /proc")

    def peak(remat: bool) -> int:
        command = [sys.executable, "-c", TORCH_PEAK, str(remat)]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    assert peak(True) < peak(False) / 2


def test_refused_transformations(need: Callable[[str], Backend]) -> None:
    """What docs/layers.md says is refused, is; nothing is silently kept in memory, or without a gradient."""
    spikes = np.ones((4, 2, 3), np.float32)

    def loss(weight: Any) -> Any:
        x = tacops.backends.backend_of(weight).from_numpy(spikes)
        return tacops.tac_linear(x, weight, chunk_size=1, surrogate=surrogate.arctan(), remat=True).spikes.sum()

    torch, mlx = need("torch"), need("mlx")
    import mlx.core as mx
    import torch as pytorch

    with pytest.raises(RuntimeError, match="saved tensor hooks"):
        pytorch.func.grad(loss)(torch.from_numpy(np.ones((5, 3), np.float32)))
    with pytest.raises(ValueError, match="Depends"):
        mx.vmap(mx.grad(loss))(mlx.from_numpy(np.ones((2, 5, 3), np.float32)))


def test_error() -> None:
    """One sentence."""
    with pytest.raises(TypeError, match=r"^lif: remat must be True or False; got 1$"):
        tacops.lif(np.ones((2, 1, 1)), remat=1)  # type: ignore[arg-type]
