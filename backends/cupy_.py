"""CuPy: CUDA kernels for neurons, aggregation and small convolutions (``_cuda``), cuBLAS for the other convolutions.

CuPy has no convolution of its own (its cuDNN bindings are gone since version 14). Everything is queued on the current
stream of the arrays' device; nothing waits for it. float32 products are full float32 unless the user sets ``CUPY_TF32=1``.
**Never run on a GPU so far**: ``docs/gpu.md`` says what was verified, and how.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import array_api_compat.cupy as xp
import cupy as cp
import numpy as np

from tacops._backend.protocol import Array, Backend, Window
from tacops._backend.steps import membrane_of

from ._cuda import launching
from ._unfold import conv_by_unfolding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tacops._backend.steps import State, Step, Synapses

__all__ = ["BACKEND", "CuPyBackend", "windows"]

WORK_AREA = 1 << 22
"""Numbers unfolded at a time: 16 MiB of float32 stay in the L2 cache of data-centre GPUs until they are multiplied."""


class CuPyBackend(Backend):
    """CuPy arrays."""

    name = "cupy"

    def owns(self, array: object) -> bool:
        """Device arrays."""
        return isinstance(array, cp.ndarray)

    def namespace(self, array: Array) -> Any:
        """array-api-compat's: CuPy 14 lacks a few of the standard's names."""
        return xp

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """Unfold in tiles that stay in the L2 cache, one two-dimensional matrix product each."""
        with x.device:
            if window.groups > 1:
                return conv_by_unfolding(xp, x.astype(weight.dtype, copy=False), weight, bias, window)
            return _convolve(x, weight, bias, window)

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """One pass by a kernel that reads spikes as they are stored."""
        if np.dtype(dtype).name not in launching.REALS:
            return super().weighted_sum(x, weights, dtype)
        with x.device:
            return launching.weighted_sum(x, weights, np.dtype(dtype))

    def scan(self, step: Step, currents: Array, state: State | None, repeat: int) -> tuple[Array, State]:
        """All of time in one kernel, the membranes in registers."""
        recipe = step.recipe
        if recipe is None or currents.dtype.name not in launching.REALS:
            return super().scan(step, currents, state, repeat)
        with currents.device:
            spikes = launching.new_spikes(recipe, (len(currents) * repeat, *currents.shape[1:]), currents.dtype)
            after = cp.empty(currents.shape[1:], dtype=currents.dtype)
            launching.lif(recipe, currents, membrane_of(state), repeat, spikes, after)
            return spikes, (after,)

    def schedule(
        self, conv: Synapses, step: Step, frames: Array, state: State | None, repeat: int
    ) -> tuple[Array, State]:
        """One kernel for convolution and neurons where channels are few, or frames by the L2 cacheful."""
        dtype, recipe = conv.weight.dtype, step.recipe
        if recipe is None or conv.per_channel or dtype.name not in launching.REALS:
            return super().schedule(conv, step, frames, state, repeat)
        frames = conv.aggregate(frames)
        kernel, filters = conv.weight.shape[1:-1], conv.weight.shape[0]
        space = conv.window.output_shape(frames.shape[2:-1], kernel)
        with frames.device:
            spikes = launching.new_spikes(recipe, (len(frames) * repeat, frames.shape[1], *space, filters), dtype)
            after = cp.empty(spikes.shape[1:], dtype=dtype)
            if launching.fits_conv_lif(conv):
                launching.conv_lif(conv, recipe, frames, membrane_of(state), repeat, spikes, after)
                return spikes, (after,)
            membrane = membrane_of(state)
            count = max(1, WORK_AREA // (after.size // filters * math.prod(conv.weight.shape[1:])))
            for t in range(0, len(frames), count):
                part = frames[t : t + count]
                currents = self.conv(
                    part.reshape(-1, *part.shape[2:]), conv.weight, conv.bias, conv.window, exact=conv.exact
                )
                currents = currents.reshape(len(part), *after.shape)
                launching.lif(recipe, currents, membrane, repeat, spikes[t * repeat : (t + len(part)) * repeat], after)
                membrane = after
            return spikes, (after,)

    def crossings(self) -> Sequence[tuple[tuple[int, ...], tuple[int, ...], int]]:
        """Inputs of a neuron up to which convolution and neurons are one kernel; aggregation weights that travel by value."""
        fan_in = launching.FAN_IN // 9
        convolutions = [((3, 2, 6, 5, channels), (8, 3, 3, channels), 1) for channels in (fan_in, fan_in + 1)]
        most = launching.MOST_WEIGHTS
        return (*convolutions, *(((2 * n, 2, 6), (4, 6), n) for n in (most, most + 1)))

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None = None) -> Array:
        """A copy, by default on the current device."""
        if device is None:
            return cp.array(array)
        with cp.cuda.Device(int(device.partition(":")[2])):
            return cp.array(array)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy in host memory; waits for the device."""
        copy: np.ndarray[Any, Any] = cp.asnumpy(array)
        return copy

    def synchronize(self, *arrays: Array) -> None:
        """Wait for the current stream of the arrays' devices."""
        for device in {array.device.id: array.device for array in arrays}.values() if arrays else (cp.cuda.Device(),):
            with device:
                cp.cuda.get_current_stream().synchronize()

    def describe(self) -> Mapping[str, str]:
        """Version, the GPU's name, and whether TF32 is allowed."""
        tf32 = os.environ.get("CUPY_TF32", "0") not in ("", "0")
        name = _device_name(cp.cuda.Device().id)
        precision = "TF32 allowed by CUPY_TF32" if tf32 else "full float32"
        return {"version": cp.__version__, "device": name, "precision": precision}

    def devices(self) -> Sequence[str]:
        """The current one first."""
        current = cp.cuda.Device().id
        others = [n for n in range(cp.cuda.runtime.getDeviceCount()) if n != current]
        return tuple(f"cuda:{n}" for n in (current, *others))

    def device_name(self, array: Array) -> str:
        """The GPU's name."""
        return _device_name(array.device.id)

    def device_of(self, array: Array) -> str | None:
        """Arrays never move by themselves."""
        return f"cuda:{array.device.id}"

    def unavailable(self) -> str | None:
        """What is missing: a driver, a newer driver, a GPU, or a part of CUDA's toolkit."""
        runtime = cp.cuda.runtime
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            return _driver_problem(runtime, error)
        if count == 0:
            return "backend 'cupy' found no NVIDIA GPU; CUDA_VISIBLE_DEVICES may hide it"
        for part, probe in (("cuBLAS", _find_cublas), ("NVRTC", cp.cuda.nvrtc.getVersion), ("headers", _find_headers)):
            try:
                probe()
            except (ImportError, RuntimeError) as error:
                reason = " ".join(str(error).split())
                wheel = f"cupy-cuda{runtime.runtimeGetVersion() // 1000}x[ctk]"
                return f"backend 'cupy' cannot load CUDA's {part} ({reason}); try: pip install {wheel!r}"
        return None


def _device_name(number: int) -> str:
    name = cp.cuda.runtime.getDeviceProperties(number)["name"].decode()
    return f"{name} (cuda:{number})"


def windows(x: Array, kernel: Sequence[int], space: Sequence[int], window: Window) -> Array:
    """Every output position's inputs, (N, *S, C) to (N, *space, *kernel, C): a view that copies nothing."""
    n, *axes, channel = x.strides
    moves = [move * stride for move, stride in zip(axes, window.stride, strict=True)]
    taps = [move * dilation for move, dilation in zip(axes, window.dilation, strict=True)]
    shape = (x.shape[0], *space, *kernel, x.shape[-1])
    return cp.lib.stride_tricks.as_strided(x, shape, (n, *moves, *taps, channel))


def _convolve(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """Tiles of whole samples, or of rows of one: padding, one copy that casts as it unfolds, one product.

    A tile of the output is contiguous, so the product is written where it belongs.
    """
    kernel, filters = weight.shape[1:-1], weight.shape[0]
    space = window.output_shape(x.shape[1:-1], kernel)
    fan_in, flat = math.prod(weight.shape[1:]), weight.reshape(filters, -1).T
    out = cp.empty((x.shape[0], *space, filters), dtype=weight.dtype)
    per_row = max(1, math.prod(space[1:]) * fan_in)
    rows = space[0] if space else 1
    height = max(1, min(rows, WORK_AREA // per_row))
    count = max(1, WORK_AREA // (per_row * rows))
    for n in range(0, x.shape[0], count):
        part = _pad(x[n : n + count], window)
        for row in range(0, rows, height):
            target = out[n : n + count, row : row + height] if space else out[n : n + count]
            below = part[:, row * window.stride[0] :] if space else part
            columns = cp.ascontiguousarray(windows(below, kernel, target.shape[1:-1], window), dtype=weight.dtype)
            cp.dot(columns.reshape(-1, fan_in), flat, out=target.reshape(-1, filters))
            if bias is not None:
                target += bias
    return out


def _pad(x: Array, window: Window) -> Array:
    """Zeros around the spatial axes, in one pass; `x` itself if there are none."""
    if not any(map(any, window.padding)):
        return x
    sizes = [low + size + high for (low, high), size in zip(window.padding, x.shape[1:-1], strict=True)]
    padded = cp.zeros((x.shape[0], *sizes, x.shape[-1]), dtype=x.dtype)
    inner = (slice(low, low + size) for (low, _), size in zip(window.padding, x.shape[1:-1], strict=True))
    padded[(slice(None), *inner)] = x
    return padded


def _find_cublas() -> None:
    import cupy.cublas  # noqa: F401


def _find_headers() -> None:
    # where CuPy itself looks for them before it compiles
    from cuda.pathfinder import find_nvidia_header_directory

    if find_nvidia_header_directory("cudart") is None:
        raise RuntimeError("no cuda_runtime.h found")


def _driver_problem(runtime: Any, error: Exception) -> str:
    driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion() // 1000
    if driver == 0:
        return f"backend 'cupy' (CuPy {cp.__version__}) needs an NVIDIA driver, and this machine has none ({error})"
    if driver // 1000 < needed:
        return (
            f"backend 'cupy' is built for CUDA {needed}.x, but the NVIDIA driver supports CUDA {driver // 1000}.x; "
            f"update the driver or try: pip install 'cupy-cuda{driver // 1000}x[ctk]' ({error})"
        )
    return f"backend 'cupy' found no usable NVIDIA GPU ({error})"


BACKEND = CuPyBackend()
