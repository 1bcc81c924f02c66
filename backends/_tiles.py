"""NumPy's schedule: walk tiles of the output, small enough for the cache, through all of time.

The plain order, all convolutions and then all neurons, streams every intermediate array through main memory. Here a tile
of samples (or of rows of one large sample) goes through unfolding, matrix product and neurons frame by frame, in buffers
that are made once; only inputs and spikes touch main memory. Threads share out the tiles, each with a BLAS of one
thread (OpenBLAS's own threads spin for milliseconds after every product, in the way of ours). Peak memory beside the output is about `TILE` numbers per thread (or one row of the unfolded input, if that is
more), whatever T and B.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import _arena as arena
from ._blas import one_blas_thread
from ._tile_conv import TileConv

if TYPE_CHECKING:
    from tacops._lif import LIFStep
    from tacops._protocol import Array, Window

__all__ = ["convolve_tiles", "run_tiles", "scan_tiles", "sum_blocks"]

TILE = 1 << 20
"""Numbers a tile works on, 4 MiB of float32: smaller ones fit a closer cache, but their many short calls wait for the
interpreter's lock whenever two threads compete for it."""
PARALLEL = 1 << 21
"""Multiply-adds (and, for neurons alone, steps) below which threads cost more than they save."""


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


def run_tiles(
    frames: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    step: LIFStep,
    membrane: Array | None,
    repeat: int,
) -> tuple[Array, Array]:
    """`Backend.schedule`: convolution and neurons."""
    n, batch, spatial = frames.shape[0], frames.shape[1], frames.shape[2:-1]
    space = window.output_shape(spatial, weight.shape[1:-1])
    spikes = np.empty((n * repeat, batch, *space, weight.shape[0]), dtype=bool if step.compact else weight.dtype)
    after = np.empty(spikes.shape[1:], dtype=weight.dtype)

    def run(tile: Tile) -> None:
        out, u = tile.of(spikes, 1), tile.of(after, 0)
        conv = TileConv(weight, bias, window, spatial, len(u), tile.rows)
        neurons = _Neurons(step, u, None if membrane is None else tile.of(membrane, 0))
        current = arena.empty(u.shape, u.dtype)
        for t in range(n):
            # the first current of a resting membrane is the membrane
            drive = u if t == 0 and membrane is None and repeat == 1 else current
            conv(frames[t, tile.samples], drive)
            neurons.hold(drive, out[t * repeat : (t + 1) * repeat])

    unfolded = math.prod(weight.shape[1:-1]) * frames.shape[-1] + 3 * weight.shape[0]
    _run_all(run, batch, space, unfolded, n * after.size * math.prod(weight.shape[1:]))
    return spikes, after


def convolve_tiles(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """`Backend.conv`."""
    spatial = x.shape[1:-1]
    space = window.output_shape(spatial, weight.shape[1:-1])
    out = np.empty((x.shape[0], *space, weight.shape[0]), dtype=weight.dtype)

    def run(tile: Tile) -> None:
        part = tile.of(out, 0)
        TileConv(weight, bias, window, spatial, len(part), tile.rows)(x[tile.samples], part)

    unfolded = math.prod(weight.shape[1:-1]) * x.shape[-1] + weight.shape[0]
    _run_all(run, x.shape[0], space, unfolded, out.size * math.prod(weight.shape[1:]))
    return out


def scan_tiles(currents: Array, step: LIFStep, membrane: Array | None, repeat: int) -> tuple[Array, Array]:
    """`Backend.scan`: neurons alone."""
    n, batch, space = currents.shape[0], currents.shape[1], currents.shape[2:-1]
    spikes = np.empty((n * repeat, *currents.shape[1:]), dtype=bool if step.compact else currents.dtype)
    after = np.empty(currents.shape[1:], dtype=currents.dtype)

    def run(tile: Tile) -> None:
        out = tile.of(spikes, 1)
        neurons = _Neurons(step, tile.of(after, 0), None if membrane is None else tile.of(membrane, 0))
        for t in range(n):
            neurons.hold(tile.of(currents[t], 0), out[t * repeat : (t + 1) * repeat])

    _run_all(run, batch, space, 3 * currents.shape[-1], spikes.size)
    return spikes, after


def sum_blocks(chunks: Array, weights: Array) -> Array:
    """Weighted sums of chunks (n, K, M), of any dtype, as (n, M) of the dtype of weights (K,); cast while in cache."""
    n, size, width = chunks.shape
    out = np.empty((n, width), dtype=weights.dtype)

    def run(tile: Tile) -> None:
        part = chunks[tile.samples, :, tile.rows].astype(weights.dtype, copy=False)
        for frames, total in zip(part, tile.of(out[..., None], 0)[..., 0], strict=True):
            np.matmul(weights[None], frames, out=total[None])  # unlike dot, without copying rows that lie apart

    _run_all(run, n, (width,), size, chunks.size)
    return out


class _Neurons:
    """`LIFStep` in place, operation by operation the same, so the results are equal bit for bit.

    Measured, not assumed: with the core's step, whose every operation makes a new array, layers with few channels take
    twice as long, because there the neurons are the work.
    """

    def __init__(self, step: LIFStep, membrane: Array, start: Array | None):
        self.step = step
        self.decay, self.threshold = _spread(step.decay, membrane), _spread(step.threshold, membrane)
        self.membrane = membrane
        self.fired = arena.empty(membrane.shape, bool)
        self.scratch = arena.empty(membrane.shape, membrane.dtype)
        self.fresh = start is None
        if start is not None:
            np.copyto(membrane, start)

    def hold(self, current: Array, out: Array) -> None:
        """Step through frames of spikes `out`, under `current` all along."""
        for frame in out:
            self._integrate(current)
            fired, spikes = (frame, self.scratch) if self.step.compact else (self.fired, frame)
            np.greater_equal(self.membrane, self.threshold, out=fired)
            np.copyto(spikes, fired)
            self._reset(spikes)

    def _integrate(self, current: Array) -> None:
        u = self.membrane
        if self.fresh:
            if current is not u:
                np.copyto(u, current)
            self.fresh = False
            return
        if not (isinstance(self.decay, float) and self.decay == 1.0):
            np.multiply(u, self.decay, out=u)
        if self.step.rounded:
            np.rint(u, out=u)
        u += current

    def _reset(self, spikes: Array) -> None:
        if self.step.reset == "none":
            return
        if self.step.reset == "subtract":
            unit = isinstance(self.threshold, float) and self.threshold == 1.0
            self.membrane -= spikes if unit else np.multiply(spikes, self.threshold, out=self.scratch)
        else:
            np.subtract(1.0, spikes, out=self.scratch)
            self.membrane *= self.scratch


def _spread(parameter: float | Array, membrane: Array) -> float | Array:
    """A parameter per channel, written out for all neurons: NumPy runs one loop over them, not one for every few channels."""
    return np.broadcast_to(parameter, membrane.shape).copy() if np.ndim(parameter) else parameter


def _run_all(run: Callable[[Tile], None], batch: int, space: tuple[int, ...], per_position: int, work: int) -> None:
    """Run all tiles, on all cores if there is enough to do; the calling thread takes its share."""
    cores = _cores() if work >= PARALLEL else 1
    tiles = list(_cut(batch, space, per_position, cores))

    def run_share(share: Iterable[Tile]) -> None:
        for tile in share:
            arena.reset()
            run(tile)

    workers = min(cores, len(tiles))
    if workers < 2:
        run_share(tiles)
        return
    with one_blas_thread():
        others = [_pool().submit(run_share, tiles[n::workers]) for n in range(1, workers)]
        run_share(tiles[0::workers])
        for other in others:
            other.result()


def _cut(batch: int, space: tuple[int, ...], per_position: int, cores: int) -> Iterable[Tile]:
    """Tiles of about `TILE` numbers, evenly large and at least one per core where the batch allows it."""
    rows = space[0] if space else 1
    sample = math.prod(space) * per_position
    parts = min(rows, max(-(-sample // TILE), -(-cores // batch)))
    if parts == 1:
        count = max(1, min(-(-batch // cores), TILE // sample))
        return (Tile(slice(b, min(b + count, batch)), slice(0, rows)) for b in range(0, batch, count))
    height = -(-rows // parts)
    starts = range(0, rows, height)
    return (Tile(slice(b, b + 1), slice(r, min(r + height, rows))) for b in range(batch) for r in starts)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    """The threads beside the calling one.

    All are started at once: the executor counts a thread that goes from one task to the next as idle, and then starts no
    other, so two tiles would share one thread (seen on CPython 3.11).
    """
    count = max(1, _cores() - 1)
    pool = ThreadPoolExecutor(count, thread_name_prefix="tacops")
    meeting = Barrier(count)
    for waiting in [pool.submit(meeting.wait) for _ in range(count)]:
        waiting.result()
    return pool


if hasattr(os, "register_at_fork"):  # a forked child has the pool object but not its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
