"""NumPy's convolution of one tile, in buffers that are made once and used for every frame."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import memory

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window

__all__ = ["TileConv"]

NARROW = 8
"""Input channels below which unfolding tap by tap copies longer runs than unfolding position by position."""


class TileConv:
    """``conv(frames, out)`` for `counts`, frames and samples, and for output rows ``rows`` (along the first spatial axis).

    Frames are copied, and cast, into a padded buffer; its unfolding is one strided copy; the product is BLAS's. A
    depth-wise convolution has nothing for BLAS to do and is summed tap by tap. `rows` are those of the input that it reads.
    """

    def __init__(
        self,
        weight: Array,
        bias: Array | None,
        window: Window,
        spatial: tuple[int, ...],
        counts: tuple[int, int],
        rows: slice,
    ):
        self.bias, count, size = bias, math.prod(counts), weight.dtype.itemsize
        if weight.ndim > 2 or not weight.flags.f_contiguous:
            weight = np.ascontiguousarray(weight)  # other strides can mean another order of sums (NumPy 2.1)
        geometry = _geometry(window, spatial, weight.shape[1:], rows.start, rows.stop, size)
        self.rows, self.source = geometry.rows, geometry.source
        padded = memory.empty((count, *geometry.reach), weight.dtype)
        padded[...] = 0.0
        interior = padded[geometry.inside]
        self.interior = interior.reshape(counts + interior.shape[1:])
        self.view = np.ndarray((count, *geometry.unfolded), padded.dtype, padded, 0, geometry.strides)
        self.product = _product(self.view, len(geometry.space), weight, window.groups)

    def __call__(self, frames: Array, out: Array) -> None:
        """Convolve `rows` of frames, (*counts, rows, ..., C_in), into `out` (*counts, *space, C_out), contiguous."""
        np.copyto(self.interior, frames[self.source], casting="unsafe")
        self.product(out)
        if self.bias is not None:
            out += self.bias


class _Geometry(NamedTuple):
    """Where a tile's numbers come from."""

    space: tuple[int, ...]
    """Spatial shape of the output."""
    reach: tuple[int, ...]
    """Shape of a sample's padded input, as far as the output needs it, and of its channels."""
    rows: slice
    """Of the input (along its first spatial axis) that the tile reads."""
    source: tuple[slice, ...]
    """What it reads of those rows: (frame, sample, row, column, ...), clipped to the input."""
    inside: tuple[slice, ...]
    """The same in the padded buffer."""
    unfolded: tuple[int, ...]
    """(*space, *kernel, channels)."""
    strides: tuple[int, ...]
    """Of samples of this shape in the padded buffer, in bytes."""


@lru_cache(maxsize=256)  # a tenth of a small layer's call otherwise
def _geometry(
    window: Window, spatial: tuple[int, ...], filters: tuple[int, ...], first_row: int, last_row: int, itemsize: int
) -> _Geometry:
    """Of filters (*kernel, C_in // groups), and of output rows ``first_row:last_row``."""
    kernel, channels = filters[:-1], filters[-1] * window.groups
    space = window.output_shape(spatial, kernel)
    space = (last_row - first_row, *space[1:]) if space else ()
    reach = [s * (n - 1) + d * (k - 1) + 1 for s, n, d, k in _axes(window.stride, space, window.dilation, kernel)]
    starts = [-low for low, _ in window.padding]
    if starts:
        starts[0] += first_row * window.stride[0]
    first = [max(0, start) for start in starts]
    last = [max(f, min(size, start + r)) for f, size, start, r in _axes(first, spatial, starts, reach)]
    source = tuple(slice(a, b) for a, b in _axes(first, last))
    rows = source[0] if source else slice(None)
    source = (slice(None), slice(None), *(slice(None) for _ in source[:1]), *source[1:])
    inside = (slice(None), *(slice(a - s, b - s) for a, b, s in _axes(first, last, starts)))
    shape = (*reach, channels)
    sample, *steps = (itemsize * math.prod(shape[axis:]) for axis in range(len(shape)))
    strides = (
        sample,
        *(step * s for step, s in _axes(steps, window.stride)),
        *(step * d for step, d in _axes(steps, window.dilation)),
        itemsize,
    )
    return _Geometry(space, shape, rows, source, inside, (*space, *kernel, channels), strides)


def _axes(*values: Any) -> Any:
    return zip(*values, strict=True)


def _product(view: Array, dims: int, weight: Array, groups: int) -> Any:
    """The fastest way from the unfolded view (N, *space, *kernel, C) to ``out``."""
    if groups == 1:
        return _Wide(view, dims, weight) if weight.shape[-1] >= NARROW or dims == 0 else _Narrow(view, dims, weight)
    if weight.shape[-1] == 1 and weight.shape[0] == groups:
        return _DepthWise(view, dims, weight)
    return _Grouped(view, dims, weight, groups)


class _Wide:
    """Rows of unfolded positions times the weight matrix."""

    def __init__(self, view: Array, dims: int, weight: Array):
        self.view = view
        taps = math.prod(weight.shape[1:-1])
        dense = taps == 1 and view.flags.c_contiguous
        self.columns = view if dense else memory.empty(view.shape, view.dtype)
        self.flat = self.columns.reshape(math.prod(view.shape[: dims + 1]), -1)
        self.matrix = weight.reshape(weight.shape[0], -1).T

    def __call__(self, out: Array) -> None:
        if self.columns is not self.view:
            np.copyto(self.columns, self.view)
        np.matmul(self.flat, self.matrix, out=out.reshape(len(self.flat), -1))


class _Narrow:
    """The same with columns of taps: with few channels, a tap's values along an axis are the longer runs to copy."""

    def __init__(self, view: Array, dims: int, weight: Array):
        positions = range(dims + 1)
        self.view = view.transpose(*range(dims + 1, view.ndim), *positions)
        self.columns = memory.empty(self.view.shape, view.dtype)
        self.flat = self.columns.reshape(-1, math.prod(view.shape[: dims + 1])).T
        self.matrix = weight.reshape(weight.shape[0], -1).T

    def __call__(self, out: Array) -> None:
        np.copyto(self.columns, self.view)
        np.matmul(self.flat, self.matrix, out=out.reshape(len(self.flat), -1))


class _DepthWise:
    """One channel in, one out: a sum over taps of products."""

    def __init__(self, view: Array, dims: int, weight: Array):
        taps = list(product(*map(range, weight.shape[1:-1])))
        self.terms = [(view[(slice(None),) * (dims + 1) + tap], weight[(slice(None), *tap, 0)].copy()) for tap in taps]
        self.scratch = memory.empty((*view.shape[: dims + 1], view.shape[-1]), view.dtype)

    def __call__(self, out: Array) -> None:
        out = out.reshape(self.scratch.shape)
        np.multiply(*self.terms[0], out=out)
        for term in self.terms[1:]:
            np.multiply(*term, out=self.scratch)
            out += self.scratch


class _Grouped:
    """Every group a product of its own."""

    def __init__(self, view: Array, dims: int, weight: Array, groups: int):
        inputs, outputs = weight.shape[-1], weight.shape[0] // groups
        self.parts = [
            (
                slice(g * outputs, (g + 1) * outputs),
                _Wide(view[..., g * inputs : (g + 1) * inputs], dims, weight[g * outputs : (g + 1) * outputs]),
            )
            for g in range(groups)
        ]
        self.scratch = memory.empty((*view.shape[: dims + 1], outputs), view.dtype)

    def __call__(self, out: Array) -> None:
        out = out.reshape(*self.scratch.shape[:-1], -1)
        for channels, part in self.parts:
            part(self.scratch)
            out[..., channels] = self.scratch
