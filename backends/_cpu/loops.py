"""Loops that Numba compiles, where it is installed (``pip install 'tacops[numba]'``).

NumPy runs the LIF step as five to seven passes over arrays, each a call that fetches memory again and may wait for the
interpreter's lock; a compiled loop is one pass without the lock. Both compute in the core's order with one rounding per
operation (Numba contracts nothing unless asked to), so their results are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from tacops._backend.steps import Reset

from .threads import aside

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = ["VERSION", "count_off_grid", "hold", "load", "period", "sum_chunk"]

VERSION = numba.__version__
NONE, SUBTRACT, ZERO, LATE = int(Reset.NONE), int(Reset.SUBTRACT), int(Reset.ZERO), int(Reset.LATE)
BLOCK = 1024
"""Neurons that go through all frames of a chunk before the next do: their numbers stay in the closest cache."""


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    """Compile at the first call, for each combination of dtypes, and keep the result on disk where that is possible."""
    try:
        loop = numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        loop = numba.njit(nogil=True, **options)(function)
    # what Numba calls where it meets new types; Ctrl-C in it would leave Numba's lock taken
    loop._compile_for_args = partial(aside, loop._compile_for_args)
    return loop


def period(parameter: float | Array, channels: int, dtype: Any, size: int = BLOCK) -> Array:
    """Write a scalar, or a parameter per channel, out for about `size` neurons."""
    return np.tile(np.broadcast_to(np.asarray(parameter, dtype=dtype), (channels,)), max(1, size // channels))


@_compile
def hold(
    membrane: Any,
    current: Any,
    spikes: Any,
    first: int,
    last: int,
    start: int,
    decay: Any,
    threshold: Any,
    one: Any,
    fresh: bool,
    rounded: bool,
    reset: int,
) -> None:
    """Step n neurons, in place, through the frames ``first:last`` of `spikes` under one current.

    Parameters
    ----------
    membrane, current : array, shape (n,), contiguous
        Two arrays, unless the membrane is `fresh`.
    spikes : array, shape (T, N), contiguous, floating or bool
        Columns ``start : start + n`` are written.
    decay, threshold : array
        One `period` of parameters.
    one : scalar
        1 in the membrane's dtype: a literal would be double precision.
    fresh : bool
        The membrane, zero, has taken in the first current already.
    rounded : bool
    reset : int
        `LIFStep.rounded`, and its `Reset`.
    """
    if reset != NONE and reset != SUBTRACT and reset != ZERO and reset != LATE:
        raise ValueError("unknown reset")
    for low in range(0, membrane.size, decay.size):
        high = min(low + decay.size, membrane.size)
        for t in range(first, last):
            # slices indexed from 0: with an offset in the index, which might be negative, no loop is vectorised (5 x slower)
            u, fired = membrane[low:high], spikes[t, start + low : start + high]
            if fresh and t == first:
                _fire(u, fired, threshold, one, reset)
            else:
                _step(u, current[low:high], fired, decay, threshold, one, rounded, reset)


@_compile
def _step(
    membrane: Any, current: Any, spikes: Any, decay: Any, threshold: Any, one: Any, rounded: bool, reset: int
) -> None:
    for j in range(membrane.size):
        u = membrane[j]
        left = decay[j] * u
        v = (np.rint(left) if rounded else left) + current[j]
        if reset == LATE:
            v = v - (one if u >= threshold[j] else one - one) * threshold[j]
        spikes[j], membrane[j] = _after(v, threshold[j], one, reset)


@_compile
def _fire(membrane: Any, spikes: Any, threshold: Any, one: Any, reset: int) -> None:
    for j in range(membrane.size):
        spikes[j], membrane[j] = _after(membrane[j], threshold[j], one, reset)


@_compile
def _after(v: Any, threshold: Any, one: Any, reset: int) -> Any:
    """The spike of a membrane, and the membrane after it."""
    spike = one if v >= threshold else one - one
    if reset == SUBTRACT:
        v = v - spike * threshold
    elif reset == ZERO:
        v = one - one if v >= threshold else v
    return spike, v


@_compile
def sum_chunk(chunks: Any, n: int, weights: Any, out: Any, start: int) -> None:
    """``out[m] = sum_k weights[k] * chunks[n, k, start + m]`` for chunks (N, K, M) of any dtype, in the order of k."""
    for low in range(0, out.size, BLOCK):
        high = min(low + BLOCK, out.size)
        for k in range(chunks.shape[1]):
            _add(out[low:high], chunks[n, k, start + low : start + high], weights[k], k == 0)


@_compile
def _add(total: Any, frame: Any, weight: Any, first: bool) -> None:
    for j in range(total.size):
        term = weight * total.dtype.type(frame[j])
        total[j] = term if first else total[j] + term


@_compile
def count_off_grid(x: Any, low: Any, high: Any, per_step: Any) -> int:
    """How many values of a one-dimensional array are outside ``[low, high]`` or, times `per_step`, not whole."""
    count = 0
    for j in range(x.size):
        steps = x[j] * per_step
        count += not (x[j] >= low and x[j] <= high and np.rint(steps) == steps)
    return count


def load() -> None:
    """Load all that Numba loads when it first compiles: SciPy, and with it a BLAS that counts the processors it may use."""
    count_off_grid(np.empty(0, np.float32), np.float32(0), np.float32(1), np.float32(1))
