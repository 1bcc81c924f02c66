"""Inputs are never written to, and how they lie in memory never matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tacops import SpikeTrain, aggregate, conv_lif, lif, tac_conv, tac_linear
from tacops.backends import Backend, get_backend
from tests.support.cases import assert_same, grid_layer, to_backend

LAYER = grid_layer(31, steps=4)
FLAT = grid_layer(32, steps=4, spatial=(), kernel=())
START = np.random.default_rng(0).integers(-8, 8, (2, 5, 6, 6)).astype(np.float32) / 8
PER_CHANNEL = {
    "beta": np.array([0, 0.25, 0.5, 0.5, 0.75, 1], np.float32),
    "threshold": np.array([0.5, 1, 2, 1, 1, 4], np.float32),
}
Arguments = dict[str, Any]

CALLS: dict[str, tuple[Callable[..., SpikeTrain], Arguments, Arguments]] = {
    "conv_lif": (conv_lif, {"membrane": START}, {"padding": 1, "beta": 0.5}),
    "collapse": (tac_conv, {"membrane": START, **PER_CHANNEL}, {"padding": 1, "chunk_size": 2}),
    "preserve": (tac_conv, {"membrane": START}, {"padding": "same", "chunk_size": 3, "mode": "preserve"}),
    "zero": (tac_conv, {"membrane": START, **PER_CHANNEL}, {"padding": 1, "chunk_size": 1, "reset": "zero"}),
    "none": (tac_conv, {"membrane": START}, {"padding": 1, "chunk_size": 2, "reset": "none", "beta": 1.0}),
    "learned": (tac_conv, {"aggregation": np.array([0.5, 1], np.float32)}, {"chunk_size": 2}),
    "linear": (tac_linear, {"membrane": START[:, 0, 0]}, {"chunk_size": 2}),
    "lif": (lif, {"membrane": START, **PER_CHANNEL}, {"repeat": 2}),
}


def _arrays(name: str) -> Arguments:
    if name == "lif":
        return {"current": np.stack([START, START * 2, START])}
    layer = FLAT if name == "linear" else LAYER
    return {"spikes": layer.spikes, "weight": layer.weight, "bias": layer.bias}


@pytest.mark.parametrize("name", CALLS)
def test_inputs_are_unchanged(backend: Backend, name: str) -> None:
    """Every array argument holds after the call what it held before; the answer shares no memory with it."""
    function, more, options = CALLS[name]
    before = _arrays(name) | more
    native = {key: to_backend(backend, value) for key, value in before.items()}
    first = function(**native, **options)
    once = [backend.to_numpy(array).copy() for array in first]
    second = function(**native, **options)
    for key, value in before.items():
        assert_same(key, backend.to_numpy(native[key]), value)
    for array, want in zip(second, once, strict=True):
        assert_same("the second call's answer", backend.to_numpy(array), want)
    for array, want in zip(first, once, strict=True):
        assert_same("the first call's answer, after the second call", backend.to_numpy(array), want)


@pytest.mark.parametrize("name", CALLS)
def test_read_only_numpy_inputs(name: str) -> None:
    """Arrays that can't be written to are accepted, and the answer can be written to without reaching them."""
    function, more, options = CALLS[name]
    arguments = {key: value.copy() for key, value in (_arrays(name) | more).items()}
    for value in arguments.values():
        value.flags.writeable = False
    train = function(**arguments, **options)
    for out in train:
        assert not any(np.shares_memory(out, value) for value in arguments.values())
        out += 1


@pytest.mark.parametrize("K", [1, 2])
def test_aggregate_returns_an_array_of_its_own(backend: Backend, K: int) -> None:
    """A single frame is its own chunk, and not a view of it."""
    x = np.ones((1, 3), np.float32)
    native = backend.from_numpy(x)
    assert not np.shares_memory(backend.to_numpy(aggregate(native, K)), backend.to_numpy(native))
    assert not np.shares_memory(aggregate(x, K), x)


def _strided(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1] + 1), a.dtype)
    wide[..., 1::2] = a
    return wide[..., 1::2]


def _reversed(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    everywhere = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[everywhere])[everywhere]


def _misaligned(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view()
    out = np.frombuffer(raw.data, a.dtype, a.size).reshape(a.shape)
    out[...] = a
    return out


LAYOUTS = [np.asfortranarray, _strided, _reversed, _misaligned]


@pytest.mark.parametrize("arrange", LAYOUTS, ids=lambda f: f.__name__.strip("_"))
@pytest.mark.parametrize("name", CALLS)
def test_memory_layouts_of_numpy(name: str, arrange: Callable[[Any], Any]) -> None:
    """Fortran order, gaps, negative strides and odd addresses: the same answer."""
    function, more, options = CALLS[name]
    arrays = _arrays(name) | more
    want = function(**arrays, **options)
    got = function(**{key: arrange(value) for key, value in arrays.items()}, **options)
    assert_same("spikes", got.spikes, want.spikes)
    assert_same("membrane", got.membrane, want.membrane)


def test_broadcast_numpy_input() -> None:
    """Constant input as a view with stride zero over time."""
    frame = LAYER.spikes[0]
    want = tac_conv(np.stack([frame] * 4), LAYER.weight, chunk_size=2, beta=0.5)
    got = tac_conv(np.broadcast_to(frame, (4, *frame.shape)), LAYER.weight, chunk_size=2, beta=0.5)
    assert_same("membrane", got.membrane, want.membrane)


@pytest.mark.parametrize("name", ["jax", "mlx", "torch"])
def test_transposed_arrays_of_other_libraries(need: Callable[[str], Backend], name: str) -> None:
    """A transposed view, as comes from a channels-first network, is as good as a copy."""
    backend = need(name)
    xp: Any = backend.namespace(backend.from_numpy(START))
    want = tac_conv(*(backend.from_numpy(a) for a in LAYER), chunk_size=2, beta=0.5)
    x, w = (backend.from_numpy(np.ascontiguousarray(a.T)) for a in (LAYER.spikes, LAYER.weight))
    got = tac_conv(
        xp.permute_dims(x, (4, 3, 2, 1, 0)),
        xp.permute_dims(w, (3, 2, 1, 0)),
        backend.from_numpy(LAYER.bias),
        chunk_size=2,
        beta=0.5,
    )
    for a, b in zip(got, want, strict=True):
        assert_same("answer", backend.to_numpy(a), backend.to_numpy(b))


def test_aggregate_leaves_its_input_alone() -> None:
    """Also where one frame is a chunk and nothing needs to be summed."""
    x = LAYER.spikes.copy()
    for chunk in (1, 2, 3):
        out = aggregate(x, chunk, beta=0.5)
        assert_same("x", x, LAYER.spikes)
        assert get_backend("numpy").owns(out)
