"""Neurons that learn, on CPUs: one operation of PyTorch's, whose gradient is a compiled loop (``_cpu/backwards.py``).

It keeps the currents alone, and computes the membranes once more. Gradients of gradients, and gradients that are
vectorised, go by the core's own steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tacops._backend.dispatch import backend_of
from tacops._backend.protocol import Backend
from tacops._backend.steps import Recipe, Reset
from tacops._core.checks import Derivative
from tacops._core.neurons import LIFStep
from tacops.surrogate import Surrogate

from .._cpu.tiles import scan_tiles
from .._cpu.training import can_train, neurons_back
from .host import has_tangent, is_beyond_loops, is_traced, shares_memory

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = ["train_neurons"]

_REAL = (torch.float32, torch.float64)


def train_neurons(step: Recipe, currents: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array] | None:
    """`Backend.scan` of a step that is differentiated; None where the core's path is to be taken."""
    given = currents, membrane, step.decay, step.threshold, step.unit
    tensors = [x for x in given if isinstance(x, torch.Tensor)]
    surrogate = step.surrogate.surrogate if isinstance(step.surrogate, Derivative) else step.surrogate
    if not (surrogate is None or type(surrogate) is Surrogate) or currents.dtype not in _REAL or currents.ndim < 2:
        return None
    if not all(x.dtype == currents.dtype and shares_memory(x) for x in tensors) or any(map(_moves, tensors)):
        return None
    if any(isinstance(x, torch.Tensor) and x.ndim > 1 for x in given[2:]) or not currents.numel():
        return None
    if any(x.is_inference() for x in tensors):  # which can't be kept for a backward pass; the core keeps what it needs
        return None
    if not can_train(np.dtype(str(currents.dtype).removeprefix("torch."))):
        return None
    name, slope = ("", 1.0) if surrogate is None else (surrogate.name, surrogate.slope)
    rows = [_row(x, currents) for x in given[2:]]
    # nothing depends on these: they get no gradient, not one of zeros
    if membrane is None and len(currents) * repeat == 1:
        rows[0] = _constant(rows[0])
    if not name and step.reset in (Reset.NONE, Reset.ZERO):
        rows[1] = _constant(rows[1])
    if membrane is not None and not membrane.requires_grad:
        membrane = membrane.clone()  # a state that is then written into, as training loops do
    flags = repeat, int(step.reset), step.rounded, step.detach_reset, step.compact, name, slope
    spikes, after = _neurons(currents, membrane, *rows, *flags)
    # each a place of its own in the graph: hooks of one output are not called for the other
    return spikes.view_as(spikes) if name else spikes.detach(), after.view_as(after)


def _constant(x: Array | None) -> Array | None:
    return None if x is None else x.detach()


def _moves(x: Array) -> bool:
    """Whether a tensor stands for others, or has a derivative along a direction."""
    return is_traced(x) or has_tangent(x)


def _row(parameter: Any, currents: Array) -> Array | None:
    """A number for each channel."""
    if parameter is None:
        return None
    channels = currents.shape[-1]
    if isinstance(parameter, float):
        return torch.full((channels,), parameter, dtype=currents.dtype, device="cpu")
    return parameter.expand(channels)


_SETTINGS = "int repeat, int reset, bool rounded, bool detached, bool compact, str surrogate, float slope"
_ARRAYS = "Tensor currents, Tensor? membrane, Tensor decay, Tensor threshold, Tensor? unit"


def _forwards(
    currents: Array, membrane: Array | None, decay: Array, threshold: Array, unit: Array | None, *settings: Any
) -> tuple[Array, Array]:
    repeat, reset, rounded, _, compact, _, _ = settings
    recipe = Recipe(_array(decay), _array(threshold), Reset(reset), rounded, compact, None)
    with np.errstate(all="ignore"):
        found = scan_tiles(_array(currents), recipe, _array(membrane), repeat, torch.get_num_threads())
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def _backwards(
    currents: Array, membrane: Array | None, decay: Array, threshold: Array, unit: Array | None, *settings: Any
) -> tuple[Array, Array, Array, Array]:
    repeat, reset, rounded, detached, compact, surrogate, slope, to_spikes, to_membrane, *parameters = settings
    recipe = Recipe(
        _array(decay), _array(threshold), Reset(reset), rounded, compact, None, None, detached, _array(unit)
    )
    given = _array(currents), _array(membrane), repeat, _array(_whole(to_spikes)), _array(to_membrane)
    with np.errstate(all="ignore"):
        found = neurons_back(recipe, (surrogate, slope), *given, tuple(parameters), torch.get_num_threads())
    nothing = np.empty(0)
    return tuple(torch.from_numpy(np.asarray(nothing if x is None else x)).to(currents.dtype) for x in found)


def _array(x: Array | None) -> Any:
    return None if x is None else x.detach().resolve_neg().numpy()  # a compiled backward pass may hand on negated views


def _whole(x: Array | None) -> Array | None:
    """Contiguous, but for one number that stands for all."""
    return x if x is None or not any(x.stride()) else x.contiguous()


_neurons: Any = torch.library.custom_op(
    "tacops::neurons", _forwards, mutates_args=(), schema=f"({_ARRAYS}, {_SETTINGS}) -> (Tensor, Tensor)"
)
_neurons_back: Any = torch.library.custom_op(
    "tacops::neurons_back",
    _backwards,
    mutates_args=(),
    schema=f"({_ARRAYS}, {_SETTINGS}, Tensor? to_spikes, Tensor to_membrane, bool by_decay, bool by_threshold)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)


@_neurons.register_fake  # type: ignore[untyped-decorator]
def _fake(currents: Array, membrane: Array | None, *settings: Any) -> tuple[Array, Array]:
    repeat, compact = settings[3], settings[7]
    shape = (currents.shape[0] * repeat, *currents.shape[1:])
    spikes = currents.new_empty(shape, dtype=torch.bool if compact else currents.dtype)
    return spikes, currents.new_empty(currents.shape[1:])


@_neurons_back.register_fake  # type: ignore[untyped-decorator]
def _fake_back(currents: Array, membrane: Array | None, *settings: Any) -> tuple[Array, Array, Array, Array]:
    channels, (by_decay, by_threshold) = currents.shape[-1], settings[-2:]
    return (
        currents.new_empty(currents.shape),
        currents.new_empty(0 if membrane is None else membrane.shape),
        currents.new_empty(channels if by_decay else 0),
        currents.new_empty(channels if by_threshold else 0),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.settings = inputs[5:]


def _gradients(ctx: Any, to_spikes: Array | None, to_membrane: Array | None) -> tuple[Any, ...]:
    arrays, settings = ctx.saved_tensors, ctx.settings
    none = (None,) * (1 + len(settings))
    if to_membrane is None:
        to_membrane = torch.zeros_like(arrays[0][0])
    if settings[4]:  # compact spikes have no gradient
        to_spikes = None
    given = [x for x in (to_spikes, to_membrane) if x is not None]
    if torch.is_grad_enabled() or any(map(is_beyond_loops, given)):
        return (*_by_core(arrays, settings, to_spikes, to_membrane, ctx.needs_input_grad), *none)
    found = _neurons_back(*arrays, *settings, to_spikes, to_membrane, *ctx.needs_input_grad[2:4])
    return (*(x if asked else None for x, asked in zip(found, ctx.needs_input_grad[:4], strict=True)), *none)


def _by_core(
    arrays: Any, settings: Any, to_spikes: Array | None, to_membrane: Array, asked: tuple[bool, ...]
) -> list[Array | None]:
    """The same by PyTorch's own operations, which can be differentiated again."""
    repeat, reset, rounded, detached, compact, name, slope = settings
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # views, each a place of its own in the graph: one array may have been computed from another
        views = [None if x is None else x.view_as(x) for x in arrays]
        # a tracer may have lost that they are differentiated: the gradient would be zero
        views = [
            x.detach().requires_grad_() if x is not None and needed and not x.requires_grad else x
            for x, needed in zip(views, asked, strict=False)
        ]
        currents, membrane, decay, threshold, unit = views
        backend = backend_of(arrays[0])
        surrogate = Surrogate(name, slope) if name else None
        options = {"rounded": rounded, "unit": unit, "compact": compact, "detach_reset": detached}
        step = LIFStep(backend, decay, threshold, Reset(reset).name.lower(), surrogate, **options)
        spikes, (after,) = Backend.scan(backend, step, currents, None if membrane is None else (membrane,), repeat)
        pairs = [(after, to_membrane)] if to_spikes is None else [(spikes, to_spikes), (after, to_membrane)]
        pairs = [pair for pair in pairs if pair[0].requires_grad]
        wanted = [x for x, needed in zip(views, asked, strict=False) if needed]
        outs, grads = zip(*pairs, strict=True) if pairs else ((), ())
        zeros = {"allow_unused": True, "materialize_grads": True}
        found = iter(torch.autograd.grad(outs, wanted, grads, create_graph=again, **zeros))
    return [next(found) if needed else None for needed in asked[:4]]


_neurons.register_autograd(_gradients, setup_context=_keep)
