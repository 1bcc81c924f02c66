"""Gram matrices of the frames: the one pass over the spikes that `advise` makes.

For every sample and every pooling scale the frames are reduced to their T x T matrix of scalar products, on the array's own
device; all that follows is small and runs in double precision on the host. Beforehand each pixel is divided by
``sqrt(e + mean e)``, e being its mean square over time, so that one hot pixel can't drown the others; this does not depend
on the order of the frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from operator import add
from typing import Any

from .._backend.dispatch import get_backend
from .._backend.protocol import Array, Backend
from .motion import displaced_products, padded
from .products import gram_matrix

__all__ = ["LONGEST", "POOLS", "SIDE", "Plan", "grams", "namespace_of"]

POOLS = ("pixel", "neighbourhood", "frame")
"""Pooling scales: none; 4 x 4 pixels (16 in one dimension); the whole frame. Channels are never pooled."""

SIDE = {1: 16, 2: 4, 3: 4}
WORK = 2**21
"""Numbers that are looked at at once."""
LONGEST = 2**23
"""Numbers of one sample above which only some of its rows are looked at."""


@dataclass(frozen=True)
class Plan:
    """Which part of the input is looked at: the samples, their rows, and how time is grouped."""

    samples: list[int]
    starts: list[int]
    """First frame of each sample's window."""
    frames: int
    """Length of the window."""
    group: int
    """Frames that are summed to one."""
    rows: Sequence[int] | None
    """First rows of the bands of `side` rows; None for all rows."""


def grams(backend: Backend, spikes: Array, plan: Plan) -> tuple[Any, Any, Any]:
    """Gram matrices of centred frames, with the mean frame as one more row.

    Parameters
    ----------
    backend : Backend
    spikes : array, shape (T, B, *S, C)
        One to three spatial dimensions.
    plan : Plan

    Returns
    -------
    gram : numpy.ndarray, shape (3, n, L + 1, L + 1), float64
        For `POOLS`, n samples and ``L = frames // group``. With y the weighted and pooled frames, m their mean and
        ``c_L = m``, ``c_t = y_t - m``: entry (s, t) is the scalar product of c_s and c_t.
    noise : numpy.ndarray, shape (n,), float64
        Variance of ``sum_t sum_{i != j} c_ti c_tj``, i and j pixels of one neighbourhood, over permutations of every
        pixel's frames by itself: ``2 sum_{i != j} v_i v_j / (L - 1)`` with ``v_i = sum_t c_ti^2``.
    displaced : numpy.ndarray, shape (D, n, L, L), float32
        Scalar products of single pixels' c_s and displaced c_t: `displaced_products`. D is 0 where frames are grouped.
    """
    parts = _parts(backend.namespace(spikes), spikes, plan)
    measure = _measure(backend, _space(spikes, plan), plan.group == 1)
    host = [[backend.to_numpy(array) for array in measure(part)] for part in parts]
    np = namespace_of(host[0][0])
    gram = _centre(np, np.concatenate([np.stack(part[:3]) for part in host], axis=1).astype(np.float64))
    noise = np.concatenate([part[3] for part in host]).astype(np.float64)
    return gram, noise, np.concatenate([part[4] for part in host], axis=1)


LEAST = 1e-12
"""Share of the mean frame's energy that rounding may leave where sums of pixels don't vary."""


def _centre(np: Any, gram: Any) -> Any:
    """Centre frames in double precision: pixels are centred, but their sums have a part in common by rounding."""
    frames, last = gram[:, :, :-1, :-1], gram[:, :, -1, :-1]
    frames = frames - frames.mean(axis=2, keepdims=True)
    frames -= frames.mean(axis=3, keepdims=True)
    last = last - last.mean(axis=2, keepdims=True)
    energy = np.einsum("snii->sn", frames) / frames.shape[2]
    varies = energy > LEAST * gram[:, :, -1, -1]
    gram[:, :, :-1, :-1] = frames * varies[:, :, None, None]
    gram[:, :, -1, :-1] = gram[:, :, :-1, -1] = last * varies[:, :, None]
    return gram


def _parts(xp: Any, spikes: Array, plan: Plan) -> Iterator[Array]:
    """Float32 frames (L, m, *S, C) of a few samples at a time, copied; `padded` if they are not grouped."""
    T = plan.frames - plan.frames % plan.group
    together = max(1, WORK // (T * math.prod(_space(spikes, plan)) * spikes.shape[-1]))
    for first in range(0, len(plan.samples), together):
        samples, starts = (part[first : first + together] for part in (plan.samples, plan.starts))
        b, start, m = samples[0], starts[0], len(samples)
        if samples == list(range(b, b + m)) and starts == [start] * m:
            frames = [_rows(xp, spikes[start : start + T, b : b + m, ...], plan)]
        else:
            pairs = zip(samples, starts, strict=True)
            frames = [_rows(xp, spikes[start : start + T, b : b + 1, ...], plan) for b, start in pairs]
        x = frames[0] if len(frames) == 1 else xp.concat(frames, axis=1)
        if plan.group > 1:
            x = xp.reshape(xp.astype(x, xp.float32), (T // plan.group, plan.group, *x.shape[1:]))
            yield xp.sum(x, axis=1)
        else:
            wide = padded(xp, x)
            yield wide if wide is not x and wide.dtype == xp.float32 else xp.astype(wide, xp.float32)


def _space(spikes: Array, plan: Plan) -> tuple[int, ...]:
    """Height and so on of what is looked at."""
    rows, *rest = spikes.shape[2:-1]
    return (rows if plan.rows is None else len(plan.rows) * SIDE[1 + len(rest)], *rest)


def _rows(xp: Any, x: Array, plan: Plan) -> Array:
    if plan.rows is None:
        return x
    side = SIDE[x.ndim - 3]
    return xp.concat([x[:, :, row : row + side, ...] for row in plan.rows], axis=2)


@lru_cache(64)
def _measure(backend: Backend, space: tuple[int, ...], displace: bool) -> Callable[[Array], list[Array]]:
    """`_grams`, compiled where that is usual: else each of its operations would be compiled by itself."""
    function = partial(_grams, backend, space, displace)
    return backend.compile(function) if backend.compiles_fast else function


def _grams(backend: Backend, space: tuple[int, ...], displace: bool, x: Array) -> list[Array]:
    """Frames (L, m, *S, C) to three arrays (m, L + 1, L + 1), one (m,) and one (D, m, L, L).

    Parameters
    ----------
    backend : Backend
    space : tuple of int
        Height and so on.
    displace : bool
        Whether frames are to be displaced: they are `padded` then.
    x : array
        To be overwritten. On a CPU half of the cost would be memory that the system must hand out, so few arrays of this
        size are made.
    """
    xp = backend.namespace(x)
    T = x.shape[0]
    pixels = tuple(range(2, x.ndim))
    energy = xp.sum(x * x, axis=0, keepdims=True) / T
    active = xp.sum(xp.astype(energy > 0.0, xp.float32), axis=pixels, keepdims=True)
    mean = xp.sum(energy, axis=pixels, keepdims=True) / xp.maximum(active, xp.ones_like(active))
    scale = energy + mean
    scale = xp.where(scale > 0.0, scale, xp.ones_like(scale))
    x *= scale**-0.5
    middle = xp.sum(x, axis=0, keepdims=True) / T
    x -= middle
    inside = (slice(None), slice(None), *(slice(n) for n in space), ...)
    spread = xp.maximum(energy / scale - middle * middle, xp.zeros_like(energy))[inside] * T
    pooled = _pool(xp, xp.concat([middle[inside], spread], axis=0))
    together = pooled[1:, ...]
    noise = xp.sum(together * together, axis=pixels) - xp.sum(spread * spread, axis=pixels)
    neighbourhoods = [_pool(xp, x[inside]), pooled[:1, ...]]
    frames = [_whole(xp, part) for part in neighbourhoods]
    rows = [[_by_sample(xp, part) for part in pair] for pair in ((x, middle), neighbourhoods, frames)]
    displaced = displaced_products(xp, rows[0][0], space if displace else (), x.shape[-1])
    return [*(gram_matrix(xp, *pair) for pair in rows), noise[0, :] * (2.0 / max(T - 1, 1)), displaced]


def _by_sample(xp: Any, frames: Array) -> Array:
    """Frames (L, m, ...) to rows (m, L, N)."""
    return xp.permute_dims(xp.reshape(frames, (*frames.shape[:2], -1)), (1, 0, 2))


def _pool(xp: Any, y: Array) -> Array:
    """Sum over blocks of `SIDE` pixels along every spatial axis."""
    side = SIDE[y.ndim - 3]
    for axis in range(2, y.ndim - 1):
        short = -y.shape[axis] % side
        if short:
            nothing = xp.zeros_like(y[(slice(None),) * axis + (slice(0, 1), ...)])  # like: on the input's own device
            y = xp.concat([y, *[nothing] * short], axis=axis)
        shape = [*y.shape]
        shape[axis : axis + 1] = [shape[axis] // side, side]
        y = xp.reshape(y, tuple(shape))
        before = (slice(None),) * (axis + 1)
        y = reduce(add, [y[(*before, i, ...)] for i in range(side)])  # faster than sum over a short axis
    return y


def _whole(xp: Any, y: Array) -> Array:
    """Sum over all spatial axes, one by one: faster than at once, where the last axis is short."""
    for _ in range(y.ndim - 3):
        y = xp.sum(y, axis=2)
    return y


def namespace_of(array: Any) -> Any:
    """NumPy, whose arrays `Backend.to_numpy` returns; the core does not import it."""
    return get_backend("numpy").namespace(array)
