"""Reproducible mode gives the same bits on every backend, whatever should not matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacops import Grid, SpikeTrain, tac_conv, tac_linear
from tacops.backends import Backend, get_backend
from tacops.testing._host import assert_train
from tests.support.cases import as_numpy
from tests.support.reproducible_layers import Array, layer, run

# The same everywhere: shapes and numbers that libraries would otherwise treat differently


def _hard_cases() -> dict[str, tuple[tuple[Array, ...], dict[str, Any]]]:
    x, w, b = layer(2, size=5, c_in=4, c_out=4)
    zero, uneven, nearly = w.copy(), w.copy(), w.copy()
    zero[1] = 0
    faint = np.where(np.arange(4).reshape(-1, 1, 1, 1) == 2, np.float32(1e-20), np.float32(1)) * w
    uneven *= np.float32([1e-3, 1, 1e3, 1e-5]).reshape(-1, 1, 1, 1)  # type: ignore[arg-type]
    # half units and their neighbours, where rounding to even and rounding up part
    nearly = ((np.round(nearly * 1024) + 0.5) / 1024).astype(np.float32)
    big = layer(1, batch=4, size=12, c_in=32, c_out=32, steps=8)
    last = np.float32([1.0, 0.0, 0.9999999, 1e-6])  # type: ignore[arg-type]
    return {
        "collapse": (big, {"chunk_size": 4, "padding": 1}),
        "preserve": (big, {"chunk_size": 3, "mode": "preserve", "padding": 1}),
        "integrate-unbounded": (big, {"chunk_size": 1, "beta": 1.0, "reset": "none"}),
        "many-frames": ((x[np.arange(70) % 6], w, b), {"chunk_size": 64}),
        "huge": ((x, w * np.float32(2.0**30), b * np.float32(2.0**30)), {"chunk_size": 2, "threshold": 2.0**30}),
        "tiny": ((x, w * np.float32(2.0**-20), b * np.float32(2.0**-20)), {"chunk_size": 2, "threshold": 2.0**-20}),
        "zero-channel": ((x, zero, b), {"chunk_size": 2}),
        "uneven-channels": ((x, uneven), {"chunk_size": 2}),
        "faint-channel": ((x, faint), {"chunk_size": 2}),
        "half-units": ((x, nearly), {"chunk_size": 2, "threshold": 0.70001}),
        "decays": ((x, w, b), {"chunk_size": 3, "beta": last, "reset": "none"}),
        "threshold-of-any-size": ((x, w, b), {"chunk_size": 2, "threshold": last * np.float32(1e4) + np.float32(1e-3)}),
        "negative-inputs": ((-x, w, b), {"chunk_size": 2}),
        "no-aggregation-at-all": ((x, w, b), {"chunk_size": 3, "aggregation": np.zeros(3, np.float32)}),
        "counts": (((255 * x).astype(np.uint8), w), {"chunk_size": 2, "reproducible": Grid(input_max=300)}),
    }


HARD = _hard_cases()


@pytest.mark.parametrize("name", HARD)
def test_hard_cases_agree_with_numpy(backend: Backend, name: str) -> None:
    """Large and ill-scaled layers, ties of the rounding itself, bounds of the parameters."""
    arrays, options = HARD[name]
    assert_train(name, run(backend, *arrays, **options), run(get_backend("numpy"), *arrays, **options))


def test_wide_fan_in(backend: Backend) -> None:
    """Above 2^24 / 2^11 inputs the rule's sums are replaced by a bound."""
    rng = np.random.default_rng(3)
    x = (rng.random((4, 2, 9000)) < 0.5).astype(np.float32)
    w = (rng.normal(size=(3, 9000)) / 50).astype(np.float32)
    options: dict[str, Any] = {"function": tac_linear, "chunk_size": 2}
    got = run(backend, x, w, **options)
    assert_train("fan-in 9000", got, run(get_backend("numpy"), x, w, **options))
    backwards = run(backend, x[..., ::-1].copy(), w[..., ::-1].copy(), **options)
    assert_train("summed backwards", backwards, got)


@pytest.mark.parametrize("mode", ["collapse", "preserve"])
def test_compiled_agrees(need: Callable[[str], Backend], mode: str) -> None:
    """jax.jit and mx.compile, with every parameter traced."""
    x, w, b = layer(4, c_in=16, c_out=16)
    beta, threshold = np.linspace(0.2, 1, 16, dtype=np.float32), np.linspace(0.3, 2, 16, dtype=np.float32)
    options: dict[str, Any] = {"chunk_size": 4, "mode": mode, "padding": 1}
    want = run(get_backend("numpy"), x, w, b, beta=beta, threshold=threshold, **options)
    for name in ("jax", "mlx"):
        try:
            backend = need(name)
        except pytest.skip.Exception:
            continue

        def function(x: Any, w: Any, b: Any, beta: Any, threshold: Any) -> tuple[Any, Any]:
            train = tac_conv(x, w, b, beta=beta, threshold=threshold, reproducible=True, **options)
            return train.spikes, train.membrane

        given = [backend.from_numpy(a) for a in (x, w, b, beta, threshold)]
        got = SpikeTrain(*backend.compile(function)(*given))
        assert_train(f"{name}, compiled", as_numpy(backend, got), want)


def test_float64_agrees(need: Callable[[str], Backend]) -> None:
    """Where a library keeps float64."""
    arrays = layer(5, dtype="float64")
    want = run(get_backend("numpy"), *arrays, chunk_size=4)
    assert want.membrane.dtype == np.float64
    for name in ("array_api", "torch"):
        try:
            backend = need(name)
        except pytest.skip.Exception:
            continue
        assert_train(name, run(backend, *arrays, chunk_size=4), want)


# No dependence on what should not matter


@pytest.mark.parametrize("mode", ["collapse", "preserve"])
def test_numpy_memory_layouts(mode: str) -> None:
    """Fortran order, read-only, backwards, every other element, not aligned: the same bits."""
    arrays = layer(6)
    options = {"chunk_size": 4, "mode": mode, "padding": 1, "reproducible": True}
    want = tac_conv(*arrays, **options)  # type: ignore[arg-type]

    def backwards(a: Array) -> Array:
        flip = (slice(None, None, -1),) * a.ndim
        return np.ascontiguousarray(a[flip])[flip]

    def strided(a: Array) -> Array:
        return np.repeat(a, 2, axis=-1)[..., ::2]

    def read_only(a: Array) -> Array:
        a = a.copy()
        a.flags.writeable = False
        return a

    def unaligned(a: Array) -> Array:
        raw = np.zeros(a.nbytes + 1, np.uint8)[1:]
        raw[...] = np.frombuffer(a.tobytes(), np.uint8)
        return raw.view(a.dtype).reshape(a.shape)

    for change in (np.asfortranarray, backwards, strided, read_only, unaligned):
        assert_train(change.__name__, tac_conv(*map(change, arrays), **options), want)  # type: ignore[arg-type]


def test_tiles_do_not_matter(backend: Backend) -> None:
    """One sample or sixteen, whole or cut in four, in any order."""
    x, w, b = layer(7, batch=16, size=6)
    whole = run(backend, x, w, b, chunk_size=2)
    order = np.random.default_rng(0).permutation(16)
    moved = run(backend, x[:, order], w, b, chunk_size=2)
    assert_train("permuted", moved, SpikeTrain(whole.spikes[:, order], whole.membrane[order]))
    parts = [run(backend, x[:, n : n + 4], w, b, chunk_size=2) for n in range(0, 16, 4)]
    joined = SpikeTrain(
        np.concatenate([p.spikes for p in parts], axis=1), np.concatenate([p.membrane for p in parts], axis=0)
    )
    assert_train("in four parts", joined, whole)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_threads_do_not_matter(need: Callable[[str], Backend], name: str) -> None:
    """One thread, or as many as there are, of BLAS and of the library's own."""
    from threadpoolctl import threadpool_limits

    backend, arrays = need(name), layer(13, batch=8, size=12, c_in=16, c_out=16)
    want = run(backend, *arrays, chunk_size=2)
    with threadpool_limits(1):
        assert_train("one thread", run(backend, *arrays, chunk_size=2), want)


@given(cut=st.integers(1, 4), size=st.integers(1, 4), mode=st.sampled_from(["collapse", "preserve"]))
def test_streaming(cut: int, size: int, mode: str) -> None:
    """Cut at any chunk's end, with the membrane passed on as a potential."""
    x, w, b = layer(8, steps=11, size=5)
    options: dict[str, Any] = {"chunk_size": size, "mode": mode, "reset": "zero"}
    backend = get_backend("numpy")
    at = min(cut * size, 10 - 10 % size)
    whole, head = run(backend, x, w, b, **options), run(backend, x[:at], w, b, **options)
    tail = run(backend, x[at:], w, b, membrane=head.membrane, **options)
    assert_train("in two calls", SpikeTrain(np.concatenate([head.spikes, tail.spikes]), tail.membrane), whole)
