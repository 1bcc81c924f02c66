"""Tensors of a CPU as NumPy arrays of the same memory, for compiled loops that work on NumPy's.

Nothing is copied. A tensor that somebody watches stays what it is: autograd, forward mode, vmap and the other transforms,
compilers, tracers, and modes that see every operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad

from .convolution import HALF

if TYPE_CHECKING:
    import numpy as np

    from tacops._backend.protocol import Array

__all__ = [
    "PLAIN",
    "as_arrays",
    "has_tangent",
    "is_beyond_loops",
    "is_capturing",
    "is_exported",
    "is_recorded",
    "is_traced",
    "is_watched",
    "shares_memory",
]

PLAIN = (torch.Tensor, torch.nn.Parameter)


def as_arrays(*values: Any) -> list[Any] | None:
    """The values with an array for each tensor; None if one of those can't be had, or is watched."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if any(is_watched(tensor) or not shares_memory(tensor) for tensor in tensors):
        return None
    return [_array(value) if isinstance(value, torch.Tensor) else value for value in values]


def shares_memory(x: Array) -> bool:
    """Whether NumPy can read a tensor where it lies, and no mode or tracer has to see what is done with it."""
    return (
        type(x) in PLAIN
        and x.device.type == "cpu"
        and x.layout is torch.strided
        and x.dtype not in HALF
        and not (x.is_neg() or x.is_conj() or x._is_zerotensor())
        and not (torch._C._len_torch_dispatch_stack() or torch.jit.is_tracing())
    )


def is_recorded() -> bool:
    """Whether a compiler or a tracer writes down what is done."""
    return bool(torch.compiler.is_compiling() or torch.jit.is_tracing())


def is_traced(x: Array) -> bool:
    """Whether a tensor stands for others: `torch.compile`, and the transforms of `torch.func`."""
    return bool(torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x))


def is_watched(x: Array) -> bool:
    """Whether somebody needs to see every operation: autograd, a compiler, or forward-mode differentiation."""
    if is_traced(x) or (x.requires_grad and torch.is_grad_enabled()):
        return True
    return has_tangent(x)


def has_tangent(x: Array) -> bool:
    """Whether forward-mode differentiation goes through a tensor."""
    return bool(forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None)


def is_beyond_loops(gradient: Array) -> bool:
    """Whether a gradient needs PyTorch's own operations. A compiler needs none: it calls the loops when it runs."""
    if torch.compiler.is_compiling():
        return False
    return is_traced(gradient) or has_tangent(gradient) or not shares_memory(gradient)


def _array(x: Array) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = x.detach().numpy()
    return array


def is_exported() -> bool:
    """Whether a program is written down that runs without this package."""
    return _is_exporting() or bool(torch.jit.is_tracing())


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_exporting() -> bool:
    """Asked outside of the compiler: that of PyTorch 2.7 to 2.11 takes itself for the exporter.

    PyTorch 2.6 can't tell; its exporter says that it compiles.
    """
    return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())


def is_capturing() -> bool:
    """Whether a CUDA graph is captured, which replays launches and nothing else that happens now."""
    return torch.backends.cuda.is_built() and bool(torch.cuda.is_current_stream_capturing())
