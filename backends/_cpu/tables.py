"""Tables of partial sums: with few input channels, the spikes under a line of the kernel are the bits of an index."""

from __future__ import annotations

from typing import Any

from .loops import _compile

__all__ = ["encode"]


@_compile
def encode(frame: Any, shape: Any, places: int, window: Any, bits: Any, codes: Any) -> bool:
    """For each line of the input and each column of the output, the spikes in reach as bits; False if some are not 0 or 1.

    ``bits`` (W,) is for the spikes of one place; ``codes`` has (D * H * places) numbers.
    """
    kernel, stride, dilation, start = window
    size, channels = shape[2], shape[3]
    for line in range(shape[0] * shape[1]):
        part = frame[line * size * channels : (line + 1) * size * channels]
        if not _spikes(part, channels, bits):
            return False
        found = codes[line * places : (line + 1) * places]
        found[:] = 0
        for tap in range(kernel[2]):
            begin, shift = start[2] + tap * dilation[2], tap * channels
            first = min(places, max(0, -(begin // stride[2])))  # the first place whose input is not before the line
            last = min(places, max(first, (size - 1 - begin) // stride[2] + 1))
            here, seen = found[first:last], bits[begin + first * stride[2] :]
            if stride[2] == 1:
                for p in range(here.size):
                    here[p] |= seen[p] << shift
            else:
                for p in range(here.size):
                    here[p] |= seen[p * stride[2]] << shift
    return True


@_compile
def _spikes(part: Any, channels: int, bits: Any) -> bool:
    """The spikes of each place of a line as bits; False if some are neither 0 nor 1."""
    strange = 0
    if channels == 1:  # a loop of its own, which is vectorised
        for place in range(bits.size):
            strange |= (part[place] != 0) & (part[place] != 1)
            bits[place] = part[place] != 0
        return strange == 0
    for place in range(bits.size):
        code = 0
        for c in range(channels):
            value = part[place * channels + c]
            strange |= (value != 0) & (value != 1)
            code |= (value != 0) << c
        bits[place] = code
    return strange == 0
