"""Spikes without a surrogate: constants, through which a backward pass is asked in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .training import moves

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = ["refuse_backward"]


class _Refusal(torch.autograd.Function):  # type: ignore[misc]
    """A tensor in a graph whose backward pass raises."""

    @staticmethod
    def forward(ctx: Any, token: Array, held: tuple[Array], function: str) -> Array:
        """The tensor that is held. It is no input, so nothing of the graph behind it is kept, and it may be written into."""
        ctx.function = function
        return held[0].detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Array) -> Any:
        """A gradient has come this far; it would silently end here."""
        raise RuntimeError(
            f"{ctx.function}: surrogate must be a derivative, such as tacops.surrogate.arctan(), for backward() through "
            "its spikes; got None (of spikes that are meant to be constants, take detach())"
        )


def refuse_backward(spikes: Array, membrane: Array, function: str) -> Array:
    """`spikes` in such a graph, if their membrane is in a graph.

    Compilers and the transforms of `torch.func` trace the backward pass whether it is wanted or not: there they stay constants.
    """
    if not (torch.is_grad_enabled() and membrane.requires_grad and spikes.dtype.is_floating_point):
        return spikes
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or moves(membrane):
        return spikes
    token = torch.empty((), device="cpu", requires_grad=True)
    return _Refusal.apply(token, (spikes,), function)
