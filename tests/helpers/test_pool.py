"""Pools and flattening; convolution, pool and neurons one by one; neurons of channels-first currents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import SpikeTrain, surrogate
from tacops.backends import Backend
from tests.support.cases import assert_same

RNG = np.random.default_rng(0)
X = RNG.normal(0, 1, (3, 2, 7, 6, 4)).astype(np.float32)
POOLS = {"max": tacops.max_pool, "avg": tacops.avg_pool, "sum": tacops.sum_pool}


def by_hand(kind: str, x: Any, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> Any:
    """Window after window, in float64."""
    pads = [(0, 0), (0, 0), *((p, p) for p in padding), (0, 0)]
    x = np.pad(x.astype(np.float64), pads, constant_values=-np.inf if kind == "max" else 0)
    sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:-1], kernel, stride, strict=True)]
    out = np.zeros((*x.shape[:2], *sizes, x.shape[-1]))
    axes = tuple(range(2, 2 + len(kernel)))
    for index in np.ndindex(*sizes):
        window = tuple(slice(i * s, i * s + k) for i, s, k in zip(index, stride, kernel, strict=True))
        part = x[(slice(None), slice(None), *window)]
        out[(slice(None), slice(None), *index)] = getattr(part, {"avg": "mean"}.get(kind, kind))(axes)
    return out


@pytest.mark.parametrize("kind", POOLS)
def test_windows(backend: Backend, kind: str) -> None:
    """Of one to three dimensions, of every dtype, in both layouts; a maximum keeps the dtype."""
    cases: list[Any] = [
        (X, 2, None, 0),
        (X, (3, 2), (1, 2), (1, 0)),
        (X > 0, (3, 3), (2, 2), (1, 1)),
        ((X * 3).astype(np.int32), 2, 1, 0),
        (X[:, :, :, 0], 3, 2, 1),
        (X[..., None].transpose(0, 1, 2, 3, 4, 5)[:2, :, :4], (2, 2, 2), None, 0),
    ]
    for x, kernel, stride, padding in cases:
        dims = x.ndim - 3
        whole = [
            v if isinstance(v, tuple) else (v,) * dims for v in (kernel, kernel if stride is None else stride, padding)
        ]
        want = by_hand(kind, x, *whole)
        options = {"stride": stride, "padding": padding}
        got = backend.to_numpy(POOLS[kind](backend.from_numpy(x), kernel, **options))
        assert got.dtype == (x.dtype if kind == "max" or x.dtype == np.float32 else np.float32)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        if kind == "max" or x.dtype != np.float32:
            exact = (
                want
                if kind != "avg"
                else by_hand("sum", x, *whole).astype(np.float32) * np.float32(1 / np.prod(whole[0]))
            )
            np.testing.assert_array_equal(got, exact)
        assert_same("on NumPy", got, POOLS[kind](x, kernel, **options))
        first = np.ascontiguousarray(np.moveaxis(x, -1, 2))
        moved = POOLS[kind](SpikeTrain(backend.from_numpy(first), None), kernel, layout="channels_first", **options)
        assert_same("channels first", np.moveaxis(backend.to_numpy(moved), 2, -1), got)


def test_flatten(backend: Backend) -> None:
    flat = tacops.flatten(SpikeTrain(backend.from_numpy(X), None))
    assert_same("flat", backend.to_numpy(flat), X.reshape(3, 2, -1))


def test_nan_is_seen(backend: Backend) -> None:
    x = np.zeros((1, 1, 4, 1), np.float32)
    x[0, 0, 1], x[0, 0, 2] = np.nan, 1.0
    got = backend.to_numpy(tacops.max_pool(backend.from_numpy(x), 2))
    assert np.isnan(got[0, 0, 0, 0])
    assert got[0, 0, 1, 0] == 1


@pytest.mark.parametrize("name", ["jax", "mlx", "torch"])
def test_gradients(need: Callable[[str], Backend], name: str) -> None:
    """A maximum's goes to the first of equal numbers, an average's to all alike; through a pool to the weights, too."""
    backend = need(name)
    x = np.array([0, 1, 1, 1, 1, 0, 1, 0], np.float32).reshape(1, 1, 2, 4, 1)
    share = backend.from_numpy(np.array([2, 3], np.float32).reshape(1, 1, 1, 2, 1))

    def loss(pool: Any) -> Any:
        return lambda x: (pool(x, 2) * share).sum()

    [largest] = backend.gradient(loss(tacops.max_pool), [backend.from_numpy(x)])
    assert backend.to_numpy(largest)[0, 0, :, :, 0].tolist() == [[0, 2, 3, 0], [0, 0, 0, 0]]
    [mean] = backend.gradient(loss(tacops.avg_pool), [backend.from_numpy(x)])
    assert backend.to_numpy(mean)[0, 0, :, :, 0].tolist() == [[0.5, 0.5, 0.75, 0.75]] * 2

    def through(w: Any) -> Any:
        current = tacops.conv(backend.from_numpy(np.abs(X)), w)
        return tacops.lif(tacops.max_pool(current, 2), surrogate=surrogate.arctan()).spikes.sum()

    [gradient] = backend.gradient(through, [backend.from_numpy(np.full((2, 2, 2, 4), 0.1, np.float32))])
    assert (backend.to_numpy(gradient) != 0).all()


def test_integers_that_pytorch_cannot_compare() -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones((1, 1, 4, 1)).to(torch.uint16)
    try:
        _ = x >= 1
    except NotImplementedError:
        with pytest.raises(TypeError, match=r"^max_pool: spikes must be of a dtype .* can compare; got torch.uint16"):
            tacops.max_pool(x, 2)
    assert (tacops.sum_pool(x, 2) == 2).all()


def test_convolution_of_half_precision(backend: Backend) -> None:
    """Of numbers that are exact in it."""
    xp = backend.namespace(backend.from_numpy(X))
    if not hasattr(xp, "float16"):
        pytest.skip("no float16")
    w = np.full((2, 2, 2, 4), 0.25, np.float32)
    x = backend.from_numpy(X > 0)
    got = tacops.conv(x, xp.astype(backend.from_numpy(w), xp.float16))
    assert got.dtype == xp.float16
    want = tacops.conv(x, backend.from_numpy(w))
    np.testing.assert_array_equal(backend.to_numpy(xp.astype(got, xp.float32)), backend.to_numpy(want))


SPIKES = RNG.random((5, 2, 9, 8, 3)) < 0.4
WEIGHT, BIAS = RNG.normal(0, 0.4, (4, 3, 3, 3)).astype(np.float32), RNG.normal(0, 0.1, 4).astype(np.float32)


def test_a_convolution_and_its_neurons(backend: Backend) -> None:
    """One after the other they are `conv_lif`, bit for bit on a grid where all sums are exact, and `tac_conv` of aggregated frames."""
    w, b = (np.round(16 * array) / np.float32(16) for array in (WEIGHT, BIAS))
    x, w, b = (backend.from_numpy(array) for array in (SPIKES[:4], w, b))
    options: Any = {"padding": 1, "stride": 2}
    neurons: Any = {"beta": 0.5, "threshold": 0.5}
    pairs = [(tacops.lif(tacops.conv(x, w, b, **options), **neurons), tacops.conv_lif(x, w, b, **options, **neurons))]
    floating = backend.namespace(w).astype(x, w.dtype)
    halves = tacops.aggregate(floating, 2, aggregation="decay", beta=0.5)
    two = tacops.lif(tacops.conv(halves, w, **options), beta=0.25, threshold=0.5)
    pairs.append((two, tacops.tac_conv(x, w, chunk_size=2, **options, **neurons)))
    for got, want in pairs:
        assert_same("spikes", backend.to_numpy(got.spikes), backend.to_numpy(want.spikes))
        assert_same("membrane", backend.to_numpy(got.membrane), backend.to_numpy(want.membrane))


def test_pooled_currents_fire_the_same_spikes_everywhere(backend: Backend) -> None:
    """Arbitrary weights, reproducible: currents, spikes and membranes are NumPy's; and near those of the default path."""
    found = []
    for x, w, b in ((SPIKES, WEIGHT, BIAS), map(backend.from_numpy, (SPIKES, WEIGHT, BIAS))):
        current = tacops.conv(x, w, b, padding=1, reproducible=True)
        found.append((current, *tacops.lif(tacops.max_pool(current, 2), reproducible=True)))
    for want, got in zip(*found, strict=True):
        assert_same("reproducible", backend.to_numpy(got), want)
    np.testing.assert_allclose(found[0][0], tacops.conv(SPIKES, WEIGHT, BIAS, padding=1), rtol=0, atol=0.02)
    halves = tacops.avg_pool(backend.from_numpy(SPIKES), (1, 2))
    quarter = tacops.conv(halves, backend.from_numpy(WEIGHT), reproducible=tacops.Grid(input_step=0.5))
    assert_same(
        "of halves",
        backend.to_numpy(quarter),
        tacops.conv(tacops.avg_pool(SPIKES, (1, 2)), WEIGHT, reproducible=tacops.Grid(input_step=0.5)),
    )


@pytest.mark.parametrize("synapse", [None, 0.5])
def test_neurons_of_channels_first_currents(backend: Backend, synapse: float | None) -> None:
    """Betas and thresholds per channel, a membrane that is passed on, lengths and a trace: those of channels last."""
    current = RNG.normal(0, 1, (4, 2, 3, 3, 3)).astype(np.float32)  # C = H = W: nothing but the layout tells
    beta = backend.from_numpy(np.array([0.2, 0.5, 0.9], np.float32))
    options: Any = {"beta": beta, "threshold": beta, "synapse_decay": synapse, "trace": True, "lengths": [4, 3]}

    def moved(array: Any, axis: int) -> Any:
        return np.moveaxis(backend.to_numpy(array), axis, -1)

    def states(train: Any) -> tuple[Any, ...]:
        return train.membrane if synapse else (train.membrane,)

    first = backend.from_numpy(np.ascontiguousarray(np.moveaxis(current, -1, 2)))
    want = tacops.lif(backend.from_numpy(current), **options)
    got = tacops.lif(first, layout="channels_first", **options)
    more = tacops.lif(backend.from_numpy(current), **{**options, "membrane": want.membrane})
    again = tacops.lif(first, layout="channels_first", **{**options, "membrane": got.membrane})
    for one, other in ((want, got), (more, again)):
        assert_same("spikes", moved(other.spikes, 2), backend.to_numpy(one.spikes))
        assert_same("trace", moved(other.trace, 2), backend.to_numpy(one.trace))
        for a, b in zip(states(one), states(other), strict=True):
            assert_same("membrane", moved(b, 1), backend.to_numpy(a))


def one() -> Any:
    """A wrong value that type checkers don't see."""
    return 1


BAD: list[tuple[Any, str]] = [
    (lambda: tacops.max_pool(X, 0), "max_pool: kernel_size must be at least 1"),
    (lambda: tacops.max_pool(X, 2, padding=2), r"max_pool: padding must be at most half of the kernel \(2, 2\)"),
    (lambda: tacops.max_pool(X, 9), r"max_pool: spikes must be at least as large as the kernel \(9, 9\)"),
    (lambda: tacops.avg_pool(X, (1, 2, 3)), "avg_pool: kernel_size must be an int or 2 ints"),
    (lambda: tacops.avg_pool(X[0, 0], 2), r"avg_pool: spikes must be an array \(T, B, ...\)"),
    (lambda: tacops.sum_pool(X + 1j, 2), "sum_pool: spikes must be of a bool, integer or real floating dtype"),
    (lambda: tacops.sum_pool(X, 2, layout="first"), "sum_pool: layout must be one of"),
    (lambda: tacops.sum_pool(X, 2, padding=2**20), "sum_pool: padding must be so small"),
    (lambda: tacops.flatten(X[0, 0, 0]), "flatten: spikes must be an array"),
    (lambda: tacops.conv(SPIKES, WEIGHT[..., :2]), "conv: spikes must be an array .* with 2 channels"),
    (lambda: tacops.conv(SPIKES, WEIGHT, reproducible=one()), "conv: reproducible must be True, False or"),
    (lambda: tacops.lif(X, layout=one()), "lif: layout must be one of"),
    (lambda: tacops.lif(X[:0], layout="channels_first"), r"lif: current must be .*; got shape \(0, 2, 7, 6, 4\)"),
    (lambda: tacops.lif(X, layout="channels_first", membrane=np.moveaxis(X[0], 1, -1)), r"lif: membrane must be of shape \(2, 7, 6, 4\)"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_refusals(number: int) -> None:
    call, words = BAD[number]
    with pytest.raises((TypeError, ValueError), match=words):
        call()


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_windows_of_one_are_copies(pool: Any) -> None:
    """Writing to the result must not change the caller's frames."""
    spikes = np.ones((2, 1, 3, 3, 1), np.float32)
    pool(spikes, 1)[...] = 7
    pool(spikes, 1, stride=2)[...] = 7
    assert (spikes == 1).all()
