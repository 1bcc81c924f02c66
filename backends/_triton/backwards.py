"""The kernel of the neurons' gradients: back through time in one launch, from the membranes that the forward pass kept.

The arithmetic is that of `LIFStep` and of ``tacops/surrogate.py``, differentiated by hand, as in ``_cpu/backwards.py``. Half
precision is summed in float32 and rounded at the end.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from .forwards import LATE, SUBTRACT, ZERO, membrane_after, number, spike

__all__ = ["SURROGATES", "constants", "lif_back"]

SURROGATES = ("", "fast_sigmoid", "arctan", "sigmoid", "triangular", "straight_through", "own")
"""By the numbers that the kernel is given; the first is none, and of the last the kernel is given what it has found."""


def constants(name: str, slope: float) -> tuple[int, float, float]:
    """A surrogate as the kernel takes it: its number, and two factors."""
    inner = {"arctan": 0.5 * math.pi * slope, "sigmoid": -slope}.get(name, slope)
    outer = 0.5 * slope if name == "arctan" else slope
    return SURROGATES.index(name), inner, outer


@triton.jit
def derivative(x, inner, outer, SURROGATE: tl.constexpr):
    """The surrogate at `x`."""
    if SURROGATE == 1:
        y = tl.abs(x) * inner + 1.0
        return 1.0 / (y * y)
    elif SURROGATE == 2:
        y = x * inner
        return outer / (y * y + 1.0)
    elif SURROGATE == 3:
        y = tl.exp(tl.abs(x) * inner)
        return outer * y / ((y + 1.0) * (y + 1.0))
    elif SURROGATE == 4:
        return tl.maximum(1.0 - tl.abs(x) * inner, 0.0)
    else:
        return x * 0.0 + outer


@triton.jit
def through_spike(gradient, v, threshold, unit, inner, outer, found, inside, SURROGATE: tl.constexpr):
    """The part of a spike's gradient that reaches the membrane: none where the membrane is infinite or missing."""
    if SURROGATE == 0:
        return tl.full(v.shape, 0.0, v.dtype)
    elif SURROGATE == 6:
        return gradient * tl.load(found, mask=inside, other=0.0).to(v.dtype)
    else:
        excess = (v - threshold) * unit
        finite = tl.abs(excess) < float("inf")
        slope = derivative(tl.where(finite, excess, 0.0), inner, outer, SURROGATE) * unit
        return tl.where(finite, gradient * slope, 0.0)


@triton.jit
def lif_back(
    kept,
    start,
    decays,
    thresholds,
    units,
    slopes,
    own,
    poison,
    to_spikes,
    to_membrane,
    by_currents,
    by_start,
    by_decays,
    by_thresholds,
    frames,
    repeat,
    neurons,
    inner,
    channels,
    decay,
    threshold,
    slope_inner,
    slope_outer,
    decay_step,
    threshold_step,
    unit_step,
    RESET: tl.constexpr,
    DETACHED: tl.constexpr,
    SURROGATE: tl.constexpr,
    STARTS: tl.constexpr,
    DECAYS: tl.constexpr,
    THRESHOLDS: tl.constexpr,
    UNITS: tl.constexpr,
    CHANNELS: tl.constexpr,
    POISON: tl.constexpr,
    TO_SPIKES: tl.constexpr,
    TO_MEMBRANE: tl.constexpr,
    BY_START: tl.constexpr,
    BY_DECAY: tl.constexpr,
    BY_THRESHOLD: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of `lif`, by currents, first membranes, and of each neuron by its decay and threshold.

    Parameters
    ----------
    kept : pointer
        Membranes that fire, (frames * repeat, neurons), as `lif` stored them.
    own : pointer
        What a surrogate of the user's own has found, read where SURROGATE is its number: (frames * repeat, neurons), the derivatives
        of spikes by the membranes kept, and after these, if STARTS and the reset is LATE, by the first ones.
    to_spikes : pointer
        TO_SPIKES is how many numbers there are of the gradient by the spikes: 0 none, 1 one for all, 2 each its own.
    to_membrane : pointer
        Read where TO_MEMBRANE; else zeros.
    by_currents, by_start, by_decays, by_thresholds : pointer
        Written, (frames, neurons) and (neurons,) each, the last three where BY_START, BY_DECAY, BY_THRESHOLD.
    slope_inner, slope_outer : float
        As `constants` makes them, of number SURROGATE; in float64 they are read from `slopes`.
    """
    kind: tl.constexpr = by_currents.dtype.element_ty
    real: tl.constexpr = tl.float64 if WIDE else tl.float32
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = m < neurons
    far = tl.full([1], 0, tl.int64)  # of 64 bits: frames times neurons may pass 2^31
    channel = m // inner % channels if CHANNELS else m * 0
    beta = number(decays, decay, decay_step, channel, inside, DECAYS, real)
    theta = number(thresholds, threshold, threshold_step, channel, inside, THRESHOLDS, real)
    unit = number(units, 1.0, unit_step, channel, inside, UNITS, real) if UNITS else 1.0
    slope_inner = tl.load(slopes) if WIDE else slope_inner
    slope_outer = tl.load(slopes + 1) if WIDE else slope_outer
    bad = tl.load(poison).to(real) if POISON else tl.full([1], 0.0, real)
    zero = tl.full([BLOCK], 0.0, real)
    g = (
        tl.load(to_membrane + m, mask=inside, other=0.0).to(real) if TO_MEMBRANE else zero
    )  # by the membrane after a step
    first = tl.load(start + m, mask=inside, other=0.0).to(real) if STARTS else zero
    every = tl.load(to_spikes).to(real) if TO_SPIKES == 1 else tl.full([1], 0.0, real)
    by_decay, by_threshold, late = zero, zero, zero  # late: what the next step's reset adds to a spike's gradient
    last = (far + frames) * repeat - 1
    v = tl.load(kept + last * neurons + m, mask=inside, other=0.0).to(real)
    for back in range(frames):
        by_current = zero
        for r in range(repeat):
            n = last - back * repeat - r
            before = tl.load(kept + (n - 1) * neurons + m, mask=inside & (n > 0), other=0.0).to(real)
            gradient = zero + every
            if TO_SPIKES == 2:
                gradient = tl.load(to_spikes + n * neurons + m, mask=inside, other=0.0).to(real)
            if RESET == LATE:
                gradient += late
            elif RESET == SUBTRACT:
                by_threshold -= g * spike(v, theta, bad)
                if not DETACHED:
                    gradient -= g * theta
            elif RESET == ZERO:
                if not DETACHED:
                    gradient -= g * v
                g = tl.where(v >= theta, 0.0, g)
            at = own + n * neurons + m
            through = through_spike(gradient, v, theta, unit, slope_inner, slope_outer, at, inside, SURROGATE)
            by_threshold -= through
            to_v = g + through
            by_current += to_v
            u = tl.where(n > 0, membrane_after(before, theta, bad, RESET, kind), first)
            stepped = STARTS | (n > 0)  # whether there was a membrane to decay, and to reset late
            by_decay += tl.where(stepped, to_v * u, 0.0)
            if RESET == LATE:
                by_threshold -= tl.where(stepped, to_v * spike(u, theta, bad), 0.0)
                if not DETACHED:
                    late = zero - to_v * theta
            g = to_v * beta
            v = before
        tl.store(by_currents + (far + frames - 1 - back) * neurons + m, by_current.to(kind), mask=inside)
    if STARTS and RESET == LATE:
        at = own + (last + 1) * neurons + m
        through = through_spike(late, first, theta, unit, slope_inner, slope_outer, at, inside, SURROGATE)
        by_threshold -= through
        g += through
    if BY_START:
        tl.store(by_start + m, g.to(kind), mask=inside)
    if BY_DECAY:
        tl.store(by_decays + m, by_decay, mask=inside)
    if BY_THRESHOLD:
        tl.store(by_thresholds + m, by_threshold, mask=inside)
