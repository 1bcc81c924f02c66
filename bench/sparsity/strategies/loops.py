"""NumPy's sparse strategies as loops that Numba compiles.

All take frames ``x (N, H, W, C)`` of 0 and 1 as uint8, contiguous, for an odd square kernel of side k, stride 1 and a
border of k // 2 zeros. Inner loops run over contiguous output channels, which LLVM vectorises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = [
    "active_rows",
    "gather_rows",
    "list_patches",
    "look_up_bytes",
    "look_up_rows",
    "scatter",
    "skip_blocks",
    "spread_rows",
]


def _compile(function: Callable[..., Any], *, parallel: bool) -> Any:
    """Compile at the first call, and keep the result on disk where that is possible."""
    try:
        return numba.njit(parallel=parallel, nogil=True, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return numba.njit(parallel=parallel, nogil=True)(function)


def _parallel(function: Callable[..., Any]) -> Any:
    """On all cores where it says `prange`."""
    return _compile(function, parallel=True)


def _serial(function: Callable[..., Any]) -> Any:
    """Without Python's lock, for threads of ours."""
    return _compile(function, parallel=False)


@_parallel
def scatter(x: Any, words: Any, weight: Any, out: Any) -> None:
    """Add every spike's kernel patch to the output.

    Parameters
    ----------
    x : array, shape (N, H, W, C)
    words : array of uint64, shape (N, H * W * C // 8)
        The same memory: eight silent inputs are passed by at once. Width 0 where frames are no whole words.
    weight : array, shape (k, C, k * C_out)
        For kernel row and input channel the kernel's columns in reverse, which are neighbours in the output.
    out : array, shape (N, H, W * C_out)
    """
    N, H, W, C = x.shape
    k, width = weight.shape[0], out.shape[2] // W
    half, sites = k // 2, H * W * C
    flat = x.reshape(N, sites)
    for n in numba.prange(N):
        out[n] = 0.0
        for group in range((sites + 7) // 8):
            if words.shape[1] and words[n, group] == 0:
                continue
            for site in range(8 * group, min(8 * group + 8, sites)):
                if flat[n, site]:
                    place, c = divmod(site, C)
                    row, column = divmod(place, W)
                    low, high = max(0, column - half), min(W, column + half + 1)
                    skip = (low - column + half) * width
                    for dy in range(max(0, row + half - H + 1), min(k, row + half + 1)):
                        target = out[n, row + half - dy, low * width : high * width]
                        patch = weight[dy, c, skip : skip + (high - low) * width]
                        for o in range(target.size):
                            target[o] += patch[o]


@_serial
def active_rows(x: Any, k: int, rows: Any) -> int:
    """List the output places (n * H + y) * W + x whose patch holds a spike; their number is returned.

    Separable: any over channels and columns in one pass, over rows in a second.
    """
    N, H, W, C = x.shape
    half, count = k // 2, 0
    near = np.empty((H, W), np.bool_)
    live = np.empty(W, np.bool_)
    for n in range(N):
        for y in range(H):
            for column in range(W):
                total = 0
                for c in range(C):
                    total |= x[n, y, column, c]
                live[column] = total != 0
            for column in range(W):
                found = False
                for other in range(max(0, column - half), min(W, column + half + 1)):
                    found |= live[other]
                near[y, column] = found
        for y in range(H):
            for column in range(W):
                found = False
                for other in range(max(0, y - half), min(H, y + half + 1)):
                    found |= near[other, column]
                if found:
                    rows[count] = (n * H + y) * W + column
                    count += 1
    return count


@_serial
def gather_rows(x: Any, k: int, rows: Any, patches: Any) -> None:
    """Copy the patches of the listed places to (len(rows), k, k * C), as floats."""
    N, H, W, C = x.shape
    half = k // 2
    lines = x.reshape(N * H, W * C)
    for i in range(rows.size):
        line, column = divmod(rows[i], W)
        row = line % H
        low, high = max(0, column - half), min(W, column + half + 1)
        start, skip = low * C, (low - column + half) * C
        if high - low < k or row < half or row >= H - half:
            patches[i] = 0.0
        for dy in range(max(0, half - row), min(k, H + half - row)):
            for at in range((high - low) * C):
                patches[i, dy, skip + at] = lines[line + dy - half, start + at]


@_serial
def spread_rows(rows: Any, products: Any, out: Any) -> None:
    """Write the products to their places of (places, C_out), and zeros between them."""
    start = 0
    for i in range(rows.size):
        out[start : rows[i]] = 0.0
        out[rows[i]] = products[i]
        start = rows[i] + 1
    out[start:] = 0.0


@_serial
def list_patches(x: Any, k: int, starts: Any, indices: Any) -> int:
    """Index the unfolded frames as a CSR matrix (N * H * W, k * k * C): row starts and column indices.

    Returns the number of entries.
    """
    N, H, W, C = x.shape
    half, count, place = k // 2, 0, 0
    active = np.empty((H, W, C), np.int32)  # each pixel's active channels, and how many
    many = np.empty((H, W), np.int32)
    for n in range(N):
        for y in range(H):
            for column in range(W):
                m = 0
                for c in range(C):
                    active[y, column, m] = c
                    m += x[n, y, column, c]
                many[y, column] = m
        for row in range(H):
            for column in range(W):
                starts[place] = count
                place += 1
                for dy in range(max(0, half - row), min(k, H + half - row)):
                    y = row + dy - half
                    for dx in range(max(0, half - column), min(k, W + half - column)):
                        other = column + dx - half
                        base = (dy * k + dx) * C
                        for i in range(many[y, other]):
                            indices[count + i] = base + active[y, other, i]
                        count += many[y, other]
    starts[place] = count
    return count


@_parallel
def skip_blocks(x: Any, weight: Any, side: int, out: Any) -> None:
    """Unfold and multiply block by block: only blocks with a spike in reach, and of those only channels with a spike.

    Parameters
    ----------
    x : array, shape (N, H, W, C)
    weight : array, shape (k * k, C, C_out)
    side : int
        Of a block of outputs.
    out : array, shape (N, H, W, C_out)
    """
    N, H, W, C = x.shape
    k, width = round(weight.shape[0] ** 0.5), weight.shape[2]
    half = k // 2
    for n in numba.prange(N):
        seen = np.empty(C, np.uint8)
        live = np.empty(C, np.int64)
        matrix = np.empty(k * k * C * width, np.float32)
        input_block = np.empty((side + k - 1) * (side + k - 1) * C, np.float32)
        columns = np.empty(side * side * k * k * C, np.float32)
        product = np.empty((side * side, width), np.float32)
        before = np.zeros(C, np.uint8)
        for top in range(0, H, side):
            for left in range(0, W, side):
                bottom, right = min(H, top + side), min(W, left + side)
                _live_channels(x[n], top - half, bottom + half, left - half, right + half, seen)
                m = 0
                for c in range(C):
                    live[m] = c
                    m += seen[c]
                if m == 0:
                    out[n, top:bottom, left:right] = 0.0
                    continue
                rows, reach = (bottom - top) * (right - left), right - left + k - 1
                near = input_block[: (bottom - top + k - 1) * reach * m].reshape(bottom - top + k - 1, reach * m)
                _pick_channels(x[n], top - half, left - half, live[:m], near)
                flat = columns[: rows * k * k * m].reshape(rows, k, k * m)
                r = 0
                for y in range(bottom - top):
                    for column in range(right - left):
                        for dy in range(k):
                            flat[r, dy] = near[y + dy, column * m : (column + k) * m]
                        r += 1
                chosen = matrix[: k * k * m * width].reshape(k * k, m, width)
                if np.any(before != seen):
                    for tap in range(k * k):
                        for i in range(m):
                            chosen[tap, i] = weight[tap, live[i]]
                    before[:] = seen
                done = product[:rows]
                np.dot(flat.reshape(rows, k * k * m), chosen.reshape(k * k * m, width), done)
                out[n, top:bottom, left:right] = done.reshape(bottom - top, right - left, width)


@_serial
def _live_channels(frame: Any, top: int, bottom: int, left: int, right: int, seen: Any) -> None:
    H, W, C = frame.shape
    seen[:] = 0
    for y in range(max(0, top), min(H, bottom)):
        for column in range(max(0, left), min(W, right)):
            for c in range(C):
                seen[c] |= frame[y, column, c]


@_serial
def _pick_channels(frame: Any, top: int, left: int, live: Any, near: Any) -> None:
    """Copy the channels of a region, as floats, with zeros beyond the frame."""
    H, W, C = frame.shape
    m = live.size
    for i in range(near.shape[0]):
        y = top + i
        if y < 0 or y >= H:
            near[i] = 0.0
            continue
        for j in range(near.shape[1] // m):
            column = left + j
            if column < 0 or column >= W:
                near[i, j * m : (j + 1) * m] = 0.0
            elif m == C:
                for c in range(C):
                    near[i, j * m + c] = frame[y, column, c]
            else:
                for c in range(m):
                    near[i, j * m + c] = frame[y, column, live[c]]


@_parallel
def look_up_rows(x: Any, table: Any, out: Any) -> None:
    """Few channels: the 3 * C bits of each of the patch's three rows choose a partial sum.

    Parameters
    ----------
    x : array, shape (N, H, W, C)
    table : array, shape (3 * 2 ** (3 * C), C_out)
        By kernel row, bits (the left pixel's first channel is the highest) and output channel.
    out : array, shape (N, H, W, C_out)
    """
    N, H, W, C = x.shape
    width = out.shape[3]
    size, mask = 1 << (3 * C), (1 << (3 * C)) - 1
    for n in numba.prange(N):
        codes = np.zeros((H + 2, W), np.int64)
        for y in range(H):
            code = 0
            for column in range(W + 1):
                for c in range(C):
                    code = 2 * code + (x[n, y, column, c] if column < W else 0)
                code &= mask
                if column:
                    codes[y + 1, column - 1] = code
        for y in range(H):
            for column in range(W):
                target = out[n, y, column]
                a, b, c = codes[y, column], codes[y + 1, column] + size, codes[y + 2, column] + 2 * size
                for o in range(width):
                    target[o] = table[a, o] + table[b, o] + table[c, o]


@_parallel
def look_up_bytes(codes: Any, table: Any, out: Any) -> None:
    """Many channels: every eight of them, at each of the nine taps, choose a partial sum.

    Parameters
    ----------
    codes : array of uint8, shape (N, H + 2, W + 2, G)
        Packed spikes in a border of zeros.
    table : array, shape (G * 9 * 256, C_out)
    out : array, shape (N, H, W, C_out)
    """
    N, H, W, width = out.shape
    for n in numba.prange(N):
        at = np.empty(9, np.int64)
        for y in range(H):
            for column in range(W):
                target = out[n, y, column]
                target[:] = 0.0
                for g in range(codes.shape[3]):
                    spikes, entry = 0, g * 9 * 256
                    for dy in range(3):
                        for dx in range(3):
                            code = codes[n, y + dy, column + dx, g]
                            spikes |= code
                            at[3 * dy + dx] = entry + code
                            entry += 256
                    if spikes == 0:
                        continue
                    a, b, c, d, e, f, h, i, j = at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8]
                    for o in range(width):
                        target[o] += (
                            (table[a, o] + table[b, o] + table[c, o])
                            + (table[d, o] + table[e, o] + table[f, o])
                            + (table[h, o] + table[i, o] + table[j, o])
                        )
