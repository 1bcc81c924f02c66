"""PyTorch: its own convolutions, in channels-last memory, in full float32 (`_torch/convolution.py`)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import array_api_compat.torch as xp
import numpy as np
import torch
from torch._subclasses import FakeTensor
from torch.utils.checkpoint import checkpoint

from tacops._backend.protocol import Array, Backend, Window
from tacops._backend.steps import Reset, membrane_of

from ._cpu.choose import CROSSINGS
from ._torch import engine, kernels
from ._torch.constants import is_constant, powers, stamp
from ._torch.convolution import HALF, autocasts, conv, products_are_plain
from ._torch.fused import describe_parts, run_fused
from ._torch.half import describe_half, run_half
from ._torch.host import PLAIN, as_arrays, is_recorded, is_traced, is_watched, shares_memory
from ._torch.pytree import name_trains
from ._torch.refusal import refuse_backward
from ._torch.training import run_kernel, train_neurons
from ._torch.weighing import learn_conv
from .numpy_ import BACKEND as NUMPY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tacops._backend.steps import Recipe, State, Step, Synapses

__all__ = ["BACKEND", "TorchBackend"]

_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
_SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
_FIT = frozenset((torch.bool, torch.uint8, *_SIGNED, *_UNSIGNED, *HALF, torch.float32, torch.float64))


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

    def is_eager(self, *arrays: Array | None) -> bool:
        """Outside compilers and tracers, of plain tensors: sizes of others may be symbols."""
        return not is_recorded() and all(array is None or type(array) in PLAIN for array in arrays)

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """`torch.nn.functional`'s, or another way where those fail, transform, or are narrower than float32."""
        learned = learn_conv(x, weight, bias, window, exact)
        return conv(x, weight, bias, window, exact) if learned is None else learned

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """On CPUs a product over the chunk axis; in float32 for half precision."""
        numbers = all(isinstance(weight, float) for weight in weights)
        if x.device.type != "cpu" or not numbers or autocasts(x) or not products_are_plain():
            return super().weighted_sum(x, weights, dtype)
        wide = torch.float32 if dtype in HALF else dtype
        row = torch.tensor([weights], dtype=wide, device=x.device)
        total = (row @ x.to(wide).reshape(*x.shape[:2], -1)).reshape(x.shape[0], *x.shape[2:])
        return total.to(dtype)

    def on_grid(self, x: Array, low: float, high: float, step: float) -> Array:
        """On CPUs in one pass; in float32 where PyTorch has no minimum: unsigned integers of more than 8 bits.

        Their bounds are exact as far as grids reach.
        """
        if x.dtype not in _UNSIGNED:
            found = engine.on_grid(x, low, high, step)
            return super().on_grid(x, low, high, step) if found is None else found
        fits = super().on_grid(x.to(torch.float32), low, high, step)
        return fits if step <= 1.0 else fits & ~torch.any(x.to(torch.int64) & (int(step) - 1) != 0)

    def unfit(self, array: Array) -> str | None:
        """Layouts, dtypes and subclasses for which the operators' arithmetic means something else, or nothing."""
        if (
            type(array) is torch.Tensor
            and array.layout is torch.strided
            and array.dtype in _FIT
            and not array.is_nested
        ):
            return None
        return _unfit(array)

    def scan(self, step: Step, currents: Array, state: State | None, repeat: int) -> tuple[Array, State]:
        """On CPUs in compiled loops, on NVIDIA's GPUs in one kernel, gradients too; else in place where nobody watches."""
        found, recipe = None, step.recipe
        if recipe is not None:
            membrane = membrane_of(state)
            tensors = (currents, membrane, recipe.decay, recipe.threshold)
            given = recipe, currents, membrane, repeat
            if any(is_watched(t) for t in tensors if isinstance(t, torch.Tensor)):
                found = train_neurons(*given)
            else:
                found = run_kernel(*given)
                if found is None and recipe.poison is None:
                    found = engine.run_neurons(*given) or _scan_in_place(*given)
        return super().scan(step, currents, state, repeat) if found is None else (found[0], (found[1],))

    def reads_frames(self, frames: Array) -> bool:
        """Where the engine of NumPy's may read them."""
        return not is_watched(frames) and shares_memory(frames)

    def schedule(
        self, conv: Synapses, step: Step, frames: Array, state: State | None, repeat: int
    ) -> tuple[Array, State]:
        """On CPUs by the spikes, where that is faster (``_torch/engine.py``); exact layers on GPUs by tensor cores."""
        recipe = step.recipe
        if conv.fits_half:
            found = run_half(self, conv, step, frames, state, repeat)
            if found is not None:
                return found
        elif recipe is not None and frames.dtype == torch.bool:
            found = run_fused(conv, recipe, frames, state, repeat)
            if found is not None:
                return found
        if recipe is not None and recipe.poison is None and not is_traced(frames):
            layer = engine.run_layer(conv, recipe, frames, membrane_of(state), repeat)
            if layer is not None:
                return layer[0], (layer[1],)
        if conv.due is not None:
            conv.due.look()
        return super().schedule(conv, step, frames, state, repeat)

    def lends(self, values: Sequence[Any]) -> tuple[Any, Sequence[Any], Callable[[Array], Array]] | None:
        """On CPUs NumPy's: its operations on few numbers take half the time, and leave no threads that spin for the next one."""
        arrays = as_arrays(*values)
        return None if arrays is None else (NUMPY, arrays, lambda x: torch.from_numpy(np.asarray(x)))

    def rescale(self, x: Array, factor: Array) -> Array:
        """On CPUs by NumPy, in place."""
        return x if engine.rescale(x, factor) else super().rescale(x, factor)

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None = None) -> Array:
        """A copy, in host memory by default; Apple's GPUs have no float64 and get float32."""
        tensor = torch.from_numpy(np.array(array))
        if device is None:
            return tensor
        single = device.startswith("mps") and tensor.dtype == torch.float64
        return tensor.to(device, torch.float32 if single else None)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy in host memory."""
        array = array.detach().cpu()
        return np.array((array.float() if array.dtype == torch.bfloat16 else array).numpy())

    def stop_gradient(self, x: Array) -> Array:
        """`Tensor.detach`; what is no tensor is constant already."""
        return x.detach() if isinstance(x, torch.Tensor) else x

    def powers(self, like: Array, low: int, count: int) -> Array | None:
        """One operation, on CPUs and NVIDIA's GPUs."""
        return powers(like, low, count)

    def stamp(self, array: Array) -> Any:
        """PyTorch counts writes to a tensor's memory; on GPUs."""
        return stamp(array)

    def round_through(self, x: Array) -> Array:
        """Without the terms that carry a derivative, where there is none."""
        return x.round() + 0.0 if is_constant(x) else super().round_through(x)  # 0 has one sign

    def constant(self, spikes: Array, state: State, function: str) -> Array:
        """``backward()`` through them raises."""
        return refuse_backward(spikes, state[0], function)

    def unstack(self, x: Array) -> Sequence[Array]:
        """`torch.unbind`: back-propagation through 32 steps took a sixth of what it takes through indices."""
        return x.unbind()  # type: ignore[no-any-return]

    def checkpoint(self, function: Callable[..., tuple[Array, ...]], arrays: Sequence[Array]) -> tuple[Array, ...]:
        """`torch.utils.checkpoint`; nothing in it is random."""
        return tuple(checkpoint(function, *arrays, use_reentrant=False, preserve_rng_state=False))

    def gradient(self, function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
        """`torch.autograd.grad`; zero for an array that the function does not depend on."""
        leaves = [array.detach().clone().requires_grad_() for array in arrays]
        return list(torch.autograd.grad(function(*leaves), leaves, allow_unused=True, materialize_grads=True))

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`torch.compile`, which takes seconds."""
        return torch.compile(function)  # type: ignore[no-any-return]

    def synchronize(self, *arrays: Array) -> None:
        """Wait for the arrays' accelerators; without arrays, for the current one, if there is one."""
        if not torch.accelerator.is_available():
            return
        for device in {array.device for array in arrays} if arrays else {torch.accelerator.current_accelerator()}:
            if device.type not in ("cpu", "meta"):
                torch.accelerator.synchronize(device)

    def describe(self) -> Mapping[str, str]:
        """Version, the accelerator if there is one, threads, and the precision that is asked for."""
        device = torch.device(self.devices()[0])
        about = {"version": torch.__version__, "device": _device_name(device), "precision": "full float32 (TF32 off)"}
        if device.type != "cuda":
            return about
        layers = {"layers": describe_parts(device), "reproducible layers": describe_half(device)}
        return {**about, "neurons": kernels.describe(device), **layers}

    def devices(self) -> Sequence[str]:
        """Accelerators, and the CPU; tensors on "meta" have no values, so no command can use it."""
        if not torch.accelerator.is_available():
            return ("cpu",)
        kind = torch.accelerator.current_accelerator().type
        return (*(f"{kind}:{n}" for n in range(torch.accelerator.device_count())), "cpu")

    def crossings(self) -> Sequence[tuple[tuple[int, ...], tuple[int, ...], int]]:
        """Sizes at which PyTorch changes its way, as far as known: oneDNN from 20,480 numbers, threads from 32,768.

        And kernels narrower than their padding, which go another way here; compiled loops, for a single step too, and layers
        that follow their spikes.
        """
        frames = [((1, 1, n, 32, 4), (8, 3, 3, 4), 1) for n in (158, 161)]
        threads = [((3, 4, 32, n, 4), (8, 3, 3, 4), k) for n in (31, 33) for k in (1, 3)]
        kernels = [((2, 2, 7, 6, 4), (5, n, n, 4), 1) for n in (1, 2)]
        loops = [((n, 4, 16, 16, 2), (16, 3, 3, 2), 1) for n in (15, 16)]
        steps = [((1, 4, 64, n, 4), (64, 1, 1, 4), 1) for n in (63, 64)]
        return (*frames, *threads, *kernels, *loops, *steps, *CROSSINGS)

    def device_of(self, array: Array) -> str | None:
        """Tensors never move by themselves."""
        return str(array.device)

    def ambient(self) -> Mapping[str, Callable[[], contextlib.AbstractContextManager[Any]]]:
        """Intel's oneDNN switched off, autocast, and matrix products that may be less precise."""
        return {
            "torch.backends.mkldnn.flags(enabled=False)": lambda: torch.backends.mkldnn.flags(enabled=False),
            "torch.autocast(bfloat16)": lambda: torch.autocast(_autocast_device(), dtype=torch.bfloat16),
            "torch.set_float32_matmul_precision('medium')": _medium,
        }

    def device_name(self, array: Array) -> str:
        """The GPU's name."""
        return _device_name(array.device)

    def read(self, array: Array) -> list[float] | None:
        """Values on a CPU, not of traced, vmapped or compiled tensors, nor of those that have none (`FakeTensor`)."""
        if array.device.type != "cpu" or is_traced(array) or isinstance(array, FakeTensor):
            return None
        return [float(value) for value in array.detach().reshape(-1).tolist()]


def _unfit(x: Array) -> str | None:
    """`TorchBackend.unfit` of all but plain tensors."""
    if hasattr(x, "full_tensor"):  # asked so, because torch.distributed may be missing
        return "a DTensor; call to_local() for the part of this process, or full_tensor()"
    if x.is_nested:
        return "a nested tensor; call torch.nested.to_padded_tensor(x, 0.0)"
    if isinstance(x, torch.masked.MaskedTensor):
        return "a masked tensor; call to_tensor(0.0)"
    if x.layout is not torch.strided:
        return f"a tensor of layout {x.layout}; call to_dense()"
    if x.is_quantized:
        return f"a quantised tensor ({x.dtype}); call dequantize()"
    if x.dtype not in _FIT and not x.dtype.is_complex:  # complex ones are refused by the rules of each argument
        return f"a tensor of {x.dtype}; call float()"
    return None


def _autocast_device() -> str:
    """The kind of device that autocast is asked for: the accelerator's, or the CPU's."""
    return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"


@contextlib.contextmanager
def _medium() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _device_name(device: Any) -> str:
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    name = getattr(getattr(torch, device.type, None), "get_device_name", None)
    return f"{name(device)} ({device})" if name else str(device)


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


name_trains()
BACKEND = TorchBackend()
