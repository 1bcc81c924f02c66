"""Convolutions as matrix products: unfolded by one kernel, as much at a time as stays in the GPU's second-level cache.

Integers that fit float16 are multiplied as such with sums of float32, on tensor cores: exact, since products have 22 bits and
no sum reaches 2^24.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from . import building
from .building import INPUTS

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window

__all__ = ["convolve"]

SHARE = 0.75
"""Of the second-level cache that unfolded inputs may take; the currents made of them lie there, too."""
PLACES = np.dtype(
    [
        *((name, np.int32, (3,)) for name in ("in", "out", "kernel", "stride", "low", "dilation")),
        ("channels", np.int32),
    ]
)


def convolve(x: Array, weight: Array, window: Window, out: Array, *, exact: bool = False, half: bool = False) -> None:
    """Convolve x (N, *S, C) without bias or groups, into contiguous `out` (N, *space, filters).

    `exact`: integers, whose sums must stay so whatever the user allows. `half`: they fit float16 besides.
    """
    filters, fan_in = weight.shape[0], math.prod(weight.shape[1:])
    positions = out.size // filters if filters else 0
    if not positions:
        return
    if not fan_in:
        out.fill(0)
        return
    half = half and weight.dtype == np.float32
    dtype = np.dtype(np.float16) if half else weight.dtype
    flat, target = cp.ascontiguousarray(weight, dtype=dtype).reshape(filters, fan_in), out.reshape(positions, filters)
    if x.dtype == dtype and _is_matrix(weight, window):
        _multiply(cp.ascontiguousarray(x).reshape(positions, fan_in), flat, target, exact)
        return
    x = cp.ascontiguousarray(x, dtype=None if x.dtype.name in INPUTS else weight.dtype)
    most = max(1, int(building.l2_bytes() * SHARE) // (fan_in * dtype.itemsize))
    rows = -(-positions // -(-positions // most))  # tiles of one size
    columns = cp.empty((min(rows, positions), fan_in), dtype=dtype)
    places = _places(x, weight, window)
    for begin in range(0, positions, rows):
        part = columns[: min(rows, positions - begin)]
        _unfold(x, part, places, begin, weight.dtype, half)
        _multiply(part, flat, target[begin : begin + len(part)], exact)


def _is_matrix(weight: Array, window: Window) -> bool:
    """Whether frames are unfolded as they are: every output position has the inputs of one place."""
    ones = (1,) * (weight.ndim - 2)
    return weight.shape[1:-1] == ones and window.stride == ones and not any(map(any, window.padding))


def _places(x: Array, weight: Array, window: Window) -> Any:
    places, missing = np.zeros((1,), dtype=PLACES), 3 - len(window.stride)
    space, kernel = x.shape[1:-1], weight.shape[1:-1]
    low = [before for before, _ in window.padding]
    out = window.output_shape(space, kernel)
    given = space, out, kernel, window.stride, low, window.dilation
    for name, values, one in zip(PLACES.names or (), given, (1, 1, 1, 1, 0, 1), strict=False):
        places[name][0] = (*(one,) * missing, *values)
    places["channels"] = x.shape[-1]
    return places


def _unfold(x: Array, columns: Array, places: Any, begin: int, real: Any, half: bool) -> None:
    channels = x.shape[-1]
    width = building.run(channels, columns.dtype.itemsize, x, columns)
    narrow = building.is_narrow(x.size, columns.size, begin + len(columns))
    integer = np.int32 if narrow else np.int64
    kernel = building.kernel("unfold", real.name, x.dtype.name, "bool", width, narrow, half)
    arguments = x, columns, integer(begin), integer(len(columns)), places
    kernel((building.blocks(columns.size // width),), (building.BLOCK,), arguments)


def _multiply(a: Array, b: Array, out: Array, exact: bool) -> None:
    """``out = a @ b.T``, all contiguous: in float16 with sums of float32, in full float32 where it must be, or as CuPy does."""
    if out.dtype != np.float32 or not exact:
        cp.dot(a, b.T, out=out)
        return
    cublas, runtime = cp.cuda.cublas, cp.cuda.runtime
    half = a.dtype == np.float16
    kind = runtime.CUDA_R_16F if half else runtime.CUDA_R_32F
    # pedantic: no TF32, which does not hold integers above 2048
    compute = cublas.CUBLAS_COMPUTE_32F if half else cublas.CUBLAS_COMPUTE_32F_PEDANTIC
    (rows, depth), filters = a.shape, b.shape[0]
    one, zero = np.ones((), np.float32), np.zeros((), np.float32)
    cublas.gemmEx(
        cp.cuda.device.get_cublas_handle(),
        cublas.CUBLAS_OP_T,
        cublas.CUBLAS_OP_N,
        filters,
        rows,
        depth,
        one.ctypes.data,
        b.data.ptr,
        kind,
        depth,
        a.data.ptr,
        kind,
        depth,
        zero.ctypes.data,
        out.data.ptr,
        runtime.CUDA_R_32F,
        filters,
        compute,
        cublas.CUBLAS_GEMM_DEFAULT,
    )
