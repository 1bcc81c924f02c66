"""A stand-in for CuPy on machines without a GPU: NumPy inside, as strict as CuPy outside. A simulation, no proof.

It shows that the adapter and the core use what CuPy has, never mix host and device arrays, never convert silently and
never read a value that would make a GPU wait. It can't show cuBLAS's arithmetic, streams or memory. Where the real CuPy is
installed (it imports without a driver), a function exists only if CuPy has it, and keywords must be CuPy's.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["install", "ndarray"]

IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
_real: Any = None


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801 (CuPy's name)
    """A device array."""

    __array_priority__ = 100
    device = SimpleNamespace(id=0)

    def __init__(self, data: Any) -> None:
        self._data = np.asarray(data)

    def get(self) -> Any:
        """A host copy."""
        return self._data.copy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(IMPLICIT)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called with a device array")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _device(getattr(ufunc, method)(*map(_host, inputs), **kwargs))

    def __bool__(self) -> bool:
        raise AssertionError("a device array's truth was asked for: a GPU would be waited for")

    __float__ = __int__ = __index__ = item = tolist = __bool__

    def __getitem__(self, key: Any) -> ndarray:
        return ndarray(self._data[_host(key)])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or (_real is not None and not hasattr(_real.ndarray, name)):
            raise AttributeError(f"cupy.ndarray has no attribute {name!r}")
        value = getattr(self._data, name)
        if not callable(value):
            return _device(value)
        return lambda *args, **kwargs: _device(value(*map(_host, args), **kwargs))


def _host(value: Any) -> Any:
    """What NumPy is to compute with; host arrays are refused, as CuPy refuses them."""
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, list | tuple):
        return type(value)(map(_host, value))
    return value._data if isinstance(value, ndarray) else value


def _device(value: Any) -> Any:
    """Arrays, and NumPy's scalars, go to the device: CuPy's reductions give 0-d arrays."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(value)
    return type(value)(map(_device, value)) if isinstance(value, list | tuple) else value


def _function(name: str) -> Any:
    function = getattr(np, name)
    if isinstance(function, type) or not callable(function):
        return function
    try:
        signature = inspect.signature(getattr(_real, name)) if _real is not None else None
    except (TypeError, ValueError):  # ufuncs have none
        signature = None

    def call(*args: Any, **kwargs: Any) -> Any:
        if signature is not None:
            signature.bind(*args, **kwargs)
        return _device(function(*map(_host, args), **{key: _host(value) for key, value in kwargs.items()}))

    call.__name__ = name
    return call


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents, __all__=[key for key in contents if not key.startswith("_")])
    sys.modules[name] = module
    return module


def install() -> str:
    """Put the stand-in where ``import cupy`` finds it; say whose names it has."""
    global _real
    try:
        import cupy

        _real = cupy
    except ImportError:
        _real = None
    missing = {"unstack", "vecdot", "array_api"}  # CuPy 14, where it can't be asked
    names = [n for n in dir(np) if not n.startswith("_") and (hasattr(_real, n) if _real else n not in missing)]
    contents = {n: _function(n) for n in names if not isinstance(getattr(np, n), ModuleType)}
    contents |= {"ndarray": ndarray, "array": _array, "asarray": _array, "asnumpy": lambda a: a.get()}
    for name in [key for key in sys.modules if key == "cupy" or key.startswith(("cupy.", "cupy_backends"))]:
        del sys.modules[name]
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda n: {"name": b"no GPU: a simulation on NumPy"},
        CUDARuntimeError=RuntimeError,
        runtimeGetVersion=lambda: 13000,
    )
    stream = SimpleNamespace(synchronize=lambda: None)
    cuda = _module(
        "cupy.cuda", runtime=runtime, Device=lambda n=0: SimpleNamespace(id=n), get_current_stream=lambda: stream
    )
    _module("cupy.cuda.device", Device=cuda.Device)
    fft, linalg = (
        _module(f"cupy.{part}", **{n: None for n in dir(getattr(np, part)) if not n.startswith("_")})
        for part in ("fft", "linalg")
    )
    version = getattr(_real, "__version__", "14")
    _module("cupy", **contents, cuda=cuda, fft=fft, linalg=linalg, cublas=_module("cupy.cublas")).__version__ = version  # type: ignore[attr-defined]
    nvrtc = _module("cupy_backends.cuda.libs.nvrtc", getVersion=lambda: (13, 0))
    _module("cupy_backends.cuda.libs", nvrtc=nvrtc)
    for name in ("cupy_backends.cuda", "cupy_backends"):
        _module(name)
    return f"names of CuPy {version}" if _real else "names of NumPy"


def _array(data: Any, dtype: Any = None, copy: Any = None, **kwargs: Any) -> ndarray:
    """cupy.array and cupy.asarray, which do take host arrays."""
    return ndarray(np.array(data._data if isinstance(data, ndarray) else data, dtype=dtype))
