"""MLX: `conv_general`, lazily, and compiled neurons; Metal on Macs, the CPU elsewhere.

On the newest Apple GPUs and under CUDA MLX rounds the operands of float32 products to TF32, unless the environment says
``MLX_ENABLE_TF32=0`` before MLX's first product. That is the user's choice: nothing is set here, `describe` says what is in force,
and reproducible mode, which must not depend on it, multiplies in parts that TF32 holds exactly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Self

import mlx.core as mx
import numpy as np

from tacops._backend.protocol import Array, Backend, Window
from tacops._backend.steps import Recipe, State, Step, membrane_of

from ._metal import launching as metal
from ._mlx import cutting, learning
from ._unfold import conv_by_unfolding

__all__ = ["BACKEND", "MLXBackend"]

# Steps of the neurons, or frames of a chunk, that are compiled as one program. The time that MLX's compiler takes grows
# faster than the square of their number: 2000 steps as one program took five minutes.
_BLOCK = 16


class MLXBackend(Backend):
    """MLX arrays, inside `mx.compile`, `mx.grad` and `mx.vmap` too."""

    name = "mlx"
    differentiable = True
    lazy = True
    compiles_fast = True

    def owns(self, array: object) -> bool:
        """MLX has one array type."""
        return isinstance(array, mx.array)

    def namespace(self, array: Array) -> Any:
        """mlx.core has every name of the standard that the core uses."""
        return mx

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """`conv_general`; products of unfolded frames where that can't serve.

        Those are: no spatial dimension, groups in three dimensions (MLX refuses them), float64 (MLX sums it as
        float32), and exact mode, because
        Metal takes Winograd's algorithm for some shapes and has no switch to turn it off.
        """
        dims = len(window.stride)
        if exact or dims == 0 or (dims == 3 and window.groups > 1) or x.dtype == mx.float64:
            matmul = _matmul_of_integers if exact and _rounds_operands() else None
            return conv_by_unfolding(mx, x, weight, bias, window, matmul)
        padding = ([low for low, _ in window.padding], [high for _, high in window.padding])
        out = mx.conv_general(
            x, weight, stride=window.stride, padding=padding, kernel_dilation=window.dilation, groups=window.groups
        )
        return out if bias is None else out + bias

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """On GPUs compiled: a kernel that reads each frame once."""
        if not _compiles() or len(weights) > _BLOCK:
            return super().weighted_sum(x, weights, dtype)
        return _weighted_sum(dtype)(x, tuple(weights))

    def scan(self, step: Step, currents: Array, state: State | None, repeat: int) -> tuple[Array, State]:
        """On Metal one kernel of ours, where it serves; on GPUs compiled, some steps at a time; neurons that learn by themselves.

        Inside a transformation MLX sees through its compiler, so that gradients flow and nothing is compiled twice.
        """
        recipe, start = step.recipe, membrane_of(state)
        if recipe is not None and learning.serves(recipe, currents, start):
            fired, membrane = learning.learn(step, currents, start, repeat, self, _FORWARDS)
            return fired, (membrane,)
        if not _compiles():
            return super().scan(step, currents, state, repeat)
        if recipe is not None and metal.serves(recipe, currents, start) and metal.missing() is None:
            fired, membrane = metal.lif(recipe, currents, start, repeat, _as_operations(step, repeat))
            return fired, (membrane,)
        return self._in_blocks(step, currents, state, repeat)

    def _in_blocks(self, step: Step, currents: Array, state: State | None, repeat: int) -> tuple[Array, State]:
        """Kernels that do several operations of several steps."""
        template: Any = _with_arrays(step, [None] * len(step.arrays))
        arrays = [getattr(step, name) for name in step.arrays]
        frames, steps, spikes = self.unstack(currents), currents.shape[0] * repeat, []
        for start in range(0, steps, _BLOCK):
            stop = min(start + _BLOCK, steps)
            first, last = start // repeat, (stop - 1) // repeat
            block = _block(template, tuple((t // repeat) - first for t in range(start, stop)))
            fired, state = block(state, frames[first : last + 1], arrays)
            spikes += fired
        return mx.stack(spikes), tuple(state or ())

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None = None) -> Array:
        """A copy, in the memory that all devices share; float64 stays float64 on a CPU, which alone has it."""
        double = array.dtype == np.float64 and mx.default_device().type == mx.DeviceType.cpu
        whole = np.ascontiguousarray(array).reshape(array.shape)  # MLX takes no view that runs backwards
        return mx.array(whole, dtype=mx.float64 if double else None)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy in host memory."""
        return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)

    def stop_gradient(self, x: Array) -> Array:
        """`mx.stop_gradient`."""
        return mx.stop_gradient(x)

    def unstack(self, x: Array) -> Sequence[Array]:
        """By index, with a gradient of its own: that of `mx.split` and `mx.unstack` grows with the square of their number.

        In pieces of pieces, because each result of one operation keeps a list of all the others: 8000 steps at once took
        2 GiB and 7 s.
        """
        size = 1
        while size * _BLOCK < x.shape[0]:
            size *= _BLOCK
        if size == 1:
            steps: list[Array] = cutting.unstack(x)
            return steps
        return [step for piece in cutting.cut(size)(x) for step in self.unstack(piece)]

    def checkpoint(self, function: Callable[..., tuple[Array, ...]], arrays: Sequence[Array]) -> tuple[Array, ...]:
        """As `mx.checkpoint`, and in order.

        MLX is lazy, and nothing holds it back from computing all that is checkpointed again before it uses any of it: a chain
        of eight parts held 134 arrays, 155 without checkpoints. Here a part begins when the gradients it needs are
        there, and ends with all of its own: 48 arrays.
        """
        checkpointed: Any = mx.custom_function(lambda given: function(*given))

        @checkpointed.vjp  # type: ignore[untyped-decorator]
        def backward(given: list[Array], cotangents: Any, _: Any) -> list[Array]:
            tied = mx.depends(given, list(cotangents))
            _, gradients = mx.vjp(lambda *again: function(*again), tied, list(cotangents))
            ended: list[Array] = mx.depends(gradients, gradients)
            return ended

        return tuple(checkpointed(list(arrays)))

    def gradient(self, function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
        """`mx.grad`."""
        gradients: Any = mx.grad(function, list(range(len(arrays))))(*arrays)
        return list(gradients) if isinstance(gradients, (tuple, list)) else [gradients]

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`mx.compile`."""
        return mx.compile(function)

    def synchronize(self, *arrays: Array) -> None:
        """Evaluate."""
        mx.eval(arrays)

    def describe(self) -> Mapping[str, str]:
        """Version, default device and whether TF32 is allowed."""
        forbidden = os.environ.get("MLX_ENABLE_TF32") == "0"
        precision = "full float32" + " (MLX_ENABLE_TF32=0)" * forbidden
        if _rounds_operands():
            precision = "TF32 where the GPU has it (the default; MLX_ENABLE_TF32=0 forbids it)"
        about = {"version": version("mlx"), "device": _device_name(), "precision": precision}
        return {**about, "neurons": _neurons()} if _compiles() else about

    def devices(self) -> Sequence[str]:
        """The default device, and the other kind if it is there."""
        first = mx.default_device().type
        return tuple(kind.name for kind in sorted(_kinds(), key=lambda kind: kind != first))

    def on(self, device: str | None) -> Self:
        """MLX's arrays have no device, its operations have: this sets the default one, for the whole process."""
        placed = super().on(device)
        if device is not None:
            mx.set_default_device(mx.Device(getattr(mx, device)))
        return placed

    def crossings(self) -> Sequence[tuple[tuple[int, ...], tuple[int, ...], int]]:
        """Steps, and frames of a chunk, that are compiled as one program on GPUs."""
        steps = [((n, 2, 6), (4, 6), 1) for n in (_BLOCK, _BLOCK + 1)]
        return (*steps, *(((2 * n, 2, 6), (4, 6), n) for n in (_BLOCK, _BLOCK + 1)))

    def device_name(self, array: Array) -> str:
        """The default device, where operations run."""
        return _device_name()

    def read(self, array: Array) -> list[float] | None:
        """Values, unless inside a transformation."""
        try:
            values = mx.reshape(array, (-1,)).tolist()
        except ValueError:  # "Attempting to eval an array during function transformations"
            return None
        return [float(value) for value in values]  # type: ignore[union-attr, arg-type]


def _compiles() -> bool:
    """Whether MLX compiles by itself. For a CPU it calls the system's C++ compiler, a second and more for each new layer."""
    return mx.default_device().type == mx.DeviceType.gpu


def _neurons() -> str:
    """What steps neurons on a GPU."""
    reason = metal.missing()
    return "one Metal kernel" if reason is None else f"MLX's operations, compiled ({reason})"


def _as_operations(step: Step, repeat: int) -> Callable[..., tuple[Array, Array]]:
    """What `metal.lif` does, by operations that have derivatives."""

    def scan(numbers: Recipe, currents: Array, start: Array | None) -> tuple[Array, Array]:
        names = ("decay", "threshold", "poison")
        made: Any = replace(step, **{name: getattr(numbers, name) for name in names})  # type: ignore[type-var]
        spikes, state = BACKEND._in_blocks(made, currents, None if start is None else (start,), repeat)
        return spikes, state[0]

    return scan


def _kinds() -> list[Any]:
    return [kind for kind in (mx.gpu, mx.cpu) if mx.is_available(mx.Device(kind))]


def _device_name() -> str:
    kind = mx.default_device().type
    return "cpu" if kind == mx.DeviceType.cpu else f"{mx.device_info()['device_name']} ({kind.name})"


def _rounds_operands() -> bool:
    """Whether products of float32 may be rounded to TF32: on GPUs, unless that is forbidden."""
    return mx.default_device().type == mx.DeviceType.gpu and os.environ.get("MLX_ENABLE_TF32") != "0"


def _matmul_of_integers(a: Array, b: Array) -> Array:
    """Exact under TF32: each part of an integer below 2^22 has no more than 11 bits."""
    first, *others = [mx.matmul(p, q) for p in _parts(a) for q in _parts(b)]
    return sum(others, first)


def _parts(x: Array) -> tuple[Array, Array]:
    high = mx.round(x * 2.0**-11) * 2.0**11
    return high, x - high


@lru_cache(maxsize=64)
def _weighted_sum(dtype: Any) -> Callable[..., Array]:
    return mx.compile(lambda x, weights: Backend.weighted_sum(BACKEND, x, weights, dtype))


@lru_cache(maxsize=256)
def _block(template: Any, held: tuple[int, ...]) -> Callable[..., tuple[list[Array], State | None]]:
    """As many steps as `held` has entries, each driven by that one of the currents."""

    def run(state: State | None, currents: Sequence[Array], arrays: list[Any]) -> tuple[list[Array], State | None]:
        step = _with_arrays(template, arrays)
        fired = []
        for n in held:
            state, spikes = step(state, currents[n])
            fired.append(spikes)
        return fired, state

    return mx.compile(run)


def _with_arrays(step: Step, values: Sequence[Any]) -> Step:
    """The step with these in the places of its numbers and arrays."""
    made: Any = step  # a dataclass
    changed: Step = replace(made, **dict(zip(step.arrays, values, strict=True)))
    return changed


class _Forwards(MLXBackend):
    """What nobody differentiates."""

    differentiable = False


BACKEND = MLXBackend()
_FORWARDS = _Forwards()
