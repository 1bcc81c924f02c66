"""A backend by name, or from a module that registers nothing."""

from __future__ import annotations

from importlib import import_module

from .._backend.dispatch import find_backend, load_object
from .._backend.protocol import Backend
from .._values import fail, show

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
    module, colon, attribute = name.partition(":") if isinstance(name, str) else (name, "", "")
    if not colon:
        return find_backend("load_backend", name)
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise fail("load_backend", "name", "a backend's name or package.module:OBJECT", show(name))

    def load() -> object:
        found = getattr(import_module(module), attribute, None)
        return found() if callable(found) and not isinstance(found, Backend) else found

    return load_object(name, load)
