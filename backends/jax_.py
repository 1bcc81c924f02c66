"""JAX: `lax.scan` over time, unfolding on CPUs and XLA's convolution elsewhere, always at highest precision.

On CPUs one matrix product per step inside the scan is faster than XLA's convolution, or as fast, and its memory does not
grow with T. On GPUs and TPUs the convolution of all frames at once fills the machine better.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial, reduce
from itertools import product
from operator import add
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tacops._backend.protocol import Array, Backend, Window
from tacops._core.neurons import LIFStep
from tacops._core.synapses import Convolve

from ._jax.by_value import ByValue
from ._unfold import sums_taps, taps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["BACKEND", "JAXBackend"]

# The default precision of float32 products is TF32 on recent NVIDIA GPUs and bfloat16 on TPUs; HIGHEST is float32.
_PRECISION = lax.Precision.HIGHEST
_SPACE = "DHW"

# Steps that are one kernel on a GPU, where a loop launches some for every round.
_BLOCK = 16
# Frames of a chunk that are summed term by term: XLA takes minutes to compile 3,000.
_TERMS = 32

_typeof: Callable[[Array], Any] = jax.typeof if hasattr(jax, "typeof") else jax.core.get_aval

for _type, _static in (
    (Convolve, ("backend", "window", "exact")),
    (LIFStep, ("backend", "reset", "surrogate", "rounded", "compact", "detach_reset", "trace")),
):
    _fields = [field for field in _type.__dataclass_fields__ if field not in _static]
    jax.tree_util.register_dataclass(_type, data_fields=_fields, meta_fields=list(_static))


class JAXBackend(Backend):
    """JAX arrays and tracers."""

    name = "jax"
    differentiable = True
    compiles_fast = True

    def __init__(self, *, cpu: bool | None = None) -> None:
        """For CPUs or for other machines; None: for that which the arrays of a call are on."""
        self._cpu = cpu

    def owns(self, array: object) -> bool:
        """Arrays, and the tracers of jit, vmap and grad."""
        return isinstance(array, jax.Array)

    def namespace(self, array: Array) -> Any:
        """jax.numpy follows the standard."""
        return jnp

    def unfit(self, array: Array) -> str | None:
        """Keys of random numbers, and numbers of 8 bits and less, which have no arithmetic of their own."""
        if jnp.issubdtype(array.dtype, jax.dtypes.extended):
            return f"an array of {array.dtype}"
        number = jnp.issubdtype(array.dtype, jnp.number)
        # float64 begins with "float6"
        narrow = number and array.dtype.name.startswith(
            ("float8_", "float6_", "float4_", "int4", "int2", "uint4", "uint2")
        )
        return f"an array of {array.dtype}" if narrow else None

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Parameters (C,) broadcast against (B, ..., C), and plain numbers may go to the device, whatever the user's settings."""
        with jax.numpy_rank_promotion("allow"), jax.transfer_guard_host_to_device("allow"):
            yield

    def number(self, value: Array, dtype: Any) -> Array:
        """Cast where it is of a weak type: a Python number that has gone through `jax.jit` or `jnp.full`."""
        return value.astype(dtype) if value.weak_type and value.dtype != dtype else value

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """A product of unfolded frames on CPUs and in exact mode (XLA may choose Winograd), else XLA's convolution."""
        cpu = _on_cpu(x, weight) if self._cpu is None else self._cpu
        if exact or not window.stride or (cpu and window.groups == 1):
            return _conv_by_unfolding(x, weight, bias, window)
        space = _SPACE[-len(window.stride) :]
        out = lax.conv_general_dilated(
            x,
            weight,
            window.stride,
            window.padding,
            rhs_dilation=window.dilation,
            dimension_numbers=(f"N{space}C", f"O{space}I", f"N{space}C"),
            feature_group_count=window.groups,
            precision=_PRECISION,
        )
        return out if bias is None else out + bias

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None = None) -> Array:
        """A copy, by default on the default device; float64 needs ``jax_enable_x64``."""
        return jnp.array(array, device=None if device is None else _devices()[device])

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy in host memory."""
        return np.array(array.astype(jnp.float32) if array.dtype == jnp.bfloat16 else array)

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """The sum as one fused kernel; as a product where it would be a program of very many terms."""
        if len(weights) > _TERMS and not any(np.ndim(weight) for weight in weights):
            wide = _wide(dtype)
            row = jnp.stack([jnp.asarray(weight, wide) for weight in weights])
            return jnp.einsum("nk...,k->n...", x.astype(wide), row, precision=_PRECISION).astype(dtype)
        return _weighted_sum(x, tuple(weights), dtype)

    def scan(self, step: LIFStep, currents: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array]:
        """`lax.scan`, compiled once per shape."""
        spikes, membrane = _scan(_by_value(step), currents, membrane, repeat, _on_cpu(currents))
        return spikes, membrane

    def schedule(
        self, conv: Convolve, step: LIFStep, frames: Array, membrane: Array | None, repeat: int
    ) -> tuple[Array, Array]:
        """Convolve inside the scan on CPUs, all frames at once elsewhere."""
        cpu = _on_cpu(conv.weight, frames)
        spikes, membrane = _schedule(conv, _by_value(step), frames, membrane, repeat, cpu)
        return spikes, membrane

    def crossings(self) -> Sequence[tuple[tuple[int, ...], tuple[int, ...], int]]:
        """One frame, which no loop repeats; and frames of a chunk that are summed as a product."""
        chunks = [((n, 2, 6), (4, 6), n) for n in (_TERMS, _TERMS + 1)]
        return (((1, 2, 5, 6), (4, 3, 6), 1), ((2, 2, 5, 6), (4, 3, 6), 1), *chunks)

    def stop_gradient(self, x: Array) -> Array:
        """`lax.stop_gradient`."""
        return lax.stop_gradient(x)

    def remat(
        self, run: Callable[..., tuple[Array, Array]], parts: Array, membrane: Array | None, arrays: Sequence[Array]
    ) -> tuple[Array, Array]:
        """A scan over `jax.checkpoint`: parts written out one after the other, XLA would compute all again at once."""
        spikes, membrane = _remat(ByValue(run), parts, membrane, tuple(arrays))
        return spikes, membrane

    def gradient(self, function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
        """`jax.grad`."""
        return list(jax.grad(function, tuple(range(len(arrays))))(*arrays))

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`jax.jit`."""
        compiled: Callable[..., Any] = jax.jit(function)
        return compiled

    def synchronize(self, *arrays: Array) -> None:
        """Wait for the device."""
        jax.block_until_ready(arrays)

    def describe(self) -> Mapping[str, str]:
        """Version, default device and the precision that is asked for."""
        return {
            "version": jax.__version__,
            "device": _device_name(jax.devices()[0]),
            "precision": "HIGHEST (full float32)",
        }

    def devices(self) -> Sequence[str]:
        """Those of the default kind, and CPUs."""
        return tuple(_devices())

    def device_of(self, array: Array) -> str | None:
        """The devices an array was put on; uncommitted arrays and tracers may go anywhere."""
        if isinstance(array, jax.core.Tracer) or not array.committed:
            return None
        return ", ".join(sorted(map(str, array.devices())))

    def ambient(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Products that may be less precise, and 64-bit types."""
        settings = {"jax.default_matmul_precision('bfloat16')": lambda: jax.default_matmul_precision("bfloat16")}
        if hasattr(jax, "enable_x64"):  # newer than the oldest JAX that is supported
            settings["jax.enable_x64(True)"] = lambda: jax.enable_x64(True)
        return settings

    def device_name(self, array: Array) -> str:
        """The kind of GPU or TPU, of committed and uncommitted arrays alike."""
        return ", ".join(map(_device_name, sorted(array.devices(), key=lambda device: device.id)))

    def read(self, array: Array) -> list[float] | None:
        """Values on a CPU, not of tracers."""
        if isinstance(array, jax.core.Tracer) or any(d.platform != "cpu" for d in array.devices()):
            return None
        values: list[float] = np.ravel(np.asarray(array)).tolist()
        return values


def _devices() -> dict[str, Any]:
    """By name, for example ``gpu:0``; the default first."""
    found = [*jax.local_devices()]
    if all(device.platform != "cpu" for device in found):
        with suppress(RuntimeError):  # JAX_PLATFORMS may leave the CPU out
            found += jax.local_devices(backend="cpu")
    return {f"{device.platform}:{device.id}": device for device in found}


def _device_name(device: Any) -> str:
    name = f"{device.platform}:{device.id}"
    return name if device.platform == "cpu" else f"{device.device_kind} ({name})"


def _on_cpu(*arrays: Array) -> bool:
    """Whether a call computes on a CPU: where its first array is that is no tracer, else on the default device."""
    for array in arrays:
        if not isinstance(array, jax.core.Tracer):
            return bool(next(iter(array.devices())).platform == "cpu")
    default: Any = jax.config.jax_default_device
    return bool(getattr(default, "platform", default or jax.default_backend()) == "cpu")


def _by_value(step: LIFStep) -> LIFStep:
    """A step that is compiled once for all surrogates that do the same."""
    return step if step.surrogate is None else replace(step, surrogate=ByValue(step.surrogate))


def _conv_by_unfolding(x: Array, weight: Array, bias: Array | None, window: Window, *, looped: bool = True) -> Array:
    """As the generic one, in the form that XLA fuses best: inside a loop taps side by side, elsewhere on an axis of their own.

    No axis is merged with the batch, which may be cut by a mesh or of unknown size, and no work area counts on its size.
    """
    padded, kernel, groups = jnp.pad(x, ((0, 0), *window.padding, (0, 0))), weight.shape[1:-1], window.groups
    space = window.output_shape(x.shape[1:-1], kernel)
    places = list(taps(padded, kernel, space, window))
    if groups == 1:
        columns = jnp.concatenate(places, axis=-1) if looped else jnp.stack(places, axis=-2)
        columns = columns.reshape(*places[0].shape[:-1], -1)
        out = _matmul(columns, weight.reshape(len(weight), -1).T, x.dtype)
    elif sums_taps(jnp, weight, window):
        terms = zip(places, product(*map(range, kernel)), strict=True)
        out = reduce(add, [tap * weight[(slice(None), *place, 0)] for tap, place in terms])
    else:
        columns = jnp.concatenate([tap.reshape(*tap.shape[:-1], groups, -1) for tap in places], axis=-1)
        flat = weight.reshape(groups, len(weight) // groups, -1)
        wide = _wide(x.dtype)
        out = jnp.einsum("...gk,gok->...go", columns, flat, precision=_PRECISION, preferred_element_type=wide)
        out = out.astype(x.dtype).reshape(*out.shape[:-2], -1)
    return out if bias is None else out + bias


def _wide(dtype: Any) -> Any:
    """The dtype of sums: float32 for half precision."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def _matmul(a: Array, b: Array, dtype: Any) -> Array:
    """Full precision; half-precision products are summed in float32 (this is what the hardware does, where it has them)."""
    return jnp.matmul(a, b, precision=_PRECISION, preferred_element_type=_wide(dtype)).astype(dtype)


@partial(jax.jit, static_argnames="dtype")
def _weighted_sum(x: Array, weights: tuple[float | Array, ...], dtype: Any) -> Array:
    return Backend.weighted_sum(BACKEND, x, weights, dtype)


@partial(jax.jit, static_argnames=("repeat", "cpu"))
def _scan(step: LIFStep, currents: Array, membrane: Array | None, repeat: int, cpu: bool) -> tuple[Array, Array]:
    unroll = 1 if cpu else max(1, _BLOCK // repeat)
    return _over_time(step, lambda current: current, currents, membrane, repeat, unroll)


@partial(jax.jit, static_argnames=("repeat", "cpu"))
def _schedule(
    conv: Convolve, step: LIFStep, frames: Array, membrane: Array | None, repeat: int, cpu: bool
) -> tuple[Array, Array]:
    frames = conv.aggregate(frames)
    if cpu:
        conv = replace(conv, backend=_ONE_FRAME if frames.shape[0] == 1 else _ON_CPU)
        return _over_time(step, conv, frames, membrane, repeat)
    currents = jax.vmap(replace(conv, backend=_ELSEWHERE))(frames)
    spikes, membrane = _scan(step, currents, membrane, repeat, cpu)
    return spikes, membrane


@partial(jax.jit, static_argnums=0)
def _remat(
    run: Callable[..., tuple[Array, Array]], parts: Array, membrane: Array | None, arrays: tuple[Array, ...]
) -> tuple[Array, Array]:
    part = jax.checkpoint(run, prevent_cse=False)  # a scan's body is not merged with another's
    membrane = _start(lambda u: run(u, parts[0], *arrays)[1], membrane)
    after, spikes = lax.scan(lambda u, frames: _swap(part(u, frames, *arrays)), membrane, parts)
    return spikes.reshape(-1, *spikes.shape[2:]), after


def _over_time(
    step: LIFStep,
    drive: Callable[[Array], Array],
    frames: Array,
    membrane: Array | None,
    repeat: int,
    unroll: int = 1,
) -> tuple[Array, Array]:
    """Scan ``step`` over ``drive(frame)``, `repeat` steps for each frame."""

    def hold(membrane: Array | None, current: Array) -> tuple[Array, Array]:
        fired = []
        for _ in range(repeat):
            membrane, spikes = step(membrane, current)
            fired.append(spikes)
        return membrane, jnp.stack(fired)

    if frames.shape[0] == 1:
        return _swap(hold(membrane, drive(frames[0])))
    membrane = _start(lambda u: step(u, drive(frames[0]))[0], membrane)
    membrane, spikes = lax.scan(lambda u, frame: hold(u, drive(frame)), membrane, frames, unroll=unroll)
    return spikes.reshape(-1, *spikes.shape[2:]), membrane


def _start(after: Callable[[Array | None], Array], membrane: Array | None) -> Array:
    """The membrane from which to scan, of the type of that which ``after(membrane)`` gives.

    The type tells along which axes of a mesh an array is cut (explicit meshes) or differs (`jax.shard_map`); a scan goes
    on with the type it began with, and zeros or a membrane from elsewhere differ from one that the data have changed.
    """
    if membrane is None:
        membrane = lax.full_like(jax.eval_shape(lambda: after(None)), 0)
    zeros = lax.full_like(jax.eval_shape(after, membrane), 0)
    return membrane if _typeof(membrane) == _typeof(zeros) else membrane - zeros


def _swap(pair: tuple[Array, Array]) -> tuple[Array, Array]:
    return pair[1], pair[0]


class _OneFrame(JAXBackend):
    """Convolutions on a CPU that no loop repeats: XLA compiles those in its own way."""

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """The padded frame apart, in memory: XLA would sum its chunk again for every tap that is unfolded from it.

        Depth-wise tap by tap, which outside a loop takes a fifth of XLA's convolution (inside, its takes two thirds of
        ours).
        """
        x = lax.optimization_barrier(jnp.pad(x, ((0, 0), *window.padding, (0, 0))))
        window = replace(window, padding=((0, 0),) * len(window.padding))
        if window.groups == 1 or sums_taps(jnp, weight, window):
            return _conv_by_unfolding(x, weight, bias, window, looped=False)
        return super().conv(x, weight, bias, window, exact=exact)


BACKEND = JAXBackend()
_ON_CPU, _ELSEWHERE, _ONE_FRAME = JAXBackend(cpu=True), JAXBackend(cpu=False), _OneFrame(cpu=True)
