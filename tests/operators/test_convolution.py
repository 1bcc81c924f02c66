"""Every backend's convolution against the libraries' own, seen through a layer that only convolves.

With reset="none" and beta = 0 the membrane after one frame is the convolution itself. All numbers are small integers, so the
comparison is bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import correlate

from tacops import conv_lif
from tacops.backends import Backend
from tests.support import judge
from tests.support.cases import assert_same, run

Float32 = NDArray[np.float32]


def _integers(seed: int, *shape: int) -> Float32:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float32)


def _convolve(backend: Backend, x: Float32, weight: Float32, bias: Float32 | None = None, **options: Any) -> Float32:
    return run(backend, conv_lif, x[None], weight, bias, beta=0.0, reset="none", **options).membrane  # type: ignore[no-any-return]


def _torch(x: Float32, weight: Float32, bias: Float32, geometry: dict[str, Any]) -> Float32:
    torch = pytest.importorskip("torch")
    x, weight = np.moveaxis(x, -1, 1).copy(), np.moveaxis(weight, -1, 1).copy()
    function = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")
    out = function(*(torch.tensor(a, dtype=torch.float64) for a in (x, weight, bias)), **geometry)
    return np.moveaxis(out.numpy(), 1, -1)


def _jax(x: Float32, weight: Float32, bias: Float32, geometry: dict[str, Any]) -> Float32:
    jax = pytest.importorskip("jax")
    axes = x.ndim - 2
    letters = "DHW"[:axes]
    given = geometry.get("padding", 0)
    out = jax.lax.conv_general_dilated(
        x,
        weight,
        window_strides=judge.per_axis(geometry.get("stride", 1), axes),
        padding=given.upper() if isinstance(given, str) else [(p, p) for p in judge.per_axis(given, axes)],
        rhs_dilation=judge.per_axis(geometry.get("dilation", 1), axes),
        dimension_numbers=(f"N{letters}C", f"O{letters}I", f"N{letters}C"),
        feature_group_count=geometry.get("groups", 1),
        precision="highest",
    )
    return np.asarray(out + bias)


GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"padding": 1},
    {"padding": "same"},
    {"padding": "same", "dilation": 2},
    {"padding": 4, "stride": 2, "dilation": 3},
    {"padding": 2, "stride": 3, "groups": 2},
    {"groups": 4, "padding": 1},
    {"stride": 4},
]


@pytest.mark.parametrize("library", [_torch, _jax], ids=["torch", "jax"])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_against_torch_and_jax(
    backend: Backend, geometry: dict[str, Any], axes: int, library: Callable[..., Float32]
) -> None:
    """Stride, padding, dilation and groups in one to three dimensions, odd kernels."""
    groups = geometry.get("groups", 1)
    x = _integers(1, 2, *(11, 10, 9)[:axes], 4)
    weight, bias = _integers(2, 8, *(3, 5, 3)[:axes], 4 // groups), _integers(3, 8)
    if "padding" not in geometry and "stride" in geometry:
        weight = weight[:, :1]  # a kernel shorter than its stride leaves input out
    want = library(x, weight, bias, geometry)
    assert_same("convolution", _convolve(backend, x, weight, bias, **geometry), want)


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (7, 8)], ids=str)
def test_against_scipy(backend: Backend, kernel: tuple[int, int]) -> None:
    """Also kernels of one pixel, even ones, and one as large as the image."""
    x, weight = _integers(4, 2, 7, 8, 3), _integers(5, 2, *kernel, 3)
    got = _convolve(backend, x, weight)
    for n in range(2):
        for o in range(2):
            terms = [correlate(x[n, ..., c], weight[o, ..., c], "valid", "direct") for c in range(3)]
            want = np.sum(np.stack(terms), axis=0)
            assert_same(f"sample {n}, channel {o}", got[n, ..., o], want)


@pytest.mark.parametrize("kernel", [(2,), (4, 3), (2, 4, 1)], ids=str)
def test_same_padding_of_even_kernels(backend: Backend, kernel: tuple[int, ...]) -> None:
    """The odd zero goes to the high side, as in PyTorch and JAX."""
    spatial = (6, 5, 4)[: len(kernel)]
    x, weight, bias = _integers(6, 2, *spatial, 2), _integers(7, 3, *kernel, 2), _integers(8, 3)
    got = _convolve(backend, x, weight, bias, padding="same")
    assert got.shape == (2, *spatial, 3)
    assert_same("convolution", got, _jax(x, weight, bias, {"padding": "same"}))


@pytest.mark.parametrize("c_in", [1, 2, 7, 8, 9, 33])
@pytest.mark.parametrize("c_out", [1, 2, 40])
def test_channel_counts(backend: Backend, c_in: int, c_out: int) -> None:
    """Numbers of channels around those at which adapters change their way of working."""
    x, weight = _integers(9, 3, 6, 5, c_in), _integers(10, c_out, 3, 3, c_in)
    assert_same("convolution", _convolve(backend, x, weight, padding=1), judge.convolve(x, weight, padding=1))


@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise(backend: Backend, multiplier: int) -> None:
    """One input channel for each group."""
    x, weight = _integers(11, 2, 6, 7, 5), _integers(12, 5 * multiplier, 3, 3, 1)
    want = judge.convolve(x, weight, padding=1, groups=5)
    assert_same("convolution", _convolve(backend, x, weight, padding=1, groups=5), want)


def test_full_float32_precision(backend: Backend) -> None:
    """Products of 12-bit numbers survive: TF32 or bfloat16 multipliers would round them."""
    rng = np.random.default_rng(13)
    x, weight = (rng.integers(2048, 4096, shape).astype(np.float32) for shape in ((2, 4, 4, 1), (3, 1, 1, 1)))
    assert_same("convolution", _convolve(backend, x, weight), judge.convolve(x, weight))
