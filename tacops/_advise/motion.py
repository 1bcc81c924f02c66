"""Motion of fine patterns: products of frames that follow each other, one of them displaced.

A texture of single pixels that moves keeps the rate of every pixel and of every neighbourhood, so sums of frames don't
show it. But a frame and the next one, displaced by as much as the texture moved, agree. For every displacement d within a
radius, ``P_d(s, t) = sum_p c_s(p) c_t(p + d)`` of the centred frames; of the frames in the order given,
``S_d = sum_t P_d(t, t + 1)``. Its distribution, if frames are draws of one rate, is the one over permutations of whole
frames, whatever correlation there is within a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from .._backend.protocol import Array
from .orders import Orders, following
from .products import products

__all__ = ["RADIUS", "Agreement", "agreement", "displaced_products", "displacements", "padded"]

RADIUS = {0: 0, 1: 8, 2: 2, 3: 1}
"""Pixels along every axis by which frames are displaced at most, by the number of spatial dimensions."""


NUMBERS = 2**16
"""Of samples with more numbers only every so many-th channel is displaced: all channels move alike."""


@lru_cache(64)
def displacements(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Half of all displacements within frames of this shape, none if it is empty; the others are their opposites."""
    radius = RADIUS[len(shape)]
    axes = [range(-min(radius, n - 1), min(radius, n - 1) + 1) for n in shape]
    return tuple(d for d in product(*axes) if d > (0,) * len(shape))


def padded(xp: Any, y: Array) -> Array:
    """Frames (T, m, *S, C) with silence behind every row, so that a displaced pixel never meets another row's."""
    radius = RADIUS[y.ndim - 3]
    for axis in range(3, y.ndim - 1):
        nothing = xp.zeros_like(y[(slice(None),) * axis + (slice(0, 1), ...)])  # like: on the input's own device
        y = xp.concat([y, *[nothing] * min(radius, y.shape[axis] - 1)], axis=axis)
    return y


def displaced_products(xp: Any, rows: Array, shape: Sequence[int], channels: int) -> Array:
    """``P_d`` of `displacements`, d first: (D, m, T, T), for all channels even where not all are looked at.

    Parameters
    ----------
    xp : namespace
    rows : array, shape (m, T, N)
        Centred frames, `padded` and then flattened: a displacement is an offset into them.
    shape : sequence of int
        Height and so on, before padding.
    channels : int
    """
    m, T, N = rows.shape
    step = min(channels, -(-T * N // NUMBERS))
    if step > 1:
        rows = xp.reshape(xp.reshape(rows, (m, T, N // channels, channels))[..., ::step], (m, T, -1))
    kept = -(-channels // step)
    radius, strides = RADIUS[len(shape)], [kept]
    for n in reversed(shape[1:]):
        strides.insert(0, strides[0] * (n + min(radius, n - 1)))
    found = []
    for d in displacements(tuple(shape)):
        offset = sum(n * stride for n, stride in zip(d, strides, strict=True))
        found.append(products(xp, rows[..., : rows.shape[2] - offset], rows[..., offset:]))
    if not found:
        return xp.zeros_like(rows[None, :, :, :1])[:0, ...]
    return xp.stack(found) * (channels / kept)


@dataclass(frozen=True)
class Agreement:
    """How well frames agree with displaced ones, of every order and every sample."""

    table: Any
    """(n, orders): sum over displacements of the squares of agreement above its mean, in standard deviations."""
    excess: Any
    """(n,): mean product of frames that follow each other, displaced the best way, above what the best way gives in another order."""
    spread: Any
    """(n,): standard deviation over orders of that product for one displacement."""
    fine: bool
    """Whether frames agree better with the next one, displaced, than pixels do with their neighbours in the same frame.

    Else the pattern is wider than a pixel, and sums over neighbourhoods follow it.
    """


def agreement(np: Any, displaced: Any, orders: Orders) -> Agreement | None:
    """Compare the order observed, which is the first one, with others.

    Parameters
    ----------
    np : namespace
        NumPy.
    displaced : numpy.ndarray, shape (D, n, T, T)
    orders : Orders

    Returns
    -------
    Agreement or None
        None if frames are too small to be displaced.
    """
    half, n, T, _ = displaced.shape
    if half == 0:
        return None
    both = np.concatenate([displaced, displaced.swapaxes(2, 3)]).reshape(2 * half * n, T * T)
    sums = (both.astype(np.float32, copy=False) @ following(np, orders).T).reshape(2 * half, n, len(orders.places))
    above = sums - sums.mean(axis=2, keepdims=True)
    variance = (above**2).mean(axis=2)
    scale = np.sqrt(variance + variance.mean(axis=1, keepdims=True))  # one sample of few spikes can't drown the others
    score = np.maximum(above / np.where(scale > 0, scale, np.inf)[..., None], 0)
    table = (score**2).sum(axis=0)
    best = above.max(axis=0) / (T - 1)
    excess = (best[:, 0] - best.mean(axis=1)).astype(np.float64)
    same = displaced.diagonal(axis1=2, axis2=3).sum(axis=2)
    same = (same / T - (displaced.sum(axis=(2, 3)) - same) / (T * (T - 1))).sum(axis=1).max()
    return Agreement(table, excess, np.sqrt(variance.mean(axis=0)) / (T - 1), bool(excess.sum() > same))
