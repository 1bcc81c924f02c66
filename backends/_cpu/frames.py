"""What a tile reads: frames, or sums of the frames of a chunk, cast while they are in cache."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import memory
from .neurons import loops_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tacops._backend.protocol import Array

__all__ = ["Frames", "sum_frames", "sum_loops"]

BLOCK = 1 << 18
"""Numbers of a chunk that are cast at a time, where no loop is compiled."""


class Frames:
    """Frames (n * K, B, *S, C), of which every chunk of K is one: itself, or its sum with `weights`.

    Parameters
    ----------
    frames : array, any dtype
    weights : array, shape (K,), or None
        None: chunks are single frames.
    """

    def __init__(self, frames: Array, weights: Array | None):
        size = 1 if weights is None else len(weights)
        self.shape = (len(frames) // size, *frames.shape[1:])
        """Of all chunks."""
        self.frames, self.weights = frames, weights
        self.to_sum = 0 if weights is None else frames.size
        """Numbers that must be read to be summed."""
        if weights is not None:
            self.chunks = frames.reshape(self.shape[0], size, math.prod(self.shape[1:]))
            self.loops = sum_loops(self.chunks, weights)

    def __len__(self) -> int:
        return int(self.shape[0])

    def tile(self, samples: slice, rows: slice, each: int) -> Callable[[int], Array]:
        """A function of n: these samples, and rows where there are spatial axes, of `each` chunks from n on."""
        spatial = len(self.shape) > 3
        if self.weights is None:
            view = self.frames[:, samples, rows] if spatial else self.frames[:, samples]
            return lambda n: view[n : n + each]
        weights, count, sample = self.weights, samples.stop - samples.start, self.shape[2:]
        start, some = samples.start * math.prod(sample), slice(None)
        if spatial and count == 1:
            start += rows.start * math.prod(sample[1:])
            sample = (rows.stop - rows.start, *sample[1:])
        elif spatial:
            some = rows  # those of several samples lie apart: whole samples are summed
        sums = memory.empty((each, count, *sample), weights.dtype)
        flat, part = sums.reshape(each, -1), sums[:, :, some]

        def read(n: int) -> Array:
            for k, out in enumerate(flat, start=n):
                sum_frames(self.chunks, k, weights, out, start, self.loops)
            return part

        return read


def sum_loops(chunks: Array, weights: Array) -> Any:
    """Compiled loops where chunks must be cast to be summed; what need not be, BLAS sums as fast as memory is read."""
    if chunks.dtype == weights.dtype or not chunks.flags.c_contiguous:
        return None
    return loops_for(chunks.size, chunks.dtype, weights.dtype)


def sum_frames(chunks: Array, n: int, weights: Array, out: Array, start: int, loops: Any) -> None:
    """``out[m] = sum_k weights[k] * chunks[n, k, start + m]`` for chunks (n, K, M)."""
    if loops is not None:
        loops.sum_chunk(chunks, n, weights, out, start)
        return
    cast = chunks.dtype != weights.dtype
    block = max(1, BLOCK // len(weights) if cast else len(out))
    for low in range(0, len(out), block):
        part = chunks[n, :, start + low : start + min(low + block, len(out))]
        part = part.astype(weights.dtype) if cast else part
        # unlike dot, without copying rows that lie apart
        np.matmul(weights[None], part, out=out[None, low : low + block])
