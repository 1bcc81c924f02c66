"""Which backend owns an array.

Dispatch goes by the array's type and never imports an array library: a library that nobody imported cannot have made
the array. The backend is remembered by type, so a call costs one dictionary look-up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NamedTuple, ParamSpec, TypeVar

from .._values import fail, is_array, show
from .protocol import Array, Backend, BackendUnavailable

__all__ = [
    "available_backends",
    "backend_of",
    "find_backend",
    "get_backend",
    "load_object",
    "missing_backends",
    "register_backend",
    "undisturbed",
]

P = ParamSpec("P")
R = TypeVar("R")

ENTRY_POINT_GROUP = "tacops.backends"


class _BuiltIn(NamedTuple):
    library: str
    """Top-level module whose import is a precondition for owning any array."""
    module: str
    install: str
    """What pip is asked for."""


_BUILT_INS = {
    "numpy": _BuiltIn("numpy", "tacops.backends.numpy_", "numpy"),
    "jax": _BuiltIn("jax", "tacops.backends.jax_", "tacops[jax]"),
    "mlx": _BuiltIn("mlx", "tacops.backends.mlx_", "tacops[mlx]"),
    "torch": _BuiltIn("torch", "tacops.backends.torch_", "tacops[torch]"),
    "cupy": _BuiltIn("cupy", "tacops.backends.cupy_", "tacops[cupy-cuda13]"),
    "dask": _BuiltIn("dask.array", "tacops.backends.dask_", "tacops[dask]"),
    "array_api": _BuiltIn("array_api_strict", "tacops.backends.array_api", "array-api-strict"),
}
_GENERIC = "array_api"
_HELPERS = {"numpy": "numpy", "array_api_compat": "array-api-compat", "threadpoolctl": "threadpoolctl"}
"""What adapters import beside their library, and what pip is asked for."""
_HINTS = {
    "cupy": " (or 'tacops[cupy-cuda12]' where nvidia-smi shows CUDA 12)",
    "torch": " (without a GPU, add --extra-index-url https://download.pytorch.org/whl/cpu)",
}
"""What a library's users may want instead."""
_registered: dict[str, Callable[[], Backend]] = {}
_by_type: dict[type, Backend] = {}


def register_backend(name: str, backend: Backend | Callable[[], Backend]) -> None:
    """Make a backend known under `name`, ahead of the built-in ones.

    Parameters
    ----------
    name : str
        Registering a name again replaces what it named.
    backend : Backend or callable
        The backend, or a function without arguments that imports and returns it.

    Examples
    --------
    >>> from tacops.backends import get_backend, register_backend
    >>> register_backend("mine", get_backend("numpy"))
    >>> get_backend("mine") is get_backend("numpy")
    True
    """
    if not isinstance(name, str) or not name:
        raise fail("register_backend", "name", "a non-empty str", show(name), TypeError)
    if isinstance(backend, Backend):
        _registered[name] = lambda: backend
    elif callable(backend):
        _registered[name] = backend
    else:
        rule = "a tacops.backends.Backend or a function that returns one"
        raise fail("register_backend", "backend", rule, show(backend), TypeError)
    _by_type.clear()


def get_backend(name: str) -> Backend:
    """The backend called `name`, importing its library.

    Raises
    ------
    TypeError, ValueError
        If no backend has that name.
    BackendUnavailable
        If its library is not installed or cannot run on this machine; the message says what would mend it.

    Examples
    --------
    >>> from tacops.backends import get_backend
    >>> get_backend("numpy").name
    'numpy'
    """
    return find_backend("get_backend", name)


def find_backend(function: str, name: object) -> Backend:
    """`get_backend`, of which errors say `function`."""
    if not isinstance(name, str):
        raise fail(function, "name", "a str", show(name), TypeError)
    if name in _registered:
        return load_object(name, _registered[name])
    if name in _BUILT_INS:
        return _load_built_in(name)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return load_object(name, entry.load)
    raise fail(function, "name", f"one of {', '.join(_names())}", show(name))


def available_backends() -> list[str]:
    """Names of the backends that can run here; imports every array library that is installed.

    Examples
    --------
    >>> from tacops.backends import available_backends
    >>> "numpy" in available_backends()
    True
    """
    missing = missing_backends()
    return [name for name in _names() if name not in missing]


def missing_backends() -> dict[str, str]:
    """Backends that can't run here, each with one sentence that says why and what would mend it."""
    missing = {}
    for name in _names():
        try:
            get_backend(name)
        except BackendUnavailable as error:
            missing[name] = str(error)
    return missing


def backend_of(*arrays: Array, function: str = "backend_of", names: tuple[str, ...] = ()) -> Backend:
    """The one backend that owns all of `arrays`.

    Parameters
    ----------
    *arrays : array
        At least one; entries that are None are passed over.
    function, names : str, tuple of str
        What error messages call the caller and the arrays.

    Raises
    ------
    TypeError
        If an argument is no array that a backend owns, or if two belong to different backends or devices.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops.backends import backend_of
    >>> backend_of(np.zeros(3)).name
    'numpy'
    """
    if not isinstance(function, str):
        raise fail("backend_of", "function", "a str", show(function), TypeError)
    if not isinstance(names, tuple) or len(names) not in (0, len(arrays)):
        raise fail(function, "names", f"a tuple of {len(arrays)} names", show(names), TypeError)
    names = names or tuple(f"argument {n + 1}" for n in range(len(arrays)))
    first: tuple[str, Backend, str | None] | None = None
    for name, array in zip(names, arrays, strict=True):
        if array is None:
            continue
        backend = _by_type.get(type(array)) or _find(array, function, name)
        if reason := backend.unfit(array):
            msg = f"{function}: {name} must be a plain array of numbers; got {reason}"
            raise TypeError(msg)
        device = backend.device_of(array)
        if first is None:
            first = name, backend, device
        elif backend is not first[1]:
            msg = f"{function}: {name} must be an array of the same library as {first[0]} ({first[1].name}); got {_type(array)}"
            raise TypeError(msg)
        elif device is not None and first[2] is not None and device != first[2]:
            msg = f"{function}: {name} must be on the same device as {first[0]} ({first[2]}); got {device}"
            raise ValueError(msg)
    if first is None:
        one = len(names) == 1
        raise fail(
            function, names[0] if one else "arrays", f"{'an' if one else 'at least one'} array", "none", TypeError
        )
    return first[1]


def undisturbed(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of arrays run in `Backend.undisturbed` of the library that they belong to."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        backend = _by_type.get(type(args[0])) if args else None
        backend = backend or _first_backend((*args, *options.values()))
        context = None if backend is None else backend.undisturbed()
        if context is None:
            return function(*args, **options)
        with context:
            return function(*args, **options)

    return call


def _first_backend(values: tuple[object, ...]) -> Backend | None:
    """That of the first array."""
    for value in values:
        backend = _by_type.get(type(value))
        if backend is not None:
            return backend
        if is_array(value):
            try:
                return backend_of(value)
            except TypeError:  # which the function says better
                continue
    return None


def _find(array: Array, function: str, name: str) -> Backend:
    """Find, and remember, the backend that owns arrays of this type."""
    for loader in _candidates():
        try:
            backend = loader()
        except BackendUnavailable:  # a plug-in that is broken here can't have made the array
            continue
        if backend.owns(array):
            return _by_type.setdefault(type(array), backend)
    msg = f"{function}: {name} must be an array of a supported library ({', '.join(_names())}); got {_type(array)}"
    raise TypeError(msg)


def _candidates() -> Iterator[Callable[[], Backend]]:
    """Loaders: registered backends, built-in ones whose library somebody has imported, plug-ins, the generic one."""
    for name, loader in list(_registered.items()):
        yield partial(load_object, name, loader)
    for name, built_in in _BUILT_INS.items():
        if name != _GENERIC and built_in.library in sys.modules:
            yield partial(_load_built_in, name, check=False)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        yield partial(load_object, entry.name, entry.load)
    yield partial(_load_built_in, _GENERIC, check=False)


def _load_built_in(name: str, *, check: bool = True) -> Backend:
    """Import an adapter; `check` whether it can run here (an array that exists proves that it can)."""
    built_in = _BUILT_INS[name]
    try:
        # looked up first: torch.compile follows no import, not even of what is imported
        module: Any = sys.modules.get(built_in.module)
        if not hasattr(module, "BACKEND"):  # not there, or another thread is importing it: then this one waits
            module = import_module(built_in.module)
        backend: Backend = module.BACKEND
    except ImportError as error:
        raise BackendUnavailable(_lacking(name, built_in, error)) from error
    if check and (reason := backend.unavailable()):
        raise BackendUnavailable(reason)
    return backend


def _lacking(name: str, built_in: _BuiltIn, error: ImportError) -> str:
    """The module that is missing, and what installs it."""
    module = (error.name or "").partition(".")[0]
    # an error without a name, or of our own code, is no missing module
    needs = f"needs {module}, which cannot" if module not in ("", "tacops") else "cannot"
    install = _HELPERS.get(module, built_in.install)
    said = " ".join(str(error).split())
    msg = f"backend {name!r} {needs} be imported ({said}); try: pip install {install!r}"
    return msg + (_HINTS.get(name, "") if install == built_in.install else "")


def load_object(name: str, loader: Callable[[], object]) -> Backend:
    """What `loader` gives, if it is a backend that can run here; errors call it `name`."""
    try:
        backend = loader()
    except ImportError as error:
        msg = f"backend {name!r} cannot be imported ({error})"
        raise BackendUnavailable(msg) from error
    if not isinstance(backend, Backend):
        msg = f"backend {name!r} must be an instance of tacops.backends.Backend; got {_type(backend)}"
        raise TypeError(msg)
    if reason := backend.unavailable():
        raise BackendUnavailable(reason)
    return backend


def _names() -> list[str]:
    others = (*_registered, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)))
    return list(dict.fromkeys((*_BUILT_INS, *others)))


def _type(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
