"""The neurons' kernel: `LIFStep` operation by operation, all of time in one launch, the membrane in a register.

It is launched without fusing products into sums (`enable_fp_fusion=False`), so every operation rounds once, as the core's do.
Half precision is computed in float32 and rounded after each operation, which is what PyTorch's own operations on it are.
No function of Triton's own library is called that is itself compiled: the tests run this text in Triton's interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tacops._backend.steps import Reset

__all__ = ["LATE", "SUBTRACT", "ZERO", "lif", "membrane_after", "number", "rounded_once", "spike", "whole"]

SUBTRACT, ZERO, LATE = tl.constexpr(int(Reset.SUBTRACT)), tl.constexpr(int(Reset.ZERO)), tl.constexpr(int(Reset.LATE))
"""Resets by their numbers; any other is none."""


@triton.jit
def rounded_once(x, kind: tl.constexpr):
    """Round `x` to numbers of the dtype `kind`, which may be narrower than its own."""
    return x.to(kind).to(x.dtype)


@triton.jit
def whole(x):
    """`x` rounded to an integer, ties to even, never -0: adding 2^23, or 2^52, leaves no room for a fraction."""
    room: tl.constexpr = 8388608.0 if x.dtype == tl.float32 else 4503599627370496.0
    size = tl.abs(x)
    found = tl.where(size < room, (size + room) - room, size)
    return tl.where(x < 0.0, -found, found) + 0.0


@triton.jit
def number(given, value, step, channel, inside, GIVEN: tl.constexpr, kind: tl.constexpr):
    """A parameter: read for each channel, or for all where `step` is 0; or the number itself."""
    if GIVEN:
        return tl.load(given + channel * step, mask=inside, other=1.0).to(kind)
    else:
        return tl.full([1], value, kind)


@triton.jit
def spike(v, threshold, bad):
    """1 where the membrane reaches the threshold, plus poison."""
    return tl.where(v >= threshold, 1.0, 0.0).to(v.dtype) + bad


@triton.jit
def membrane_after(v, threshold, bad, RESET: tl.constexpr, kind: tl.constexpr):
    """The membrane after the reset."""
    if RESET == SUBTRACT:
        return rounded_once(v - rounded_once(spike(v, threshold, bad) * threshold, kind), kind)
    elif RESET == ZERO:
        return tl.where(v >= threshold, 0.0, v)
    else:
        return v


@triton.jit
def lif(
    currents,
    start,
    decays,
    thresholds,
    poison,
    spikes,
    membrane,
    kept,
    frames,
    repeat,
    neurons,
    row,
    inner,
    channels,
    decay,
    threshold,
    decay_step,
    threshold_step,
    RESET: tl.constexpr,
    ROUNDED: tl.constexpr,
    STARTS: tl.constexpr,
    DECAYS: tl.constexpr,
    THRESHOLDS: tl.constexpr,
    CHANNELS: tl.constexpr,
    POISON: tl.constexpr,
    COMPACT: tl.constexpr,
    KEEP: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Step `neurons` neurons, which lie in a row in memory, `repeat` times through each of `frames` currents.

    Parameters
    ----------
    currents : pointer
        Frames lie `row` numbers apart.
    start, decays, thresholds, poison : pointer
        Read where STARTS, DECAYS, THRESHOLDS, POISON say so; else `decay` and `threshold` are the parameters.
    spikes, membrane, kept : pointer
        Written: (frames * repeat, neurons), as bytes where COMPACT; (neurons,); and where KEEP, the membranes that fire.
    inner, channels : int
        Neuron m is of channel ``m // inner % channels``, if CHANNELS.
    decay_step, threshold_step : int
        Numbers between those of two channels.
    WIDE : bool
        Compute in float64, else in float32.
    """
    kind: tl.constexpr = currents.dtype.element_ty
    real: tl.constexpr = tl.float64 if WIDE else tl.float32
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = m < neurons
    far = tl.full([1], 0, tl.int64)  # of 64 bits: frames times neurons may pass 2^31
    channel = m // inner % channels if CHANNELS else m * 0
    beta = number(decays, decay, decay_step, channel, inside, DECAYS, real)
    theta = number(thresholds, threshold, threshold_step, channel, inside, THRESHOLDS, real)
    bad = tl.load(poison).to(real) if POISON else tl.full([1], 0.0, real)
    u = tl.load(start + m, mask=inside, other=0.0).to(real) if STARTS else tl.full([BLOCK], 0.0, real)
    following = tl.load(currents + m, mask=inside, other=0.0)
    for t in range(frames):
        current = following.to(real)
        # the next current is on its way while this one is stepped
        later = far + t + 1
        following = tl.load(currents + later * row + m, mask=inside & (later < frames), other=0.0)
        for r in range(repeat):
            n = (far + t) * repeat + r
            v = rounded_once(u * beta, kind)
            if ROUNDED:
                v = whole(v)
            v = rounded_once(v + current, kind)
            if RESET == LATE:
                v = rounded_once(v - rounded_once(spike(u, theta, bad) * theta, kind), kind)
            if not STARTS:  # nothing to decay, nor to reset late
                v = tl.where(n == 0, current, v)
            at = n * neurons + m
            if COMPACT:
                tl.store(spikes + at, (v >= theta).to(tl.int8), mask=inside)
            else:
                tl.store(spikes + at, spike(v, theta, bad).to(kind), mask=inside)
            if KEEP:
                tl.store(kept + at, v.to(kind), mask=inside)
            u = membrane_after(v, theta, bad, RESET, kind)
    tl.store(membrane + m, u.to(kind), mask=inside)
