"""PyTorch's convolutions, whatever is set around them: autocast, TF32, bfloat16 inside float32, oneDNN on or off.

Such settings are the user's, and shared by all threads: they are read, never written, and what they would change is computed
in another way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import array_api_compat.torch as xp
import torch
import torch.nn.functional as F  # noqa: N812

from .._unfold import conv_by_unfolding
from .full import full_conv

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window

__all__ = ["HALF", "autocasts", "conv", "is_onednn_s", "products_are_plain", "restrided"]

HALF = (torch.float16, torch.bfloat16)
_CONV: tuple[Any, ...] = (F.linear, F.conv1d, F.conv2d, F.conv3d)
_ALL = slice(None)
_BUILT_WITH_ONEDNN = bool(torch.backends.mkldnn.is_available())
_precision = getattr(torch._C, "_get_fp32_precision_getter", None)
"""What each kind of product is computed in; before PyTorch 2.9 there was one setting for matrices and one for cuDNN."""


def conv(x: Array, weight: Array, bias: Array | None, window: Window, exact: bool) -> Array:
    """`Backend.conv`, outside autocast, and in a wider dtype where the library's sums or the settings are too narrow."""
    if autocasts(x):
        with torch.autocast(x.device.type, enabled=False):
            return conv(x, weight, bias, window, exact)
    wide = _wider(x, weight.dtype, exact)
    if wide is None:
        return _conv(x, weight, bias, window, exact)
    bias = None if bias is None else bias.to(wide)
    return _conv(x.to(wide), weight.to(wide), bias, window, exact).to(weight.dtype)


def autocasts(x: Array) -> bool:
    """Whether PyTorch would narrow the operands of products on `x`'s device."""
    kind = x.device.type
    return kind != "meta" and bool(torch.is_autocast_enabled(kind))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def products_are_plain() -> bool:
    """Whether products of float32 are of float32, not of TF32 or bfloat16, on every kind of device."""
    if _precision is None:
        return bool(torch.get_float32_matmul_precision() == "highest")
    asked = (_precision("mkldnn", "matmul"), _precision("mkldnn", "conv"), _precision("cuda", "matmul"))
    return set(asked) <= {"none", "ieee"}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _cudnn_is_plain() -> bool:
    if _precision is None:
        return not torch.backends.cudnn.allow_tf32
    return _precision("cuda", "conv") in ("none", "ieee")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _has_onednn() -> bool:
    return _BUILT_WITH_ONEDNN and bool(torch._C._get_mkldnn_enabled())


def is_onednn_s(x: Array, weight: Array, window: Window) -> bool:
    """Whether a convolution on a CPU is left to PyTorch as it is, with oneDNN, and in full precision."""
    return _has_onednn() and products_are_plain() and not _onednn_fails(x, weight, window)


def _wider(x: Array, dtype: Any, exact: bool) -> Any:
    """The dtype to compute in, or None.

    Half precision on CPUs is computed in float32: oneDNN's convolutions of bfloat16 were seen to return memory that nobody
    wrote, and PyTorch's own, on processors without bfloat16, took five times as long. Exact sums of float32 that a setting
    lets the library compute in TF32 or bfloat16 are computed in float64, which no setting touches.
    """
    if dtype in HALF:
        return torch.float32 if x.device.type == "cpu" else None
    narrowed = exact and dtype == torch.float32 and x.device.type != "mps" and not products_are_plain()
    return torch.float64 if narrowed else None


def _conv(x: Array, weight: Array, bias: Array | None, window: Window, exact: bool) -> Array:
    dims, on_cpu = len(window.stride), x.device.type == "cpu"
    if dims == 0:
        return F.linear(x, weight, bias)
    narrow = x.device.type == "cuda" and x.dtype == torch.float32 and not _cudnn_is_plain()
    compiling = bool(torch.compiler.is_compiling())
    # not on a CPU: cuDNN and Metal may choose Winograd, and Inductor passes no choice of TF32 on
    if _onednn_fails(x, weight, window) if on_cpu else exact or (narrow and compiling):
        return conv_by_unfolding(xp, x, weight, bias, window)
    if on_cpu and max(window.stride) > 1 and max(weight.shape[1:-1]) == 1:
        # the backward pass of oneDNN's strided 1 x 1 convolution writes past its buffer (oneDNN#6035)
        x = x[_ALL, *(slice(None, None, step) for step in window.stride)]
        window = replace(window, stride=(1,) * dims)
    if on_cpu:
        x, weight = restrided(x), restrided(weight)
    x, kernel = x.movedim(-1, 1), weight.movedim(-1, 1)
    if any(low != high for low, high in window.padding):
        x = F.pad(x, [n for pair in reversed(window.padding) for n in pair])
        window = replace(window, padding=((0, 0),) * dims)
    if narrow:
        out = full_conv(x, kernel, window).movedim(1, -1)
        return out if bias is None else out + bias
    padding = tuple([low for low, _ in window.padding])
    if on_cpu and dims < 3 and x.dtype == torch.float32 and (not _has_onednn() or (exact and compiling)):
        more = 3 - dims
        x, kernel = x[_ALL, _ALL, *(None,) * more], kernel[_ALL, _ALL, *(None,) * more]
        stride, dilation = (1,) * more + window.stride, (1,) * more + window.dilation
        out = F.conv3d(x, kernel, bias, stride, (0,) * more + padding, dilation, window.groups)
        out = out[_ALL, _ALL, *(0,) * more]
    else:
        out = _CONV[dims](x, kernel, bias, window.stride, padding, window.dilation, window.groups)
    return out.movedim(1, -1)


def restrided(x: Array) -> Array:
    """`x` with a contiguous array's strides where an axis has one entry, whose stride may be anything after a slice.

    PyTorch's own convolution takes such for another memory format: wrong gradients of grouped float64 weights.
    """
    return x.reshape(-1).reshape(x.shape) if 1 in x.shape[1:] else x


def _onednn_fails(x: Array, weight: Array, window: Window) -> bool:
    """Two rare geometries on CPUs with AVX-512 (PyTorch 2.13): a segmentation fault, and wrong numbers.

    The first (oneDNN#5942): the kernel lies in padding alone, beside the input. The second, found by random tests: one
    channel in, and one output along the last axis, whose stride then means nothing.
    """
    spatial, kernel = tuple(x.shape[1:-1]), tuple(weight.shape[1:-1])
    if any(max(pad) > d * (k - 1) for pad, d, k in zip(window.padding, window.dilation, kernel, strict=True)):
        return True
    return bool(x.shape[-1] == 1 and window.stride[-1] > 1 and window.output_shape(spatial, kernel)[-1] == 1)
