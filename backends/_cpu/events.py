"""Compiled loops of a layer that follows the spikes: list a frame's events, add their weights, step the neurons, row by row.

A current is gathered rather than scattered: for each place of the output, the events in reach choose rows of the weight
matrix, whose sum stays in registers. Events are listed in the order of memory, so those of neighbouring places, for one line
of the kernel, are one run of the list.

Every array is contiguous. ``shape`` is the input's (D, H, W, C) and ``out`` the output's (D, H, W), of one sample and of the
rows that a tile reads and writes; missing axes are 1. ``window`` is (kernel, stride, dilation, start): three triples, and
where the window of the first output begins in the input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .loops import _compile, hold, period
from .registers import LANES, add_rows, add_scaled_rows, first_bit, live_bits
from .tables import encode, look_up

__all__ = ["period", "run_frames"]


@_compile
def _list_events(frame: Any, channels: int, starts: Any, sites: Any, values: Any) -> bool:
    """List where `frame` is not 0, and its values; ``starts[p]`` is the first event at place p or after it.

    Returns whether all values are 1.
    """
    plain, count, whole = True, 0, channels // LANES * LANES
    for place in range(starts.size - 1):
        starts[place] = count
        begin = place * channels
        for block in range(begin, begin + whole, LANES):
            bits = live_bits(frame, block)
            while bits:
                site = block + first_bit(bits)
                bits &= bits - 1
                sites[count] = site
                values[count] = frame[site]
                plain &= frame[site] == 1
                count += 1
        for site in range(begin + whole, begin + channels):
            value = frame[site]
            sites[count] = site
            values[count] = value
            live = value != 0
            plain &= (value == 1) | (not live)
            count += live
    starts[starts.size - 1] = count
    return plain


@_compile
def _lines(depth: int, row: int, shape: Any, window: Any, scale: Any, lines: Any) -> int:
    """The lines of the kernel that lie inside the input, each with the line of the input that it meets; their number.

    ``scale`` is (a, b, c): written is ``a * line of the input``, and ``b * line of the kernel - c * line of the input``.
    """
    kernel, stride, dilation, start = window
    count = 0
    for kd in range(kernel[0]):
        z = depth * stride[0] + start[0] + kd * dilation[0]
        if z < 0 or z >= shape[0]:
            continue
        for kh in range(kernel[1]):
            y = row * stride[1] + start[1] + kh * dilation[1]
            if y < 0 or y >= shape[1]:
                continue
            line = z * shape[1] + y
            lines[count, 0] = scale[0] * line
            lines[count, 1] = scale[1] * (kd * kernel[1] + kh) - scale[2] * line
            count += 1
    return count


@_compile
def _gather(weight: Any, bias: Any, events: Any, lines: Any, count: int, shape: Any, places: int, window: Any, row: Any) -> None:
    """The currents of a row of places: the bias and the weights of all events in reach."""
    kernel, stride, dilation, start = window
    width = weight.shape[1]
    run = kernel[2] if dilation[2] == 1 else 1  # taps whose places are neighbours
    for tap in range(0, kernel[2], run):
        walk = (start[2] + tap * dilation[2], stride[2], shape[2], run, tap, shape[3], places)
        if tap == 0:
            _add_wide(weight, events, lines, count, walk, bias, 0, row)
        else:
            _add_wide(weight, events, lines, count, walk, row, width, row)


@_compile
def _add_wide(weight: Any, events: Any, lines: Any, count: int, walk: Any, initial: Any, step: int, row: Any) -> None:
    """`add_rows`, as many columns at a time as registers hold."""
    starts, sites, values, plain = events
    column, width = 0, weight.shape[1]
    while column < width:
        left = width - column
        if left >= 64 and weight.itemsize == 4:
            if plain:
                add_rows(weight, column, starts, sites, values, lines, count, walk, initial, step, row, 64)
            else:
                add_scaled_rows(weight, column, starts, sites, values, lines, count, walk, initial, step, row, 64)
            column += 64
        elif left >= 32:
            if plain:
                add_rows(weight, column, starts, sites, values, lines, count, walk, initial, step, row, 32)
            else:
                add_scaled_rows(weight, column, starts, sites, values, lines, count, walk, initial, step, row, 32)
            column += 32
        else:
            if plain:
                add_rows(weight, column, starts, sites, values, lines, count, walk, initial, step, row, 16)
            else:
                add_scaled_rows(weight, column, starts, sites, values, lines, count, walk, initial, step, row, 16)
            column += 16


@_compile
def _gather_groups(column: int, weight: Any, bias: Any, events: Any, lines: Any, count: int, shape: Any, window: Any, groups: int, row: Any) -> None:
    """The same where an event reaches one group of the output channels; weights (taps * C_in, C_out // groups)."""
    kernel, stride, dilation, start = window
    starts, sites, values, _ = events
    begin, width, size = column * stride[2] + start[2], weight.shape[1], shape[3] // groups
    current = row[column * bias.size : (column + 1) * bias.size]
    current[:] = bias
    for line in range(count):
        for tap in range(kernel[2]):
            here = begin + tap * dilation[2]
            if here < 0 or here >= shape[2]:
                continue
            place = lines[line, 0] + here
            shift = lines[line, 1] + (tap - here) * shape[3]
            for e in range(starts[place], starts[place + 1]):
                first = (sites[e] - place * shape[3]) // size * width
                for j in range(width):
                    current[first + j] += values[e] * weight[sites[e] + shift, j]


@_compile
def run_frames(
    frames: Any,
    offsets: Any,
    steps: Any,
    shape: Any,
    out: Any,
    window: Any,
    groups: int,
    weight: Any,
    bias: Any,
    table: Any,
    work: Any,
    membrane: Any,
    spikes: Any,
    place: int,
    neurons: Any,
    resting: bool,
) -> None:
    """Run the frames of some samples through synapses and neurons.

    Parameters
    ----------
    frames : array, one-dimensional
        Bool as uint8, or of the weights' dtype.
    offsets : tuple of int
        Where the first sample's first frame begins; numbers from frame to frame, and from sample to sample.
    steps : tuple of int
        First frame, the one after the last, and steps of the neurons under each.
    shape, out, window : see above
    groups : int
    weight : array, shape (taps * C_in, columns), or (taps * C_in, C_out // groups) with groups
        `columns` is C_out or more, a multiple of 16.
    bias : array, shape (columns,)
    table : array or None
        Of ``tables.py``, for frames of nothing but 0 and 1.
    work : tuple of arrays
        `starts`, `sites`, `values`, `lines`, `row`, `bits` and `codes`.
    membrane : array, shape (samples, positions * C_out)
    spikes : array, shape (T, N)
    place : int
        Where the tile begins in a frame of `spikes`.
    neurons : tuple
        decay, threshold, one, rounded and reset, as `hold` takes them.
    resting : bool
        The membranes are zero.
    """
    starts, sites, values, lines, row, bits, codes = work
    decay, threshold, one, rounded, reset = neurons
    size = shape[0] * shape[1] * shape[2] * shape[3]
    columns, width = bias.size, window[0][2] * shape[3]
    listed_scale, coded_scale = (shape[2], width, shape[2] * shape[3]), (out[2], 1 << width, 0)
    span = membrane.shape[1] // (out[0] * out[1])
    channels = span // out[2]
    for sample in range(membrane.shape[0]):
        for t in range(steps[0], steps[1]):
            begin = offsets[0] + (t - steps[0]) * offsets[1] + sample * offsets[2]
            frame = frames[begin : begin + size]
            coded = False
            if table is not None:
                coded = encode(frame, shape, out[2], window, bits, codes)
            plain = True if coded else _list_events(frame, shape[3], starts, sites, values)
            events = starts, sites, values, plain
            for line in range(out[0] * out[1]):
                depth, y = divmod(line, out[1])
                count = _lines(depth, y, shape, window, coded_scale if coded else listed_scale, lines)
                if coded:
                    if table is not None:
                        look_up(table, codes, lines, count, out[2], bias, row)
                elif groups > 1:
                    for column in range(out[2]):
                        _gather_groups(column, weight, bias, events, lines, count, shape, window, groups, row)
                else:
                    _gather(weight, bias, events, lines, count, shape, out[2], window, row)
                if columns != channels:
                    for column in range(1, out[2]):
                        for c in range(channels):
                            row[column * channels + c] = row[column * columns + c]
                low = line * span
                u = membrane[sample, low : low + span]
                fresh = resting and t == steps[0]
                if fresh:
                    u[:] = row[:span]
                begin_out = place + sample * membrane.shape[1] + low
                hold(u, row[:span], spikes, t * steps[2], (t + 1) * steps[2], begin_out, decay, threshold, one, fresh, rounded, reset)
