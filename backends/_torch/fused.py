"""Layers on NVIDIA's GPUs whose convolution and neurons are one kernel on tensor cores (``_triton/layers.py``).

Those of reproducible mode; and those of the default path on bool spikes, where the user has switched that on (``_switches.py``). Which
layers, that is a rule of shapes and dtypes alone, `is_known` and `is_worth_it`: nothing is read from the device. For inference: where
anything is differentiated, vectorised or exported, PyTorch's convolution and the neurons' own kernel follow each other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from tacops._backend.steps import Potential, Recipe, Reset, membrane_of
from tacops._backend.window import Window

from .._switches import TENSOR_CORES, wants_tensor_cores
from .._triton import layout
from . import kernels
from .constants import half
from .training import moves

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, State, Synapses

__all__ = ["describe_parts", "is_known", "is_worth_it", "layer", "learns", "run_fused"]

NEURONS = 1 << 16
"""Neurons from which a layer fills a GPU: 32 programs of the kernel, each of which walks through time alone."""
WALK = 1 << 12
"""Frames times inputs of a neuron up to which that walk is short, however few they are. Neither was measured, for want of a GPU."""
MOST_FILTERS = 1 << 20
"""CUDA's limit of a grid's second axis is 2^16 - 1 programs, of 32 filters or more."""
_COUNTS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_DTYPES = (*_COUNTS, torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Settings(NamedTuple):
    """What the operation is given beside arrays, as in its schema."""

    beta: float
    theta: float
    """Decay and threshold, where they are no arrays."""
    repeat: int
    reset: int
    rounded: bool
    compact: bool
    stride: list[int]
    low: list[int]
    high: list[int]
    dilation: list[int]

    def recipe(self, decay: Any, threshold: Any, poison: Any, unit: Any) -> Recipe:
        """The step."""
        decay, threshold = self.beta if decay is None else decay, self.theta if threshold is None else threshold
        return Recipe(decay, threshold, Reset(self.reset), self.rounded, self.compact, poison, unit=unit)

    @property
    def window(self) -> Window:
        """How the kernel moves."""
        padding = tuple(zip(self.low, self.high, strict=True))
        return Window(tuple(self.stride), padding, tuple(self.dilation), 1)


def run_fused(
    conv: Synapses, step: Recipe, frames: Array, state: State | None, repeat: int
) -> tuple[Array, State] | None:
    """`Backend.schedule` in one launch, after aggregation; None where the layer goes another way."""
    if not is_known(conv, step, frames):
        return None
    membrane = membrane_of(state)
    given = conv.weight, conv.bias, membrane, step.decay, step.threshold, step.poison, step.unit, frames
    tensors = [x for x in given if isinstance(x, torch.Tensor)]
    if learns(tensors) or not kernels.takes(step, tensors):
        return None
    # sizes last: an exporter would hold its programs to what is asked of them
    if not is_worth_it(conv, frames) or not kernels.fuses(tensors, step.rounded):
        return None
    frames, weight = conv.aggregate(frames), half(conv.weight) if step.rounded else conv.weight
    if kernels.is_direct(tensors):
        return _with_state(step, *kernels.layer(step, frames, weight, conv.bias, conv.window, membrane, repeat))
    window, arrays = conv.window, [x if isinstance(x, torch.Tensor) else None for x in given[3:7]]
    beta, theta = (x if isinstance(x, float) else 1.0 for x in given[3:5])
    low, high = [a for a, _ in window.padding], [b for _, b in window.padding]
    flags = repeat, int(step.reset), step.rounded, step.compact
    settings = Settings(beta, theta, *flags, list(window.stride), low, high, list(window.dilation))
    return _with_state(step, *layer(frames, weight, conv.bias, membrane, *arrays, *settings))


def _with_state(step: Recipe, spikes: Array, after: Array) -> tuple[Array, State]:
    return spikes, (after,) if step.unit is None else Potential(after)


def is_known(conv: Synapses, step: Recipe, frames: Array) -> bool:
    """Whether the kernel can do a layer: its numbers, its dtypes, its geometry.

    At most two spatial dimensions, without groups, or a dense layer; float32 weights; parameters that are numbers or rows.
    """
    dims, weight = len(conv.window.stride), conv.weight
    fits = conv.fits_half if step.rounded else _is_binary(conv, frames) and _is_switched_on()
    if not fits or weight.dtype != torch.float32 or frames.dtype not in _DTYPES:
        return False
    parameters = [x for x in (step.decay, step.threshold, step.unit) if not (x is None or isinstance(x, float))]
    return dims <= 2 and conv.window.groups == 1 and all(x.ndim <= 1 for x in parameters)


def _is_binary(conv: Synapses, frames: Array) -> bool:
    """Whether the default path multiplies by 0 and 1 alone, which is known of bool frames that are not summed."""
    return bool(frames.dtype == torch.bool) and conv.aggregation is None and not conv.exact


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_switched_on() -> bool:
    return wants_tensor_cores()


def is_worth_it(conv: Synapses, frames: Array) -> bool:
    """Whether a layer is of a size for the kernel; a launch has less than 2^16 programs along its filters."""
    dims, weight = len(conv.window.stride), conv.weight
    count, (batch, *space) = frames.shape[0] // conv.chunk_size, frames.shape[1:-1]
    if dims:
        space = list(conv.window.output_shape(space, weight.shape[1:-1]))
    neurons, fan_in = batch * math.prod(space) * weight.shape[0], math.prod(weight.shape[1:])
    if not count * neurons * fan_in > 0 or weight.shape[0] > MOST_FILTERS:
        return False
    return bool(neurons >= NEURONS or count * fan_in <= WALK)


def learns(tensors: list[Array]) -> bool:
    """Whether anything is differentiated, or stands for others."""
    return (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)) or any(map(moves, tensors))


def _layer(frames: Array, weight: Array, bias: Any, membrane: Any, *given: Any) -> tuple[Array, Array]:
    arrays, settings = [None if x is None else x.resolve_neg() for x in given[:4]], Settings(*given[4:])
    step = settings.recipe(*arrays)
    x, w, b, start = (None if x is None else x.resolve_neg() for x in (frames, weight, bias, membrane))
    return kernels.layer(step, x, w, b, settings.window, start, settings.repeat)


layer: Any = torch.library.custom_op(
    "tacops::layer",
    _layer,
    mutates_args=(),
    schema="(Tensor frames, Tensor weight, Tensor? bias, Tensor? membrane, Tensor? decay, Tensor? threshold, Tensor? poison,"
    " Tensor? unit, float beta, float theta, int repeat, int reset, bool rounded, bool compact, int[] stride, int[] low, int[] high,"
    " int[] dilation)"
    " -> (Tensor, Tensor)",
)


@layer.register_fake  # type: ignore[untyped-decorator]
def _fake(frames: Array, weight: Array, *given: Any) -> tuple[Array, Array]:
    settings = Settings(*given[6:])
    return layout.layer_results(frames, weight, settings.window, settings.repeat, settings.compact)


def describe_parts(device: Any) -> str:
    """How layers of the default path are computed on a GPU at inference."""
    if not wants_tensor_cores():
        return f"a convolution, then neurons; on bool spikes tensor cores with {TENSOR_CORES}=1"
    reason = kernels.missing_parts(device)
    if reason is not None:
        return f"a convolution, then neurons ({reason})"
    return f"one Triton kernel on tensor cores where spikes are bool ({TENSOR_CORES}=1); never run on a GPU so far"
