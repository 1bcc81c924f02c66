"""The CUDA kernels of ``kernels.cu``: built once for each combination of dtypes, launched on the current stream.

A launch reads nothing from the device and copies nothing to it: parameters that are numbers travel as arguments of the
kernel. The caller makes the arrays' device the current one.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from tacops.backends._step import LIF_STEP, lif_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tacops._backend.protocol import Array
    from tacops._backend.steps import Recipe, Synapses

__all__ = ["REALS", "conv_lif", "fits_conv_lif", "lif", "new_spikes", "options", "source", "weighted_sum"]

REALS = {"float32": "float", "float64": "double"}
"""Computing dtypes; float16 would need rounding rules that no machine without a GPU can check."""
INPUTS = {
    "bool": "unsigned char",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
} | REALS
"""What frames may hold; other dtypes are cast before."""
BLOCK = 128
MOST_BLOCKS = 1 << 20
"""Beyond it, threads loop."""

# as in kernels.cu
LANES, ROOM_BYTES, MOST_WEIGHTS, MOST_ROWS = 8, 24 * 1024, 32, 65535
FAN_IN = 288
"""Most inputs of a neuron for which cores that read spikes one by one are thought to beat a matrix product."""
WINDOW = np.dtype(
    [
        (name, np.int32)
        for name in (
            *("height", "width", "channels", "rows", "columns", "filters", "kernel_height", "kernel_width"),
            *("stride_y", "stride_x", "top", "left", "dilation_y", "dilation_x"),
        )
    ]
)


@cache
def source() -> str:
    """The text of every kernel."""
    kernels = resources.files(__package__).joinpath("kernels.cu").read_text(encoding="utf-8")
    return f'#line 1 "{LIF_STEP}"\n{lif_step()}\n#line 1 "kernels.cu"\n{kernels}'


def options(real: str, frames: str = "bool", spike: str = "bool") -> tuple[str, ...]:
    """What the compiler is told about three dtypes: of numbers, of frames and of spikes."""
    spikes = "bool" if spike == "bool" else REALS[real]
    return f"-DREAL={REALS[real]}", f"-DINPUT={INPUTS[frames]}", f"-DSPIKE={spikes}"


@cache
def _kernel(name: str, *dtypes: str) -> Any:
    # a raw kernel compiles itself anew for every device that it is called on
    return cp.RawModule(code=source(), options=options(*dtypes)).get_function(name)


def new_spikes(step: Recipe, shape: tuple[int, ...], dtype: Any) -> Array:
    """Room for spikes."""
    return cp.empty(shape, dtype=bool if step.compact else dtype)


def lif(
    step: Recipe, currents: Array, start: Array | None, repeat: int, spikes: Array, membrane: Array
) -> tuple[Array, Array]:
    """Step neurons through currents (T, ..., C), into contiguous `spikes` (T * repeat, ..., C) and `membrane` (..., C).

    `start` may be `membrane`.
    """
    neurons = membrane.size
    if neurons:
        numbers, given = _neurons(step, repeat, currents.shape[-1], currents.dtype)
        currents, start = cp.ascontiguousarray(currents), _contiguous(start, currents.dtype)
        kernel = _kernel("lif", currents.dtype.name, "bool", spikes.dtype.name)
        counts = np.int64(currents.shape[0]), np.int64(neurons)
        kernel((_blocks(neurons),), (BLOCK,), (currents, start, *given, spikes, membrane, *counts, numbers))
    return spikes, membrane


def weighted_sum(x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
    """``sum_k weights[k] * x[:, k]`` of x (n, K, ..., C); weights are floats, or arrays of shape () or (C,)."""
    if x.dtype.name not in INPUTS:
        x = x.astype(dtype)
    sums = cp.empty((x.shape[0], *x.shape[2:]), dtype=dtype)
    if not sums.size:
        return sums
    size, width = len(weights), sums.size // len(sums)
    by_value, given, channels = np.zeros((1,), dtype=[("at", dtype, (MOST_WEIGHTS,))]), None, 1
    if size <= MOST_WEIGHTS and all(isinstance(weight, float) for weight in weights):
        by_value["at"][0, :size] = weights
    else:
        given = cp.stack([cp.asarray(weight, dtype=dtype) for weight in weights])
        channels = given.size // size
    kernel = _kernel("weighted_sum", sums.dtype.name, x.dtype.name)
    grid = _blocks(width), min(len(sums), MOST_ROWS)
    shape = np.int64(len(sums)), np.int32(size), np.int64(width), np.int32(channels)
    kernel(grid, (BLOCK,), (cp.ascontiguousarray(x), given, sums, *shape, by_value))
    return sums


def fits_conv_lif(conv: Synapses) -> bool:
    """Whether `conv_lif` can do a layer, and is thought to be faster than a matrix product."""
    filters, fan_in = conv.weight.shape[0], math.prod(conv.weight.shape[1:])
    room = fan_in * -(-filters // LANES) * LANES * conv.weight.dtype.itemsize
    plain = conv.weight.ndim == 4 and conv.window.groups == 1 and not conv.per_channel
    return plain and conv.weight.dtype.name in REALS and fan_in <= FAN_IN and room <= ROOM_BYTES


def conv_lif(
    conv: Synapses, step: Recipe, frames: Array, start: Array | None, repeat: int, spikes: Array, membrane: Array
) -> tuple[Array, Array]:
    """Convolve frames (T, B, H, W, C) and step the neurons, into `spikes` and `membrane` as `lif` does."""
    dtype, window = conv.weight.dtype, conv.window
    if frames.dtype.name not in INPUTS:
        frames = frames.astype(dtype)
    (top, _), (left, _) = window.padding
    corners = (*window.stride, top, left, *window.dilation)
    shape = (*frames.shape[2:], *membrane.shape[1:], *conv.weight.shape[1:-1], *corners)
    numbers, given = _neurons(step, repeat, membrane.shape[-1], dtype)
    arrays = cp.ascontiguousarray(frames), cp.ascontiguousarray(conv.weight), _contiguous(conv.bias, dtype)
    counts = np.int64(frames.shape[0]), np.int64(frames.shape[1])
    kernel = _kernel("conv_lif", dtype.name, frames.dtype.name, spikes.dtype.name)
    grid = (_blocks(math.prod(membrane.shape[:-1]) * -(-membrane.shape[-1] // LANES)),)
    result = spikes, membrane, *counts, np.array([shape], dtype=WINDOW), numbers
    kernel(grid, (BLOCK,), (*arrays, _contiguous(start, dtype), *given, *result))
    return spikes, membrane


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
            given.append(_contiguous(parameter, dtype))
    return numbers, (*given, _contiguous(step.poison, dtype))


@cache
def _neurons_dtype(real: str) -> np.dtype[Any]:
    whole = ("repeat", "reset", "rounded", "channels", "decay_step", "threshold_step")
    return np.dtype([*((name, np.int32) for name in whole), ("decay", real), ("threshold", real)], align=True)


def _contiguous(array: Array | None, dtype: Any) -> Array | None:
    return None if array is None else cp.ascontiguousarray(array, dtype=dtype)


def _blocks(threads: int) -> int:
    return min(-(-threads // BLOCK), MOST_BLOCKS)
