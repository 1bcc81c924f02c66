"""Layers of reproducible mode on NVIDIA's GPUs whose convolution and neurons are one kernel on tensor cores (``_triton/layers.py``).

Which layers, that is a rule of shapes and dtypes alone, `is_fused`: nothing is read from the device. For inference: where
anything is differentiated, vectorised or exported, PyTorch's convolution and the neurons' own kernel follow each other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from tacops._backend.steps import Recipe, Reset
from tacops._backend.window import Window

from .._triton import layout
from . import kernels
from .training import moves

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Synapses

__all__ = ["is_fused", "layer", "learns", "run_fused"]

NEURONS = 1 << 16
"""Neurons from which a layer fills a GPU: 32 programs of the kernel, each of which walks through time alone."""
WALK = 1 << 12
"""Frames times inputs of a neuron up to which that walk is short, however few they are. Neither was measured, for want of a GPU."""
_COUNTS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_DTYPES = (*_COUNTS, torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Settings(NamedTuple):
    """What the operation is given beside arrays, as in its schema."""

    beta: float
    theta: float
    """Decay and threshold, where they are no arrays."""
    repeat: int
    reset: int
    compact: bool
    stride: list[int]
    low: list[int]
    high: list[int]
    dilation: list[int]

    def recipe(self, decay: Any, threshold: Any, poison: Any) -> Recipe:
        """The step."""
        decay, threshold = self.beta if decay is None else decay, self.theta if threshold is None else threshold
        return Recipe(decay, threshold, Reset(self.reset), True, self.compact, poison)

    @property
    def window(self) -> Window:
        """How the kernel moves."""
        padding = tuple(zip(self.low, self.high, strict=True))
        return Window(tuple(self.stride), padding, tuple(self.dilation), 1)


def run_fused(
    conv: Synapses, step: Recipe, frames: Array, membrane: Array | None, repeat: int
) -> tuple[Array, Array] | None:
    """`Backend.schedule` in one launch, after aggregation; None where the layer goes another way."""
    given = conv.weight, conv.bias, membrane, step.decay, step.threshold, step.poison, frames
    tensors = [x for x in given if isinstance(x, torch.Tensor)]
    # the sizes last: to ask for one that varies is a guard, which a program made for a CPU must not have
    if learns(tensors) or not kernels.fuses(step, tensors) or not is_fused(conv, step, frames):
        return None
    frames, weight = conv.aggregate(frames), conv.weight.to(torch.float16)
    if kernels.is_direct(tensors):
        return kernels.layer(step, frames, weight, conv.bias, conv.window, membrane, repeat)
    window, arrays = conv.window, [x if isinstance(x, torch.Tensor) else None for x in given[3:6]]
    beta, theta = (x if isinstance(x, float) else 1.0 for x in given[3:5])
    low, high = [a for a, _ in window.padding], [b for _, b in window.padding]
    settings = Settings(
        beta, theta, repeat, int(step.reset), step.compact, list(window.stride), low, high, list(window.dilation)
    )
    spikes, after = layer(frames, weight, conv.bias, membrane, *arrays, *settings)
    return spikes, after


def is_fused(conv: Synapses, step: Recipe, frames: Array) -> bool:
    """Whether a layer is one for the kernel: its numbers, its dtypes, its geometry, its size.

    At most two spatial dimensions, without groups, or a dense layer; float32 weights; parameters that are numbers or rows.
    """
    dims, weight = len(conv.window.stride), conv.weight
    if not (conv.fits_half and step.rounded) or weight.dtype != torch.float32 or frames.dtype not in _DTYPES:
        return False
    parameters = [x for x in (step.decay, step.threshold) if not isinstance(x, float)]
    if dims > 2 or conv.window.groups > 1 or any(x.ndim > 1 for x in parameters):
        return False
    count, (batch, *space) = frames.shape[0] // conv.chunk_size, frames.shape[1:-1]
    if dims:
        space = list(conv.window.output_shape(space, weight.shape[1:-1]))
    neurons, fan_in = batch * math.prod(space) * weight.shape[0], math.prod(weight.shape[1:])
    return bool(count * neurons * fan_in > 0 and (neurons >= NEURONS or count * fan_in <= WALK))


def learns(tensors: list[Array]) -> bool:
    """Whether anything is differentiated, or stands for others."""
    return (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)) or any(map(moves, tensors))


def _layer(frames: Array, weight: Array, bias: Any, membrane: Any, *given: Any) -> tuple[Array, Array]:
    arrays, settings = [None if x is None else x.resolve_neg() for x in given[:3]], Settings(*given[3:])
    step = settings.recipe(*arrays)
    x, w, b, start = (None if x is None else x.resolve_neg() for x in (frames, weight, bias, membrane))
    return kernels.layer(step, x, w, b, settings.window, start, settings.repeat)


layer: Any = torch.library.custom_op(
    "tacops::layer",
    _layer,
    mutates_args=(),
    schema="(Tensor frames, Tensor weight, Tensor? bias, Tensor? membrane, Tensor? decay, Tensor? threshold, Tensor? poison,"
    " float beta, float theta, int repeat, int reset, bool compact, int[] stride, int[] low, int[] high, int[] dilation)"
    " -> (Tensor, Tensor)",
)


@layer.register_fake  # type: ignore[untyped-decorator]
def _fake(frames: Array, weight: Array, *given: Any) -> tuple[Array, Array]:
    settings = Settings(*given[5:])
    return layout.layer_results(frames, weight, settings.window, settings.repeat, settings.compact)
