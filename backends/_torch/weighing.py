"""Convolutions that learn, on CPUs: PyTorch's own, but for the gradient by the weight, which follows the spikes (``_cpu/weights.py``).

Forwards, and by the input, nothing is different. Gradients of gradients, and gradients that are vectorised, are PyTorch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tacops._backend.window import Window

from .._cpu.weights import can_weigh, follows, weight_back
from .convolution import autocasts, conv, is_onednn_s, restrided
from .host import has_tangent, is_beyond_loops, is_traced, shares_memory

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = ["learn_conv"]

_REAL = (torch.float32, torch.float64)


def learn_conv(x: Array, weight: Array, bias: Array | None, window: Window, exact: bool) -> Array | None:
    """`Backend.conv` where the weight is differentiated and the input is sparse; None where all is PyTorch's."""
    if not (weight.requires_grad and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        return None
    if not window.stride or weight.dtype not in _REAL:
        return None
    tensors = [y for y in (x, weight, bias) if y is not None]
    if torch._C._functorch.peek_interpreter_stack() is not None or autocasts(x) or not x.numel():
        return None
    if not all(y.dtype == weight.dtype and shares_memory(y) and not y.is_inference() for y in tensors):
        return None
    if any(is_traced(y) or has_tangent(y) for y in tensors) or any(low != high for low, high in window.padding):
        return None
    if not is_onednn_s(x, weight, window) or not follows(x.detach().numpy(), tuple(weight.shape), window):
        return None
    if not can_weigh(np.dtype(str(weight.dtype).removeprefix("torch."))):
        return None
    out: Array = _Learned.apply(x, weight, bias, window, exact)
    return out


class _Learned(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Array, weight: Array, bias: Array | None, window: Window, exact: bool) -> Array:
        ctx.save_for_backward(x, weight)
        ctx.window = window
        return conv(x, weight, bias, window, exact)

    @staticmethod
    def backward(ctx: Any, gradient: Array) -> tuple[Array | None, ...]:
        (x, weight), window, asked = ctx.saved_tensors, ctx.window, ctx.needs_input_grad[:3]
        lows, dilation = [low for low, _ in window.padding], list(window.dilation)
        by_spikes = asked[1] and not torch.is_grad_enabled() and not is_beyond_loops(gradient)
        rest = (asked[0], False, False) if by_spikes else asked
        by_x, by_weight, by_bias = _by_library(gradient, x, weight, lows, dilation, rest)
        if by_spikes:
            by_weight = _weigh(x, gradient, weight.shape[1:-1], lows, dilation)
            by_bias = gradient.sum(list(range(gradient.ndim - 1))) if asked[2] else None
        return by_x, by_weight, by_bias, None, None


def _by_library(
    gradient: Array, x: Array, weight: Array, padding: list[int], dilation: list[int], asked: tuple[bool, ...]
) -> tuple[Array | None, ...]:
    """What PyTorch's own derivative calls, and can differentiate again."""
    if not any(asked):
        return None, None, None
    ones, zeros = [1] * len(padding), [0] * len(padding)
    arrays = gradient.movedim(-1, 1), restrided(x).movedim(-1, 1), restrided(weight).movedim(-1, 1)
    geometry = ones, padding, dilation, False, zeros, 1
    found = torch.ops.aten.convolution_backward(*arrays, [weight.shape[0]], *geometry, list(asked))
    by_x, by_weight, by_bias = (y if needed else None for y, needed in zip(found, asked, strict=True))
    return (
        None if by_x is None else by_x.movedim(1, -1),
        None if by_weight is None else by_weight.movedim(1, -1),
        by_bias,
    )


def _weigh_now(x: Array, gradient: Array, kernel: list[int], padding: list[int], dilation: list[int]) -> Array:
    """`weight_back`, or PyTorch's where that can't."""
    window = Window((1,) * len(padding), tuple((low, low) for low in padding), tuple(dilation), 1)
    arrays = [y.detach().resolve_neg().numpy() for y in (x, gradient)]  # compilers hand on negated views
    with np.errstate(all="ignore"):
        found = weight_back(arrays[0], arrays[1], tuple(kernel), window, torch.get_num_threads())
    if found is not None:
        return torch.from_numpy(found)
    weight = x.new_zeros((gradient.shape[-1], *kernel, x.shape[-1]))
    _, by_weight, _ = _by_library(gradient, x, weight, padding, dilation, (False, True, False))
    whole: Array = by_weight.contiguous()  # type: ignore[union-attr]
    return whole


_weigh: Any = torch.library.custom_op(
    "tacops::weigh",
    _weigh_now,
    mutates_args=(),
    schema="(Tensor x, Tensor gradient, SymInt[] kernel, int[] padding, int[] dilation) -> Tensor",
)


@_weigh.register_fake  # type: ignore[untyped-decorator]
def _fake(x: Array, gradient: Array, kernel: list[int], *_: Any) -> Array:
    return x.new_empty((gradient.shape[-1], *kernel, x.shape[-1]))
