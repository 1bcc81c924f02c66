"""A stand-in for CuPy on machines without a GPU: NumPy inside, as strict as CuPy outside. A simulation, no proof.

It shows that the adapter and the core use what CuPy has, never mix host and device arrays, never convert silently, never
read a value that would make a GPU wait, launch on the arrays' own device and write every number they answer. Kernels run
on the CPU (``cuda/host.py``). It can't show cuBLAS's arithmetic, streams or memory. Where the real CuPy is installed (it
imports without a driver), a function exists only if CuPy has it, and keywords must be CuPy's.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import numpy as np

from tests.cuda.host import HostModule
from tests.support import fake_cublas
from tests.support.fake_modules import forget, is_mine, module

__all__ = ["Device", "install", "ndarray", "simulated", "traffic"]

IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
traffic: Counter[str] = Counter()
"""Launches of raw kernels, products by cuBLAS, CuPy's own operations, copies to the device and back, and waits, since the program began."""
ATTRIBUTES = {"MultiProcessorCount": 132, "L2CacheSize": 50 << 20}
"""Of the devices: an H100's."""
_real: Any = None


class Device:
    """One of two devices; `with` makes it the current one."""

    current = 0
    attributes = ATTRIBUTES

    def __init__(self, device: int | None = None) -> None:
        self.id = Device.current if device is None else device
        self._before: list[int] = []

    def __enter__(self) -> Self:
        self._before.append(Device.current)
        Device.current = self.id
        return self

    def __exit__(self, *error: object) -> None:
        Device.current = self._before.pop()


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801 (CuPy's name)
    """A device array."""

    __array_priority__ = 100

    def __init__(self, data: Any, device: Device | None = None) -> None:
        self._data = np.asarray(data)
        self.device = device or Device()

    def get(self) -> Any:
        """A host copy."""
        traffic["to host"] += 1
        return self._data.copy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(IMPLICIT)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called with a device array")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **kwargs: Any) -> Any:
        if out:
            traffic["operations"] += 1
            getattr(ufunc, method)(*map(_host, inputs), out=tuple(map(_host, out)), **kwargs)
            return out[0]
        return _device(getattr(ufunc, method)(*map(_host, inputs), **kwargs))

    def __bool__(self) -> bool:
        raise AssertionError("a device array's truth was asked for: a GPU would be waited for")

    __float__ = __int__ = __index__ = item = tolist = __bool__

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, key: Any) -> ndarray:
        return ndarray(self._data[_host(key)], self.device)

    def __setitem__(self, key: Any, value: Any) -> None:
        traffic["operations"] += 1
        self._data[_host(key)] = _host(value)

    @property
    def data(self) -> Any:
        """Where it lies."""
        return SimpleNamespace(ptr=self._data.ctypes.data)

    def fill(self, value: float) -> None:
        """In place."""
        traffic["operations"] += 1
        self._data.fill(value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or (_real is not None and not hasattr(_real.ndarray, name)):
            raise AttributeError(f"cupy.ndarray has no attribute {name!r}")
        value = getattr(self._data, name)
        if not callable(value):
            return _device(value, self)
        return lambda *args, **kwargs: _device(value(*map(_host, args), **kwargs), self)


class RawModule:
    """Kernels that run on the CPU."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self._module = HostModule(code=code, options=options)

    def get_function(self, name: str) -> Any:
        """A kernel: called with grid, block and arguments; any other keyword is an error."""
        kernel = self._module.get_function(name)

        def launch(
            grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], *, shared_mem: int = 0
        ) -> None:
            for n, value in enumerate(args):
                if isinstance(value, ndarray) and value.device.id != Device.current:
                    raise AssertionError(f"{name}: argument {n} is on device {value.device.id}, not on the current one")
                if isinstance(value, np.ndarray) and value.size != 1:
                    raise TypeError("Only numpy.ndarrays of size one can be passed by value")
            traffic["launches"] += 1
            given = tuple(value._data if isinstance(value, ndarray) else value for value in args)
            kernel(grid, block, given, shared_mem=shared_mem)

        return launch


def _host(value: Any) -> Any:
    """What NumPy is to compute with; host arrays are refused, as CuPy refuses them."""
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, list | tuple):
        return type(value)(map(_host, value))
    return value._data if isinstance(value, ndarray) else value


def _device(value: Any, *sources: Any) -> Any:
    """Arrays, and NumPy's scalars, go to the device: CuPy's reductions give 0-d arrays. Views stay where they are."""
    if isinstance(value, np.ndarray | np.generic):
        owners = [s for s in sources if isinstance(s, ndarray) and np.may_share_memory(value, s._data)]
        traffic["operations"] += not owners and value.size > 0
        return ndarray(value, owners[0].device if owners else None)
    return type(value)(_device(v, *sources) for v in value) if isinstance(value, list | tuple) else value


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
        return _device(function(*map(_host, args), **{key: _host(value) for key, value in kwargs.items()}), *args)

    call.__name__ = name
    return call


def _array(data: Any, dtype: Any = None, copy: Any = None, **kwargs: Any) -> ndarray:
    """cupy.array and cupy.asarray, which do take host arrays."""
    if isinstance(data, ndarray):
        return ndarray(np.array(data._data, dtype=dtype))
    traffic["to device"] += 1
    return ndarray(np.array(data, dtype=dtype))


def _empty(shape: Any, dtype: Any = float) -> ndarray:
    """Memory as it may come: full of what would show in a result."""
    array = np.empty(shape, dtype=dtype)
    array.fill(np.nan if array.dtype.kind == "f" else 113)
    return ndarray(array)


def _dot(a: ndarray, b: ndarray, out: ndarray | None = None) -> ndarray:
    if out is not None and not (out._data.flags.c_contiguous and out.dtype == np.result_type(a.dtype, b.dtype)):
        raise ValueError("Output array must be C-contiguous")
    if a._data.ndim == b._data.ndim == 2 and not all(
        m.flags.c_contiguous or m.flags.f_contiguous for m in (a._data, b._data)
    ):
        raise AssertionError("a product of matrices that CuPy would copy first")
    traffic["products"] += 1
    return ndarray(np.dot(a._data, b._data, out=None if out is None else out._data))


def _gemm_ex(*given: int) -> None:
    fake_cublas.gemm_ex(*given)
    traffic["products"] += 1


def _asnumpy(array: ndarray) -> Any:
    return array.get()


def _synchronize() -> None:
    traffic["waits"] += 1


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
    contents |= {"ndarray": ndarray, "array": _array, "asarray": _array, "asnumpy": _asnumpy}
    contents |= {"empty": _empty, "dot": _dot, "RawModule": RawModule}
    forget()
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 2,
        getDeviceProperties=lambda n: {"name": b"no GPU: a simulation on NumPy"},
        CUDARuntimeError=RuntimeError,
        runtimeGetVersion=lambda: 13000,
        **fake_cublas.TYPES,
    )
    stream, nvrtc = SimpleNamespace(synchronize=_synchronize), SimpleNamespace(getVersion=lambda: (13, 0))
    device = module("cupy.cuda.device", Device=Device, get_cublas_handle=lambda: fake_cublas.HANDLE)
    parts = {
        "runtime": runtime,
        "nvrtc": nvrtc,
        "cublas": SimpleNamespace(**fake_cublas.NAMES, gemmEx=_gemm_ex),
        "device": device,
    }
    cuda = module("cupy.cuda", Device=Device, get_current_stream=lambda: stream, **parts)
    fft, linalg = (
        module(f"cupy.{part}", **{n: None for n in dir(getattr(np, part)) if not n.startswith("_")})
        for part in ("fft", "linalg")
    )
    version = getattr(_real, "__version__", "14")
    module("cupy", **contents, cuda=cuda, fft=fft, linalg=linalg, cublas=module("cupy.cublas")).__version__ = version  # type: ignore[attr-defined]
    if _real is None:
        module("cuda.pathfinder", find_nvidia_header_directory=lambda name: "simulated")
        sys.modules.setdefault("cuda", ModuleType("cuda"))
    return f"names of CuPy {version}" if _real else "names of NumPy"


@contextmanager
def simulated() -> Iterator[Any]:
    """The adapter's module on the stand-in, in this process; the real CuPy's modules come back afterwards.

    The operators' dispatch is left alone: only the adapter itself may be used.
    """
    with suppress(ImportError):
        import cupy  # noqa: F401  (once per process is all that its extension modules bear)
    before = {name: module for name, module in sys.modules.items() if is_mine(name)}
    try:
        install()
        from importlib import import_module

        yield import_module("tacops.backends.cupy_")
    finally:
        forget()
        for name, module in before.items():
            sys.modules[name] = module
            parent, _, child = name.rpartition(".")
            if not is_mine(parent):
                vars(sys.modules.get(parent, SimpleNamespace()))[child] = module
