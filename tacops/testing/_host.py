"""Arrays in host memory, and the way from there to a backend and back.

Backends exchange arrays with the host as NumPy's (`Backend.from_numpy`, `Backend.to_numpy`); the core names no array
library, so this module asks the NumPy backend for its namespace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .._backend import dispatch as _dispatch
from .._backend.protocol import Array, Backend
from .._core.train import SpikeTrain, remap

__all__ = ["assert_same", "assert_train", "dispatched_to", "native", "np", "on_host", "where"]

np: Any = _dispatch.get_backend("numpy").namespace(None)


def where(backend: Backend) -> dict[str, str]:
    """What `backend` says of itself, with the device that its arrays are really on: one is made, and asked.

    Parameters
    ----------
    backend : Backend
        As `Backend.on` gives it.

    Examples
    --------
    >>> from tacops.backends import get_backend
    >>> from tacops.testing import where
    >>> where(get_backend("numpy").on("cpu"))["device"]
    'cpu'
    """
    probe = backend.from_numpy(np.ones((2, 3), np.float32))
    return {**backend.describe(), "device": backend.device_name(probe + probe)}


def native(backend: Backend, value: Any) -> Any:
    """The backend's copy of a host array; anything else unchanged."""
    if isinstance(value, np.ndarray):
        return backend.from_numpy(value)
    if isinstance(value, Mapping):
        return {name: native(backend, entry) for name, entry in value.items()}
    return value


def on_host(backend: Backend, train: SpikeTrain) -> SpikeTrain:
    """A train as host arrays."""
    return remap(SpikeTrain(train.spikes, train.membrane), backend.to_numpy, backend.to_numpy)


def assert_same(what: str, got: Array, want: Array) -> None:
    """Host arrays of one shape, dtype and value, bit for bit (but -0 is 0); the message names the first difference."""
    if got.shape != want.shape:
        raise AssertionError(f"{what}: shape {got.shape}, must be {want.shape}")
    if got.dtype != want.dtype:
        raise AssertionError(f"{what}: dtype {got.dtype}, must be {want.dtype}")
    same = got == want
    if got.dtype.kind == "f":
        same |= np.isnan(got) & np.isnan(want)
    differing = np.argwhere(~same)
    if len(differing):
        first = tuple(differing[0].tolist())
        raise AssertionError(
            f"{what}: {len(differing)} of {got.size} values differ, first at {first}: "
            f"{got[first].item()!r}, must be {want[first].item()!r}"
        )


def assert_train(what: str, got: SpikeTrain, want: SpikeTrain) -> None:
    """Two trains, on the host, that agree bit for bit."""
    pair = isinstance(want.membrane, tuple)
    if pair != isinstance(got.membrane, tuple):
        raise AssertionError(f"{what}: membrane must be {'a pair' if pair else 'an array'}; got the other")
    for name, one, other in zip(("membrane", "synaptic current"), *map(_states, (got, want)), strict=False):
        assert_same(f"{what}: {name}", one, other)
    assert_same(f"{what}: spikes", got.spikes, want.spikes)


def _states(train: SpikeTrain) -> tuple[Array, ...]:
    return train.membrane if isinstance(train.membrane, tuple) else (train.membrane,)


@contextmanager
def dispatched_to(backend: Backend) -> Iterator[None]:
    """Let `backend` own its arrays for a while, though it may not be registered and another may own them too."""
    probe = backend.from_numpy(np.zeros(1, np.float32))
    if not backend.owns(probe):
        raise AssertionError(f"{backend.name}: owns(from_numpy(array)) is false")
    registered = dict(_dispatch._registered)
    try:
        if _dispatch._by_type.get(type(probe)) is not backend:
            _dispatch._registered.clear()
            _dispatch._registered.update({backend.name: lambda: backend, **registered})
            _dispatch._by_type.clear()
        yield
    finally:
        if dict(_dispatch._registered) != registered:
            _dispatch._registered.clear()
            _dispatch._registered.update(registered)
            _dispatch._by_type.clear()
