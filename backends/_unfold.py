"""Convolution for libraries of the Array API standard without one: unfolding and a matrix product, or a sum over taps."""

from __future__ import annotations

import math
from functools import reduce
from itertools import product
from operator import add
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tacops._backend.protocol import Array, Window

__all__ = ["conv_by_unfolding", "pad", "sums_taps", "taps", "unfold"]

WORK_AREA = 1 << 23
"""Numbers unfolded at a time (32 MiB of float32): inputs of any size need no more than this beside the output."""


def conv_by_unfolding(
    xp: Any,
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    matmul: Callable[[Array, Array], Array] | None = None,
    work_area: int | None = WORK_AREA,
) -> Array:
    """`Backend.conv` in Array API terms; `matmul` is the library's full-precision product, ``xp.matmul`` unless given.

    With `work_area` None everything is unfolded at once, as compilers that fuse the copies like it.
    """
    kernel = tuple(weight.shape[1:-1])
    padded = pad(xp, x, window)
    space = window.output_shape(x.shape[1:-1], kernel)
    if sums_taps(xp, weight, window):
        out = _sum_taps(padded, weight, kernel, space, window)
        return out if bias is None else out + bias
    matmul = matmul or xp.matmul
    flat = _weight_matrix(xp, weight, window.groups)
    one = max(1, math.prod(space) * math.prod(kernel) * x.shape[-1])
    count = x.shape[0] if work_area is None else max(1, min(x.shape[0], work_area // one))
    parts = []
    for n in range(0, x.shape[0], count):
        columns = unfold(xp, padded[n : min(n + count, x.shape[0]), ...], kernel, space, window)
        part = _product(xp, columns, flat, window.groups, matmul)
        parts.append(xp.reshape(part, (-1, *space, weight.shape[0])))
    out = parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)
    return out if bias is None else out + bias


def sums_taps(xp: Any, weight: Array, window: Window) -> bool:
    """Whether a convolution is depth-wise, so that a matrix product would share nothing, and no dtype needs wider sums."""
    depth_wise = weight.ndim > 2 and weight.shape[-1] == 1 and weight.shape[0] == window.groups
    return bool(depth_wise and xp.finfo(weight.dtype).bits >= 32)


def pad(xp: Any, x: Array, window: Window) -> Array:
    """Zeros around the spatial axes; the standard has no `pad`, so by concatenation."""
    for axis, (low, high) in enumerate(window.padding, start=1):
        if low or high:
            # made of the data, not anew: on its device, and sharded as it is
            zero = xp.zeros_like(x[(*(slice(None),) * axis, slice(0, 1), ...)])
            sides = [xp.broadcast_to(zero, (*x.shape[:axis], n, *x.shape[axis + 1 :])) for n in (low, high)]
            parts = (sides[0], x, sides[1])
            x = xp.concat([part for part in parts if part.shape[axis]], axis=axis)
    return x


def unfold(xp: Any, padded: Array, kernel: tuple[int, ...], space: tuple[int, ...], window: Window) -> Array:
    """Every kernel position's inputs side by side: (N, *S, C) to (N * prod(space), taps, C)."""
    columns = xp.stack(list(taps(padded, kernel, space, window)), axis=-2)
    return xp.reshape(columns, (-1, *columns.shape[-2:]))


def taps(padded: Array, kernel: tuple[int, ...], space: tuple[int, ...], window: Window) -> Iterator[Array]:
    """The inputs of each kernel position, (N, *space, C)."""
    for tap in product(*map(range, kernel)):
        starts = [t * d for t, d in zip(tap, window.dilation, strict=True)]
        stops = [a + s * (n - 1) + 1 for a, s, n in zip(starts, window.stride, space, strict=True)]
        where = (slice(a, b, s) for a, b, s in zip(starts, stops, window.stride, strict=True))
        yield padded[(slice(None), *where, ...)]


def _sum_taps(padded: Array, weight: Array, kernel: tuple[int, ...], space: tuple[int, ...], window: Window) -> Array:
    """A depth-wise convolution, tap by tap."""
    places = product(*map(range, kernel))
    terms = (
        tap * weight[(slice(None), *place, 0)]
        for tap, place in zip(taps(padded, kernel, space, window), places, strict=True)
    )
    return reduce(add, terms)


def _weight_matrix(xp: Any, weight: Array, groups: int) -> Array:
    """(C_out, *kernel, C) to (taps * C, C_out), or with groups to (G, taps * C, C_out // G)."""
    if groups == 1:
        return xp.matrix_transpose(xp.reshape(weight, (weight.shape[0], -1)))
    return xp.matrix_transpose(xp.reshape(weight, (groups, weight.shape[0] // groups, -1)))


def _product(xp: Any, columns: Array, flat: Array, groups: int, matmul: Callable[[Array, Array], Array]) -> Array:
    rows, taps, channels = columns.shape
    if groups == 1:
        return matmul(xp.reshape(columns, (rows, taps * channels)), flat)
    split = xp.reshape(columns, (rows, taps, groups, channels // groups))
    by_group = xp.reshape(xp.permute_dims(split, (2, 0, 1, 3)), (groups, rows, -1))
    return xp.permute_dims(matmul(by_group, flat), (1, 0, 2))
