"""Neurons on NVIDIA's GPUs: the kernels of ``_triton/``, where Triton is installed; PyTorch for Linux brings it.

What they don't know goes by the core's steps: other dtypes, tensors that stand for others, programs that are exported.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses import FakeTensor

from tacops._backend.steps import Recipe, Reset
from tacops._backend.window import Window

from .._triton import layout
from .convolution import HALF
from .host import has_tangent, is_capturing, is_exported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tacops._backend.protocol import Array

__all__ = [
    "back",
    "describe",
    "forth",
    "fuses",
    "is_beyond",
    "is_direct",
    "layer",
    "missing_layers",
    "missing_parts",
    "results",
    "takes",
]

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_DTYPES = (*HALF, torch.float32, torch.float64)
_RESETS = (Reset.NONE, Reset.SUBTRACT, Reset.ZERO, Reset.LATE)
OLDEST = (7, 5)
"""Compute capability of the oldest GPUs for which Triton compiles."""
OLDEST_OF_LAYERS = 8
"""On older ones Triton multiplies matrices without tensor cores, and spills registers."""
results = layout.results


def takes(step: Recipe, tensors: Sequence[Array]) -> bool:
    """Whether the kernels know a step, and may read the tensors."""
    currents = tensors[0]
    if step.reset not in _RESETS or currents.dtype not in _DTYPES or missing(currents.device) is not None:
        return False
    if is_exported():
        return False
    return all(x.device == currents.device and x.layout is torch.strided and _is_plain(x) for x in tensors)


def _is_plain(x: Array) -> bool:
    if torch.compiler.is_compiling():
        return True
    return (type(x) in _PLAIN or isinstance(x, FakeTensor)) and not (x.is_neg() or x._is_zerotensor())


def fuses(tensors: Sequence[Array], whole: bool) -> bool:
    """Whether the kernel of whole layers may read what `takes` allows: float32 but for the last, the frames.

    Of integers if `whole`, else of bool frames and weights in three parts.
    """
    missing = missing_layers if whole else missing_parts
    return all(x.dtype == torch.float32 for x in tensors[:-1]) and missing(tensors[0].device) is None


def is_direct(tensors: Sequence[Array]) -> bool:
    """Whether no compiler, mode or simulation has to see an operation, so that the kernel can be launched as it is."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return all(type(x) in _PLAIN for x in tensors)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def missing(device: Any) -> str | None:
    """Why there are no kernels for a device, or None."""
    return _found_out(_missing, device)


@cache
def _missing(kind: str, index: int | None) -> str | None:
    """`missing`, once: looking for a package takes longer than launching a kernel."""
    if kind != "cuda":
        return f"no kernels for {kind}"
    if torch.version.hip is not None:
        return "an AMD GPU, on which the kernels were not tried"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if not torch.cuda.is_available():  # a simulation
        return None
    major, minor = torch.cuda.get_device_capability(index)
    if (major, minor) < OLDEST:
        return f"compute capability {major}.{minor} is older than {OLDEST[0]}.{OLDEST[1]}"
    reason = _failure(_try_out, torch.device(kind, index))
    if reason is not None:
        warnings.warn(f"tacops: neurons go by PyTorch's operations, which are slower. {reason}", stacklevel=2)
    return reason


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def missing_layers(device: Any) -> str | None:
    """Why there is no kernel for whole layers on a device, or None."""
    return missing(device) or _found_out(_missing_layers, device)


@cache
def _missing_layers(kind: str, index: int | None) -> str | None:
    if not torch.cuda.is_available():  # a simulation
        return None
    major, minor = torch.cuda.get_device_capability(index)
    if major < OLDEST_OF_LAYERS:
        return f"Triton has no tensor cores for compute capability {major}.{minor}"
    reason = _failure(_try_out_layer, torch.device(kind, index))
    if reason is not None:
        warnings.warn(f"tacops: reproducible layers take two kernels and more instead of one. {reason}", stacklevel=2)
    return reason


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def missing_parts(device: Any) -> str | None:
    """Why there is no kernel for whole layers of float32 weights on a device, or None."""
    return missing_layers(device) or _found_out(_missing_parts, device)


@cache
def _missing_parts(kind: str, index: int | None) -> str | None:
    if not torch.cuda.is_available():  # a simulation
        return None
    reason = _failure(_try_out_parts, torch.device(kind, index))
    if reason is not None:
        warnings.warn(f"tacops: layers take cuDNN's convolution instead of tensor cores. {reason}", stacklevel=2)
    return reason


class _RecordingError(RuntimeError):
    """Nothing can be tried out while a CUDA graph is captured: it would fail, and spoil the graph."""


def _found_out(find: Callable[[str, int | None], str | None], device: Any) -> str | None:
    """What keeps kernels from being used; found out once, but not while a CUDA graph is captured, which keeps the other way."""
    try:
        return find(device.type, device.index)
    except _RecordingError:
        reason = "first called while a CUDA graph was captured; call it once before"
        warnings.warn(f"tacops: a CUDA graph gets PyTorch's operations instead of kernels: {reason}", stacklevel=2)
        return reason


def _failure(attempt: Callable[[Any], None], device: Any) -> str | None:
    """Why an attempt on a device fails, or None."""
    if is_capturing():
        raise _RecordingError
    try:
        # in a thread of its own, where no mode, transform or tracer of the caller's sees it
        with ThreadPoolExecutor(1) as pool:
            pool.submit(attempt, device).result()
    except Exception as error:  # noqa: BLE001 (a Triton that doesn't fit its PyTorch raises all kinds)
        first = str(error).strip().partition("\n")[0]
        return f"Triton can't be used here: {type(error).__name__}: {first}"
    return None


def _try_out(device: Any) -> None:
    """Step one neuron: Triton compiles at the first launch, and that needs a C compiler and tools beside the package."""
    forth(Recipe(0.5, 1.0, Reset.SUBTRACT, False, False, None), torch.ones((1, 1, 1), device=device), None, 1, False)


def _try_out_layer(device: Any) -> None:
    """One dense layer of integers whose sums come close to 2^24: tensor cores have to add them without rounding."""
    numbers = torch.arange(144 * 128, dtype=torch.float64, device="cpu").reshape(128, 144)
    frames, weight = 40.0 + numbers % 17.0, 2048.0 - numbers[:32] % 97.0
    weight[::2, ::3] *= -1.0
    step, dense = Recipe(0.5, 1.0, Reset.NONE, True, True, None), Window((), (), (), 1)
    given = frames[None].to(device, torch.float32), weight.to(device, torch.float16), None, dense, None, 1
    if not torch.equal(layer(step, *given)[1].to("cpu", torch.float64), frames @ weight.mT):
        raise ArithmeticError("sums of integers on tensor cores are not exact")


def _try_out_parts(device: Any) -> None:
    """One dense layer of spikes and weights of 24 bits: far closer to the sums than half precision, or TF32, would be."""
    numbers = torch.arange(144 * 128, dtype=torch.float64, device="cpu").reshape(128, 144)
    frames, weight = numbers % 7.0 < 3.0, (1.0 + numbers[:32] % 97.0).reciprocal().float()
    step, dense = Recipe(0.5, 1.0, Reset.NONE, False, True, None), Window((), (), (), 1)
    found = layer(step, frames[None].to(device), weight.to(device), None, dense, None, 1)[1].to("cpu", torch.float64)
    sums = frames.double() @ weight.double().mT
    if not torch.all((found - sums).abs() <= sums * 2.0**-17):
        raise ArithmeticError("sums on tensor cores are less accurate than they should be")


def _launching() -> Any:
    from .._triton import launching

    return launching


def _layers() -> Any:
    from .._triton import layers

    return layers


def describe(device: Any) -> str:
    """What steps neurons on a GPU."""
    reason = missing(device)
    if reason is not None:
        return f"PyTorch's operations ({reason})"
    import triton

    return f"one Triton {triton.__version__} kernel"


def forth(step: Recipe, currents: Array, membrane: Array | None, repeat: int, keep: bool) -> tuple[Array, Array, Array]:
    """Spikes, the last membranes, and the membranes that fire, if they are to be kept."""
    return _launching().forth(step, currents, membrane, repeat, keep)  # type: ignore[no-any-return]


def layer(
    step: Recipe, frames: Array, weight: Array, bias: Array | None, window: Window, membrane: Array | None, repeat: int
) -> tuple[Array, Array]:
    """Spikes and the last membranes of a whole layer: of integers, the weight float16; of bool frames, if the step is not rounded."""
    return _layers().layer(step, frames, weight, bias, window, membrane, repeat)  # type: ignore[no-any-return]


def back(
    step: Recipe,
    surrogate: tuple[str, float],
    currents: Array,
    kept: Array,
    membrane: Array | None,
    repeat: int,
    to_spikes: Array | None,
    to_membrane: Array | None,
    parameters: tuple[bool, bool],
    own: Array | None = None,
) -> tuple[Array | None, ...]:
    """Gradients by currents, membrane, decay and threshold."""
    given = kept, membrane, repeat, to_spikes, to_membrane, parameters, own
    return _launching().back(step, surrogate, *given)  # type: ignore[no-any-return]


def is_beyond(gradient: Array) -> bool:
    """Whether a gradient needs PyTorch's own operations: it stands for many, or has a derivative along a direction."""
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(gradient)) or has_tangent(gradient)
