"""Surrogate gradients: what back-propagation by hand gives, and the same in every library that differentiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tacops import conv_lif, lif, surrogate, tac_conv, tac_linear
from tacops.backends import Backend
from tests.operators.test_transforms import DIFFERENTIABLE, vmap
from tests.support import judge
from tests.support.cases import assert_same, float_layer, grid_layer

Gradients = list[NDArray[Any]]


def gradients(backend: Backend, loss: Callable[..., Any], *arrays: NDArray[Any], compiled: bool = False) -> Gradients:
    """Differentiate a scalar function by every argument."""
    native, everything = [backend.from_numpy(a) for a in arrays], tuple(range(len(arrays)))
    if backend.name == "torch":
        for leaf in native:
            leaf.requires_grad_()
        loss(*native).backward()
        return [backend.to_numpy(leaf.grad) for leaf in native]
    if backend.name == "jax":
        import jax

        function = jax.grad(loss, everything)
    else:
        import mlx.core as mx

        function = mx.grad(loss, everything)
    found = (backend.compile(function) if compiled else function)(*native)
    return [backend.to_numpy(g) for g in (found if isinstance(found, tuple | list) else [found])]


def by_hand(
    x: NDArray[Any], w: NDArray[Any], beta: float, reset: str, derivative: Callable[..., Any], *, detach: bool = False
) -> Gradients:
    """Back-propagation through time worked out by hand, float64, for the loss sum(spikes) + sum(membrane ** 2)."""
    current = x.astype(np.float64) @ w.astype(np.float64).T
    verdict = judge.lif(current, beta=beta, reset=reset)
    to_u, to_current = 2 * verdict.membrane, np.zeros_like(current)
    to_next = np.zeros_like(to_u)
    for t in reversed(range(len(x))):
        v, s = verdict.potentials[t], verdict.spikes[t]
        keeps, moves = {"subtract": (1.0, -1.0), "zero": (1 - s, -v), "none": (1.0, 0.0), "late": (1.0, 0.0)}[reset]
        through = 0.0 if detach else -to_next if reset == "late" else to_u * moves
        to_v = to_u * keeps + (1.0 + through) * derivative(v - 1.0)
        to_current[t], to_u, to_next = to_v, beta * to_v, to_v
    return [to_current @ w, np.einsum("tbo,tbi->oi", to_current, x)]


DERIVATIVES: list[tuple[Any, Callable[..., Any]]] = [
    (surrogate.fast_sigmoid(slope=5.0), lambda x: 1 / (1 + 5 * np.abs(x)) ** 2),
    (surrogate.arctan(slope=2.0), lambda x: 1 / (1 + (np.pi * x) ** 2)),
    (surrogate.sigmoid(slope=4.0), lambda x: 4 * np.exp(-4 * x) / (1 + np.exp(-4 * x)) ** 2),
    (surrogate.triangular(slope=0.5), lambda x: np.maximum(0, 1 - 0.5 * np.abs(x))),
    (surrogate.straight_through(slope=0.25), lambda x: np.full_like(x, 0.25)),
    (lambda x: 1.0 / (1.0 + x * x), lambda x: 1 / (1 + x * x)),
]


@pytest.mark.parametrize("reset", ["subtract", "zero", "none", "late"])
@pytest.mark.parametrize("which", range(len(DERIVATIVES)))
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_by_hand(need: Callable[[str], Backend], name: str, which: int, reset: Any) -> None:
    """Every surrogate (and a function of one's own), every reset: the gradient that back-propagation by hand gives."""
    layer = grid_layer(52, steps=6, spatial=(), kernel=(), c_in=8, c_out=5)
    given, derivative = DERIVATIVES[which]

    def loss(x: Any, w: Any) -> Any:
        train = tac_linear(x, w, chunk_size=1, beta=0.5, reset=reset, surrogate=given)
        return train.spikes.sum() + (train.membrane * train.membrane).sum()

    got = gradients(need(name), loss, layer.spikes, layer.weight)
    want = by_hand(layer.spikes, layer.weight, 0.5, reset, derivative)
    for g, h in zip(got, want, strict=True):
        assert np.abs(h).max() > 0.5
        np.testing.assert_allclose(g, h, rtol=0, atol=1e-5 * np.abs(h).max())


@pytest.mark.parametrize("reset", ["subtract", "zero", "late"])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_detached_reset_by_hand(need: Callable[[str], Backend], name: str, reset: Any) -> None:
    """With ``detach_reset=True`` nothing flows through the reset, and nothing else changes."""
    layer = grid_layer(52, steps=6, spatial=(), kernel=(), c_in=8, c_out=5)
    given, derivative = DERIVATIVES[0]

    def loss(x: Any, w: Any) -> Any:
        train = tac_linear(x, w, chunk_size=1, beta=0.5, reset=reset, surrogate=given, detach_reset=True)
        return train.spikes.sum() + (train.membrane * train.membrane).sum()

    got = gradients(need(name), loss, layer.spikes, layer.weight)
    want = by_hand(layer.spikes, layer.weight, 0.5, reset, derivative, detach=True)
    through = by_hand(layer.spikes, layer.weight, 0.5, reset, derivative)
    for g, h, other in zip(got, want, through, strict=True):
        assert np.abs(h - other).max() > 0.1
        np.testing.assert_allclose(g, h, rtol=0, atol=1e-5 * np.abs(h).max())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mode", ["collapse", "preserve"])
def test_gradients_agree_between_libraries(need: Callable[[str], Backend], mode: Any, compiled: bool) -> None:
    """Weights, bias, decay, threshold, aggregation and membrane of a two-layer network: all learn, all alike."""
    first, second = float_layer(53), float_layer(54, c_in=6, c_out=3)
    given = surrogate.fast_sigmoid(slope=2.0)

    def loss(w1: Any, b1: Any, w2: Any, beta: Any, threshold: Any, aggregation: Any, membrane: Any) -> Any:
        options = {"beta": beta, "threshold": threshold, "surrogate": given, "padding": 1}
        x = inputs
        h = tac_conv(x, w1, b1, chunk_size=2, mode=mode, aggregation=aggregation, membrane=membrane, **options).spikes
        train = conv_lif(h, w2, surrogate=given)
        return (train.spikes * train.spikes).sum() + (train.membrane * train.membrane).sum()

    ones = np.ones(6, np.float32)
    start = np.random.default_rng(0).normal(0, 0.5, (2, 5, 6, 6)).astype(np.float32)
    arrays = (first.weight, first.bias, second.weight, ones * 0.8, ones, np.array([0.6, 0.9], np.float32), start)
    found: dict[str, Gradients] = {}
    for name in DIFFERENTIABLE:
        try:
            backend = need(name)
        except pytest.skip.Exception:
            continue
        inputs = backend.from_numpy(first.spikes)
        found[name] = gradients(backend, loss, *arrays, compiled=compiled)
    if len(found) < 2:
        pytest.skip("needs two of jax, mlx and torch")
    names = list(found)
    for want, array in zip(found[names[0]], arrays, strict=True):
        assert want.shape == array.shape
        assert np.abs(want).max() > 1e-3
    for name in names[1:]:
        for got, want in zip(found[name], found[names[0]], strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max(), err_msg=name)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_spikes_carry_no_gradient_without_a_surrogate(need: Callable[[str], Backend], name: str) -> None:
    """surrogate=None: the spikes are constants; the membrane's linear part still has its gradient."""

    def spikes(x: Any) -> Any:
        train = lif(x, beta=0.5)
        return train.spikes.sum() + 0.0 * train.membrane.sum()

    current = np.full((3, 2, 4), 0.75, np.float32)
    backend = need(name)
    [zero] = backend.gradient(spikes, [backend.from_numpy(current)])
    assert not backend.to_numpy(zero).any()
    want = np.broadcast_to(np.array([0.25, 0.5, 1], np.float32)[:, None, None], current.shape)
    [linear] = gradients(backend, lambda x: lif(x, beta=0.5).membrane.sum(), current)
    assert_same("gradient", linear, want)


@pytest.mark.parametrize("given", [surrogate.fast_sigmoid(), surrogate.arctan(), surrogate.triangular()], ids=str)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_surrogate_leaves_the_spikes_exact(need: Callable[[str], Backend], name: str, given: Any) -> None:
    """The forward pass is the same to the last bit with and without a surrogate, compiled too."""
    backend = need(name)
    layer = float_layer(55)
    arrays = [backend.from_numpy(a) for a in layer]
    for compile_ in (lambda f: f, backend.compile if name != "torch" else (lambda f: f)):
        runs = [
            compile_(lambda *a, s=s: tuple(tac_conv(*a, chunk_size=2, surrogate=s)))(*arrays) for s in (None, given)
        ]
        for without, with_ in zip(*runs, strict=True):
            assert_same("answer", backend.to_numpy(with_), backend.to_numpy(without))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_per_sample(need: Callable[[str], Backend], name: str) -> None:
    """Vectorised gradients: each sample's own, which sum up to the batch's."""
    backend = need(name)
    layer = grid_layer(56, steps=4, batch=3, spatial=(), kernel=(), c_in=8)
    x = np.moveaxis(layer.spikes, 1, 0)[:, :, None].copy()  # (sample, T, 1, F)

    def loss(w: Any, x: Any) -> Any:
        train = tac_linear(x, w, chunk_size=2, beta=0.5, surrogate=surrogate.arctan())
        return train.spikes.sum() + train.membrane.sum()

    if name == "jax":
        import jax

        grad, in_axes = jax.grad(loss), {"in_axes": (None, 0)}
    elif name == "mlx":
        import mlx.core as mx

        grad, in_axes = mx.grad(loss), {"in_axes": (None, 0)}
    else:
        import torch

        grad, in_axes = torch.func.grad(loss), {"in_dims": (None, 0)}
    each = backend.to_numpy(vmap(name)(grad, **in_axes)(backend.from_numpy(layer.weight), backend.from_numpy(x)))
    assert each.shape == (3, *layer.weight.shape)
    assert np.abs(each).max(axis=(1, 2)).min() > 0.01
    [whole] = gradients(backend, lambda w: loss(w, backend.from_numpy(layer.spikes)), layer.weight)
    np.testing.assert_allclose(each.sum(axis=0), whole, atol=1e-4)


def test_forward_mode_in_jax(need: Callable[[str], Backend]) -> None:
    """jax.jvp agrees with jax.grad along a direction."""
    backend = need("jax")
    import jax

    layer = grid_layer(57, steps=4, spatial=(), kernel=(), c_in=8)
    x, w, direction = (backend.from_numpy(a) for a in (layer.spikes, layer.weight, layer.weight[::-1].copy()))

    def loss(w: Any) -> Any:
        return tac_linear(x, w, chunk_size=2, surrogate=surrogate.sigmoid()).spikes.sum()

    _, along = jax.jvp(loss, (w,), (direction,))
    assert abs(float(along)) > 0.01
    np.testing.assert_allclose(float(along), float((jax.grad(loss)(w) * direction).sum()), rtol=1e-4)
