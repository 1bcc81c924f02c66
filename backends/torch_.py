"""PyTorch: its own convolutions, in channels-last memory, with TF32 off."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import array_api_compat.torch as xp
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from tacops._lif import Reset
from tacops._protocol import Array, Backend, Window

from ._torch_pytree import name_trains
from ._unfold import conv_by_unfolding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tacops._lif import LIFStep, Recipe

__all__ = ["BACKEND", "TorchBackend"]

_CONV: tuple[Any, ...] = (F.linear, F.conv1d, F.conv2d, F.conv3d)


class TorchBackend(Backend):
    """PyTorch tensors, on any of its devices."""

    name = "torch"
    differentiable = True

    def owns(self, array: object) -> bool:
        """Tensors and parameters."""
        return isinstance(array, torch.Tensor)

    def namespace(self, array: Array) -> Any:
        """array-api-compat's, which gives PyTorch the standard's names."""
        return xp

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """`torch.nn.functional`'s; unfolding where oneDNN fails and, on GPUs, in exact mode (cuDNN: Winograd)."""
        dims = len(window.stride)
        with _full_precision(x):
            if dims == 0:
                return F.linear(x, weight, bias)
            if _onednn_fails(x, weight, window) if x.device.type == "cpu" else exact:
                return conv_by_unfolding(xp, x, weight, bias, window)
            x = x.movedim(-1, 1)
            if any(low != high for low, high in window.padding):
                x = F.pad(x, [n for pair in reversed(window.padding) for n in pair])
                padding: tuple[int, ...] = (0,) * dims
            else:
                padding = tuple(low for low, _ in window.padding)
            kernel = weight.movedim(-1, 1)
            out = _CONV[dims](x, kernel, bias, window.stride, padding, window.dilation, window.groups)
            return out.movedim(1, -1)

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """On CPUs a product over the chunk axis."""
        if x.device.type != "cpu" or not all(isinstance(weight, float) for weight in weights):
            return super().weighted_sum(x, weights, dtype)
        row = torch.tensor([weights], dtype=dtype)
        return (row @ x.to(dtype).reshape(*x.shape[:2], -1)).reshape(x.shape[0], *x.shape[2:])

    def scan(self, step: LIFStep, currents: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array]:
        """In place where nothing is differentiated or traced."""
        recipe, tensors = step.recipe, (currents, membrane, step.decay, step.threshold)
        watched = any(_is_watched(t) for t in tensors if isinstance(t, torch.Tensor))
        if watched or recipe is None or recipe.poison is not None:
            return super().scan(step, currents, membrane, repeat)
        return _scan_in_place(recipe, currents, membrane, repeat)

    def from_numpy(self, array: np.ndarray[Any, Any]) -> Array:
        """A copy in host memory."""
        return torch.from_numpy(np.array(array))

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy in host memory."""
        array = array.detach().cpu()
        return np.array((array.float() if array.dtype == torch.bfloat16 else array).numpy())

    def stop_gradient(self, x: Array) -> Array:
        """`Tensor.detach`; what is no tensor is constant already."""
        return x.detach() if isinstance(x, torch.Tensor) else x

    def unstack(self, x: Array) -> Sequence[Array]:
        """`torch.unbind`: back-propagation through 32 steps took a sixth of what it takes through indices."""
        return x.unbind()  # type: ignore[no-any-return]

    def checkpoint(self, function: Callable[..., tuple[Array, Array]], arrays: Sequence[Array]) -> tuple[Array, Array]:
        """`torch.utils.checkpoint`; nothing in it is random."""
        first, second = checkpoint(function, *arrays, use_reentrant=False, preserve_rng_state=False)
        return first, second

    def gradient(self, function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
        """`torch.autograd.grad`; zero for an array that the function does not depend on."""
        leaves = [array.detach().clone().requires_grad_() for array in arrays]
        return list(torch.autograd.grad(function(*leaves), leaves, allow_unused=True, materialize_grads=True))

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`torch.compile`, which takes seconds."""
        return torch.compile(function)  # type: ignore[no-any-return]

    def synchronize(self, *arrays: Array) -> None:
        """Wait for the GPU, if there is one."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def describe(self) -> Mapping[str, str]:
        """Version, the GPU if there is one, threads, and the precision that is asked for."""
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({torch.get_num_threads()} threads)"
        )
        return {"version": torch.__version__, "device": device, "precision": "full float32 (TF32 off)"}

    def device_of(self, array: Array) -> str | None:
        """Tensors never move by themselves."""
        return str(array.device)

    def read(self, array: Array) -> list[float] | None:
        """Values on a CPU, not of traced, vmapped or compiled tensors."""
        if array.device.type != "cpu" or _is_traced(array):
            return None
        return [float(value) for value in array.detach().reshape(-1).tolist()]


def _onednn_fails(x: Array, weight: Array, window: Window) -> bool:
    """Two rare geometries on CPUs with AVX-512 (PyTorch 2.13): a segmentation fault, and wrong numbers.

    The first (oneDNN#5942): the kernel lies in padding alone, beside the input. The second, found by random tests: one
    channel in, and one output along the last axis, whose stride then means nothing.
    """
    spatial, kernel = tuple(x.shape[1:-1]), tuple(weight.shape[1:-1])
    if any(max(pad) > d * (k - 1) for pad, d, k in zip(window.padding, window.dilation, kernel, strict=True)):
        return True
    return bool(x.shape[-1] == 1 and window.stride[-1] > 1 and window.output_shape(spatial, kernel)[-1] == 1)


def _is_traced(x: Array) -> bool:
    return bool(torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x))


def _is_watched(x: Array) -> bool:
    """Whether somebody needs to see every operation: autograd, a compiler, or forward-mode differentiation."""
    if _is_traced(x) or (x.requires_grad and torch.is_grad_enabled()):
        return True
    return forward_ad.unpack_dual(x).tangent is not None


def _scan_in_place(step: Recipe, currents: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array]:
    """`LIFStep` operation by operation, without an array for every result; equal bit for bit."""
    dtype = torch.bool if step.compact else currents.dtype
    spikes = torch.empty((currents.shape[0] * repeat, *currents.shape[1:]), dtype=dtype, device=currents.device)
    u, scratch = torch.empty_like(currents[0]), torch.empty_like(currents[0])
    for t, fired in enumerate(spikes):
        current, before = currents[t // repeat], u if t else membrane
        if before is None:
            v = current
        else:
            if step.reset is Reset.LATE:
                torch.ge(before, step.threshold, out=scratch)
            v = torch.mul(before, step.decay, out=u)
            if step.rounded:
                v.round_()
            v.add_(current)
            if step.reset is Reset.LATE:
                v.sub_(scratch.mul_(step.threshold))
        torch.ge(v, step.threshold, out=fired)
        if step.reset is Reset.ZERO:
            u.copy_(v).masked_fill_(fired if step.compact else fired.bool(), 0.0)
        elif step.reset is Reset.SUBTRACT:
            weights = scratch.copy_(fired) if step.compact else fired
            if isinstance(step.threshold, float):
                torch.sub(v, weights, alpha=step.threshold, out=u)
            else:
                torch.addcmul(v, weights, step.threshold, value=-1, out=u)
        elif step.reset not in (Reset.NONE, Reset.LATE):
            raise ValueError(f"unknown reset {step.reset!r}")
        elif v is not u:
            u.copy_(v)
    return spikes, u


def _full_precision(x: Array) -> contextlib.AbstractContextManager[Any]:
    """Full float32: cuDNN convolutions use TF32 by default; the flag is the user's, so it is set for this call only."""
    if x.device.type != "cuda":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # type: ignore[no-any-return]


name_trains()
BACKEND = TorchBackend()
