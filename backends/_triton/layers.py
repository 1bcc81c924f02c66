"""Launching convolution and neurons as one kernel: frames are read where they lie, in whatever order of their axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from .convolving import conv_lif
from .launching import OPTIONS, of_neurons, on, parameter
from .layout import layer_results, output_space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tacops._backend.protocol import Array, Window
    from tacops._backend.steps import Recipe

__all__ = ["layer"]

BLOCK = (64, 32)
"""Positions and filters of a program: the sums and membranes of 16 neurons for each thread. Not measured, for want of a GPU."""
BLOCK_10 = (32, 64)
"""On GPUs of compute capability 10 and 11, for which Triton 3.9 fails to compile some layers of 64 positions."""


class Plane(NamedTuple):
    """A layer of two spatial dimensions: those of fewer have rows, or rows and columns, of one."""

    frames: Array
    """(n, B, H, W, C)."""
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    """Zeros before the first row and column."""
    padded: bool
    space: tuple[int, int]
    """Rows and columns of the output."""


def layer(
    step: Recipe,
    frames: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    membrane: Array | None,
    repeat: int,
) -> tuple[Array, Array]:
    """Spikes and the last membranes; of a step with a `unit` as potentials.

    Parameters
    ----------
    step : Recipe
        Rounded where all numbers are integers; else frames are bool.
    frames : array, shape (n, B, *S, C_in)
        Up to two spatial dimensions, or with a `window` of none any others.
    weight : array, shape (C_out, *kernel, C_in)
        float16 where the step is rounded, else float32.
    bias : array or None, shape (C_out,)
    window : Window
    membrane : array or None, shape (B, *S_out, C_out)
    repeat : int
    """
    plane = _as_plane(frames, weight, window)
    spikes, after = layer_results(frames, weight, window, repeat, step.compact)
    pointers, numbers, flags = of_neurons(step, after)
    unit, _, unit_step, units = parameter(1.0 if step.unit is None else step.unit, after)
    x = plane.frames.view(torch.int8) if plane.frames.dtype == torch.bool else plane.frames
    filters, channels = weight.shape[0], weight.shape[-1]
    (places, block), (depth, by_tap) = _block(x), _depth(x, math.prod(plane.kernel), step.rounded)
    positions = after.numel() // filters
    with on(x):
        conv_lif[(-(-positions // places), -(-filters // block))](
            frames=x,
            weights=weight.contiguous(),
            bias=after if bias is None else bias.contiguous(),
            start=after if membrane is None else membrane.contiguous(),
            units=after if unit is None else unit,
            spikes=spikes.view(torch.int8) if step.compact else spikes,
            membrane=after,
            count=len(x),
            repeat=repeat,
            positions=positions,
            height=x.shape[2],
            width=x.shape[3],
            rows=plane.space[0],
            columns=plane.space[1],
            filters=filters,
            **dict(zip(("by_frame", "by_sample", "by_row", "by_column", "by_channel"), x.stride(), strict=True)),
            stride_y=plane.stride[0],
            stride_x=plane.stride[1],
            dilation_y=plane.dilation[0],
            dilation_x=plane.dilation[1],
            top=plane.before[0],
            left=plane.before[1],
            unit_step=unit_step,
            WHOLE=step.rounded,
            BIAS=bias is not None,
            STARTS=membrane is not None,
            UNITS=units,
            COMPACT=step.compact,
            PADDED=plane.padded,
            BY_TAP=by_tap,
            TAPS=math.prod(plane.kernel),
            TAP_ROW=plane.kernel[1],
            CHANNELS=channels,
            PLACES=places,
            FILTERS=block,
            DEPTH=depth,
            **pointers,
            **{name: numbers[name] for name in ("decay", "threshold", "decay_step", "threshold_step")},
            **{name: flags[name] for name in ("RESET", "DECAYS", "THRESHOLDS", "POISON")},
            **OPTIONS,
        )
    return spikes, after


def _block(x: Array) -> tuple[int, int]:
    if x.device.type != "cuda":
        return BLOCK
    return BLOCK_10 if torch.cuda.get_device_capability(x.device)[0] in (10, 11) else BLOCK


def _depth(x: Array, taps: int, whole: bool) -> tuple[int, bool]:
    """How many terms of a sum are multiplied at a time, and whether they are channels of one tap; fewer of weights in parts."""
    channels = x.shape[-1]
    if channels >= 32:
        return (64 if channels % 64 == 0 and x.dtype.itemsize == 1 and whole else 32), True
    return (32 if channels * taps > 16 else 16), False


def _as_plane(frames: Array, weight: Array, window: Window) -> Plane:
    dims = len(window.stride)
    space = output_space(frames, weight, window) if dims else ()
    if not dims:
        frames = frames.reshape(len(frames), -1, 1, 1, frames.shape[-1])
    elif dims == 1:
        frames = frames.unsqueeze(2)
    return Plane(
        frames,
        _pair(weight.shape[1:-1], 1),
        _pair(window.stride, 1),
        _pair(window.dilation, 1),
        _pair([low for low, _ in window.padding], 0),
        any(map(any, window.padding)),
        _pair(space, 1),
    )


def _pair(values: Sequence[int], missing: int) -> tuple[int, int]:
    first, second = [missing] * (2 - len(values)) + list(values)
    return first, second
