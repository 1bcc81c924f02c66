"""JAX: `lax.scan` over time, unfolding on CPUs and XLA's convolution elsewhere, always at highest precision.

On CPUs one matrix product per step inside the scan is faster than XLA's convolution, or as fast, and its memory does not
grow with T. On GPUs and TPUs the convolution of all frames at once fills the machine better.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import fields, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tacops._backend.protocol import Array, Backend, Window
from tacops._backend.steps import State, Step, Synapses

from ._jax.by_value import ByValue
from ._jax.convolution import PRECISION, Products, conv, conv_in_half, conv_one_frame, wide
from ._jax.cut import arranged, blank, check_cut, check_time, explained, on_mesh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["BACKEND", "JAXBackend"]

# Steps that are one kernel on a GPU, where a loop launches some for every round.
_BLOCK = 16
# Frames of a chunk that are summed term by term: XLA takes minutes to compile 3,000.
_TERMS = 32

_typeof: Callable[[Array], Any] = jax.typeof if hasattr(jax, "typeof") else jax.core.get_aval


class JAXBackend(Backend):
    """JAX arrays and tracers."""

    name = "jax"
    differentiable = True
    compiles_fast = True

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

    def check_time(self, function: str, frames: Any, chunk_size: int, plain: bool) -> None:
        """T of `jax.export` may be a symbol for a number of whole chunks."""
        check_time(function, frames, chunk_size, plain)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Parameters (C,) broadcast against (B, ..., C), and plain numbers may go to the device, whatever the user's settings."""
        with jax.numpy_rank_promotion("allow"), jax.transfer_guard_host_to_device("allow"), explained():
            yield

    def blank(self, frames: Array) -> Array:
        """Zeros; of a batch that an explicit mesh cuts, no sample is picked out, which JAX refuses."""
        return blank(frames)

    def number(self, value: Array, dtype: Any) -> Array:
        """Cast where it is of a weak type: a Python number that has gone through `jax.jit` or `jnp.full`."""
        return value.astype(dtype) if value.weak_type and value.dtype != dtype else value

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """A product of unfolded frames on CPUs and in exact mode (XLA may choose Winograd), else XLA's convolution."""
        return conv(x, weight, bias, window, exact, cpu=_on_cpu(x, weight))

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None = None) -> Array:
        """A copy, by default on the default device; float64 needs ``jax_enable_x64``."""
        return jnp.array(array, device=None if device is None else _devices()[device])

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy in host memory."""
        return np.array(array.astype(jnp.float32) if array.dtype == jnp.bfloat16 else array)

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """The sum as one fused kernel; as a product where it would be a program of very many terms."""
        if len(weights) > _TERMS and not any(np.ndim(weight) for weight in weights):
            kind = wide(dtype)
            row = jnp.stack([jnp.asarray(weight, kind) for weight in weights])
            return jnp.einsum("nk...,k->n...", x.astype(kind), row, precision=PRECISION).astype(dtype)
        return _weighted_sum(x, tuple(weights), dtype)

    def scan(self, step: Step, currents: Array, state: State | None, repeat: int) -> tuple[Array, State]:
        """`lax.scan`, compiled once per shape."""
        spikes, state = _scan(_by_value(step), currents, state, repeat, _on_cpu(currents))
        return spikes, state

    def schedule(
        self, conv: Synapses, step: Step, frames: Array, state: State | None, repeat: int
    ) -> tuple[Array, State]:
        """Convolve inside the scan on CPUs, all frames at once elsewhere."""
        check_cut(frames, conv)
        run = partial(_schedule, repeat=repeat, cpu=_on_cpu(conv.weight, frames))
        spikes, state = arranged(run, _registered(conv), _by_value(step), frames, state)
        return spikes, state

    def crossings(self) -> Sequence[tuple[tuple[int, ...], tuple[int, ...], int]]:
        """One frame, which no loop repeats; and frames of a chunk that are summed as a product."""
        chunks = [((n, 2, 6), (4, 6), n) for n in (_TERMS, _TERMS + 1)]
        return (((1, 2, 5, 6), (4, 3, 6), 1), ((2, 2, 5, 6), (4, 3, 6), 1), *chunks)

    def stop_gradient(self, x: Array) -> Array:
        """`lax.stop_gradient`."""
        return lax.stop_gradient(x)

    def remat(
        self, run: Callable[..., tuple[Array, State]], parts: Array, state: State | None, arrays: Sequence[Array]
    ) -> tuple[Array, State]:
        """A scan over `jax.checkpoint`: parts written out one after the other, XLA would compute all again at once."""
        spikes, state = _remat(ByValue(run), parts, state, tuple(arrays))
        return spikes, state

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
        """Values on a CPU, not of tracers, nor of an array that is cut over processes: what all know decides what all run."""
        if isinstance(array, jax.core.Tracer) or any(d.platform != "cpu" for d in array.devices()):
            return None
        if not (array.is_fully_addressable or array.is_fully_replicated):
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


def _by_value(step: Step) -> Step:
    """A step that is compiled once for all surrogates that do the same."""
    surrogate = getattr(step, "surrogate", None)
    made: Any = _registered(step)
    return made if surrogate is None else replace(made, surrogate=ByValue(surrogate))  # type: ignore[no-any-return]


def _registered(given: Any) -> Any:
    """A step, or synapses, of a class that JAX sees through."""
    kind: Any = type(given)
    _register(kind)
    return given


@cache
def _register(kind: Any) -> None:
    names = [field.name for field in fields(kind)]
    constants = [name for name in names if name not in kind.arrays]
    with suppress(ValueError):  # another thread has been faster
        jax.tree_util.register_dataclass(kind, data_fields=list(kind.arrays), meta_fields=constants)


@partial(jax.jit, static_argnames="dtype")
def _weighted_sum(x: Array, weights: tuple[float | Array, ...], dtype: Any) -> Array:
    return Backend.weighted_sum(BACKEND, x, weights, dtype)


@partial(jax.jit, static_argnames=("repeat", "cpu"))
def _scan(step: Step, currents: Array, state: State | None, repeat: int, cpu: bool) -> tuple[Array, State]:
    known = isinstance(currents.shape[0], int)  # a number of steps that is a symbol has no blocks
    unroll = 1 if cpu or not known else max(1, _BLOCK // repeat)
    return _over_time(step, lambda current: current, currents, state, repeat, unroll)


@partial(jax.jit, static_argnames=("repeat", "cpu"))
def _schedule(conv: Any, step: Step, frames: Array, state: State | None, repeat: int, cpu: bool) -> tuple[Array, State]:
    frames = conv.aggregate(frames)
    if cpu:
        conv = replace(conv, products=_ONE_FRAME if frames.shape[0] == 1 and not on_mesh(frames) else _ON_CPU)
        # a gradient by the weights reads unfolded frames: they are unfolded again, not kept for every step
        drive = jax.checkpoint(lambda frame: conv(frame), prevent_cse=False)
        return _over_time(step, drive, frames, state, repeat)
    products = _IN_HALF if conv.exact and conv.fits_half else _ELSEWHERE
    currents = jax.vmap(replace(conv, products=products))(frames)
    spikes, state = _scan(step, currents, state, repeat, cpu)
    return spikes, state


@partial(jax.jit, static_argnums=0)
def _remat(
    run: Callable[..., tuple[Array, State]], parts: Array, state: State | None, arrays: tuple[Array, ...]
) -> tuple[Array, State]:
    part = jax.checkpoint(run, prevent_cse=False)  # a scan's body is not merged with another's
    start = _start(lambda u: run(u, parts[0], *arrays)[1], state)
    after, spikes = lax.scan(lambda u, frames: _swap(part(u, frames, *arrays)), start, parts)
    return spikes.reshape(-1, *spikes.shape[2:]), after


def _over_time(
    step: Step,
    drive: Callable[[Array], Array],
    frames: Array,
    state: State | None,
    repeat: int,
    unroll: int = 1,
) -> tuple[Array, State]:
    """Scan ``step`` over ``drive(frame)``, `repeat` steps for each frame."""

    def hold(state: State | None, current: Array) -> tuple[Any, Array]:
        fired = []
        for _ in range(repeat):
            state, spikes = step(state, current)
            fired.append(spikes)
        return state, jnp.stack(fired)

    if frames.shape[0] == 1:
        return _swap(hold(state, drive(frames[0])))
    start = _start(lambda u: step(u, drive(frames[0]))[0], state)
    after, spikes = lax.scan(lambda u, frame: hold(u, drive(frame)), start, frames, unroll=unroll)
    return spikes.reshape(spikes.shape[0] * repeat, *spikes.shape[2:]), after


def _start(after: Callable[[State | None], State], state: State | None) -> State:
    """The state from which to scan, of the type of that which ``after(state)`` gives.

    The type tells along which axes of a mesh an array is cut (explicit meshes) or differs (`jax.shard_map`); a scan goes
    on with the type it began with, and zeros or a membrane from elsewhere differ from one that the data have changed.
    """
    if state is None:
        state = _zeros(jax.eval_shape(lambda: after(None)))
    zeros = _zeros(jax.eval_shape(after, state))
    pairs = zip(state, zeros, strict=True)
    return tuple(x if _typeof(x) == _typeof(zero) else x - zero for x, zero in pairs)


def _zeros(shapes: State) -> State:
    return tuple(lax.full_like(shape, 0) for shape in shapes)


def _swap(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    return pair[1], pair[0]


BACKEND = JAXBackend()
_ON_CPU = Products(partial(conv, cpu=True), BACKEND.weighted_sum)
_ELSEWHERE = Products(partial(conv, cpu=False), BACKEND.weighted_sum)
_IN_HALF = Products(conv_in_half, BACKEND.weighted_sum)
_ONE_FRAME = Products(conv_one_frame, BACKEND.weighted_sum)
