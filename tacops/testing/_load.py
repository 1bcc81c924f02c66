"""A backend by name, or from a module that registers nothing."""

from __future__ import annotations

from importlib import import_module

from .._dispatch import get_backend
from .._protocol import Backend, BackendUnavailable

__all__ = ["load_backend"]


def load_backend(name: str) -> Backend:
    """The backend that `name` means.

    Parameters
    ----------
    name : str
        A registered name, or ``package.module:OBJECT`` where OBJECT is a backend, its class, or a function that
        returns one.

    Raises
    ------
    BackendUnavailable
        If it is missing or cannot run here; the message says what would mend it.
    TypeError, ValueError
        If the name means no backend.

    Examples
    --------
    >>> from tacops.testing import load_backend
    >>> load_backend("tacops.backends.numpy_:BACKEND") is load_backend("numpy")
    True
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        return get_backend(name)
    try:
        found = import_module(module)
    except ImportError as error:
        msg = f"backend {name!r} cannot be imported ({error})"
        raise BackendUnavailable(msg) from error
    backend = getattr(found, attribute, None)
    if not isinstance(backend, Backend) and callable(backend):
        backend = backend()
    if not isinstance(backend, Backend):
        msg = f"backend {name!r} must be an instance of tacops.backends.Backend; got {backend!r}"
        raise TypeError(msg)
    if reason := backend.unavailable():
        raise BackendUnavailable(reason)
    return backend
