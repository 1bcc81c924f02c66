"""CuPy: unfolding and one two-dimensional matrix product by cuBLAS.

CuPy has no convolution of its own (its cuDNN bindings are gone since version 14). float32 products are full float32
unless the user sets ``CUPY_TF32=1``. **Never run on a GPU so far**: see the README's table of what was verified where.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import array_api_compat.cupy as xp
import cupy as cp
import numpy as np

from tacops._protocol import Array, Backend, Window

from ._unfold import conv_by_unfolding

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
        """Unfold in tiles that stay in the L2 cache, one matrix product each."""
        return conv_by_unfolding(xp, x, weight, bias, window, cp.matmul)

    def from_numpy(self, array: np.ndarray[Any, Any]) -> Array:
        """A copy on the current device."""
        return cp.array(array)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy in host memory; waits for the device."""
        copy: np.ndarray[Any, Any] = cp.asnumpy(array)
        return copy

    def synchronize(self, *arrays: Array) -> None:
        """Wait for the current stream."""
        cp.cuda.get_current_stream().synchronize()

    def describe(self) -> Mapping[str, str]:
        """Version, the GPU's name, and whether TF32 is allowed."""
        tf32 = os.environ.get("CUPY_TF32", "0") not in ("", "0")
        name = cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id)["name"].decode()
        precision = "TF32 allowed by CUPY_TF32" if tf32 else "full float32"
        return {"version": cp.__version__, "device": name, "precision": precision}

    def device_of(self, array: Array) -> str | None:
        """Arrays never move by themselves."""
        return f"cuda:{array.device.id}"

    def unavailable(self) -> str | None:
        """What is missing: a driver, a newer driver, a GPU or CUDA's libraries."""
        runtime = cp.cuda.runtime
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            return _driver_problem(runtime, error)
        if count == 0:
            return "backend 'cupy' found no NVIDIA GPU; CUDA_VISIBLE_DEVICES may hide it"
        try:
            import cupy.cublas  # noqa: F401
            from cupy_backends.cuda.libs import nvrtc

            nvrtc.getVersion()
        except (ImportError, RuntimeError) as error:
            wheel = f"cupy-cuda{runtime.runtimeGetVersion() // 1000}x[ctk]"
            return f"backend 'cupy' cannot load CUDA's libraries ({error}); try: pip install {wheel!r}"
        return None


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
