"""NumPy: Numba's loops, BLAS and scipy.sparse, on all cores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 (the BLAS that Numba calls must be loaded when its threads are limited)
from scipy import sparse
from threadpoolctl import ThreadpoolController

from bench.shared.machine import cores
from bench.sparsity.strategies import loops
from bench.sparsity.strategies.arrays import Convolution, same
from bench.sparsity.strategies.tables import byte_tables, is_narrow, row_tables
from bench.timing.cases import Floats
from tacops.backends import get_backend

BLOCK = 1 << 20
"""Numbers of unfolded frames that a thread works on at a time, 4 MiB."""
SIDE = 8
"""Of a block of outputs that may be skipped."""


class NumPyStrategies:
    """Strategies of one layer, as functions of spikes (N, H, W, C_in); what depends on the weights alone is prepared."""

    def __init__(self, weight: Floats) -> None:
        self.weight = weight
        self.width, self.k, _, self.channels = weight.shape
        self.flat = np.ascontiguousarray(weight.reshape(self.width, -1).T)

    def scatter(self) -> Convolution:
        """One patch per spike."""
        flipped = self.weight[:, :, ::-1]  # (C_out, dy, -dx, C) to (dy, C, -dx * C_out)
        weight = np.ascontiguousarray(flipped.transpose(1, 3, 2, 0)).reshape(self.k, self.channels, -1)

        def run(x: Any) -> Any:
            N, H, W, C = x.shape
            out = np.empty((N, H, W, self.width), np.float32)
            words = x.reshape(N, -1).view(np.uint64) if H * W * C % 8 == 0 else np.empty((N, 0), np.uint64)
            loops.scatter(x.view(np.uint8), words, weight, out.reshape(N, H, -1))
            return out

        return run

    def rows(self) -> Convolution:
        """A matrix product of the patches that hold a spike."""

        def part(x: Any, out: Any) -> None:
            rows = np.empty(x[..., 0].size, np.int64)
            rows = rows[: loops.active_rows(x, self.k, rows)]
            patches = np.empty((len(rows), self.k, self.k * self.channels), np.float32)
            loops.gather_rows(x, self.k, rows, patches)
            products = patches.reshape(len(rows), len(self.flat)) @ self.flat
            loops.spread_rows(rows, products, out.reshape(-1, self.width))

        return self._in_parts(part)

    def matrix(self) -> Convolution:
        """The unfolded spikes as a CSR matrix."""

        def part(x: Any, out: Any) -> None:
            starts = np.empty(x[..., 0].size + 1, np.int32)
            indices = np.empty(self.k**2 * np.count_nonzero(x), np.int32)
            count = loops.list_patches(x, self.k, starts, indices)
            shape = (len(starts) - 1, len(self.flat))
            unfolded = sparse.csr_array((np.ones(count, np.float32), indices[:count], starts), shape=shape)
            out.reshape(-1, self.width)[...] = unfolded @ self.flat

        return self._in_parts(part)

    def blocks(self) -> Convolution:
        """Products of blocks with spikes, of channels with spikes."""
        weight = self.flat.reshape(self.k**2, self.channels, self.width)

        def run(x: Any) -> Any:
            out = np.empty((*x.shape[:3], self.width), np.float32)
            with blas().limit(limits=1):
                loops.skip_blocks(x.view(np.uint8), weight, SIDE, out)
            return out

        return run

    def table(self) -> Convolution:
        """Partial sums by the bits of a patch's rows, or of eight channels at each tap."""
        narrow = is_narrow(self.weight)
        tables = row_tables(self.weight) if narrow else byte_tables(self.weight)

        def run(x: Any) -> Any:
            N, H, W, _ = x.shape
            out = np.empty((N, H, W, self.width), np.float32)
            if narrow:
                loops.look_up_rows(x.view(np.uint8), tables, out)
                return out
            packed = np.packbits(x, axis=-1)
            codes = np.zeros((N, H + 2, W + 2, packed.shape[-1]), np.uint8)
            codes[:, 1:-1, 1:-1] = packed
            loops.look_up_bytes(codes, tables, out)
            return out

        return run

    def frames(self) -> Convolution:
        """The dense convolution of the frames with a spike."""
        backend = get_backend("numpy")

        def run(x: Any) -> Any:
            live = np.flatnonzero(x.reshape(len(x), -1).any(axis=1))
            if len(live) == len(x):
                return backend.conv(x, self.weight, None, same(self.k), exact=False)
            out = np.zeros((*x.shape[:3], self.width), np.float32)
            if live.size:
                out[live] = backend.conv(x[live], self.weight, None, same(self.k), exact=False)
            return out

        return run

    def _in_parts(self, part: Callable[[Any, Any], None]) -> Convolution:
        """Frames in blocks that stay in cache, shared out to all cores, with a BLAS of one thread each."""

        def run(x: Any) -> Any:
            N, H, W, _ = x.shape
            out = np.empty((N, H, W, self.width), np.float32)
            count = max(1, min(-(-N // cores()), BLOCK // (H * W * len(self.flat))))
            starts = range(0, N, count)
            with blas().limit(limits=1):
                for _ in pool().map(
                    lambda start: part(x[start : start + count].view(np.uint8), out[start : start + count]), starts
                ):
                    pass
            return out

        return run


@cache
def pool() -> ThreadPoolExecutor:
    """One thread per core."""
    return ThreadPoolExecutor(cores())


@cache
def blas() -> ThreadpoolController:
    """NumPy's BLAS and SciPy's."""
    return ThreadpoolController().select(user_api="blas")
