"""Launching the kernels of neurons and of aggregation on the current stream.

A launch reads nothing from the device and copies nothing to it: parameters that are numbers travel as arguments of the
kernel. The caller makes the arrays' device the current one.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from . import building
from .building import INPUTS, REALS, contiguous

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tacops._backend.protocol import Array
    from tacops._backend.steps import Recipe, Synapses

__all__ = ["FAN_IN", "MOST_WEIGHTS", "conv_lif", "fits_conv_lif", "lif", "new_spikes", "weighted_sum"]

# as in the kernels
LANES, MOST_WEIGHTS, MOST_ROWS = 8, 32, 65535
ROOM_BYTES = 24 * 1024
"""Most shared memory of a block of `conv_lif`, so that several fit a multiprocessor of any GPU."""
FAN_IN = 288
"""Most inputs of a neuron for which cores that read spikes one by one are thought to beat a matrix product."""
RESIDENT = 8
"""Blocks of `conv_lif` per multiprocessor: each copies the weights once, and stays."""
WINDOW = np.dtype(
    [
        (name, np.int32)
        for name in (
            *("height", "width", "channels", "rows", "columns", "filters", "kernel_height", "kernel_width"),
            *("stride_y", "stride_x", "top", "left", "dilation_y", "dilation_x"),
        )
    ]
)


def new_spikes(step: Recipe, shape: tuple[int, ...], dtype: Any) -> Array:
    """Room for spikes."""
    return cp.empty(shape, dtype=bool if step.compact else dtype)


def lif(
    step: Recipe,
    currents: Array,
    bias: Array | None,
    start: Array | None,
    repeat: int,
    spikes: Array,
    membrane: Array,
) -> tuple[Array, Array]:
    """Step neurons through currents (T, ..., C) plus `bias` (C,).

    Into contiguous `spikes` (T * repeat, ..., C) and `membrane` (..., C); `start` may be `membrane`.
    """
    neurons, dtype = membrane.size, currents.dtype
    if neurons:
        numbers, given = _neurons(step, repeat, currents.shape[-1], dtype)
        currents, start, bias = cp.ascontiguousarray(currents), contiguous(start, dtype), contiguous(bias, dtype)
        width = building.run(neurons, dtype.itemsize, currents, start, spikes, membrane)
        narrow = building.is_narrow(currents.size, spikes.size, neurons)
        counts = _counts(narrow, currents.shape[0], neurons)
        kernel = building.kernel("lif", dtype.name, "bool", spikes.dtype.name, width, narrow)
        arrays = currents, bias, start, *given, spikes, membrane
        kernel((building.blocks(neurons // width),), (building.BLOCK,), (*arrays, *counts, numbers))
    return spikes, membrane


def weighted_sum(x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
    """``sum_k weights[k] * x[:, k]`` of x (n, K, ..., C); weights are floats, or arrays of shape () or (C,)."""
    x = cp.ascontiguousarray(x, dtype=None if x.dtype.name in INPUTS else dtype)
    sums = cp.empty((x.shape[0], *x.shape[2:]), dtype=dtype)
    if not sums.size:
        return sums
    size, width = len(weights), sums.size // len(sums)
    numbers, given, channels = None, None, 1
    if all(isinstance(weight, float) for weight in weights):
        numbers = np.array(weights, dtype=dtype)
    else:
        given = cp.stack([cp.asarray(weight, dtype=dtype) for weight in weights])
        channels = given.size // size
    count, narrow = building.run(width, dtype.itemsize, x, sums), building.is_narrow(x.size, sums.size)
    kernel = building.kernel("weighted_sum", sums.dtype.name, x.dtype.name, "bool", count, narrow)
    grid = building.blocks(width // count), min(len(sums), MOST_ROWS)
    shape = np.int64(len(sums)), np.int32(size), *_counts(narrow, width), np.int32(channels)
    for begin in range(0, size, size if numbers is None else MOST_WEIGHTS):
        by_value = np.zeros((1,), dtype=[("at", dtype, (MOST_WEIGHTS,))])
        end = size
        if numbers is not None:
            end = min(size, begin + MOST_WEIGHTS)
            by_value["at"][0, : end - begin] = numbers[begin:end]
        arguments = x, given, sums, *shape, np.int32(begin), np.int32(end), by_value
        kernel(grid, (building.BLOCK,), arguments)
    return sums


def fits_conv_lif(conv: Synapses) -> bool:
    """Whether `conv_lif` can do a layer, and is thought to be faster than a matrix product."""
    filters, fan_in = conv.weight.shape[0], math.prod(conv.weight.shape[1:])
    plain = conv.weight.ndim == 4 and conv.window.groups == 1 and not conv.per_channel
    if not plain or conv.weight.dtype.name not in REALS:
        return False
    return 0 < fan_in <= FAN_IN and filters > 0 and _room(conv.weight) <= ROOM_BYTES


def conv_lif(
    conv: Synapses, step: Recipe, frames: Array, start: Array | None, repeat: int, spikes: Array, membrane: Array
) -> tuple[Array, Array]:
    """Convolve frames (T, B, H, W, C) and step the neurons, into `spikes` and `membrane` as `lif` does."""
    dtype, window = conv.weight.dtype, conv.window
    if not membrane.size:
        return spikes, membrane
    frames = cp.ascontiguousarray(frames, dtype=None if frames.dtype.name in INPUTS else dtype)
    (top, _), (left, _) = window.padding
    corners = (*window.stride, top, left, *window.dilation)
    shape = (*frames.shape[2:], *membrane.shape[1:], *conv.weight.shape[1:-1], *corners)
    filters = membrane.shape[-1]
    numbers, given = _neurons(step, repeat, filters, dtype)
    arrays = frames, cp.ascontiguousarray(conv.weight), contiguous(conv.bias, dtype), contiguous(start, dtype)
    whole = filters % LANES == 0 and building.run(LANES, 2, spikes, membrane) == LANES
    threads = membrane.size // filters * -(-filters // LANES)
    narrow = building.is_narrow(frames.size, spikes.size, threads)
    chosen = dtype.name, frames.dtype.name, spikes.dtype.name, LANES if whole else 1, narrow
    counts = np.int32(frames.shape[0]), *_counts(narrow, frames.shape[1])
    grid = (min(building.blocks(threads), building.processors() * RESIDENT),)
    arguments = *arrays, *given, spikes, membrane, *counts, np.array([shape], dtype=WINDOW), numbers
    building.kernel("conv_lif", *chosen)(grid, (building.BLOCK,), arguments, shared_mem=_room(conv.weight))
    return spikes, membrane


def _room(weight: Array) -> int:
    """Bytes of shared memory: filters are whole runs of `LANES`."""
    return int(math.prod(weight.shape[1:]) * -(-weight.shape[0] // LANES) * LANES * weight.dtype.itemsize)


def _counts(narrow: bool, *sizes: int) -> tuple[Any, ...]:
    return tuple(map(np.int32 if narrow else np.int64, sizes))


def _neurons(step: Recipe, repeat: int, channels: int, dtype: Any) -> tuple[Any, tuple[Array | None, ...]]:
    """The kernels' struct Neurons, and the three parameters that may be arrays."""
    numbers = np.zeros((1,), dtype=_neurons_dtype(dtype.name))
    numbers["repeat"], numbers["reset"], numbers["rounded"] = repeat, step.reset, step.rounded
    numbers["channels"] = channels
    given: list[Array | None] = []
    for name, parameter in (("decay", step.decay), ("threshold", step.threshold)):
        if isinstance(parameter, float):
            numbers[name] = parameter
            given.append(None)
        else:
            numbers[f"{name}_step"] = parameter.size > 1
            given.append(contiguous(parameter, dtype))
    return numbers, (*given, contiguous(step.poison, dtype))


@cache
def _neurons_dtype(real: str) -> np.dtype[Any]:
    whole = ("repeat", "reset", "rounded", "channels", "decay_step", "threshold_step")
    return np.dtype([*((name, np.int32) for name in whole), ("decay", real), ("threshold", real)], align=True)
