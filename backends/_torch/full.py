"""cuDNN's convolution in full float32, forwards and backwards.

cuDNN rounds float32 to 11 bits (TF32) unless it is told otherwise, by a setting that all threads share. One operation of
PyTorch's takes the choice as an argument, but its own derivative reads the setting again; hence the one here, which is
made of that operation, and of a matrix product for the weight's gradient.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window

__all__ = ["full_conv"]

COLUMNS = 1 << 26
"""Numbers unfolded at a time for the weight's gradient: 256 MiB of float32."""


def full_conv(x: Array, weight: Array, window: Window, extra: tuple[int, ...] | None = None) -> Array:
    """Convolve, channels first, padding alike on both sides; with `extra` transposed, which is the gradient by the input.

    Parameters
    ----------
    x, weight : tensor
    window : Window
    extra : tuple of int or None
        Rows and columns of the input that no kernel reached, which the shape of the output does not tell.
    """
    return _FullConv.apply(x, weight, window, extra)


class _FullConv(torch.autograd.Function):  # type: ignore[misc]
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Array, weight: Array, window: Window, extra: tuple[int, ...] | None) -> Array:
        # what F.conv passes on, but for the last argument: TF32
        deterministic = torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
        return torch._convolution(
            x,
            weight,
            None,
            window.stride,
            tuple([low for low, _ in window.padding]),
            window.dilation,
            extra is not None,
            extra or (0,) * len(window.stride),
            window.groups,
            torch.backends.cudnn.benchmark,
            deterministic,
            torch.backends.cudnn.enabled,
            False,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        x, weight, ctx.window, ctx.extra = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Array) -> tuple[Array | None, Array | None, None, None]:
        (x, weight), window = ctx.saved_tensors, ctx.window
        plain = ctx.extra is None
        by_x = by_weight = None
        with _outside_autocast(x):  # which the backward pass may be called in
            if ctx.needs_input_grad[0]:
                by_x = full_conv(grad, weight, window, _unreached(x, weight, window) if plain else None)
            if ctx.needs_input_grad[1]:
                by_weight = _weight_gradient(*((x, grad) if plain else (grad, x)), weight, window)
        return by_x, by_weight, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Array | None, dweight: Array | None, *_: None) -> Array:
        x, weight = ctx.saved_tensors
        terms = []
        if dx is not None:
            terms.append(full_conv(dx, weight, ctx.window, ctx.extra))
        if dweight is not None:
            terms.append(full_conv(x, dweight, ctx.window, ctx.extra))
        return sum(terms[1:], terms[0])


def _outside_autocast(x: Array) -> AbstractContextManager[Any]:
    kind = x.device.type
    narrows = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if narrows else nullcontext()


def _unreached(x: Array, weight: Array, window: Window) -> tuple[int, ...]:
    """What a stride leaves over at the end of each axis."""
    axes = zip(x.shape[2:], weight.shape[2:], window.stride, window.padding, window.dilation, strict=True)
    return tuple([(size + 2 * low - d * (k - 1) - 1) % s for size, k, s, (low, _), d in axes])


def _weight_gradient(x: Array, grad: Array, weight: Array, window: Window) -> Array:
    """One matrix product: the inputs of all outputs, unfolded, by the outputs' gradients; by samples where that would be large."""
    one = math.prod(grad.shape[2:]) * math.prod(weight.shape[2:]) * x.shape[1]
    count = max(1, COLUMNS // max(one, 1))
    parts = zip(x.split(count), grad.split(count), strict=True)
    return reduce(add, [_product(*part, weight, window) for part in parts])


def _product(x: Array, grad: Array, weight: Array, window: Window) -> Array:
    """`_weight_gradient` of a few samples."""
    dims, groups = x.ndim - 2, window.groups
    columns = F.pad(x, [low for low, _ in reversed(window.padding) for _ in range(2)])
    for axis, (size, stride, dilation) in enumerate(zip(weight.shape[2:], window.stride, window.dilation, strict=True)):
        columns = columns.unfold(2 + axis, dilation * (size - 1) + 1, stride)[..., ::dilation]  # a view
    # the kernel's places before the channels, as weights lie in memory
    columns = columns.unflatten(1, (groups, -1))
    order = (0, *range(3, 3 + dims), 1, *range(3 + dims, 3 + 2 * dims), 2)
    inputs = columns.permute(order).reshape(-1, groups, weight[0].numel())
    outputs = grad.movedim(1, -1).reshape(-1, groups, weight.shape[0] // groups)
    found: Array = outputs.permute(1, 2, 0) @ inputs.permute(1, 0, 2)
    return found.reshape(weight.shape[0], *weight.shape[2:], weight.shape[1]).movedim(-1, 1)
