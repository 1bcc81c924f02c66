"""Chunks of time and the weights that aggregate them.

A chunk is K consecutive frames; only the last may be shorter (K_c frames). Its frames become one,
``sum_k a_k x_k``, before the convolution: linearity makes the two orders equal, and K convolutions become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, repeat
from operator import mul
from typing import Any, NamedTuple, Protocol, TypeAlias

from .._backend.dispatch import backend_of, undisturbed
from .._backend.protocol import Array, Backend, sum_dtype
from .._backend.whole import Whole
from .checks import check_aggregation, check_count, check_decay, check_frames, is_array
from .rules import RULES

__all__ = [
    "Sums",
    "Weights",
    "aggregate",
    "cast",
    "chunk_weights",
    "decay_power",
    "is_one",
    "merge_chunks",
    "segments",
    "shares",
    "widen",
]

Weights: TypeAlias = Sequence[float | Array]
"""K numbers, 0-d arrays or, where every output channel has a decay of its own, arrays of shape (C_out,)."""


class Sums(Protocol):
    """The functions of arrays that aggregation takes; a backend has them."""

    def namespace(self, array: Array) -> Any:
        """The Array API namespace of `array`."""

    def weighted_sum(self, x: Array, weights: Weights, dtype: Any) -> Array:
        """``sum_k weights[k] * x[:, k]``."""


class Segment(NamedTuple):
    """Frames ``start:stop``, a whole number of chunks of `size` frames each."""

    start: int
    stop: int
    size: int


def segments(T: int, chunk_size: int) -> list[Segment]:
    """Split T frames into the full chunks and, where K does not divide T, one shorter chunk.

    Examples
    --------
    >>> [tuple(s) for s in segments(11, 4)]
    [(0, 8, 4), (8, 11, 3)]
    """
    full = T - T % chunk_size
    whole = [Segment(0, full, chunk_size)] if full > 0 else []
    return [*whole, Segment(full, T, T - full)] if full < T else whole


def decay_power(beta: float | Array, exponent: int) -> float | Array:
    """``beta ** exponent`` by repeated squaring, which unlike `pow` rounds the same in every library and libm."""
    power: float | Array = 1.0
    while exponent:
        if exponent % 2:
            power = power * beta
        exponent //= 2
        if exponent:
            beta = beta * beta
    return power


def chunk_weights(aggregation: str | Weights, size: int, beta: float | Array) -> Weights:
    """Aggregation weights a_0 .. a_{size-1} of a chunk of `size` frames.

    A shorter chunk uses the last `size` of the weights that are given, as it uses the last powers of beta: in both, the
    chunk's last frame is weighted alike.
    """
    if not isinstance(aggregation, str):
        return aggregation[len(aggregation) - size :]
    rule = RULES[aggregation]
    if rule.whole or size == 1:
        return [1.0] * size
    if not rule.decays:
        return [1.0 / size] * size
    one = 1.0 if isinstance(beta, float) else beta * 0.0 + 1.0
    powers = list(accumulate(repeat(beta, size - 1), mul, initial=one))[::-1]
    return shares(powers) if rule.shared else powers


def shares(weights: Weights) -> Weights:
    """Weights divided by their sum."""
    total = sum(weights[1:], weights[0])
    return [weight / total for weight in weights]


def widen(backend: Backend, value: Any) -> Any:
    """An array, or a tuple of arrays, in the dtype in which its numbers are summed; floats and names as they are."""
    if isinstance(value, tuple):
        return tuple(widen(backend, v) for v in value)
    if not is_array(value):
        return value
    xp = backend.namespace(value)
    return cast(xp, value, sum_dtype(xp, value.dtype))


def cast(xp: Any, x: Array, dtype: Any) -> Array:
    """`x` with this dtype, itself if it has it."""
    return x if x.dtype == dtype else xp.astype(x, dtype)


def is_one(weights: Weights) -> bool:
    """Whether chunks are single frames that stay as they are."""
    return len(weights) == 1 and isinstance(weights[0], float) and weights[0] == 1.0


def merge_chunks(sums: Sums, x: Array, weights: Weights, dtype: Any) -> Array:
    """Weighted sum of every chunk, (n * K, ...) to (n, ...) for K = ``len(weights)``; single frames of weight 1 as they are."""
    if is_one(weights):
        return x
    xp, size = sums.namespace(x), len(weights)
    return sums.weighted_sum(xp.reshape(x, (x.shape[0] // size, size, *x.shape[1:])), weights, dtype)


@undisturbed
def aggregate(x: Array, chunk_size: int, *, aggregation: str | Array = "decay", beta: float | Array = 0.9) -> Array:
    r"""Sum the frames of every chunk with weights.

    .. math:: y_c = \sum_{k=0}^{K_c - 1} a_k \, x_{cK + k}

    Parameters
    ----------
    x : array, shape (T, ...)
        Real floating point.
    chunk_size : int
        K, at least 1. The last chunk holds the remaining ``K_c <= K`` frames.
    aggregation : {"decay", "normalized_decay", "sum", "mean"} or array of shape (K,)
        The weights :math:`a_k`: :math:`\beta^{K_c-1-k}`; the same divided by their sum; 1; 1/K_c; or given, in which
        case a shorter last chunk uses the last K_c of them.
    beta : float or 0-d array, in [0, 1]
        Decay of the membrane per frame.

    Returns
    -------
    array, shape (ceil(T / K), ...)
        With `x`'s dtype.

    Raises
    ------
    TypeError, ValueError
        For arguments outside the rules above.

    References
    ----------
    Temporal Aggregated Convolution, arXiv:2603.13810.

    Examples
    --------
    >>> import numpy as np
    >>> aggregate(np.array([1.0, 0.0, 1.0, 1.0, 0.0]), 2, beta=0.5)
    array([0.5, 1.5, 0. ])
    """
    backend = backend_of(x, function="aggregate", names=("x",))
    xp = backend.namespace(x)
    check_frames("aggregate", xp, x)
    chunk_size = check_count("aggregate", "chunk_size", chunk_size)
    beta = check_decay("aggregate", backend, x, "beta", beta, channels=1)
    aggregation = check_aggregation("aggregate", backend, x, aggregation, chunk_size)
    backend.check_time("aggregate", x.shape[0], chunk_size, True)
    chunks = Chunks(backend, chunk_size, aggregation, beta)
    if not backend.blockwise:
        return _aggregate(chunks, x)
    whole = Whole(_aggregate, chunks, "aggregate", "x", x.dtype, chunk_size, chunks.frames, {}, None, 0)
    return backend.run_blocks(whole, x, None, None)


@dataclass(frozen=True)
class Chunks:
    """How frames are aggregated, validated."""

    backend: Backend
    size: int
    aggregation: str | Weights
    beta: float | Array

    @property
    def values(self) -> tuple[float | Array, ...]:
        """What may be arrays."""
        return (self.beta, *(() if isinstance(self.aggregation, str) else self.aggregation))

    def at(self, backend: Backend, values: tuple[Any, ...], padding: Any) -> Chunks:
        """The same in another library: `Described.at`."""
        beta, *weights = values
        return replace(self, backend=backend, beta=beta, aggregation=tuple(weights) or self.aggregation)

    def frames(self, count: int) -> int:
        """Frames of the result for `count` frames."""
        return -(-count // self.size)


def _aggregate(chunks: Chunks, x: Array, *_: Any) -> Array:
    backend, xp = chunks.backend, chunks.backend.namespace(x)
    aggregation, beta = widen(backend, chunks.aggregation), widen(backend, chunks.beta)
    parts = [
        merge_chunks(backend, x[start:stop, ...], chunk_weights(aggregation, size, beta), x.dtype)
        for start, stop, size in segments(x.shape[0], chunks.size)
    ]
    # a copy: frames that stay as they are would be a view of the caller's array
    return xp.astype(parts[0], x.dtype) if len(parts) == 1 else xp.concat(parts, axis=0)
