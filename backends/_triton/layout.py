"""Where neurons lie in memory: in any order of the axes, as long as those of a frame fill one piece.

Neurons don't touch each other, so the kernels walk along memory; what a convolution returns channels first is not copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window

__all__ = ["in_order", "inner", "layer_results", "like", "output_space", "per_channel", "results"]


def in_order(currents: Array) -> Array:
    """`currents` (n, B, ..., C), copied if the numbers of a frame don't fill one piece of memory."""
    return currents if _is_dense(currents.shape[1:], currents.stride()[1:]) else currents.contiguous()


def results(currents: Array, repeat: int, compact: bool, keep: bool) -> tuple[Array, Array, Array]:
    """Empty spikes (n * repeat, ...), membranes (...), and kept membranes (n * repeat, ...) or (0,), laid out as `currents`."""
    shape, strides = tuple(currents.shape[1:]), tuple(in_order(currents).stride()[1:])
    dtype, device = currents.dtype, currents.device
    size = 1
    for extent in shape:
        size *= extent

    def empty(dtype: Any) -> Array:
        return torch.empty_strided((len(currents) * repeat, *shape), (size, *strides), dtype=dtype, device=device)

    kept = empty(dtype) if keep else torch.empty(0, dtype=dtype, device=device)
    after = torch.empty_strided(shape, strides, dtype=dtype, device=device)
    return empty(torch.bool if compact else dtype), after, kept


def output_space(frames: Array, weight: Array, window: Window) -> tuple[int, ...]:
    """Spatial shape of a layer's output for frames (n, B, *S, C_in); of a dense one, that of its input."""
    if not window.stride:
        return tuple(frames.shape[2:-1])
    return window.output_shape(frames.shape[2:-1], weight.shape[1:-1])


def layer_results(frames: Array, weight: Array, window: Window, repeat: int, compact: bool) -> tuple[Array, Array]:
    """Empty spikes (n * repeat, B, *S_out, C_out) and float32 membranes of a layer, channels last in memory."""
    shape = (frames.shape[1], *output_space(frames, weight, window), weight.shape[0])
    spikes = frames.new_empty((frames.shape[0] * repeat, *shape), dtype=torch.bool if compact else torch.float32)
    return spikes, frames.new_empty(shape, dtype=torch.float32)


def inner(frame: Array) -> int:
    """Neurons of a frame in memory that follow each other within one channel."""
    return frame.stride(-1) if frame.shape[-1] > 1 else 1


def like(x: Array, reference: Array) -> Array:
    """`x` laid out as `reference`; copied if it isn't."""
    strides = zip(x.shape, x.stride(), reference.stride(), strict=True)
    if all(a == b for size, a, b in strides if size > 1):
        return x
    return torch.empty_strided(reference.shape, reference.stride(), dtype=x.dtype, device=x.device).copy_(x)


def per_channel(x: Array, frame: Array) -> Array:
    """The sum of numbers (N,), one for each neuron as it lies in memory, over each channel (C,), in the frame's dtype."""
    return x.reshape(-1, frame.shape[-1], inner(frame)).sum((0, 2)).to(frame.dtype)


def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True
