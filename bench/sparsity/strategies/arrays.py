"""Sparse strategies in terms of arrays, for libraries of which a `Library` knows the few operations the standard lacks.

Each makes, of a layer's weights, a function of spikes ``x (N, H, W, C)``, in bool, for a kernel of odd side, stride 1 and a
border of zeros that keeps the shape. It is two functions: ``counts(x)`` says how many places are active, ``run(sizes, x,
*constants)`` works on that many. Libraries that compile need the sizes beforehand: there they are rounded up, and the
surplus places are written nowhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from bench.sparsity.strategies.tables import BYTE, byte_tables, is_narrow, row_tables
from bench.timing.cases import Floats
from bench.timing.subject import UnsupportedError
from tacops._backend.protocol import Window
from tacops.backends import Backend, get_backend
from tacops.backends._unfold import pad

__all__ = ["Convolution", "Library", "blocks", "frames", "rows", "same", "scatter", "table"]

Convolution: TypeAlias = Callable[[Any], Any]
SIDE = 8
"""Of a block of outputs that may be skipped."""


class Library(ABC):
    """An array library: what sparse strategies need beyond the Array API standard."""

    name: ClassVar[str]

    def __init__(self, backend: Backend | None = None) -> None:
        self.backend = backend or get_backend(self.name)
        self.xp = self.backend.namespace(self.backend.from_numpy(np.zeros(1, np.float32)))

    @abstractmethod
    def locate(self, mask: Any, size: int) -> Any:
        """Indices of the true entries of a flat mask; where sizes are rounded up, then ``mask.size`` up to `size`."""

    @abstractmethod
    def put(self, count: int, at: Any, rows: Any) -> Any:
        """Zeros (count, C) with the rows written at the places `at`; place `count` is nowhere."""

    @abstractmethod
    def add(self, count: int, at: Any, rows: Any) -> Any:
        """Zeros (count, C) with the rows added at the places `at`; place `count` is nowhere."""

    def look_up(self, table: Any, at: Any) -> Any:
        """Sums of the rows of `table` (M, C) that `at` (places, n) names."""
        total = self.xp.take(table, at[:, 0], axis=0)
        for n in range(1, at.shape[1]):
            total = total + self.xp.take(table, at[:, n], axis=0)
        return total

    def conv(self, x: Any, weight: Any, window: Window) -> Any:
        """Dense convolution of bool frames."""
        return self.backend.conv(self.xp.astype(x, weight.dtype), weight, None, window, exact=False)

    def staged(self, counts: Callable[[Any], Sequence[Any]], run: Callable[..., Any], *constants: Any) -> Convolution:
        """One function of both; `locate` finds the sizes anew unless they are fixed."""
        return lambda x: run((0,), x, *constants)

    def matrices(self, weight: Floats) -> dict[str, Convolution]:
        """The library's own products of sparse matrices, by name."""
        raise UnsupportedError(f"{self.name} has no sparse matrices")


def scatter(library: Library, weight: Floats) -> Convolution:
    """Every spike adds its row of weights to the output places around it, tap by tap."""
    xp, half = library.xp, weight.shape[1] // 2

    def run(sizes: Sequence[int], x: Any, taps: Any) -> Any:
        N, H, W, C = x.shape
        places = N * H * W
        spike = library.locate(xp.reshape(x, (-1,)), sizes[0])
        place, channel = spike // C, spike % C
        row, column = (place // W) % H, place % W
        at, rows = [], []
        for tap in range(taps.shape[0]):
            dy, dx = half - tap // weight.shape[1], half - tap % weight.shape[1]
            inside = (row + dy >= 0) & (row + dy < H) & (column + dx >= 0) & (column + dx < W) & (place < places)
            at.append(xp.where(inside, place + dy * W + dx, places))
            rows.append(xp.take(taps[tap, ...], channel, axis=0))
        return xp.reshape(library.add(places, xp.concat(at), xp.concat(rows)), (N, H, W, -1))

    return library.staged(lambda x: [xp.sum(x)], run, library.backend.from_numpy(by_tap(weight)))


def rows(library: Library, weight: Floats) -> Convolution:
    """A matrix product of the patches that hold a spike."""
    xp, k = library.xp, weight.shape[1]

    def active(x: Any) -> Any:
        return xp.reshape(near(xp, xp.any(x, axis=-1), k), (-1,))

    def run(sizes: Sequence[int], x: Any, matrix: Any) -> Any:
        N, H, W, C = x.shape
        place = library.locate(active(x), sizes[0])
        padded = pad(xp, x, same(k))
        column = place % W
        n, row = place // (H * W), (place // W) % H
        corner = (xp.where(place < N * H * W, n, 0) * (H + k - 1) + row) * (W + k - 1) + column
        patch = [corner + dy * (W + k - 1) + dx for dy in range(k) for dx in range(k)]
        patches = xp.take(xp.reshape(padded, (-1, C)), xp.reshape(xp.stack(patch, axis=-1), (-1,)), axis=0)
        products = xp.astype(xp.reshape(patches, (-1, k * k * C)), matrix.dtype) @ matrix
        return xp.reshape(library.put(N * H * W, place, products), (N, H, W, -1))

    matrix = np.ascontiguousarray(weight.reshape(weight.shape[0], -1).T)
    return library.staged(lambda x: [xp.sum(active(x))], run, library.backend.from_numpy(matrix))


def blocks(library: Library, weight: Floats) -> Convolution:
    """Convolutions of the blocks with a spike in reach, and of the channels with a spike anywhere."""
    xp, k = library.xp, weight.shape[1]
    margin = k // 2

    def active(x: Any) -> Any:
        """Blocks (N, down, across) of outputs."""
        seen = near(xp, xp.any(x, axis=-1), k)
        N, H, W = seen.shape
        down, across = -(-H // SIDE), -(-W // SIDE)
        whole = pad(xp, seen, border((0, down * SIDE - H), (0, across * SIDE - W)))
        return xp.any(xp.any(xp.reshape(whole, (N, down, SIDE, across, SIDE)), axis=4), axis=2)

    def live(x: Any) -> Any:
        return xp.any(xp.reshape(x, (-1, x.shape[-1])), axis=0)

    def run(sizes: Sequence[int], x: Any, weight: Any) -> Any:
        N, H, W, C = x.shape
        mask = active(x)
        down, across = mask.shape[1:]
        block, channel = library.locate(xp.reshape(mask, (-1,)), sizes[0]), library.locate(live(x), sizes[-1])
        found = block < N * down * across
        n = xp.where(found, block // (down * across), 0)
        top, left = (block // across) % down * SIDE, block % across * SIDE
        padded = pad(xp, x, border((margin, margin + down * SIDE - H), (margin, margin + across * SIDE - W)))
        pixel = n[:, None, None] * padded.shape[1] + top[:, None, None] + xp.arange(SIDE + 2 * margin)[:, None]
        pixel = pixel * padded.shape[2] + left[:, None, None] + xp.arange(SIDE + 2 * margin)
        part = xp.take(xp.reshape(padded, (-1, C)), xp.reshape(pixel, (-1,)), axis=0)
        if channel.shape[0] < C:
            real = channel < C
            channel = xp.where(real, channel, 0)
            part = xp.take(part, channel, axis=1)
            weight = xp.take(weight, channel, axis=3) * xp.astype(real, weight.dtype)
        currents = library.conv(xp.reshape(part, (*pixel.shape, -1)), weight, border((0, 0), (0, 0)))
        row, column = top[:, None, None] + xp.arange(SIDE)[:, None], left[:, None, None] + xp.arange(SIDE)
        inside = found[:, None, None] & (row < H) & (column < W)
        at = xp.where(inside, (n[:, None, None] * H + row) * W + column, N * H * W)
        out = library.put(N * H * W, xp.reshape(at, (-1,)), xp.reshape(currents, (-1, weight.shape[0])))
        return xp.reshape(out, (N, H, W, -1))

    return library.staged(lambda x: [xp.sum(active(x)), xp.sum(live(x))], run, library.backend.from_numpy(weight))


def table(library: Library, weight: Floats) -> Convolution:
    """Packed bits choose partial sums: of each kernel row where channels are few, else of eight channels at each tap."""
    xp, k = library.xp, weight.shape[1]

    def row_codes(x: Any) -> Any:
        padded = pad(xp, x, same(k))
        code = xp.zeros((*padded.shape[:2], x.shape[2]), dtype=xp.int32)
        for dx in range(k):
            for c in range(x.shape[3]):
                code = 2 * code + xp.astype(padded[:, :, dx : dx + x.shape[2], c], xp.int32)
        size = 1 << (k * x.shape[3])
        return xp.stack([code[:, dy : dy + x.shape[1], :] + dy * size for dy in range(k)], axis=-1)

    def byte_codes(x: Any) -> Any:
        N, H, W, C = x.shape
        groups = -(-C // BYTE)
        if C % BYTE:
            x = xp.concat([x, xp.zeros((N, H, W, groups * BYTE - C), dtype=x.dtype)], axis=-1)
        bits = xp.astype(xp.reshape(pad(xp, x, same(k)), (N, H + k - 1, W + k - 1, groups, BYTE)), xp.int32)
        code = bits[..., 0]
        for bit in range(1, BYTE):
            code = 2 * code + bits[..., bit]
        near = [code[:, dy : dy + H, dx : dx + W, g] for g in range(groups) for dy in range(k) for dx in range(k)]
        return xp.stack([at + n * (1 << BYTE) for n, at in enumerate(near)], axis=-1)

    def run(sizes: Sequence[int], x: Any, sums: Any) -> Any:
        codes = row_codes(x) if is_narrow(weight) else byte_codes(x)
        out = library.look_up(sums, xp.reshape(codes, (-1, codes.shape[-1])))
        return xp.reshape(out, (*x.shape[:3], -1))

    tables = row_tables(weight) if is_narrow(weight) else byte_tables(weight)
    return library.staged(lambda x: [], run, library.backend.from_numpy(tables))


def frames(library: Library, weight: Floats) -> Convolution:
    """A dense convolution of the frames with a spike."""
    xp, k = library.xp, weight.shape[1]

    def active(x: Any) -> Any:
        return xp.any(xp.reshape(x, (x.shape[0], -1)), axis=1)

    def run(sizes: Sequence[int], x: Any, weight: Any) -> Any:
        N, H, W, _ = x.shape
        frame = library.locate(active(x), sizes[0])
        chosen = xp.take(x, xp.where(frame < N, frame, 0), axis=0)
        currents = library.conv(chosen, weight, same(k))
        out = library.put(N, frame, xp.reshape(currents, (frame.shape[0], -1)))
        return xp.reshape(out, (N, H, W, -1))

    return library.staged(lambda x: [xp.sum(active(x))], run, library.backend.from_numpy(weight))


def near(xp: Any, active: Any, k: int) -> Any:
    """Places (N, H, W) with an active one under a kernel of side k."""
    H, W = active.shape[1:]
    padded = pad(xp, active, same(k))
    found = padded[:, :H, :]
    for dy in range(1, k):
        found = found | padded[:, dy : dy + H, :]
    seen = found[:, :, :W]
    for dx in range(1, k):
        seen = seen | found[:, :, dx : dx + W]
    return seen


def border(rows: tuple[int, int], columns: tuple[int, int]) -> Window:
    """A window that only pads."""
    return Window((1, 1), (rows, columns), (1, 1), 1)


def same(k: int) -> Window:
    """A window that keeps the shape under a kernel of side k."""
    return border((k // 2, k // 2), (k // 2, k // 2))


def by_tap(weight: Floats) -> Floats:
    """(C_out, k, k, C_in) as (k * k, C_in, C_out)."""
    width, k, _, channels = weight.shape
    return np.ascontiguousarray(weight.transpose(1, 2, 3, 0).reshape(k * k, channels, width))
