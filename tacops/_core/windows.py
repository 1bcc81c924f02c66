"""Windows of frames, one axis after the other: what pools compute."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from .._backend.protocol import Array, Backend, sum_dtype
from .._values import fail
from .aggregation import cast
from .checks import is_dtype

__all__ = ["Windows", "run_windows"]


@dataclass(frozen=True)
class Windows:
    """Windows of frames, validated; `first` is the first of the spatial axes."""

    backend: Backend
    function: str
    kind: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    first: int
    values: tuple[()] = ()

    def at(self, backend: Backend, values: Any, padding: tuple[tuple[int, int], ...] | None) -> Windows:
        """The same in another library, on frames with other borders: `Described.at`."""
        return replace(self, backend=backend, padding=self.padding if padding is None else padding)


def run_windows(windows: Windows, x: Array, *_: Any) -> Array:
    """What the windows hold, of frames (T, B, ...)."""
    kind, xp = windows.kind, windows.backend.namespace(x)
    dtype = x.dtype if kind == "max" or is_dtype(xp, x.dtype, "real floating") else xp.float32
    if kind != "max":
        x = cast(xp, x, sum_dtype(xp, dtype))
    merge, edge = (_larger(xp, x), _lowest(xp, x)) if kind == "max" else (lambda a, b: a + b, 0)
    # the last axis first, so that of equal numbers the first in the order of reading is the one that is found
    try:
        for n in reversed(range(len(windows.kernel))):
            move = windows.kernel[n], windows.stride[n], windows.padding[n]
            x = reduce(merge, _parts(xp, x, windows.first + n, edge, *move))
    except NotImplementedError as error:  # PyTorch's unsigned integers of more than 8 bits
        rule = "of a dtype that its library can compare"
        raise fail(windows.function, "spikes", rule, str(x.dtype), TypeError) from error
    if math.prod(windows.kernel) == 1:  # a copy: else it may be a view of the caller's array
        return xp.astype(x, dtype)
    return cast(xp, x * (1.0 / math.prod(windows.kernel)) if kind == "mean" else x, dtype)


def _parts(xp: Any, x: Array, axis: int, edge: Any, kernel: int, stride: int, padding: tuple[int, int]) -> list[Array]:
    """What each place of a kernel sees along one axis."""
    before = (slice(None),) * axis
    if any(padding):
        zero = xp.zeros_like(x[(*before, slice(0, 1), ...)])
        zero = zero + edge if edge else zero
        low, high = ([zero] * count for count in padding)
        x = xp.concat([*low, x, *high], axis=axis)
    reach = (x.shape[axis] - kernel) // stride * stride + 1
    return [x[(*before, slice(n, n + reach, stride), ...)] for n in range(kernel)]


def _larger(xp: Any, x: Array) -> Any:
    """The larger of two, the first of equal ones; NaN if either is, as of every library's maximum."""
    if is_dtype(xp, x.dtype, "bool"):
        return xp.logical_or

    def larger(a: Array, b: Array) -> Array:
        keep = xp.logical_or(a >= b, xp.logical_not(a <= a))  # noqa: PLR0124 (NaN is not)
        return xp.where(keep, a, b)

    return larger


def _lowest(xp: Any, x: Array) -> Any:
    """Nothing of a dtype is smaller."""
    if is_dtype(xp, x.dtype, "bool"):
        return 0
    return int(xp.iinfo(x.dtype).min) if is_dtype(xp, x.dtype, "integral") else float("-inf")
