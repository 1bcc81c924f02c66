"""Layers of reproducible mode on NVIDIA's GPUs, at inference: products of float16 with sums of float32, which are exact there.

In one kernel with the neurons (``fused.py``), or by PyTorch's products of unfolded frames, where it has such ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import array_api_compat.torch as xp
import torch

from .._unfold import conv_by_unfolding, sums_taps
from . import kernels
from .constants import half
from .fused import learns, run_fused
from .host import is_traced

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Backend
    from tacops._backend.steps import State, Step, Synapses

__all__ = ["describe_half", "has_products", "run_half"]


def run_half(
    backend: Backend, conv: Synapses, step: Step, frames: Array, state: State | None, repeat: int
) -> tuple[Array, State] | None:
    """`Backend.schedule` of synapses that fit float16; None where the layer goes another way."""
    if step.recipe is not None:
        found = run_fused(conv, step.recipe, frames, state, repeat)
        if found is not None:
            return found
    tensors = [x for x in (frames, conv.weight, conv.bias) if x is not None]
    if not has_products(frames.device) or conv.per_channel or any(map(is_traced, tensors)) or learns(tensors):
        return None
    if conv.weight.dtype != torch.float32 or sums_taps(xp, conv.weight, conv.window):
        return None
    frames = conv.aggregate(frames)
    currents = multiply(conv, frames.reshape(-1, *frames.shape[2:]))
    return backend.scan(step, currents.reshape(*frames.shape[:2], *currents.shape[1:]), state, repeat)


def multiply(conv: Synapses, frames: Array) -> Array:
    """Currents (N, *S_out, C_out) of frames (N, *S, C_in), outside autocast, which would narrow float16 to bfloat16."""
    x, weight = frames.to(torch.float16), half(conv.weight)
    with torch.autocast(x.device.type, enabled=False):
        if conv.window.stride:
            return conv_by_unfolding(xp, x, weight, conv.bias, conv.window, product)
        out = product(x.reshape(-1, x.shape[-1]), weight.mT).reshape(*x.shape[:-1], weight.shape[0])
        return out if conv.bias is None else out + conv.bias


def product(a: Array, b: Array) -> Array:
    """Of float16, with sums of float32."""
    return (torch.mm if a.ndim == 2 else torch.bmm)(a, b, out_dtype=torch.float32)


def has_products(device: Any) -> bool:
    """Whether PyTorch has such products on a device, and no setting narrows their sums. Compilers keep to the present way."""
    if device.type != "cuda" or torch.version.hip is not None or torch.compiler.is_compiling():
        return False
    return hasattr(torch.ops.aten.mm, "dtype") and not _sums_are_narrow()


def describe_half(device: Any) -> str:
    """How layers of reproducible mode are computed on a GPU at inference; their authors had none."""
    products = "float16 on tensor cores" if has_products(device) else "float32"
    reason = kernels.missing_layers(device)
    if reason is not None:
        return f"products of {products}, then neurons ({reason}); never run on a GPU so far"
    return f"one Triton kernel on tensor cores, or products of {products}, then neurons; never run on a GPU so far"


def _sums_are_narrow() -> bool:
    return bool(getattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", False))
