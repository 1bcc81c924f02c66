"""Loops that Numba compiles, where it is installed (``pip install 'tacops[numba]'``).

NumPy runs the LIF step as five to seven passes over arrays, each a call that fetches memory again and may wait for the
interpreter's lock; a compiled loop is one pass without the lock. Both compute in the core's order with one rounding per
operation (Numba contracts nothing unless asked to), so their answers are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from ._threads import aside

if TYPE_CHECKING:
    from tacops._protocol import Array

__all__ = ["VERSION", "count_off_grid", "hold", "load", "period", "sum_chunk"]

VERSION = numba.__version__
BLOCK = 1024
"""Neurons that go through all frames of a chunk before the next do: their numbers stay in the closest cache."""


def _compile(function: Callable[..., Any]) -> Any:
    """Compile at the first call, for each combination of dtypes, and keep the result on disk where that is possible."""
    try:
        loop = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        loop = numba.njit(nogil=True)(function)
    # what Numba calls where it meets new types; Ctrl-C in it would leave Numba's lock taken
    loop._compile_for_args = partial(aside, loop._compile_for_args)
    return loop


def period(parameter: float | Array, channels: int, dtype: Any) -> Array:
    """Write a scalar, or a parameter per channel, out for about `BLOCK` neurons."""
    return np.tile(np.broadcast_to(np.asarray(parameter, dtype=dtype), (channels,)), max(1, BLOCK // channels))


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
    subtract: bool,
    zero: bool,
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
    rounded, subtract, zero : bool
        `LIFStep.rounded`; its reset, or neither.
    """
    for low in range(0, membrane.size, decay.size):
        high = min(low + decay.size, membrane.size)
        for t in range(first, last):
            # slices indexed from 0: with an offset in the index, which might be negative, no loop is vectorised (5 x slower)
            u, fired = membrane[low:high], spikes[t, start + low : start + high]
            if fresh and t == first:
                _fire(u, fired, threshold, one, subtract, zero)
            else:
                _step(u, current[low:high], fired, decay, threshold, one, rounded, subtract, zero)


@_compile
def _step(
    membrane: Any,
    current: Any,
    spikes: Any,
    decay: Any,
    threshold: Any,
    one: Any,
    rounded: bool,
    subtract: bool,
    zero: bool,
) -> None:
    for j in range(membrane.size):
        left = decay[j] * membrane[j]
        v = (np.rint(left) if rounded else left) + current[j]
        spikes[j], membrane[j] = _after(v, threshold[j], one, subtract, zero)


@_compile
def _fire(membrane: Any, spikes: Any, threshold: Any, one: Any, subtract: bool, zero: bool) -> None:
    for j in range(membrane.size):
        spikes[j], membrane[j] = _after(membrane[j], threshold[j], one, subtract, zero)


@_compile
def _after(v: Any, threshold: Any, one: Any, subtract: bool, zero: bool) -> Any:
    """The spike of a membrane, and the membrane after it."""
    spike = one if v >= threshold else one - one
    if subtract:
        v = v - spike * threshold
    elif zero:
        v = v * (one - spike)
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
