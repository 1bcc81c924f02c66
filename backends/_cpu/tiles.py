"""NumPy's schedule: walk tiles of the output, small enough for the cache, through all of time.

The plain order, all convolutions and then all neurons, streams every intermediate array through main memory. Here a tile
of samples (or of rows of one large sample) goes through unfolding, matrix product and neurons frame by frame, in buffers
that are made once; only inputs and spikes touch main memory. Threads share out the tiles, each with a BLAS of one
thread (OpenBLAS's own threads spin for milliseconds after every product, in the way of ours). Peak memory beside the
output is about `TILE` numbers per thread (or one row of the unfolded input, if that is more), whatever T and B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import memory
from .convolution import TileConv
from .cores import count_cores
from .frames import Frames, sum_frames, sum_loops
from .neurons import compiled, loops_for, tile_neurons
from .threads import run_here, share_out

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window
    from tacops._backend.steps import Recipe

__all__ = [
    "all_on_grid",
    "convolve_tiles",
    "rescale_in_place",
    "run_tiles",
    "scale_and_round",
    "scan_tiles",
    "sum_blocks",
]

TILE = 1 << 20
"""Numbers a tile works on, 4 MiB of float32: smaller ones fit a closer cache, but their many short calls wait for the
interpreter's lock whenever two threads compete for it."""
PARALLEL, PARALLEL_PRODUCTS = 1 << 20, 1 << 25
"""Numbers computed beside matrix products, and multiply-adds in them, from which threads pay: one takes 0.1 ms to come awake."""
PERIOD, BLOCK = 1 << 10, 1 << 16
"""Factors of membranes that are written out, and numbers that are scaled while they are in cache."""
TRANSPOSE = 8
"""Frames from which a dense layer's weights are transposed once: OpenBLAS then reads them a quarter sooner, every frame."""
BLAS_PARALLEL = 1 << 16
"""Multiply-adds below which no BLAS starts threads (OpenBLAS: 2^18), so it need not be told."""


class Tile(NamedTuple):
    """Samples and output rows (along the first spatial axis) that are simulated together.

    Either whole samples or rows of one: a tile of a frame is contiguous memory.
    """

    samples: slice
    rows: slice

    def of(self, array: Array, axis: int) -> Array:
        """Cut the tile out of an array whose batch axis is `axis`."""
        where = (slice(None),) * axis + (self.samples,)
        return array[(*where, self.rows) if array.ndim > axis + 2 else where]

    def place(self, shape: tuple[int, ...]) -> int:
        """Where the tile begins in a frame of shape (B, *S, C), in elements."""
        start: int = self.samples.start * math.prod(shape[1:]) + self.rows.start * math.prod(shape[2:])
        return start


def run_tiles(
    frames: Frames,
    weight: Array,
    bias: Array | None,
    window: Window,
    step: Recipe,
    membrane: Array | None,
    repeat: int,
    threads: int | None = None,
) -> tuple[Array, Array]:
    """`Backend.schedule`: aggregation, convolution and neurons, on `threads` at most."""
    n, batch, spatial = len(frames), frames.shape[1], frames.shape[2:-1]
    space = window.output_shape(spatial, weight.shape[1:-1])
    spikes = memory.fresh((n * repeat, batch, *space, weight.shape[0]), bool if step.compact else weight.dtype)
    after = memory.fresh(spikes.shape[1:], weight.dtype)
    unfolded = math.prod(weight.shape[1:-1]) * frames.shape[-1] + 3 * weight.shape[0]
    if weight.ndim == 2 and n >= TRANSPOSE:
        weight = np.asfortranarray(weight)

    def run(tile: Tile) -> None:
        u, start = tile.of(after, 0), None if membrane is None else tile.of(membrane, 0)
        each = 1 if spatial else _divisor(n, TILE // (len(u) * unfolded))
        conv = TileConv(weight, bias, window, spatial, (each, len(u)), tile.rows)
        read = frames.tile(tile.samples, conv.rows, each)
        neurons = tile_neurons(step, u, start, spikes, tile.place(after.shape), spikes.size)
        currents = memory.empty((each, *u.shape), u.dtype)
        first, held = 0, tuple(currents)
        if each == repeat == 1 and membrane is None:
            # the first current of a resting membrane is the membrane
            conv(read(0), u[None])
            neurons.hold(u, 0, 1)
            first = 1
        for t in range(first, n, each):
            conv(read(t), currents)
            for k, current in enumerate(held, start=t):
                neurons.hold(current, k * repeat, (k + 1) * repeat)

    numbers = spikes.size + frames.to_sum // 2
    _run_all(run, batch, space, unfolded, numbers, n * after.size * math.prod(weight.shape[1:]), threads)
    return spikes, after


def convolve_tiles(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """`Backend.conv`."""
    spatial = x.shape[1:-1]
    space = window.output_shape(spatial, weight.shape[1:-1])
    out = memory.fresh((x.shape[0], *space, weight.shape[0]), weight.dtype)

    def run(tile: Tile) -> None:
        part = tile.of(out, 0)
        conv = TileConv(weight, bias, window, spatial, (1, len(part)), tile.rows)
        conv(x[None, tile.samples, conv.rows] if spatial else x[None, tile.samples], part[None])

    unfolded = math.prod(weight.shape[1:-1]) * x.shape[-1] + weight.shape[0]
    _run_all(run, x.shape[0], space, unfolded, out.size, out.size * math.prod(weight.shape[1:]))
    return out


def scan_tiles(
    currents: Array, step: Recipe, membrane: Array | None, repeat: int, threads: int | None = None
) -> tuple[Array, Array]:
    """`Backend.scan`: neurons alone, on `threads` at most."""
    n, batch, space = currents.shape[0], currents.shape[1], currents.shape[2:-1]
    spikes = memory.fresh((n * repeat, *currents.shape[1:]), bool if step.compact else currents.dtype)
    after = memory.fresh(currents.shape[1:], currents.dtype)

    def run(tile: Tile) -> None:
        u, start = tile.of(after, 0), None if membrane is None else tile.of(membrane, 0)
        neurons = tile_neurons(step, u, start, spikes, tile.place(after.shape), spikes.size)
        for t in range(n):
            neurons.hold(tile.of(currents[t], 0), t * repeat, (t + 1) * repeat)

    _run_all(run, batch, space, 3 * currents.shape[-1], spikes.size, 0, threads)
    return spikes, after


def sum_blocks(chunks: Array, weights: Array) -> Array:
    """Weighted sums of chunks (n, K, M), of any dtype, as (n, M) of the dtype of weights (K,); cast while in cache."""
    n, size, width = chunks.shape
    out = memory.fresh((n, width), weights.dtype)
    loops = sum_loops(chunks, weights)

    def run(tile: Tile) -> None:
        for t in range(tile.samples.start, tile.samples.stop):
            sum_frames(chunks, t, weights, out[t, tile.rows], tile.rows.start, loops)

    _run_all(run, n, (width,), size, chunks.size // 2, chunks.size)
    return out


def all_on_grid(x: Array, low: float, high: float, step: float, threads: int | None = None) -> bool:
    """`Backend.on_grid`: block by block, while a block is in cache; on `threads` at most."""
    flat = x.reshape(-1)
    loops = loops_for(x.size, x.dtype)
    bounds = [x.dtype.type(value) for value in (low, high, 1.0 / step)]
    good: list[bool] = []

    def run(tile: Tile) -> None:
        part = flat[tile.rows]
        if loops is not None:
            good.append(loops.count_off_grid(part, *bounds) == 0)
            return
        steps = part if step == 1.0 else part * bounds[2]
        good.append(bool(part.max() <= bounds[1] and part.min() >= bounds[0] and np.all(np.rint(steps) == steps)))

    _run_all(run, 1, flat.shape, 1, x.size // 2, 0, threads)
    return all(good)


def scale_and_round(x: Array, factors: Array) -> Array:
    """``rint(x * factors)`` with one factor for each index of the first axis, and with one new array."""
    scaled: Array = x * factors.reshape(-1, *(1 for _ in x.shape[1:]))
    return np.rint(scaled, out=scaled)


def rescale_in_place(x: Array, factor: Array) -> None:
    """``x = x * factor + 0.0``, for contiguous `x` and one factor, or one for each channel."""
    # as many rows of channels at once as there can be: NumPy runs a loop for each, of few steps
    together = math.gcd(x.size // factor.size, 1 << max(0, (PERIOD // factor.size).bit_length() - 1))
    row = np.tile(factor.reshape(-1), together)
    table = x.reshape(-1, row.size)
    count = max(1, BLOCK // row.size)
    for first in range(0, len(table), count):
        part = table[first : first + count]
        np.multiply(part, row, out=part)
        np.add(part, 0.0, out=part)


def _run_all(
    run: Callable[[Tile], None],
    batch: int,
    space: tuple[int, ...],
    per_position: int,
    numbers: int,
    products: int,
    threads: int | None = None,
) -> None:
    """Run all tiles, on all cores, or `threads` of them, if there is enough to do; the calling thread takes its share."""
    cores = count_cores() if numbers >= PARALLEL or products >= PARALLEL_PRODUCTS else 1
    cores = cores if threads is None else min(cores, threads)
    tiles = list(_cut(batch, space, per_position, cores))
    workers = min(cores, len(tiles))
    if workers < 2 and products < BLAS_PARALLEL:
        run_here(run, tiles)
        return
    if workers > 1:
        compiled()  # a library that is loaded while we are held to one processor would take it for the machine's only one
    # with one worker, too: BLAS's threads would spin on, in the way of ours, when the next layer begins
    share_out(run, [tiles[n::workers] for n in range(max(1, workers))])


def _cut(batch: int, space: tuple[int, ...], per_position: int, cores: int) -> Iterable[Tile]:
    """Tiles of about `TILE` numbers, evenly large, as many for each core where the batch allows it."""
    rows = space[0] if space else 1
    sample = math.prod(space) * per_position
    if sample * batch == 0:
        return ()
    parts = min(rows, max(-(-sample // TILE), -(-cores // batch)))
    if parts == 1:
        count = -(-batch // max(1, TILE // sample))
        count = min(batch, -(-count // cores) * cores)
        edges = [n * batch // count for n in range(count + 1)]
        return (Tile(slice(a, b), slice(0, rows)) for a, b in pairwise(edges))
    height = -(-rows // parts)
    starts = range(0, rows, height)
    return (Tile(slice(b, b + 1), slice(r, min(r + height, rows))) for b in range(batch) for r in starts)


def _divisor(n: int, most: int) -> int:
    """Frames that a dense layer multiplies at once: BLAS packs the weights anew for every product."""
    return max(count for count in range(1, max(1, min(n, most)) + 1) if n % count == 0)
