"""Layers that follow the spikes: tiles of samples or of rows, as of ``tiles.py``, each through the compiled loops of ``events.py``.

Beside its output a thread works on the events of one sample's frame, a row of currents, and, where the input must be cast,
summed or gathered from memory that lies apart, one frame.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import memory
from .tiles import Tile, _run_all

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window
    from tacops._backend.steps import Due, Recipe

    from .frames import Frames

__all__ = ["run_sparse"]

STRETCH = 1 << 22
"""Numbers of one compiled call: nothing can interrupt it."""


class _Layer(NamedTuple):
    """What all tiles share."""

    window: Window
    weight: Array
    bias: Array
    neurons: tuple[Any, ...]
    spatial: tuple[int, ...]
    kernel: tuple[int, ...]


def run_sparse(
    loops: Any,
    frames: Frames,
    weight: Array,
    bias: Array | None,
    window: Window,
    step: Recipe,
    membrane: Array | None,
    repeat: int,
    events: int,
    tabled: bool,
    threads: int | None = None,
    due: Due | None = None,
) -> tuple[Array, Array]:
    """`run_tiles`, by events, or by tables where frames are of 0 and 1; `events` is about how many there are.

    Their values are checked if that is `due`, and the rest is left where they fail.
    """
    n, batch, spatial = len(frames), frames.shape[1], frames.shape[2:-1]
    space = window.output_shape(spatial, weight.shape[1:-1])
    width, dtype = weight.shape[0], weight.dtype
    spikes = memory.fresh((n * repeat, batch, *space, width), bool if step.compact else dtype)
    after = memory.fresh(spikes.shape[1:], dtype)
    rows, offset = _matrix(weight, bias, window.groups)
    table = _table(weight, len(offset)) if tabled else rows[:0]
    parameters = [loops.period(parameter, width, dtype) for parameter in (step.decay, step.threshold)]
    layer = _Layer(
        window, rows, offset, (*parameters, dtype.type(1), step.rounded, int(step.reset)), spatial, weight.shape[1:-1]
    )
    flat, flat_spikes = _direct(frames, dtype), spikes.reshape(len(spikes), -1)
    most, bad = _most(due, flat, dtype), list[Tile]()
    no_spikes = np.empty((0, 0), dtype if step.compact else bool)
    written = (no_spikes, flat_spikes) if step.compact else (flat_spikes, no_spikes)

    def run(tile: Tile) -> None:
        u = tile.of(after, 0)
        if membrane is not None:
            np.copyto(u, tile.of(membrane, 0))
        sides, shape, out = _geometry(layer, tile)
        source = _Source(frames, flat, tile.samples, _rows(layer, tile), dtype)
        work, rest = _work(shape, out, layer, tabled), u.reshape(len(u), -1)
        stretch = 1 if flat is None else max(1, STRETCH // max(1, u.size + len(u) * math.prod(shape)))
        for t in range(0, n, stretch):
            last = min(n, t + stretch)
            where = shape, out, sides, window.groups
            into = rest, *written, tile.place(after.shape), layer.neurons, membrane is None and t == 0
            given = *source.read(t), (t, last, repeat), *where, rows, offset, table, work
            if bad or not loops.run_frames(*given, *into, most):
                bad.append(tile)
                return

    positions = math.prod(spatial) / max(1, math.prod(space))
    per_position = 3 * width + math.ceil(positions * frames.shape[-1])
    numbers = spikes.size + n * batch * math.prod(frames.shape[2:]) // 8 + frames.to_sum // 2
    products = events * math.prod(weight.shape[1:-1]) * width // window.groups
    _run_all(run, batch, space, per_position, numbers, products, threads)
    if due is not None:
        due.done = not bad
    return spikes, after


def _most(due: Due | None, flat: Array | None, dtype: Any) -> Any:
    """The largest magnitude that an event may have, rounded as `Backend.on_grid` does; -1 if events are not to be checked."""
    if due is not None and flat is not None:
        return dtype.type((np.float32 if flat.dtype.kind == "u" else dtype.type)(due.most))
    if due is not None:  # frames are cast on the way
        due.look()
    return dtype.type(-1)


def _matrix(weight: Array, bias: Array | None, groups: int) -> tuple[Array, Array]:
    """Weights as rows that an event chooses: by tap and input channel; and the bias, as wide as a place's currents."""
    width, taps, channels = weight.shape[0], math.prod(weight.shape[1:-1]), weight.shape[-1]
    if groups > 1:
        parts = weight.reshape(groups, width // groups, taps, channels)
        rows = np.array(parts.transpose(2, 0, 3, 1), order="C").reshape(taps * groups * channels, width // groups)
        return rows, np.zeros(width, weight.dtype) if bias is None else np.array(bias, weight.dtype)
    columns = -(-width // 16) * 16
    rows, offset = memory.fresh((taps * channels, columns), weight.dtype), np.zeros(columns, weight.dtype)
    rows[:, width:] = 0
    rows[:, :width] = weight.reshape(width, -1).T
    if bias is not None:
        offset[:width] = bias
    return rows, offset


def _table(weight: Array, columns: int) -> Array:
    """Sums of all subsets of each kernel line's weights: ``[line * 2 ** n + code]``, n = taps of a line * C_in.

    Bit ``tap * C_in + c`` of a code is the spike of channel c at the tap. The sums are as wide as `columns`.
    """
    width, per_line = weight.shape[0], math.prod((*weight.shape[1:-1][-1:], weight.shape[-1]))
    terms = weight.reshape(width, -1, per_line).transpose(1, 2, 0)
    table = memory.fresh((terms.shape[0], 1 << per_line, columns), weight.dtype)
    table[...] = 0
    for bit in range(per_line):
        half = 1 << bit
        table[:, half : 2 * half, :width] = table[:, :half, :width] + terms[:, bit, None]
    return table.reshape(-1, columns)


def _direct(frames: Frames, dtype: Any) -> Array | None:
    """All numbers of the input in a row, where the loops can read them as they are."""
    x = frames.frames
    if (
        frames.weights is not None
        or not x.flags.c_contiguous
        or x.dtype not in (np.dtype(bool), np.dtype(np.uint8), dtype)
    ):
        return None
    flat = x.reshape(-1)
    flat = flat.view(np.uint8) if flat.dtype.itemsize == 1 else flat
    if not flat.flags.aligned:
        return None
    return flat if flat.flags.writeable else np.asarray(_Memory(flat))


class _Memory:
    """An array's memory without the flag that it is read-only, for which all loops would be compiled anew."""

    def __init__(self, array: Array):
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


class _Source:
    """What a tile reads of each frame: all numbers of the input in a row (`flat`), or a copy of the frame's part."""

    def __init__(self, frames: Frames, flat: Array | None, samples: slice, rows: slice, dtype: Any):
        self.flat, self.count = flat, samples.stop - samples.start
        sample, line = math.prod(frames.shape[2:]), math.prod(frames.shape[3:])
        first, last, _ = rows.indices(frames.shape[2])
        self.begin, self.frame = samples.start * sample + first * line, frames.shape[1] * sample
        self.size = (last - first) * line
        self.nothing = np.empty(0, np.uint8), np.empty(0, dtype)
        if flat is None:
            whole = frames.weights is not None or frames.frames.dtype != bool
            self.buffer = memory.empty((self.count * self.size,), dtype if whole else np.uint8)
            self.part = frames.tile(samples, rows, 1)

    def read(self, t: int) -> tuple[Array, Array, tuple[int, int, int]]:
        """Bytes, numbers and offsets, as `run_frames` takes them, from frame t on."""
        if self.flat is not None:
            numbers, offsets = self.flat, (t * self.frame + self.begin, self.frame, self.size)
        else:
            part, numbers, offsets = self.part(t), self.buffer, (0, 0, self.size)
            np.copyto(numbers.reshape(part.shape), part, casting="unsafe")
        if numbers.dtype == np.uint8:
            return numbers, self.nothing[1], offsets
        return self.nothing[0], numbers, offsets


def _rows(layer: _Layer, tile: Tile) -> slice:
    """What a tile reads along the first spatial axis: all of several samples, which must lie in one piece."""
    if not layer.spatial:
        return slice(None)
    size = layer.spatial[0]
    if tile.samples.stop - tile.samples.start > 1:
        return slice(0, size)
    window = layer.window
    reach = window.dilation[0] * (layer.kernel[0] - 1) + 1
    begin = tile.rows.start * window.stride[0] - window.padding[0][0]
    end = (tile.rows.stop - 1) * window.stride[0] - window.padding[0][0] + reach
    low = min(size, max(0, begin))
    return slice(low, max(low, min(size, end)))


def _geometry(layer: _Layer, tile: Tile) -> tuple[Any, Any, Any]:
    """Window, shape and output shape of a tile, as ``events.py`` takes them."""
    window, ahead = layer.window, 3 - len(layer.spatial)
    read = _rows(layer, tile)
    spatial = layer.spatial
    starts = [-low for low, _ in window.padding]
    space = window.output_shape(spatial, layer.kernel)
    if spatial:
        starts[0] += tile.rows.start * window.stride[0] - read.start
        space = (tile.rows.stop - tile.rows.start, *space[1:])
        spatial = (read.stop - read.start, *spatial[1:])

    def triple(values: Any, missing: int) -> tuple[int, ...]:
        return (*(missing for _ in range(ahead)), *(int(value) for value in values))

    channels = layer.weight.shape[0] // math.prod(layer.kernel)
    sides = triple(layer.kernel, 1), triple(window.stride, 1), triple(window.dilation, 1), triple(starts, 0)
    return sides, (*triple(spatial, 1), channels), triple(space, 1)


def _work(shape: Any, out: Any, layer: _Layer, tabled: bool) -> tuple[Array, ...]:
    """Buffers of one thread."""
    places, taps, dtype = math.prod(shape[:3]), math.prod(layer.kernel), layer.weight.dtype
    sites = places * shape[3] + 1
    return (
        memory.empty((places + 1,), np.int32),
        memory.empty((sites,), np.int32),
        memory.empty((sites,), dtype),
        memory.empty((taps, 2), np.int64),
        memory.empty((max(1, out[2]) * len(layer.bias),), dtype),
        memory.empty((shape[2] if tabled else 0,), np.int32),
        memory.empty((shape[0] * shape[1] * out[2] if tabled else 0,), np.int32),
    )
