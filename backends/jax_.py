"""JAX: `lax.scan` over time, unfolding on CPUs and XLA's convolution elsewhere, always at highest precision.

On CPUs one matrix product per step inside the scan is faster than XLA's convolution, or as fast, and its memory does not
grow with T. On GPUs and TPUs the convolution of all frames at once fills the machine better.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tacops._convolve import Convolve
from tacops._lif import LIFStep
from tacops._protocol import Array, Backend, Window

from ._unfold import conv_by_unfolding, pad, sums_taps, taps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["BACKEND", "JAXBackend"]

# The default precision of float32 products is TF32 on recent NVIDIA GPUs and bfloat16 on TPUs; HIGHEST is float32.
_PRECISION = lax.Precision.HIGHEST
_SPACE = "DHW"

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

    def owns(self, array: object) -> bool:
        """Arrays, and the tracers of jit, vmap and grad."""
        return isinstance(array, jax.Array)

    def namespace(self, array: Array) -> Any:
        """jax.numpy follows the standard."""
        return jnp

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """A product of unfolded frames on CPUs and in exact mode (XLA may choose Winograd), else XLA's convolution."""
        if window.groups == 1 and (exact or not window.stride or jax.default_backend() == "cpu"):
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
        """The sum as one fused kernel."""
        return _weighted_sum(x, tuple(weights), dtype)

    def scan(self, step: LIFStep, currents: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array]:
        """`lax.scan`, compiled once per shape."""
        spikes, membrane = _scan(step, currents, membrane, repeat)
        return spikes, membrane

    def schedule(
        self, conv: Convolve, step: LIFStep, frames: Array, membrane: Array | None, repeat: int
    ) -> tuple[Array, Array]:
        """Convolve inside the scan on CPUs, all frames at once elsewhere."""
        spikes, membrane = _schedule(conv, step, frames, membrane, repeat)
        return spikes, membrane

    def stop_gradient(self, x: Array) -> Array:
        """`lax.stop_gradient`."""
        return lax.stop_gradient(x)

    def remat(
        self, run: Callable[..., tuple[Array, Array]], parts: Array, membrane: Array | None, arrays: Sequence[Array]
    ) -> tuple[Array, Array]:
        """A scan over `jax.checkpoint`: parts written out one after the other, XLA would compute all again at once."""
        if membrane is None:
            _, after = jax.eval_shape(partial(run, None), parts[0], *arrays)
            membrane = jnp.zeros(after.shape, after.dtype)
        part = jax.checkpoint(run, prevent_cse=False)  # a scan's body is not merged with another's
        after, spikes = lax.scan(lambda u, frames: _swap(part(u, frames, *arrays)), membrane, parts)
        return spikes.reshape(-1, *spikes.shape[2:]), after

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


def _conv_by_unfolding(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """As the generic one, in the form that XLA fuses best inside a loop: a tenth less time for layers of few channels."""
    padded, kernel = jnp.pad(x, ((0, 0), *window.padding, (0, 0))), weight.shape[1:-1]
    space = window.output_shape(x.shape[1:-1], kernel)
    columns = jnp.concatenate(list(taps(padded, kernel, space, window)), axis=-1)
    out = _matmul(columns, weight.reshape(len(weight), -1).T, x.dtype)
    return out if bias is None else out + bias


def _matmul(a: Array, b: Array, dtype: Any) -> Array:
    """Full precision; half-precision products are summed in float32 (this is what the hardware does, where it has them)."""
    wide = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
    return jnp.matmul(a, b, precision=_PRECISION, preferred_element_type=wide).astype(dtype)


@partial(jax.jit, static_argnames="dtype")
def _weighted_sum(x: Array, weights: tuple[float | Array, ...], dtype: Any) -> Array:
    return Backend.weighted_sum(BACKEND, x, weights, dtype)


@partial(jax.jit, static_argnames="repeat")
def _scan(step: LIFStep, currents: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array]:
    return _over_time(step, lambda current: current, currents, membrane, repeat)


@partial(jax.jit, static_argnames="repeat")
def _schedule(conv: Convolve, step: LIFStep, frames: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array]:
    frames = conv.aggregate(frames)
    n, batch = frames.shape[:2]
    if jax.default_backend() == "cpu":
        if n == 1:
            conv = replace(conv, backend=_ONE_FRAME)
        return _over_time(step, conv, frames, membrane, repeat)
    currents = conv(frames.reshape(n * batch, *frames.shape[2:]))
    return _over_time(step, lambda current: current, currents.reshape(n, batch, *currents.shape[1:]), membrane, repeat)


def _over_time(
    step: LIFStep, drive: Callable[[Array], Array], frames: Array, membrane: Array | None, repeat: int
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
    if membrane is None:
        current = jax.eval_shape(drive, frames[0])
        membrane = jnp.zeros(current.shape, current.dtype)
    membrane, spikes = lax.scan(lambda u, frame: hold(u, drive(frame)), membrane, frames)
    return spikes.reshape(-1, *spikes.shape[2:]), membrane


def _swap(pair: tuple[Array, Array]) -> tuple[Array, Array]:
    return pair[1], pair[0]


class _OneFrame(JAXBackend):
    """Convolutions on a CPU that no loop repeats: XLA compiles those in its own way."""

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """The padded frame apart, in memory: XLA would sum its chunk again for every tap that is unfolded from it.

        Depth-wise tap by tap, which outside a loop takes a fifth of XLA's convolution (inside, its takes two thirds of
        ours).
        """
        x = lax.optimization_barrier(pad(jnp, x, window))
        window = replace(window, padding=((0, 0),) * len(window.padding))
        if window.groups == 1 or sums_taps(jnp, weight, window):
            return conv_by_unfolding(jnp, x, weight, bias, window, partial(_matmul, dtype=x.dtype), work_area=None)
        return super().conv(x, weight, bias, window, exact=exact)


BACKEND = JAXBackend()
_ONE_FRAME = _OneFrame()
