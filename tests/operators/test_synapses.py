"""``synapse_decay``: a synaptic current before the membrane, on every backend by the core's scan.

Held to plain loops on layers whose every number float32 holds exactly, so that spikes, membranes and currents must agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import Grid, surrogate
from tacops.backends import Backend
from tests.support.cases import assert_same, float_layer, grid_layer, to_backend
from tests.support.judge import convolve

LAYER = grid_layer(71, steps=5)
ALPHA, BETA = 0.5, 0.75
RESETS = ("subtract", "zero", "none", "late")


def simulate(currents: Any, alpha: Any, beta: Any, reset: str, state: Any = None, hold: int = 1) -> tuple[Any, ...]:
    """Spikes and membranes of every step, the last membrane and the last synaptic current, by the equations; threshold 1."""
    u, j = (np.zeros_like(currents[0]), np.zeros_like(currents[0])) if state is None else state
    spikes, membranes = [], []
    for current in np.repeat(currents, hold, axis=0):
        j = alpha * j + current
        v = beta * u + j - (u >= 1.0) * (reset == "late")
        fired = v >= 1.0
        u = {"subtract": v - fired, "zero": np.where(fired, 0.0, v), "none": v, "late": v}[reset]
        spikes.append(fired)
        membranes.append(u)
    return np.stack(spikes).astype(np.float64), np.stack(membranes), u, j


def currents_of(layer: Any, weights: Any) -> Any:
    """Of chunks with these weights, in float64."""
    K = len(weights)
    x, w, b = (array.astype(np.float64) for array in layer)
    frames = np.stack([np.tensordot(weights, x[c : c + K], 1) for c in range(0, len(x), K)])
    return np.stack([convolve(frame, w, padding=1) for frame in frames]) + b * sum(weights)


def check(backend: Backend, train: Any, want: Any) -> None:
    """A traced train."""
    got = (train.spikes, train.trace, *train.membrane)
    for name, one, other in zip(("spikes", "trace", "membrane", "current"), got, want, strict=True):
        assert_same(name, backend.to_numpy(one), other.astype(np.float32))
    assert 0.02 < want[0].mean() < 0.98


@pytest.mark.parametrize("reset", RESETS)
def test_exact(backend: Backend, reset: str) -> None:
    """Frame by frame, from rest and from a given pair."""
    arrays = [to_backend(backend, array) for array in LAYER]
    currents = currents_of(LAYER, [1.0])
    options: dict[str, Any] = {"beta": BETA, "synapse_decay": ALPHA, "reset": reset, "padding": 1, "trace": True}
    check(backend, tacops.conv_lif(*arrays, **options), simulate(currents, ALPHA, BETA, reset))
    shape = currents.shape[1:]
    start = np.linspace(0, 16, np.prod(shape)).round().reshape(shape).astype(np.float32) / 16
    pair = tuple(to_backend(backend, array) for array in (start, start[::-1]))
    want = simulate(currents[:3], ALPHA, BETA, reset, (start.astype(np.float64), start[::-1].astype(np.float64)))
    check(backend, tacops.conv_lif(arrays[0][:3, ...], *arrays[1:], membrane=pair, **options), want)


@pytest.mark.parametrize("mode", ["collapse", "preserve"])
def test_chunks(backend: Backend, mode: str) -> None:
    """A step of a whole chunk decays both by the power; a chunk that is held drives each of its steps."""
    layer = grid_layer(72, steps=4)
    arrays, weights = [to_backend(backend, array) for array in layer], [0.5, 1.0]
    given = to_backend(backend, np.asarray(weights, np.float32))
    options: dict[str, Any] = {"beta": BETA, "synapse_decay": ALPHA, "padding": 1, "trace": True, "aggregation": given}
    got = tacops.tac_conv(*arrays, chunk_size=2, **options, mode=mode)  # type: ignore[arg-type]
    currents = currents_of(layer, weights)
    if mode == "collapse":
        want = simulate(currents, ALPHA**2, BETA**2, "subtract")
    else:
        want = simulate(currents, ALPHA, BETA, "subtract", hold=2)
    check(backend, got, want)


def test_per_channel_and_compact(backend: Backend) -> None:
    """Arrays of decays; bool spikes."""
    arrays, alpha = [to_backend(backend, array) for array in LAYER], np.array([0, 0.25, 0.5, 0.75, 1, 0.5], np.float32)
    given = to_backend(backend, alpha)
    train = tacops.conv_lif(*arrays, beta=0.5, synapse_decay=given, padding=1, compact=True)
    want = simulate(currents_of(LAYER, [1.0]), alpha.astype(np.float64), 0.5, "subtract")
    assert_same("spikes", backend.to_numpy(train.spikes), want[0].astype(bool))
    assert_same("current", backend.to_numpy(train.membrane[1]), want[3].astype(np.float32))


@pytest.mark.parametrize("mode", ["collapse", "preserve"])
def test_reproducible(backend: Backend, need: Callable[[str], Backend], mode: str) -> None:
    """Arbitrary numbers: NumPy's spikes, membranes and currents bit for bit, in one piece or cut, channels first or last."""
    layer, numpy = float_layer(73, steps=7), need("numpy")
    options: dict[str, Any] = {"chunk_size": 3, "mode": mode, "synapse_decay": 0.7, "reproducible": True, "padding": 1}
    want = tacops.tac_conv(*layer, **options)
    assert 0.02 < want.spikes.mean() < 0.98
    assert numpy.owns(want.spikes)

    def same(train: tacops.SpikeTrain, first: bool = False) -> None:
        spikes = backend.to_numpy(train.spikes)
        assert_same("spikes", np.moveaxis(spikes, 2, -1) if first else spikes, want.spikes[-len(spikes) :])
        for one, other in zip(train.membrane, want.membrane, strict=True):
            one = backend.to_numpy(one)
            assert_same("membrane", np.moveaxis(one, 1, -1) if first else one, other)

    x, *rest = (to_backend(backend, array) for array in layer)
    same(tacops.tac_conv(x, *rest, **options))
    before = tacops.tac_conv(x[:3, ...], *rest, **options)
    same(tacops.tac_conv(x[3:, ...], *rest, membrane=before.membrane, **options))
    first = [to_backend(backend, array) for array in layer.channels_first()]
    same(tacops.tac_conv(*first, layout="channels_first", **options), first=True)
    if backend.compiles_fast:
        same(backend.compile(lambda x: tacops.tac_conv(x, *rest, **options))(x))


def test_lengths(backend: Backend) -> None:
    """Each sample as it is alone."""
    layer = float_layer(74, steps=7, batch=3)
    x, *rest = (to_backend(backend, array) for array in layer)
    options: dict[str, Any] = {"chunk_size": 3, "synapse_decay": 0.6, "reproducible": True}
    got = tacops.tac_conv(x, *rest, lengths=[7, 0, 5], **options)
    for n, length in ((0, 7), (2, 5)):
        want = tacops.tac_conv(x[:length, n : n + 1, ...], *rest, **options)
        assert_same(
            "spikes", backend.to_numpy(got.spikes)[: want.spikes.shape[0], n], backend.to_numpy(want.spikes)[:, 0]
        )
        for one, other in zip(got.membrane, want.membrane, strict=True):
            assert_same("membrane", backend.to_numpy(one)[n], backend.to_numpy(other)[0])
    assert not any(np.any(backend.to_numpy(x)[1]) for x in got.membrane)


def test_no_decay_is_no_current(backend: Backend) -> None:
    """With a decay of 0 the current is the input, and the neuron is the plain one; so are those of `lif` and `tac_linear`."""
    rng = np.random.default_rng(5)
    current = to_backend(backend, rng.normal(0.3, 1, (6, 2, 4)).astype(np.float32))
    plain, synaptic = tacops.lif(current), tacops.lif(current, synapse_decay=0.0)
    assert_same("spikes", backend.to_numpy(synaptic.spikes), backend.to_numpy(plain.spikes))
    assert_same("membrane", backend.to_numpy(synaptic.membrane[0]), backend.to_numpy(plain.membrane))
    assert_same("current", backend.to_numpy(synaptic.membrane[1]), backend.to_numpy(current)[-1])
    alone = tacops.lif(current[:, 0, ...], synapse_decay=0.5)
    assert [tuple(x.shape) for x in alone.membrane] == [(4,), (4,)]
    weight = to_backend(backend, rng.normal(0, 1, (3, 4)).astype(np.float32))
    x = to_backend(backend, rng.random((6, 2, 5, 4)) < 0.5)
    train = tacops.tac_linear(x, weight, chunk_size=2, synapse_decay=0.5)
    assert [tuple(x.shape) for x in train.membrane] == [(2, 5, 3), (2, 5, 3)]


@pytest.mark.parametrize("remat", [False, True])
def test_gradients(backend: Backend, remat: bool) -> None:
    """By weight, decays and the given pair, of smooth neurons: central differences in float64, or as float32 allows."""
    if not backend.differentiable:
        pytest.skip(f"{backend.name} has no gradients")
    rng = np.random.default_rng(6)
    x, w = rng.random((4, 2, 3)).astype(np.float32), rng.normal(0, 0.2, (5, 3)).astype(np.float32)
    alpha, beta = np.full(5, 0.6, np.float32), np.full(5, 0.8, np.float32)
    start, drive = (rng.normal(0, 0.2, (2, 5)).astype(np.float32) for _ in range(2))

    def loss(w: Any, alpha: Any, beta: Any, start: Any, drive: Any) -> Any:
        train = tacops.tac_linear(
            frames, w, chunk_size=2, mode="preserve", beta=beta, synapse_decay=alpha, membrane=(start, drive),
            threshold=9.0, reset="none", surrogate=surrogate.arctan(), remat=remat,
        )  # fmt: skip
        return (train.membrane[0] ** 2).sum() + (train.membrane[1] ** 2).sum()

    given = [w, alpha, beta, start, drive]
    frames = to_backend(backend, x)
    gradients = backend.gradient(loss, [to_backend(backend, array) for array in given])
    frames = x.astype(np.float64)
    for n, got in enumerate(gradients):
        want, wide = np.zeros(given[n].shape), [array.astype(np.float64) for array in given]
        for place in np.ndindex(want.shape):
            ends = []
            for shift in (1e-6, -1e-6):
                moved = [array.copy() for array in wide]
                moved[n][place] += shift
                ends.append(_quiet_loss(frames, *moved))
            want[place] = (ends[0] - ends[1]) / 2e-6
        assert np.abs(want).max() > 1e-2
        np.testing.assert_allclose(backend.to_numpy(got), want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def _quiet_loss(x: Any, w: Any, alpha: Any, beta: Any, start: Any, drive: Any) -> float:
    """The loss of `test_gradients`, whose neurons are never reset."""
    weights = np.stack([beta, np.ones(5)])
    u, j = start, drive
    for chunk in (x[:2], x[2:]):
        current = np.einsum("kbf,of,ko->bo", chunk, w, weights / weights.sum(0))
        for _ in range(2):
            j = alpha * j + current
            u = beta * u + j
    return float((u**2).sum() + (j**2).sum())


X, W, U = np.ones((2, 1, 3), np.float32), np.ones((4, 3), np.float32), np.zeros((1, 4), np.float32)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"synapse_decay": 1.5}, ValueError, r"tac_linear: synapse_decay must be in \[0, 1\]; got 1.5"),
        ({"synapse_decay": "half"}, TypeError, "tac_linear: synapse_decay must be a number or an array; got 'half'"),
        ({"membrane": (U, U)}, TypeError, "tac_linear: membrane must be an array; got "),
        ({"synapse_decay": 0.5, "membrane": U}, TypeError, r"must be a pair \(membrane, synaptic current\)"),
        ({"synapse_decay": 0.5, "membrane": (U, None)}, TypeError, r"must be a pair \(membrane, synaptic current\)"),
        ({"synapse_decay": 0.5, "membrane": (U, U[:, :3])}, ValueError, r"membrane\[1\] must be of shape \(1, 4\)"),
        ({"synapse_decay": np.ones(3, np.float32)}, ValueError, r"synapse_decay must be a number or an array broad"),
    ],
)
def test_errors(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """One sentence each."""
    with pytest.raises(error, match=message):
        tacops.tac_linear(X, W, chunk_size=1, **options)


def test_grid_holds_currents() -> None:
    """Currents in reproducible mode are whole units: those of integers weights are whole numbers."""
    weight = np.array([[1.0, 2.0, 3.0]], np.float32)
    train = tacops.tac_linear(X, weight, chunk_size=1, synapse_decay=1.0, reproducible=Grid(), threshold=100.0)
    assert_same("current", train.membrane[1], np.full((1, 1), 12.0, np.float32))
