"""Numbers at the edges: what one library computes, all do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import Grid, aggregate, conv_lif, lif, surrogate, tac_conv, tac_linear
from tacops.backends import Backend, get_backend

INF, NAN = float("inf"), float("nan")


def host(backend: Backend, train: Any) -> tuple[Any, Any]:
    """Spikes and membrane on the host."""
    return backend.to_numpy(train.spikes), backend.to_numpy(train.membrane)


def half(backend: Backend, name: str, array: Any) -> Any:
    """A float32 array in half precision."""
    there = backend.from_numpy(np.asarray(array, np.float32))
    xp = backend.namespace(there)
    if not hasattr(xp, name):
        pytest.skip(f"{backend.name} has no {name}")
    return xp.astype(there, getattr(xp, name))


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("reset", ["subtract", "zero", "none", "late"])
@pytest.mark.parametrize("values", [[1e34, 0.0], [INF, -1.0], [-INF, 3.0], [NAN, 3.0], [3e38, 3e38], [-1e38, 1e38]])
def test_infinities(backend: Backend, values: list[float], reset: Any) -> None:
    """Currents, and membranes, that are infinite or become so in units: the same on all backends, with a surrogate too."""
    current = np.array(values, np.float32).reshape(2, 1, 1)
    start = np.array([[values[0]]], np.float32)
    numpy = get_backend("numpy")
    for reproducible in (True, False):
        given: dict[str, Any]
        for given in ({}, {"membrane": start}):
            want = host(numpy, lif(current, reset=reset, reproducible=reproducible, membrane=given.get("membrane")))
            options: dict[str, Any] = {name: backend.from_numpy(array) for name, array in given.items()}
            for derivative in (None, surrogate.triangular(), surrogate.fast_sigmoid()):
                if derivative is not None and not backend.differentiable:
                    continue
                train = lif(
                    backend.from_numpy(current), reset=reset, reproducible=reproducible, surrogate=derivative, **options
                )
                fired, membrane = host(backend, train)
                np.testing.assert_array_equal(fired, want[0])
                np.testing.assert_allclose(membrane, want[1], rtol=0.0 if reproducible else 1e-6)


def test_overflow_of_half_precision(backend: Backend) -> None:
    """A float16 membrane that overflows is infinite and resets to 0; once NaN, it would never fire again."""
    current = half(backend, "float16", np.array([60000, 60000, 2]).reshape(3, 1, 1))
    with np.errstate(over="ignore"):
        spikes, membrane = host(backend, lif(current, beta=1.0, threshold=65000.0, reset="zero"))
    assert spikes.ravel().tolist() == [0, 1, 0]
    assert membrane.item() == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("K", [512, 3000])
def test_half_precision_is_summed_in_float32(backend: Backend, dtype: str, K: int) -> None:
    """512 ones are 512 in bfloat16 too, and float16 goes on beyond 2048: named rules, given weights, bias, any input."""
    weight, bias = half(backend, dtype, [[1.0]]), half(backend, dtype, [1.0])
    want = float(backend.to_numpy(half(backend, dtype, [float(K)]))[0])
    ones = half(backend, dtype, np.ones(K))
    for frames in [np.ones((K, 1, 1), t) for t in ((bool, np.uint8, np.float32) if K == 512 else (bool,))]:
        options: dict[str, Any] = {"chunk_size": K, "reset": "none"}
        spikes = backend.from_numpy(frames)
        train = tac_linear(spikes, weight, aggregation="sum", **options)
        assert host(backend, train)[1].item() == want
        if K == 512:
            train = tac_linear(spikes, weight, aggregation=ones, **options)
            assert host(backend, train)[1].item() == want
            got = host(backend, tac_linear(spikes, weight * 0, bias, aggregation=ones, **options))[1].item()
            assert got == want
    assert backend.to_numpy(aggregate(ones, K, aggregation="sum")).item() == want


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_of_decays(backend: Backend, dtype: str) -> None:
    """Weights that decay are powers in float32, whether beta is a number or an array."""
    beta = float(backend.to_numpy(half(backend, dtype, [0.99]))[0])
    x = half(backend, dtype, np.ones((200, 1)))
    want = sum(beta**k for k in range(200))
    for given in (beta, half(backend, dtype, [0.99])[0, ...]):
        got = backend.to_numpy(aggregate(x, 200, beta=given)).item()
        assert abs(got - want) <= want * 2.0**-8


CASES: list[tuple[Any, Grid, bool]] = [
    (np.arange(65, dtype=np.uint8), Grid(input_step=64, input_max=64), False),
    (np.array([0, 64], np.uint8), Grid(input_step=64, input_max=64), True),
    (np.array([0, 64], np.int64), Grid(input_step=64, input_max=64), True),
    (np.array([False, True]), Grid(input_step=2.0**-6, input_max=1 / 64), False),
    (np.array([False, True]), Grid(input_step=2, input_max=2), False),
    (np.array([False, False]), Grid(input_step=2, input_max=2), True),
    (np.array([-1, 1], np.int8), Grid(), True),
    (np.array([-2, 1], np.int8), Grid(), False),
    (np.array([-3, 2], np.int32), Grid(input_step=2, input_max=4), False),
    (np.array([0, 300], np.uint16), Grid(input_max=300), True),
    (np.array([0, 301], np.uint16), Grid(input_max=300), False),
    (np.array([0, 2**31], np.uint32), Grid(input_max=300), False),
    (np.array([0, 2**63], np.uint64), Grid(input_max=300), False),
    # float32 holds 2^24 + 64, and rounds 2^24 + 1
    *((np.array([0, 2**24 + 64], t), Grid(input_step=64, input_max=2**24 + 64), True) for t in (np.int32, np.uint32)),
    *((np.array([0, 2**24 + 1], t), Grid(input_step=64, input_max=2**24 + 64), False) for t in (np.int32, np.uint32)),
    (np.array([0, 2**24 + 1], np.int64), Grid(input_step=64, input_max=2**24 + 64), False),
]


@pytest.mark.parametrize("which", range(len(CASES)))
def test_integers_on_the_grid(backend: Backend, which: int) -> None:
    """Bools and integers are held to the grid's step and bounds as floats are."""
    values, grid, fits = CASES[which]
    weight = backend.from_numpy(np.ones((2, 1), np.float32))
    spikes, threshold = backend.from_numpy(values.reshape(-1, 1, 1)), max(1.0, grid.input_step)
    if backend.name == "jax" and values.dtype == np.uint64:
        pytest.skip("jax makes uint32 of uint64")
    if fits:
        options: dict[str, Any] = {"reset": "none", "beta": 0.0, "threshold": threshold}
        got = host(backend, tac_linear(spikes, weight, chunk_size=1, reproducible=grid, **options))[1]
        assert got.ravel().tolist() == [float(values[-1])] * 2
        return
    with pytest.raises(ValueError, match="tac_linear: spikes must be multiples of"):
        tac_linear(spikes, weight, chunk_size=1, threshold=threshold, reproducible=grid)


@pytest.mark.parametrize("with_bias", [False, True])
def test_subnormal_weights(backend: Backend, with_bias: bool) -> None:
    """Weights that some libraries take for 0 are 0 on every grid, whatever the bias."""
    weight = backend.from_numpy(np.full((2, 3), 1e-40, np.float32))
    bias = backend.from_numpy(np.full((2,), 0.25, np.float32)) if with_bias else None
    spikes = backend.from_numpy(np.ones((1, 1, 3), bool))
    membrane = host(backend, tac_linear(spikes, weight, bias, chunk_size=1, reproducible=True))[1]
    assert membrane.ravel().tolist() == [0.25 * with_bias] * 2


@pytest.mark.parametrize("K", [5_000_000, sys.maxsize])
@pytest.mark.parametrize("aggregation", ["decay", "sum", "mean", "normalized_decay"])
def test_long_chunks_cost_nothing(aggregation: Any, K: int) -> None:
    """A chunk longer than the data is what the data are; in reproducible mode it is that or one sentence."""
    spikes, weight = np.ones((3, 1, 2), bool), np.full((1, 2), 0.25, np.float32)
    options: dict[str, Any] = {"aggregation": aggregation, "reset": "none"}
    got = tac_linear(spikes, weight, chunk_size=K, **options).membrane
    np.testing.assert_array_equal(got, tac_linear(spikes, weight, chunk_size=3, **options).membrane)
    if aggregation == "decay":
        train = tac_linear(spikes, weight, chunk_size=K, reproducible=True, **options)
        np.testing.assert_allclose(train.membrane, got, rtol=0.02)
    else:
        with pytest.raises(ValueError, match="too far apart"):
            tac_linear(spikes, weight, chunk_size=K, reproducible=True, **options)


def test_sums_of_powers_are_not_contracted(backend: Backend) -> None:
    """A beta for which one fused rounding in the powers' sum moved an aggregation weight across a tie, compiled and not."""
    spikes = np.array([0, 1, 1], np.float32).reshape(3, 1, 1)
    beta = np.array([0.5107552409172058], np.float32)
    options: dict[str, Any] = {"chunk_size": 3, "mode": "preserve", "reproducible": True}

    def run(x: Any, w: Any, b: Any) -> Any:
        return tuple(tac_linear(x, w, beta=b, **options))

    given = [backend.from_numpy(array) for array in (spikes, np.ones((1, 1), np.float32), beta)]
    want = tac_linear(spikes, np.ones((1, 1), np.float32), beta=beta, **options)
    for function in (run, backend.compile(run)) if backend.compiles_fast else (run,):
        fired, membrane = function(*given)
        np.testing.assert_array_equal(backend.to_numpy(fired), want.spikes)
        np.testing.assert_array_equal(backend.to_numpy(membrane), want.membrane)


def test_aggregation_weights_of_many_betas(backend: Backend) -> None:
    """Of 200,000 betas, every share of a chunk is the same compiled as not: some sums lie next to a tie."""
    if not backend.compiles_fast:
        pytest.skip(f"{backend.name} compiles slowly or not at all")
    from tacops._core.units import unit_weights

    beta = backend.from_numpy(np.random.default_rng(0).random(200_000).astype(np.float32))
    for size in (3, 5):

        def weights(b: Any, size: int = size) -> Any:
            return backend.namespace(b).stack(unit_weights(backend, "normalized_decay", size, b, 9), axis=0)

        eager, compiled = (backend.to_numpy(f(beta)) for f in (weights, backend.compile(weights)))
        np.testing.assert_array_equal(eager, compiled)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("function", ["tac_conv", "conv_lif", "lif", "aggregate"])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("kind", ["masked", "matrix", "object", "text", "structured"])
def test_arrays_that_mean_something_else(function: str, kind: str) -> None:
    """NumPy's relatives are refused by name; ``aggregate`` summed what a mask hides."""
    array: Any = {
        "masked": np.ma.masked_array([[1.0, 5, 0.25]], [[False, True, False]]),
        "matrix": np.matrix([[1.0, 2.0]]),
        "object": np.array([[1.0, None]], dtype=object),
        "text": np.array([["a"]]),
        "structured": np.zeros((2, 2), dtype=[("a", "f4")]),
    }[kind]
    weight = np.ones((1, 3, 1), np.float32)
    calls: dict[str, Any] = {
        "tac_conv": lambda: tac_conv(array, weight, chunk_size=1),
        "conv_lif": lambda: conv_lif(np.ones((1, 1, 3, 1)), array),
        "lif": lambda: lif(array),
        "aggregate": lambda: aggregate(array, 1),
    }
    name = {"masked": "MaskedArray", "matrix": "matrix", "object": "object", "text": "<U1", "structured": "a"}[kind]
    with pytest.raises(TypeError, match=rf"{function}: (spikes|weight|current|x) must be .*{name}"):
        calls[function]()


def test_foreign_byte_order() -> None:
    """Arrays in the other byte order give what this machine's give."""
    rng = np.random.default_rng(0)
    spikes, weight = rng.random((4, 2, 5, 2)).astype(">f4"), rng.normal(0, 1, (3, 3, 2)).astype(">f4")
    got = conv_lif(spikes, weight, padding=1)
    want = conv_lif(spikes.astype("=f4"), weight.astype("=f4"), padding=1)
    np.testing.assert_array_equal(got.spikes, want.spikes)
    np.testing.assert_allclose(got.membrane, want.membrane, rtol=1e-6)


def test_half_precision_of_ml_dtypes() -> None:
    """bfloat16 in NumPy arrays, as ml_dtypes gives it."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16  # comes with JAX
    spikes, weight = np.ones((512, 1, 1), bool), np.ones((1, 1), bfloat16)
    train = tacops.tac_linear(spikes, weight, chunk_size=512, aggregation="sum", reset="none")
    assert train.membrane.dtype == bfloat16
    assert float(train.membrane[0, 0]) == 512.0
    fired = conv_lif(np.ones((3, 1, 4, 2), bool), np.ones((2, 3, 2), bfloat16), beta=0.5, threshold=4.0)
    assert fired.spikes.dtype == bfloat16
    assert fired.spikes.astype(np.float32).min() == 1.0
    currents = np.array([0.75, 0.5, -0.25, 2.0, 0.5], bfloat16).reshape(5, 1, 1)
    resets: tuple[Any, ...] = ("subtract", "zero", "none", "late")
    for reset in resets:  # beside a plain number NumPy would make float32 or float64 of it
        ways: tuple[dict[str, Any], ...] = ({}, {"lengths": [5], "trace": True})
        for options in ways:
            got = tacops.lif(currents, beta=0.5, reset=reset, **options)
            want = tacops.lif(currents.astype(np.float32), beta=0.5, reset=reset, **options)
            for half, single in zip(got, want, strict=True):
                assert half.dtype == bfloat16
                np.testing.assert_allclose(half.astype(np.float32), single, atol=0.01)
    assert conv_lif(np.ones((3, 1, 4, 2), bfloat16), np.ones((2, 3, 2), np.float32)).membrane.dtype == np.float32


@pytest.mark.parametrize("name", ["numpy", "array_api", "jax", "mlx", "torch"])
def test_zero_has_one_sign(need: Callable[[str], Backend], name: str) -> None:
    """A reproducible membrane of 0 is +0.0, whether a library rounds or sums it from negative numbers."""
    backend = need(name)
    current = np.array([-0.0, -1e-8, 0.5], np.float32).reshape(1, 1, 3)
    spikes, weight, bias = np.zeros((1, 1, 5, 5, 2)), -np.ones((2, 3, 3, 1)), np.array([-0.0, -1e-9])
    x, w, b = (backend.from_numpy(array.astype(np.float32)) for array in (spikes, weight, bias))
    for trace in (False, True):
        options: dict[str, Any] = {"reproducible": True, "trace": trace}
        trains = [lif(backend.from_numpy(current), **options)]
        trains += [conv_lif(x, w, given, groups=2, **options) for given in (None, b)]
        for train in trains:
            for membranes in train[1:]:
                assert not np.signbit(backend.to_numpy(membranes)).any()
