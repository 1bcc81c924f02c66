"""Compiled loops of a weight's gradient that follows the spikes: for each tap and input channel, the sum of gradients that its events meet.

A frame's gradient by the currents is copied between margins of zeros, so every tap of every event reads a row of it, somewhere.
Events are sorted by channel: one sum after the other stays in registers.
"""

from __future__ import annotations

from typing import Any

from .events import _add, _list_events
from .loops import _compile

__all__ = ["weigh_frames"]


@_compile
def _pad(gradient: Any, out: Any, padded_shape: Any, margin: Any, padded: Any) -> None:
    """Copy the rows (places, C_out) of a frame to where their places are in `padded`, whose margins are zeros."""
    width = gradient.size // (out[0] * out[1] * out[2])
    for z in range(out[0]):
        for y in range(out[1]):
            first = ((z + margin[0]) * padded_shape[1] + y + margin[1]) * padded_shape[2] + margin[2]
            begin = (z * out[1] + y) * out[2] * width
            if padded.shape[1] == width:
                padded[first : first + out[2]].reshape(out[2] * width)[:] = gradient[begin : begin + out[2] * width]
            else:
                for x in range(out[2]):
                    padded[first + x, :width] = gradient[begin + x * width : begin + (x + 1) * width]


@_compile
def _is_finite(numbers: Any) -> bool:
    strange = 0
    for j in range(numbers.size):
        strange += numbers[j] - numbers[j] != 0
    return strange == 0


@_compile
def _sort(shape: Any, padded_shape: Any, shift: Any, listed: Any, begins: Any, sites: Any, values: Any) -> None:
    """Sort the events of a frame by channel; `sites` become the rows of the padded gradient that the first tap meets."""
    starts, found, numbers = listed
    channels = shape[3]
    begins[:] = 0
    for place in range(starts.size - 1):
        for e in range(starts[place], starts[place + 1]):
            begins[found[e] - place * channels + 2] += 1
    for c in range(2, channels + 2):
        begins[c] += begins[c - 1]
    place = 0
    for z in range(shape[0]):
        for y in range(shape[1]):
            row = ((z + shift[0]) * padded_shape[1] + y + shift[1]) * padded_shape[2] + shift[2]
            for x in range(shape[2]):
                for e in range(starts[place], starts[place + 1]):
                    c = found[e] - place * channels + 1
                    sites[begins[c]] = row + x
                    values[begins[c]] = numbers[e]
                    begins[c] += 1
                place += 1


@_compile
def weigh_frames(
    frames: Any, gradients: Any, shape: Any, out: Any, window: Any, padded_shape: Any, work: Any, total: Any
) -> bool:
    """Add the weight's gradient by some frames to `total`; False, and nothing of use, where a number is infinite or missing.

    Parameters
    ----------
    frames : array, shape (F, D * H * W * C)
    gradients : array, shape (F, places * C_out)
    shape, out : tuple of int
        The input's (D, H, W, C), and the output's (D, H, W); missing axes are 1.
    window : tuple
        Triples: the kernel, its dilation, the margins before the gradient, and where the first tap of an input meets it.
    padded_shape : tuple of int
        Of the gradient with its margins.
    work : tuple of arrays
        `starts`, `found`, `numbers`, `begins`, `sites`, `values`, `lines`, and the padded gradient.
    total : array, shape (taps, C_in * columns)
    """
    starts, found, numbers, begins, sites, values, lines, padded = work
    kernel, dilation, margin, shift = window
    channels = shape[3]
    walk = (0, 1, channels, 1, 0, 0, channels)
    for f in range(frames.shape[0]):
        kind = _list_events(frames[f], channels, starts, found, numbers)
        count = starts[starts.size - 1]
        # a product with 0, which is no event, would not be 0
        if not _is_finite(gradients[f]) or not _is_finite(numbers[:count]):
            return False
        if count == 0:
            continue
        _pad(gradients[f], out, padded_shape, margin, padded)
        _sort(shape, padded_shape, shift, (starts, found, numbers), begins, sites, values)
        tap = 0
        for a in range(kernel[0]):
            for b in range(kernel[1]):
                for c in range(kernel[2]):
                    lines[0, 1] = -(
                        (a * dilation[0] * padded_shape[1] + b * dilation[1]) * padded_shape[2] + c * dilation[2]
                    )
                    _add(padded, kind, (begins, sites, values), lines, 1, walk, total[tap], padded.shape[1], total[tap])
                    tap += 1
    return True
