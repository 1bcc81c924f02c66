"""NumPy: unfolding by a strided copy, and BLAS."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tacops._protocol import Array, Backend, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["BACKEND", "NumPyBackend"]

WORK_AREA = 1 << 20
"""Numbers unfolded at a time; 4 MiB of float32 stay in a core's share of the cache."""


class NumPyBackend(Backend):
    """NumPy arrays."""

    name = "numpy"

    def owns(self, array: object) -> bool:
        """Arrays, not NumPy's scalars."""
        return isinstance(array, np.ndarray)

    def namespace(self, array: Array) -> Any:
        """NumPy itself: from version 2.1 it follows the standard."""
        return np

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """Unfold in tiles, one matrix product each; half precision is summed in float32."""
        if x.dtype == np.float16:
            x, weight = x.astype(np.float32), weight.astype(np.float32)
            bias = None if bias is None else bias.astype(np.float32)
            return self.conv(x, weight, bias, window, exact=exact).astype(np.float16)
        kernel = weight.shape[1:-1]
        space = window.output_shape(x.shape[1:-1], kernel)
        out = np.empty((x.shape[0], *space, weight.shape[0]), dtype=x.dtype)
        one = math.prod(space) * math.prod(kernel) * x.shape[-1]
        count = max(1, min(x.shape[0], WORK_AREA // one))
        matrix = _weight_matrix(weight, window.groups)
        for n in range(0, x.shape[0], count):
            columns = _unfold(x[n : n + count], kernel, space, window)
            _multiply(columns, matrix, out[n : n + count])
        if bias is not None:
            out += bias
        return out

    def weighted_sum(self, x: Array, weights: Sequence[float | Array]) -> Array:
        """One matrix product over the chunk axis."""
        if any(np.ndim(weight) for weight in weights):
            return super().weighted_sum(x, weights)
        row = np.array([weights], dtype=x.dtype)
        return np.matmul(row, x.reshape(*x.shape[:2], -1)).reshape(x.shape[0], *x.shape[2:])

    def from_numpy(self, array: np.ndarray[Any, Any]) -> Array:
        """A copy."""
        return np.array(array)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy."""
        return np.array(array)

    def describe(self) -> Mapping[str, str]:
        """Version; NumPy computes at full precision always."""
        return {"version": np.__version__, "device": "cpu", "precision": "full float32"}

    def read(self, array: Array) -> list[float] | None:
        """Always at hand."""
        values: list[float] = np.ravel(array).tolist()
        return values


def _unfold(x: Array, kernel: tuple[int, ...], space: tuple[int, ...], window: Window) -> Array:
    """(N, *S, C) to (N, *space, *kernel, C), a contiguous copy (with a 1 x 1 kernel a view)."""
    if any(low or high for low, high in window.padding):
        x = np.pad(x, ((0, 0), *window.padding, (0, 0)))
    steps = x.strides[1:-1]
    view = as_strided(
        x,
        (x.shape[0], *space, *kernel, x.shape[-1]),
        (
            x.strides[0],
            *(step * s for step, s in zip(steps, window.stride, strict=True)),
            *(step * d for step, d in zip(steps, window.dilation, strict=True)),
            x.strides[-1],
        ),
        writeable=False,
    )
    return np.ascontiguousarray(view)


def _weight_matrix(weight: Array, groups: int) -> Array:
    """(C_out, *kernel, C) to (taps * C, C_out), or with groups to (G, taps * C, C_out // G)."""
    return np.swapaxes(weight.reshape(*((groups,) if groups > 1 else ()), weight.shape[0] // groups, -1), -1, -2)


def _multiply(columns: Array, matrix: Array, out: Array) -> None:
    """The product of unfolded inputs and weights, into `out`."""
    rows = math.prod(out.shape[:-1])
    if matrix.ndim == 2:
        np.matmul(columns.reshape(rows, -1), matrix, out=out.reshape(rows, -1))
        return
    groups = matrix.shape[0]
    split = columns.reshape(rows, -1, groups, columns.shape[-1] // groups)
    by_group = np.ascontiguousarray(split.transpose(2, 0, 1, 3)).reshape(groups, rows, -1)
    out.reshape(rows, groups, -1)[...] = np.matmul(by_group, matrix).transpose(1, 0, 2)


BACKEND = NumPyBackend()
