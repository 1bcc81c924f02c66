"""Which neurons are stepped by an engine: those that learn, on CPUs and GPUs, and on GPUs those that don't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tacops._backend.steps import Recipe, Reset
from tacops._core.checks import Derivative
from tacops.surrogate import Surrogate

from . import kernels, operation
from .host import has_tangent
from .own import NAME, run_own

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = ["moves", "run_kernel", "train_neurons"]


def train_neurons(step: Recipe, currents: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array] | None:
    """`Backend.scan` of a step that is differentiated or compiled; None where the core's path is to be taken."""
    given = currents, membrane, step.decay, step.threshold, step.unit, step.poison
    tensors = [x for x in given if isinstance(x, torch.Tensor)]
    if not _is_plain(step, currents, tensors) or any(map(moves, tensors)):
        return None
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    surrogate = step.surrogate.surrogate if isinstance(step.surrogate, Derivative) else step.surrogate
    own = learns and not (surrogate is None or type(surrogate) is Surrogate)
    if own and not (operation.engine_for(currents.device) is kernels and kernels.is_direct(tensors)):
        return None
    name, slope = (surrogate.name, surrogate.slope) if type(surrogate) is Surrogate else (NAME if own else "", 1.0)
    rows = [x.expand(currents.shape[-1]) if isinstance(x, torch.Tensor) else None for x in given[2:5]]
    # nothing depends on these: they get no gradient, not one of zeros
    if membrane is None and currents.shape[0] * repeat == 1:
        rows[0] = _constant(rows[0])
    if not name and step.reset in (Reset.NONE, Reset.ZERO):
        rows[1] = _constant(rows[1])
    if learns and membrane is not None and not membrane.requires_grad:
        membrane = membrane.clone()  # a state that is then written into, as training loops do
    beta, theta = (x if isinstance(x, float) else 1.0 for x in (step.decay, step.threshold))
    flags = repeat, int(step.reset), step.rounded, step.detach_reset, step.compact, name, slope, learns
    arrays, settings = (currents, membrane, *rows, step.poison), operation.Settings(beta, theta, *flags)
    if own and step.surrogate is not None:
        spikes, after = run_own(step.surrogate, settings, *arrays)
    else:
        spikes, after, _ = operation.neurons(*arrays, *settings)
    if not learns:
        return spikes, after
    # each a place of its own in the graph: hooks of one output are not called for the other
    return spikes.view_as(spikes) if name else spikes.detach(), after.view_as(after)


def run_kernel(step: Recipe, currents: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array] | None:
    """`Backend.scan` on a GPU, where nothing is differentiated; None where there is no kernel for it."""
    given = currents, membrane, step.decay, step.threshold, step.poison
    tensors = [x for x in given if isinstance(x, torch.Tensor)]
    if operation.engine_for(currents.device) is not kernels or not _is_plain(step, currents, tensors):
        return None
    if not kernels.is_direct(tensors):
        return train_neurons(step, currents, membrane, repeat)
    return kernels.forth(step, currents, membrane, repeat, False)[:2]


def _is_plain(step: Recipe, currents: Array, tensors: list[Array]) -> bool:
    """Whether an engine takes a step on tensors of one dtype, whose parameters are numbers or rows of channels."""
    if currents.ndim < 2 or not currents.numel() or any(x.dtype != currents.dtype for x in tensors):
        return False
    parameters = step.decay, step.threshold, step.unit
    if any(isinstance(x, torch.Tensor) and x.ndim > 1 for x in parameters):
        return False
    # what inference mode made can't be kept for a backward pass; the core keeps what it needs
    if not torch.compiler.is_compiling() and torch.is_grad_enabled() and any(x.is_inference() for x in tensors):
        return False
    return operation.engine_for(currents.device).takes(step, tensors)


def _constant(x: Array | None) -> Array | None:
    return None if x is None else x.detach()


def moves(x: Any) -> bool:
    """Whether a tensor stands for others, or has a derivative along a direction."""
    if torch.compiler.is_compiling():
        return _transforms() or bool(torch.autograd.forward_ad._current_level >= 0)
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x)) or has_tangent(x)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _transforms() -> bool:
    """Whether a compiler is inside a transform of `torch.func`."""
    return torch._C._functorch.peek_interpreter_stack() is not None
