"""CuPy: CUDA kernels for neurons, aggregation and small convolutions (``_cuda``), cuBLAS for the other convolutions.

CuPy has no convolution of its own (its cuDNN bindings are gone since version 14). Everything is queued on the current
stream of the arrays' device; nothing waits for it. float32 products are full float32 unless the user sets ``CUPY_TF32=1``.
**Never run on a GPU so far**: ``docs/gpu.md`` says what was verified, and how.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import array_api_compat.cupy as xp
import cupy as cp
import numpy as np

from tacops._backend.protocol import Array, Backend, Window
from tacops._backend.steps import membrane_of

from ._cuda import building, launching, products
from ._unfold import conv_by_unfolding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tacops._backend.steps import Recipe, State, Step, Synapses

__all__ = ["BACKEND", "CuPyBackend"]


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
            if window.groups > 1 or weight.dtype.name not in building.REALS:
                return conv_by_unfolding(xp, x.astype(weight.dtype, copy=False), weight, bias, window)
            space = window.output_shape(x.shape[1:-1], weight.shape[1:-1])
            out = cp.empty((x.shape[0], *space, weight.shape[0]), dtype=weight.dtype)
            products.convolve(x, weight, window, out, exact=exact)
            if bias is not None:
                out += bias
            return out

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """One pass by a kernel that reads spikes as they are stored."""
        if np.dtype(dtype).name not in building.REALS:
            return super().weighted_sum(x, weights, dtype)
        with x.device:
            return launching.weighted_sum(x, weights, np.dtype(dtype))

    def powers(self, like: Array, low: int, count: int) -> Array | None:
        """Integers that count exponents, taken for floats as they lie in memory: one launch, where a search takes dozens."""
        if like.dtype.name not in building.REALS:
            return None
        kind = np.finfo(like.dtype)
        first, step = (low + kind.maxexp - 1) << kind.nmant, 1 << kind.nmant
        with like.device:
            numbers = cp.arange(first, first + count * step, step, dtype=f"i{like.dtype.itemsize}")
            return numbers.view(like.dtype)[:, None]

    def scan(self, step: Step, currents: Array, state: State | None, repeat: int) -> tuple[Array, State]:
        """All of time in one kernel, the membranes in registers."""
        recipe = step.recipe
        if recipe is None or currents.dtype.name not in building.REALS:
            return super().scan(step, currents, state, repeat)
        with currents.device:
            spikes = launching.new_spikes(recipe, (len(currents) * repeat, *currents.shape[1:]), currents.dtype)
            after = cp.empty(currents.shape[1:], dtype=currents.dtype)
            launching.lif(recipe, currents, None, membrane_of(state), repeat, spikes, after)
            return spikes, (after,)

    def schedule(
        self, conv: Synapses, step: Step, frames: Array, state: State | None, repeat: int
    ) -> tuple[Array, State]:
        """One kernel for convolution and neurons where channels are few; else products, and neurons that add the bias."""
        dtype, recipe = conv.weight.dtype, step.recipe
        if recipe is None or conv.per_channel or conv.window.groups > 1 or dtype.name not in building.REALS:
            return super().schedule(conv, step, frames, state, repeat)
        frames, membrane = conv.aggregate(frames), membrane_of(state)
        space = conv.window.output_shape(frames.shape[2:-1], conv.weight.shape[1:-1])
        with frames.device:
            shape = len(frames) * repeat, frames.shape[1], *space, conv.weight.shape[0]
            spikes = launching.new_spikes(recipe, shape, dtype)
            after = cp.empty(spikes.shape[1:], dtype=dtype)
            if launching.fits_conv_lif(conv):
                launching.conv_lif(conv, recipe, frames, membrane, repeat, spikes, after)
            else:
                _multiply_and_step(conv, recipe, frames, membrane, repeat, spikes, after)
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


def _multiply_and_step(
    conv: Synapses, step: Recipe, frames: Array, start: Array | None, repeat: int, spikes: Array, after: Array
) -> None:
    """As many frames at a time as leave currents of one L2 cache."""
    count = max(1, min(len(frames), building.l2_bytes() // max(1, after.nbytes)))
    currents = cp.empty((count, *after.shape), dtype=after.dtype)
    for t in range(0, max(1, len(frames)), count):
        x = frames[t : t + count]
        part, samples = currents[: len(x)], len(x) * x.shape[1]
        folded = part.reshape(samples, *part.shape[2:])
        x = x.reshape(samples, *x.shape[2:])
        products.convolve(x, conv.weight, conv.window, folded, exact=conv.exact, half=conv.fits_half)
        launching.lif(step, part, conv.bias, start, repeat, spikes[t * repeat : (t + len(part)) * repeat], after)
        start = after


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
