"""Compiled loops of the neurons' gradients: membranes once more forwards, then back through time, block by block in cache.

A layer keeps its currents alone. Blocks are a period of parameters wide: every array of one block and all steps is small.
The arithmetic is that of `LIFStep` and of ``tacops/surrogate.py``, differentiated by hand.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from .loops import LATE, NONE, SUBTRACT, ZERO, _compile, period

__all__ = ["SURROGATES", "constants", "period", "run_back"]

SURROGATES = ("", "fast_sigmoid", "arctan", "sigmoid", "triangular", "straight_through")
"""By the numbers that the loops are given; the first is none."""
NOTHING, FAST_SIGMOID, ARCTAN, SIGMOID, TRIANGULAR, STRAIGHT = range(6)
_compiled = partial(_compile, error_model="numpy")


def constants(name: str, slope: float, dtype: Any) -> tuple[int, Any, Any]:
    """A surrogate as the loops take it: its number, and two factors."""
    inner = {"arctan": 0.5 * math.pi * slope, "sigmoid": -slope}.get(name, slope)
    outer = 0.5 * slope if name == "arctan" else slope
    return SURROGATES.index(name), dtype.type(inner), dtype.type(outer)


@_compiled
def _slopes(v: Any, threshold: Any, unit: Any, surrogate: Any, one: Any, out: Any) -> None:
    """Derivatives of the spikes by the membrane; 0 where that is infinite or missing. A loop each, which is vectorised."""
    kind, inner, outer = surrogate
    zero = one - one
    for j in range(v.size):
        x = (v[j] - threshold[j]) * unit[j]
        out[j] = x if x - x == zero else zero
    if kind == FAST_SIGMOID:
        for j in range(v.size):
            y = abs(out[j]) * inner + one
            out[j] = one / (y * y)
    elif kind == ARCTAN:
        for j in range(v.size):
            y = out[j] * inner
            out[j] = outer / (y * y + one)
    elif kind == SIGMOID:
        for j in range(v.size):
            y = np.exp(abs(out[j]) * inner)
            out[j] = outer * y / ((y + one) * (y + one))
    elif kind == TRIANGULAR:
        for j in range(v.size):
            y = one - abs(out[j]) * inner
            out[j] = max(y, zero)
    else:
        out[:] = outer
    for j in range(v.size):
        x = (v[j] - threshold[j]) * unit[j]
        out[j] = out[j] * unit[j] if x - x == zero else zero


@_compiled
def _membrane(v: Any, threshold: Any, reset: int, one: Any, out: Any) -> None:
    """After the reset."""
    if reset == SUBTRACT:
        for j in range(v.size):
            out[j] = v[j] - (one if v[j] >= threshold[j] else one - one) * threshold[j]
    elif reset == ZERO:
        for j in range(v.size):
            out[j] = one - one if v[j] >= threshold[j] else v[j]
    else:
        out[:] = v


@_compiled
def _integrate(u: Any, current: Any, decay: Any, threshold: Any, rounded: bool, reset: int, one: Any, out: Any) -> None:
    """The membrane before it fires."""
    if rounded:
        for j in range(u.size):
            out[j] = np.rint(decay[j] * u[j]) + current[j]
    else:
        for j in range(u.size):
            out[j] = decay[j] * u[j] + current[j]
    if reset == LATE:
        for j in range(u.size):
            out[j] = out[j] - (one if u[j] >= threshold[j] else one - one) * threshold[j]


@_compiled
def _step_back(
    v: Any,
    slope: Any,
    to_spike: Any,
    late: Any,
    decay: Any,
    threshold: Any,
    reset: int,
    detached: bool,
    one: Any,
    g: Any,
    to_v: Any,
    through: Any,
) -> None:
    """One step: `g` is the gradient by the membrane after it, and becomes that by the membrane before it.

    `to_v` is the gradient by the membrane that fires, `through` its part by way of the spike. `late` is what the next
    step's reset adds to the spike's. Several loops, because one over so many arrays is not vectorised.
    """
    zero = one - one
    if reset == SUBTRACT and not detached:
        for j in range(g.size):
            through[j] = to_spike[j] - g[j] * threshold[j]
    elif reset == ZERO and not detached:
        for j in range(g.size):
            through[j] = to_spike[j] - v[j] * g[j]  # an infinite v has no slope
    elif reset == LATE:
        for j in range(g.size):
            through[j] = to_spike[j] + late[j]
    else:
        through[:] = to_spike
    for j in range(g.size):
        through[j] = through[j] * slope[j] if slope[j] != zero else zero
    if reset == ZERO:
        for j in range(g.size):
            g[j] = zero if v[j] >= threshold[j] else g[j]
    for j in range(g.size):
        to_v[j] = g[j] + through[j]
        g[j] = to_v[j] * decay[j]
    if reset == LATE and not detached:
        for j in range(g.size):
            late[j] = -to_v[j] * threshold[j]


@_compiled
def _take(total: Any, factor: Any, fired: Any, threshold: Any) -> None:
    """Subtract the factors of those that fire."""
    for j in range(total.size):
        if fired[j] >= threshold[j]:
            total[j] -= factor[j]


@_compiled
def _add_products(total: Any, a: Any, b: Any) -> None:
    for j in range(total.size):
        total[j] += np.float64(a[j]) * np.float64(b[j])


@_compiled
def run_back(
    columns: Any,
    currents: Any,
    start: Any,
    to_spikes: Any,
    to_last: Any,
    repeat: int,
    neurons: Any,
    surrogate: Any,
    detached: bool,
    by_currents: Any,
    by_start: Any,
    by_decay: Any,
    by_threshold: Any,
    work: Any,
    scratch: Any,
) -> None:
    """Gradients of some neurons.

    Parameters
    ----------
    columns : tuple of int
        Of all neurons the first, and the one after the last, and where the first is in `currents` and in `to_spikes`.
    currents, by_currents : array, shape (n, ...)
    start, by_start : array, shape (N,)
        The membranes at first; or empty.
    to_spikes : array, shape (n * repeat, ...)
        Or with no rows: zeros.
    to_last : array, shape (N,)
    repeat : int
    neurons : tuple
        decay, threshold and unit, a period each; one, rounded and reset, as `hold` takes them.
    surrogate : tuple
        As `constants` makes it.
    detached : bool
    by_decay, by_threshold : array, shape (period,), float64
        Added to; or empty.
    work : array, shape (n * repeat, period)
    scratch : array, shape (6, period)
    """
    decay, threshold, unit, one, rounded, reset = neurons
    if reset != NONE and reset != SUBTRACT and reset != ZERO and reset != LATE:
        raise ValueError("unknown reset")
    zero, steps = one - one, work.shape[0]
    for low in range(columns[0], columns[1], decay.size):
        high = min(low + decay.size, columns[1])
        size, a, b = high - low, low - columns[0] + columns[2], low - columns[0] + columns[3]
        beta, theta, units = decay[:size], threshold[:size], unit[:size]
        slope, g, to_v, through = scratch[0, :size], scratch[1, :size], scratch[2, :size], scratch[3, :size]
        late, u = scratch[4, :size], scratch[5, :size]
        if start.size:
            u[:] = start[low:high]
        for t in range(steps):
            v, current = work[t, :size], currents[t // repeat, a : a + size]
            if t == 0 and start.size == 0:
                v[:] = current
            else:
                _integrate(u, current, beta, theta, rounded, reset, one, v)
            _membrane(v, theta, reset, one, u)
        g[:] = to_last[low:high]
        late[:] = zero
        slope[:] = zero
        for back in range(steps):
            t = steps - 1 - back
            v, by_current = work[t, :size], by_currents[t // repeat, low:high]
            if surrogate[0] != NOTHING:
                _slopes(v, theta, units, surrogate, one, slope)
            if by_threshold.size and reset == SUBTRACT:
                _take(by_threshold[:size], g, v, theta)
            if to_spikes.shape[0]:
                given = to_spikes[t, b : b + size]
            else:
                through[:] = zero
                given = through
            _step_back(v, slope, given, late, beta, theta, reset, detached, one, g, to_v, through)
            if (t + 1) % repeat == 0:
                by_current[:] = to_v
            else:
                _add(by_current, to_v)
            if by_threshold.size:
                _subtract(by_threshold[:size], through)
            if t == 0 and start.size == 0:
                continue
            if t:
                _membrane(work[t - 1, :size], theta, reset, one, u)
            else:
                u[:] = start[low:high]
            if by_decay.size:
                _add_products(by_decay[:size], to_v, u)
            if by_threshold.size and reset == LATE:
                _take(by_threshold[:size], to_v, u, theta)
        if start.size:
            if reset == LATE and surrogate[0] != NOTHING:
                _slopes(start[low:high], theta, units, surrogate, one, slope)
                for j in range(size):
                    through[j] = late[j] * slope[j] if slope[j] != zero else zero
                _add(g, through)
                if by_threshold.size:
                    _subtract(by_threshold[:size], through)
            by_start[low:high] = g


@_compiled
def _add(total: Any, term: Any) -> None:
    for j in range(total.size):
        total[j] += term[j]


@_compiled
def _subtract(total: Any, term: Any) -> None:
    for j in range(total.size):
        total[j] -= term[j]
