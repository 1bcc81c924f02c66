"""NumPy's schedule: walk tiles of the output, small enough for a core's cache, through all of time.

The plain order, all convolutions and then all neurons, streams every intermediate array through main memory. Here a tile
of samples (or of rows of one large sample) goes through unfolding, matrix product and neurons frame by frame, in buffers
that are made once; only inputs and spikes touch main memory. Threads share out the tiles, each with a BLAS of one
thread. Peak memory beside the output is about `TILE` numbers per thread (or one row of the unfolded input, if that is
more), whatever T and B.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ._blas import one_blas_thread
from ._tile_conv import TileConv

if TYPE_CHECKING:
    from tacops._lif import LIFStep
    from tacops._protocol import Array, Window

__all__ = ["TILE", "convolve_tiles", "run_tiles", "scan_tiles"]

TILE = 1 << 18
"""Numbers a tile works on: 1 MiB of float32, a core's second-level cache."""
PARALLEL = 1 << 21
"""Multiply-adds (and, for neurons alone, steps) below which threads cost more than they save."""


class Tile(NamedTuple):
    """Samples and output rows (along the first spatial axis) that are simulated together."""

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
    spikes = np.empty((n * repeat, batch, *space, weight.shape[0]), dtype=weight.dtype)
    after = np.empty(spikes.shape[1:], dtype=weight.dtype)

    def run(tile: Tile) -> None:
        out, u = tile.of(spikes, 1), np.empty(tile.of(after, 0).shape, dtype=weight.dtype)
        conv = TileConv(weight, bias, window, spatial, len(u), tile.rows)
        neurons = _Neurons(step, u, None if membrane is None else tile.of(membrane, 0))
        for t in range(n):
            conv(frames[t, tile.samples], neurons.current)
            neurons.hold(out[t * repeat : (t + 1) * repeat])
        tile.of(after, 0)[...] = neurons.membrane

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
        buffer = part if part.flags.c_contiguous else np.empty(part.shape, dtype=part.dtype)
        TileConv(weight, bias, window, spatial, len(part), tile.rows)(x[tile.samples], buffer)
        if buffer is not part:
            part[...] = buffer

    unfolded = math.prod(weight.shape[1:-1]) * x.shape[-1] + weight.shape[0]
    _run_all(run, x.shape[0], space, unfolded, out.size * math.prod(weight.shape[1:]))
    return out


def scan_tiles(currents: Array, step: LIFStep, membrane: Array | None, repeat: int) -> tuple[Array, Array]:
    """`Backend.scan`: neurons alone."""
    n, batch, space = currents.shape[0], currents.shape[1], currents.shape[2:-1]
    spikes = np.empty((n * repeat, *currents.shape[1:]), dtype=currents.dtype)
    after = np.empty(currents.shape[1:], dtype=currents.dtype)

    def run(tile: Tile) -> None:
        out, u = tile.of(spikes, 1), np.empty(tile.of(after, 0).shape, dtype=currents.dtype)
        neurons = _Neurons(step, u, None if membrane is None else tile.of(membrane, 0))
        for t in range(n):
            np.copyto(neurons.current, tile.of(currents[t], 0))
            neurons.hold(out[t * repeat : (t + 1) * repeat])
        tile.of(after, 0)[...] = neurons.membrane

    _run_all(run, batch, space, 3 * currents.shape[-1], spikes.size)
    return spikes, after


class _Neurons:
    """`LIFStep` in place, operation by operation the same, so the results are equal bit for bit.

    Measured, not assumed: with the core's step, whose every operation makes a new array, layers with few channels take
    twice as long, because there the neurons are the work.
    """

    def __init__(self, step: LIFStep, membrane: Array, start: Array | None):
        self.step = step
        self.membrane = membrane
        self.current = np.empty_like(membrane)
        self.fired = np.empty(membrane.shape, dtype=bool)
        self.scratch = np.empty_like(membrane)
        self.fresh = start is None
        if start is not None:
            np.copyto(membrane, start)

    def hold(self, out: Array) -> None:
        """Step through frames of spikes `out`, under `current` all along."""
        for frame in out:
            self._integrate()
            np.greater_equal(self.membrane, self.step.threshold, out=self.fired)
            np.copyto(frame, self.fired)
            self._reset(frame)

    def _integrate(self) -> None:
        u = self.membrane
        if self.fresh:
            np.copyto(u, self.current)
            self.fresh = False
            return
        if not (isinstance(self.step.decay, float) and self.step.decay == 1.0):
            np.multiply(u, self.step.decay, out=u)
        if self.step.rounded:
            np.rint(u, out=u)
        u += self.current

    def _reset(self, spikes: Array) -> None:
        if self.step.reset == "none":
            return
        if self.step.reset == "subtract":
            unit = isinstance(self.step.threshold, float) and self.step.threshold == 1.0
            self.membrane -= spikes if unit else np.multiply(spikes, self.step.threshold, out=self.scratch)
        else:
            np.logical_not(self.fired, out=self.fired)
            np.multiply(self.membrane, self.fired, out=self.membrane)


def _run_all(run: Callable[[Tile], None], batch: int, space: tuple[int, ...], per_position: int, work: int) -> None:
    """Run all tiles, on all cores if there is enough to do."""
    cores = _cores() if work >= PARALLEL else 1
    tiles = list(_cut(batch, space, per_position, cores))
    if cores < 2 or len(tiles) < 2:
        for tile in tiles:
            run(tile)
        return
    with one_blas_thread():
        for _ in _pool().map(run, tiles):
            pass


def _cut(batch: int, space: tuple[int, ...], per_position: int, cores: int) -> Iterable[Tile]:
    """Tiles of about `TILE` numbers, evenly large and at least one per core where the batch allows it."""
    rows = space[0] if space else 1
    row = math.prod(space[1:]) * per_position
    if row * rows <= TILE or rows == 1:
        count = max(1, min(-(-batch // cores), TILE // (row * rows)))
        return (Tile(slice(b, min(b + count, batch)), slice(0, rows)) for b in range(0, batch, count))
    parts = -(-rows * row // TILE)
    height = -(-rows // min(parts, rows))
    starts = range(0, rows, height)
    return (Tile(slice(b, b + 1), slice(r, min(r + height, rows))) for b in range(batch) for r in starts)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), thread_name_prefix="tacops")


if hasattr(os, "register_at_fork"):  # a forked child has the pool object but not its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
