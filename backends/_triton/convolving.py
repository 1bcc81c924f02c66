"""Convolution and neurons in one launch, on tensor cores, whose products are of half precision and whose sums are float32.

The convolution is a product of matrices whose first one is never stored: each program gathers the inputs of its positions, a
piece of the kernel at a time, multiplies them by the weights of its filters, and steps its neurons with the sums, which never
leave the registers. In reproducible mode operands are float16 and all is exact, where inputs and weights are integers up to 2048
and no sum reaches 2^24. On the default path inputs are 0 or 1, and a weight is the sum of three bfloat16: as accurate as float32.
The neurons are those of ``forwards.py``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .forwards import LATE, membrane_after, number, spike, whole

__all__ = ["conv_lif"]


@triton.jit
def three_parts(x):
    """Three bfloat16 whose sum is a float32, exactly: its 24 bits, eight at a time."""
    high = x.to(tl.bfloat16)
    rest = x - high.to(tl.float32)
    middle = rest.to(tl.bfloat16)
    return high, middle, (rest - middle.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def conv_lif(
    frames,
    weights,
    bias,
    start,
    decays,
    thresholds,
    poison,
    units,
    spikes,
    membrane,
    count,
    repeat,
    positions,
    height,
    width,
    rows,
    columns,
    filters,
    by_frame,
    by_sample,
    by_row,
    by_column,
    by_channel,
    stride_y,
    stride_x,
    dilation_y,
    dilation_x,
    top,
    left,
    decay,
    threshold,
    decay_step,
    threshold_step,
    unit_step,
    RESET: tl.constexpr,
    WHOLE: tl.constexpr,
    BIAS: tl.constexpr,
    STARTS: tl.constexpr,
    DECAYS: tl.constexpr,
    THRESHOLDS: tl.constexpr,
    POISON: tl.constexpr,
    UNITS: tl.constexpr,
    COMPACT: tl.constexpr,
    PADDED: tl.constexpr,
    BY_TAP: tl.constexpr,
    TAPS: tl.constexpr,
    TAP_ROW: tl.constexpr,
    CHANNELS: tl.constexpr,
    PLACES: tl.constexpr,
    FILTERS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Convolve each of `count` frames, and step the neurons `repeat` times with its currents.

    Parameters
    ----------
    frames : pointer
        (count, B, height, width, CHANNELS), of which two neighbours lie `by_frame`, `by_sample`, `by_row`, `by_column` and
        `by_channel` numbers apart.
    weights : pointer
        (filters, TAPS, CHANNELS), TAP_ROW taps in a row of the kernel; float16 if WHOLE, else float32.
    bias, start, decays, thresholds, poison, units : pointer
        Read where BIAS, STARTS, DECAYS, THRESHOLDS, POISON, UNITS say so; else `decay` and `threshold` are the parameters.
    spikes, membrane : pointer
        Written: (count * repeat, positions, filters), as bytes where COMPACT, and (positions, filters), where UNITS as
        potentials.
    WHOLE : bool
        All numbers are integers, and the decayed membrane is rounded; else frames are 0 or 1.
    positions : int
        B * rows * columns.
    top, left : int
        Zeros before the first row and column, if PADDED.
    BY_TAP : bool
        Whether a piece of the sum is DEPTH channels of one tap, or DEPTH numbers of all taps in a row.
    PLACES, FILTERS : int
        Positions and filters of a program.
    """
    p = tl.program_id(0).to(tl.int64) * PLACES + tl.arange(0, PLACES)
    f = tl.program_id(1) * FILTERS + tl.arange(0, FILTERS)
    is_place, is_filter = p < positions, f < filters
    y0 = (p // columns % rows).to(tl.int32) * stride_y - top
    x0 = (p % columns).to(tl.int32) * stride_x - left
    corner = p // columns // rows * by_sample + y0.to(tl.int64) * by_row + x0.to(tl.int64) * by_column
    beta = number(decays, decay, decay_step, f.to(tl.int64), is_filter, DECAYS, tl.float32)[None, :]
    theta = number(thresholds, threshold, threshold_step, f.to(tl.int64), is_filter, THRESHOLDS, tl.float32)[None, :]
    bad = tl.load(poison) if POISON else 0.0
    offset = tl.load(bias + f, mask=is_filter, other=0.0)[None, :] if BIAS else 0.0
    neuron, inside = p[:, None] * filters + f[None, :], is_place[:, None] & is_filter[None, :]
    u = tl.full([PLACES, FILTERS], 0.0, tl.float32)
    if STARTS:
        u = tl.load(start + neuron, mask=inside, other=0.0)
    parts: tl.constexpr = (CHANNELS + DEPTH - 1) // DEPTH  # of a tap
    pieces: tl.constexpr = TAPS * parts if BY_TAP else (TAPS * CHANNELS + DEPTH - 1) // DEPTH
    far = tl.full([1], 0, tl.int64)  # of 64 bits: a step's neurons, times the steps, may pass 2^31
    for t in range(count):
        here = frames + (far + t) * by_frame + corner
        sums = tl.full([PLACES, FILTERS], 0.0, tl.float32)
        small = tl.full([PLACES, FILTERS], 0.0, tl.float32)
        for piece in range(pieces):
            if BY_TAP:
                tap = tl.full([1], 0, tl.int32) + piece // parts
                channel = piece % parts * DEPTH + tl.arange(0, DEPTH)
            else:
                tap = (piece * DEPTH + tl.arange(0, DEPTH)) // CHANNELS
                channel = (piece * DEPTH + tl.arange(0, DEPTH)) % CHANNELS
            down, right = tap // TAP_ROW * dilation_y, tap % TAP_ROW * dilation_x
            away = down.to(tl.int64) * by_row + right.to(tl.int64) * by_column + channel.to(tl.int64) * by_channel
            is_input = (tap < TAPS) & (channel < CHANNELS)
            known = is_place[:, None] & is_input[None, :]
            if PADDED:
                y, x = y0[:, None] + down[None, :], x0[:, None] + right[None, :]
                known = known & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            taken = tl.load(here[:, None] + away[None, :], mask=known, other=0)
            of = (tap * CHANNELS + channel)[:, None] + f[None, :].to(tl.int64) * (TAPS * CHANNELS)
            by = tl.load(weights + of, mask=is_input[:, None] & is_filter[None, :], other=0.0)
            if WHOLE:
                sums = tl.dot(taken.to(tl.float16), by, sums)
            else:  # the small parts apart: tensor cores cut off what a large sum has no room for
                high, middle, low = three_parts(by)
                spiked = taken.to(tl.float32).to(tl.bfloat16)
                small = tl.dot(spiked, low, small)
                small = tl.dot(spiked, middle, small)
                sums = tl.dot(spiked, high, sums)
        if not WHOLE:
            sums = sums + small
        current = sums + offset
        for r in range(repeat):
            decayed = whole(u * beta) if WHOLE else u * beta
            v = decayed + current
            if RESET == LATE:
                v = v - spike(u, theta, bad) * theta
            if not STARTS:  # nothing to decay, nor to reset late
                v = tl.where(t + r == 0, current, v)
            at = ((far + t) * repeat + r) * positions * filters + neuron
            if COMPACT:
                tl.store(spikes + at, (v >= theta).to(tl.int8), mask=inside)
            else:
                tl.store(spikes + at, spike(v, theta, bad), mask=inside)
            u = membrane_after(v, theta, bad, RESET, tl.float32)
    if UNITS:
        u = u * number(units, 1.0, unit_step, f.to(tl.int64), is_filter, True, tl.float32)[None, :] + bad
    tl.store(membrane + neuron, u, mask=inside)
