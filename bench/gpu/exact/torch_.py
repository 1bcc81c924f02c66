"""PyTorch: cuBLAS's products and cuDNN's convolutions, with and without TF32 and float16."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

__all__ = ["routes"]

Call = Callable[[Any, Any], Any]


def routes(device: str) -> tuple[dict[str, Call], dict[str, Call]]:
    """Products and convolutions of NumPy arrays on `device`."""
    products: dict[str, Call] = {
        "float32": partial(_product, device, False),
        "TF32": partial(_product, device, True),
        "float16, summed in float32": partial(_half, device),
    }
    convolutions: dict[str, Call] = {}
    for tf32 in (False, True):
        for layout, memory in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last)):
            for how in ("", ", benchmark", ", deterministic"):
                name = f"{'TF32' if tf32 else 'float32'}, {layout}{how}"
                convolutions[name] = partial(_convolution, device, tf32, memory, how)
    return products, convolutions


def _product(device: str, tf32: bool, x: Any, w: Any) -> Any:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        return (torch.asarray(x, device=device) @ torch.asarray(w, device=device)).cpu().numpy()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _half(device: str, x: Any, w: Any) -> Any:
    a, b = (torch.asarray(array, device=device).half() for array in (x, w))
    return torch.mm(a, b, out_dtype=torch.float32).cpu().numpy()


def _convolution(device: str, tf32: bool, memory: Any, how: str, x: Any, w: Any) -> Any:
    a, b = (torch.asarray(array, device=device).contiguous(memory_format=memory) for array in (x, w))
    chosen = {"benchmark": "benchmark" in how, "deterministic": "deterministic" in how}
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32, **chosen):
        return F.conv2d(a, b, padding=1).cpu().numpy()
