"""What depends on a layer's parameters alone, in few operations, and once where nothing has changed: on GPUs each is a launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from .host import PLAIN, is_capturing, is_exported
from .training import moves

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = ["half", "is_constant", "powers", "stamp"]

FLOATS = {torch.float32: (torch.int32, 127, 23), torch.float64: (torch.int64, 1023, 52)}
"""Of a dtype: integers of its width, the bias of its exponent, and the bits below that."""
ON_CPUS = 1 << 14
"""Comparisons up to which a CPU is sooner done with all of them at once than with a search, one operation after the other."""


def powers(like: Array, low: int, count: int) -> Array | None:
    """`Backend.powers`: integers that count exponents, taken for floats as they lie in memory."""
    kind = like.device.type
    if like.dtype not in FLOATS or kind not in ("cpu", "cuda", "meta") or is_exported():
        return None
    if kind == "cpu" and like.numel() * count > ON_CPUS:
        return None
    integer, bias, below = FLOATS[like.dtype]
    first, step = (low + bias) << below, 1 << below
    numbers = torch.arange(first, first + count * step, step, dtype=integer, device=like.device)
    return numbers.view(like.dtype)[:, None]


_HALVES = WeakTensorKeyDictionary()
"""Rounded weights as float16, and where they may be used, for as long as the rounded ones live."""


def half(weight: Array) -> Array:
    """Rounded weights as float16: those of frozen layers, which are the same array in every call, once. Nobody writes to them."""
    if not _lasts(weight):
        return weight.to(torch.float16)
    key, found = _place(weight), _HALVES.get(weight)
    if found is None or found[0] != key:
        found = _HALVES[weight] = key, weight.to(torch.float16)
    return found[1]


def is_constant(x: Array) -> bool:
    """Whether nothing is differentiated by a tensor, and it stands for no others."""
    return not (x.requires_grad and torch.is_grad_enabled()) and not moves(x)


def stamp(x: Array) -> Any:
    """`Backend.stamp`, of tensors on NVIDIA's GPUs; to those on CPUs NumPy may write, which nothing counts.

    What one stream computes another one would have to wait for, hence the stream; and what was made in inference mode is
    of no use outside.
    """
    if not _lasts(x) or not is_constant(x) or x.is_inference():
        return None
    return x.data_ptr(), x._version, x.dtype, x.shape, x.stride(), *_place(x)


def _place(x: Array) -> tuple[int, bool]:
    """The stream that computes, and whether inference mode is on."""
    stream = torch.cuda.current_stream(x.device).cuda_stream if x.device.type == "cuda" else 0
    return stream, torch.is_inference_mode_enabled()


def _lasts(x: Array) -> bool:
    """Whether what is made of a tensor now can be used later: no compiler, tracer, mode or recording of a CUDA graph looks on."""
    if torch.compiler.is_compiling() or type(x) not in PLAIN or x.device.type != "cuda":
        return False
    return not (torch._C._len_torch_dispatch_stack() or is_capturing() or is_exported())
