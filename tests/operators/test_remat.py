"""Rematerialisation: the same answers and gradients, and less memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import SpikeTrain, surrogate
from tacops._core.remat import run_in_parts
from tacops.backends import Backend
from tests.support import judge
from tests.support.cases import Array, as_numpy, assert_same, float_layer

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
    *(("jax", call, True) for call in CALLS if call != "collapse"),  # the suite has it, and a minute of compiling less
    ("jax", "exact", False),
    *(("mlx", call, compiled) for call in CALLS for compiled in (False, True)),
    *(("torch", call, False) for call in CALLS),
]


@pytest.mark.parametrize(("name", "call", "compiled"), WAYS)
def test_equal_answers_and_gradients(need: Callable[[str], Backend], name: str, call: str, compiled: bool) -> None:
    """By weight, bias, decay, threshold and membrane; gradients but for the order of sums.

    Spikes and membranes are equal bit for bit in reproducible mode. On the default path a library may convolve a part of the
    frames in another order than all of them, so they are equal but for rounding.
    """
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
    plain, again = (as_numpy(backend, answer) for answer in answers)
    if options.get("reproducible"):
        assert_same("membrane", again.membrane, plain.membrane)
        assert_same("spikes", again.spikes, plain.spikes)
    else:
        verdict = judge.tac(*LAYER, **options)  # conv_lif is tac_conv with a chunk of one frame
        _assert_equal_but_for_rounding(again, plain, verdict.potentials)


def _assert_equal_but_for_rounding(got: SpikeTrain, want: SpikeTrain, potentials: Array) -> None:
    """Membranes to a few units in the last place of the largest; spikes, unless the threshold was as close as that."""
    few = 8 * np.finfo(np.float32).eps * float(np.abs(potentials).max())
    sure = (np.abs(potentials - 1.0) > few).all(axis=0)
    assert sure.mean() > 0.99
    assert_same("spikes", got.spikes[:, sure], want.spikes[:, sure])
    assert np.abs(got.membrane - want.membrane)[sure].max() <= few


def test_what_is_rounding_is_no_mistake() -> None:
    """One unit in the last place passes; a millionth of the membrane, or a spike that is no near-tie, does not."""
    verdict = judge.tac(*LAYER)
    right = SpikeTrain(verdict.spikes.astype(np.float32), verdict.membrane.astype(np.float32))
    near = right._replace(membrane=np.nextafter(right.membrane, np.float32(9)))
    _assert_equal_but_for_rounding(near, right, verdict.potentials)
    for wrong in (
        right._replace(membrane=right.membrane + np.float32(1e-5)),
        right._replace(spikes=1 - right.spikes),
    ):
        with pytest.raises(AssertionError):
            _assert_equal_but_for_rounding(wrong, right, verdict.potentials)


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

    def run(frames: Any, state: Any) -> tuple[Any, Any]:
        seen.append(len(frames))
        return frames, state or ()

    backend = tacops.backends.get_backend("numpy")
    spikes, state = run_in_parts(backend, run, np.arange(steps), None, (), chunk)
    assert state == ()
    assert spikes.tolist() == list(range(steps))
    assert len(seen) == parts
    assert all(size % chunk == 0 for size in seen[:-1])


def test_jax_memory(need: Callable[[str], Backend]) -> None:
    """What XLA sets aside for a gradient falls by a third and more; unfolded frames are never kept (``backends/jax_.py``)."""
    need("jax")
    import jax
    import jax.numpy as jnp

    x, weight = jnp.ones((256, 2, 16, 16, 4), bool), jnp.full((4, 3, 3, 4), 0.03)

    def size(remat: bool) -> int:
        def loss(weight: Any) -> Any:
            train = tacops.conv_lif(x, weight, padding=1, surrogate=surrogate.arctan(), remat=remat)
            return train.spikes.mean() + train.membrane.mean()

        return int(jax.jit(jax.grad(loss)).lower(weight).compile().memory_analysis().temp_size_in_bytes)

    assert size(True) < size(False) / 1.5


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


def test_torch_memory(need: Callable[[str], Backend], tmp_path: Path) -> None:
    """PyTorch's own count of its bytes, forwards and backwards, falls to less than a half at its highest."""
    need("torch")
    import torch
    from torch.profiler import ProfilerActivity, profile

    x, weight = torch.ones(144, 2, 8, 8, 8, dtype=torch.bool), torch.full((8, 3, 3, 8), 0.03, requires_grad=True)

    def peak(remat: bool) -> int:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            # a surrogate of one's own, because the compiled gradients of the others keep little anyway
            train = tacops.conv_lif(x, weight, padding=1, surrogate=lambda v: 1.0 / (1.0 + v * v), remat=remat)
            (train.spikes.mean() + train.membrane.mean()).backward()
        path = tmp_path / f"{remat}.json"
        seen.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        taken = [event for event in events if event["name"] == "[memory]"]
        taken.sort(key=lambda event: event["ts"])
        counts: list[int] = [event["args"]["Bytes"] for event in taken]
        return max(accumulate(counts))

    frames = 4 * x.numel()  # as many neurons as inputs, in float32
    assert peak(False) > 3 * frames, "a gradient keeps the currents, the membranes and the spikes of all steps"
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
