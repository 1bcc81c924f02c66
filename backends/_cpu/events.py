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
from .registers import LANES, add_coded_rows, add_rows, add_scaled_rows, first_bit, live_bits
from .tables import encode

__all__ = ["period", "run_frames"]

PLAIN, SCALED, CODED = 0, 1, 2
"""Events of value 1, events of any value, and lines of the kernel that choose a row of a table."""


@_compile
def _list_events(frame: Any, channels: int, starts: Any, sites: Any, values: Any) -> int:
    """List where `frame` is not 0, and its values; ``starts[p]`` is the first event at place p or after it.

    Returns `PLAIN` if all values are 1, else `SCALED`.
    """
    if channels < LANES:
        kind: int = _list_narrow(frame, channels, starts, sites, values)
        return kind
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
    return PLAIN if plain else SCALED


@_compile
def _list_narrow(frame: Any, channels: int, starts: Any, sites: Any, values: Any) -> int:
    """`_list_events` of few channels: of many places at once, which are told apart afterwards."""
    plain, count, whole = True, 0, frame.size // LANES * LANES
    for block in range(0, whole, LANES):
        bits = live_bits(frame, block)
        while bits:
            sites[count] = block + first_bit(bits)
            bits &= bits - 1
            count += 1
    for site in range(whole, frame.size):
        sites[count] = site
        count += frame[site] != 0
    place = following = 0  # and the first site of that place
    for e in range(count):
        site = sites[e]
        values[e] = frame[site]
        plain &= frame[site] == 1
        while following <= site:
            starts[place] = e
            place += 1
            following += channels
    starts[place:] = count
    return PLAIN if plain else SCALED


@_compile
def _are_whole(values: Any, most: Any) -> bool:
    odd = 0
    for e in range(values.size):
        odd |= not (abs(values[e]) <= most and np.rint(values[e]) == values[e])
    return odd == 0


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
def _live(lines: Any, count: int, starts: Any, size: int) -> int:
    """Keep those of `lines` that have events; their number."""
    kept = 0
    for line in range(count):
        lines[kept, 0], lines[kept, 1] = lines[line, 0], lines[line, 1]
        kept += starts[lines[line, 0] + size] > starts[lines[line, 0]]
    return kept


@_compile
def _add(
    rows: Any, kind: int, events: Any, lines: Any, count: int, walk: Any, initial: Any, step: int, out: Any
) -> None:
    """`add_rows` and its kin, as many columns at a time as registers hold."""
    starts, sites, values = events
    column, width = 0, rows.shape[1]
    while column < width:
        left = width - column
        if left >= 64 and rows.itemsize == 4:
            if kind == PLAIN:
                add_rows(rows, column, starts, sites, values, lines, count, walk, initial, step, out, 64)
            elif kind == SCALED:
                add_scaled_rows(rows, column, starts, sites, values, lines, count, walk, initial, step, out, 64)
            elif kind == CODED:
                add_coded_rows(rows, column, starts, sites, values, lines, count, walk, initial, step, out, 64)
            else:
                raise ValueError("unknown kind of events")
            column += 64
        elif left >= 32:
            if kind == PLAIN:
                add_rows(rows, column, starts, sites, values, lines, count, walk, initial, step, out, 32)
            elif kind == SCALED:
                add_scaled_rows(rows, column, starts, sites, values, lines, count, walk, initial, step, out, 32)
            elif kind == CODED:
                add_coded_rows(rows, column, starts, sites, values, lines, count, walk, initial, step, out, 32)
            else:
                raise ValueError("unknown kind of events")
            column += 32
        else:
            if kind == PLAIN:
                add_rows(rows, column, starts, sites, values, lines, count, walk, initial, step, out, 16)
            elif kind == SCALED:
                add_scaled_rows(rows, column, starts, sites, values, lines, count, walk, initial, step, out, 16)
            elif kind == CODED:
                add_coded_rows(rows, column, starts, sites, values, lines, count, walk, initial, step, out, 16)
            else:
                raise ValueError("unknown kind of events")
            column += 16


@_compile
def _scatter(
    weight: Any, groups: int, events: Any, lines: Any, count: int, shape: Any, places: int, window: Any, row: Any
) -> None:
    """Add to a row of currents what reaches it, where an event reaches one group of the output channels.

    The others are neighbours of its group's no more, so nothing is gained by registers. Weights are
    (taps * C_in, C_out // groups).
    """
    kernel, stride, dilation, start = window
    starts, sites, values = events
    width, size = weight.shape[1], shape[3] // groups
    for line in range(count):
        for column in range(shape[2]):
            place = lines[line, 0] + column
            for e in range(starts[place], starts[place + 1]):
                first = (sites[e] - place * shape[3]) // size * width
                for tap in range(kernel[2]):
                    at = column - start[2] - tap * dilation[2]
                    if stride[2] != 1:  # a division takes longer than the rest
                        away = at
                        at = away // stride[2]
                        if at * stride[2] != away:
                            continue
                    if at < 0 or at >= places:
                        continue
                    begin, chosen = at * groups * width + first, sites[e] + lines[line, 1] + (tap - column) * shape[3]
                    if width == 1:
                        row[begin] += values[e] * weight[chosen, 0]
                    else:
                        _add_scaled(row[begin : begin + width], values[e], weight[chosen])


@_compile
def _add_scaled(total: Any, value: Any, weights: Any) -> None:
    for j in range(total.size):
        total[j] += value * weights[j]


@_compile
def run_frames(
    frames: Any,
    numbers: Any,
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
    compact: Any,
    place: int,
    neurons: Any,
    resting: bool,
    most: Any,
) -> bool:
    """Run the frames of some samples through synapses and neurons; False, and no further, where an event breaks a rule.

    Parameters
    ----------
    frames, numbers : array, one-dimensional
        The input, bool as uint8, or of the weights' dtype; the other is empty. So one compiled function serves all.
    offsets : tuple of int
        Where the first sample's first frame begins; numbers from frame to frame, and from sample to sample.
    steps : tuple of int
        First frame, the one after the last, and steps of the neurons under each.
    shape, out, window : see above
    groups : int
    weight : array, shape (taps * C_in, columns), or (taps * C_in, C_out // groups) with groups
        `columns` is C_out or more, a multiple of 16.
    bias : array, shape (columns,)
    table : array, shape (rows, columns)
        Of ``tables.py``, for frames of nothing but 0 and 1; or empty.
    work : tuple of arrays
        `starts`, `sites`, `values`, `lines`, `row`, `bits` and `codes`.
    membrane : array, shape (samples, positions * C_out)
    spikes, compact : array, shape (T, N)
        Where spikes are written, of the weights' dtype or bool; the other is empty.
    place : int
        Where the tile begins in a frame of `spikes`.
    neurons : tuple
        decay, threshold, one, rounded and reset, as `hold` takes them.
    resting : bool
        The membranes are zero.
    most : scalar
        Events are whole, and of a magnitude up to this; negative: of any value.
    """
    starts, sites, values, lines, row, bits, codes = work
    decay, threshold, one, rounded, reset = neurons
    kernel, stride, dilation, start = window
    size, places = shape[0] * shape[1] * shape[2] * shape[3], out[2]
    columns, per_line = bias.size, kernel[2] * shape[3]
    run = kernel[2] if dilation[2] == 1 else 1  # taps whose places are neighbours
    span = membrane.shape[1] // (out[0] * out[1])
    channels = span // places
    listed, coded = (starts, sites, values), (codes, codes, values)
    for sample in range(membrane.shape[0]):
        for t in range(steps[0], steps[1]):
            begin = offsets[0] + (t - steps[0]) * offsets[1] + sample * offsets[2]
            if frames.size:
                frame = frames[begin : begin + size]
                looked_up = table.size and encode(frame, shape, places, window, bits, codes)
                kind = CODED if looked_up else _list_events(frame, shape[3], starts, sites, values)
            else:
                frame_ = numbers[begin : begin + size]
                looked_up = table.size and encode(frame_, shape, places, window, bits, codes)
                kind = CODED if looked_up else _list_events(frame_, shape[3], starts, sites, values)
            if kind == SCALED and most >= 0 and not _are_whole(values[: starts[starts.size - 1]], most):
                return False
            scale = (places, 1 << per_line, 0) if kind == CODED else (shape[2], per_line, shape[2] * shape[3])
            for line in range(out[0] * out[1]):
                depth, y = divmod(line, out[1])
                count = _lines(depth, y, shape, window, scale, lines)
                if kind != CODED:
                    count = _live(lines, count, starts, shape[2])
                if kind == CODED:
                    _add(table, kind, coded, lines, count, (0, 0, 1, 1, 0, 0, places), bias, 0, row)
                elif groups > 1:
                    for p in range(places):
                        for c in range(columns):
                            row[p * columns + c] = bias[c]
                    _scatter(weight, groups, listed, lines, count, shape, places, window, row)
                else:
                    for tap in range(0, kernel[2], run):
                        walk = (start[2] + tap * dilation[2], stride[2], shape[2], run, tap, shape[3], places)
                        _add(weight, kind, listed, lines, count, walk, row if tap else bias, columns if tap else 0, row)
                if columns != channels:
                    for p in range(1, places):
                        for c in range(channels):
                            row[p * channels + c] = row[p * columns + c]
                low = line * span
                u, current = membrane[sample, low : low + span], row[:span]
                fresh = resting and t == steps[0]
                if fresh:
                    u[:] = current
                at = place + sample * membrane.shape[1] + low
                first, last = t * steps[2], (t + 1) * steps[2]
                if compact.size:
                    hold(u, current, compact, first, last, at, decay, threshold, one, fresh, rounded, reset)
                else:
                    hold(u, current, spikes, first, last, at, decay, threshold, one, fresh, rounded, reset)
    return True
