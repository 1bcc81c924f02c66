"""CuPy: cuBLAS's products, in float32 and in TF32; it has no convolution."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import cupy

__all__ = ["routes"]

Call = Callable[[Any, Any], Any]


def routes(device: str) -> tuple[dict[str, Call], dict[str, Call]]:
    """Products of NumPy arrays on `device`."""
    number = int(device.partition(":")[2] or 0)
    return {"float32": partial(_product, number, "DEFAULT"), "TF32": partial(_product, number, "TF32")}, {}


def _product(device: int, kind: str, x: Any, w: Any) -> Any:
    core = importlib.import_module("cupy._core._routines_linalg")
    before = core.get_compute_type("f")
    core.set_compute_type("f", getattr(core, f"COMPUTE_TYPE_{kind}"))
    try:
        with cupy.cuda.Device(device):
            return cupy.asnumpy(cupy.matmul(cupy.asarray(x), cupy.asarray(w)))
    finally:
        core.set_compute_type("f", before)
