"""Neurons on GPUs that learn by a surrogate of the user's own: PyTorch finds its derivatives, and the kernel goes back with them.

Eagerly: no program, nor an operation of PyTorch's, can hold a function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tacops._backend.steps import Recipe, Reset

from .._triton.layout import like
from . import kernels
from .operation import Settings, gradients

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tacops._backend.protocol import Array

__all__ = ["NAME", "run_own"]

NAME = "own"
"""Among the kernel's surrogates."""


def run_own(surrogate: Callable[[Array], Any], settings: Settings, *arrays: Array | None) -> tuple[Array, Array]:
    """Spikes and the last membranes; arrays as of the operation, the currents first."""
    with torch.no_grad():
        surrogate(arrays[0][0].detach())  # type: ignore[index]  # what it may not return is said now
    spikes, after = _Own.apply(_Surrogate(surrogate), settings, *arrays)
    return spikes, after


@dataclass(frozen=True)
class _Surrogate:
    surrogate: Callable[[Array], Any]

    def back(
        self,
        arrays: Sequence[Any],
        kept: Array,
        settings: Settings,
        to_spikes: Array | None,
        to_membrane: Array | None,
        parameters: tuple[bool, ...],
    ) -> tuple[Array | None, ...]:
        """`Own.back`."""
        step, (currents, membrane) = settings.recipe(arrays), arrays[:2]
        found = _derivatives(self.surrogate, step, kept, membrane)
        given = currents, kept, membrane, settings.repeat, to_spikes, to_membrane
        return kernels.back(step, (NAME, 1.0), *given, (parameters[0], parameters[1]), found)


class _Own(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, own: _Surrogate, settings: Settings, *arrays: Any) -> tuple[Array, Array]:
        spikes, after, kept = kernels.forth(settings.recipe(arrays), arrays[0], arrays[1], settings.repeat, True)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*arrays, kept)
        ctx.own, ctx.settings = own, settings
        return spikes, after

    @staticmethod
    def backward(ctx: Any, to_spikes: Array | None, to_membrane: Array | None) -> tuple[Any, ...]:
        (*arrays, kept), asked = ctx.saved_tensors, ctx.needs_input_grad[2:6]
        found = gradients(arrays, kept, ctx.settings, to_spikes, to_membrane, asked, ctx.own)
        return None, None, *found, None, None


def _derivatives(surrogate: Callable[[Array], Any], step: Recipe, kept: Array, membrane: Array | None) -> Array:
    """Of spikes by the membranes that fire, as `LIFStep` has them; and by the first membrane, if a late reset asks for it."""
    v = kept
    if step.reset == Reset.LATE and membrane is not None:
        shape = (len(kept) + 1, *kept.shape[1:])
        v = torch.empty_strided(shape, kept.stride(), dtype=kept.dtype, device=kept.device)
        v[:-1], v[-1] = kept, membrane
    excess = v - step.threshold
    if step.unit is not None:
        excess = excess * step.unit
    finite = excess.abs() < float("inf")
    found = _each(surrogate, torch.where(finite, excess, 0.0))
    if step.unit is not None:
        found = found * step.unit
    return like(torch.where(finite, found, 0.0), v)


def _each(surrogate: Callable[[Array], Any], excess: Array) -> Array:
    """The function of every step's membranes, at once if it can be vectorised."""
    try:
        found: Array = torch.func.vmap(surrogate)(excess)
    except Exception:  # noqa: BLE001 (it branches, draws at random, returns a number: what is wrong with it is said below)
        steps = [surrogate(x) for x in excess]
        found = torch.stack([x if isinstance(x, torch.Tensor) else torch.full_like(excess[0], x) for x in steps])
    return found
