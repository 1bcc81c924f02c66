"""Flattening, pooling and scaling of spikes, on arrays of every library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacops import SpikeTrain
from tacops.backends import Backend
from tacops.layers import Flatten, Pool2d, Scale
from tests.support.cases import assert_same

RNG = np.random.default_rng(0)
SPIKES = RNG.random((3, 2, 7, 6, 4)) < 0.4


def pooled(kind: str, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Any:
    """By definition, window after window."""
    x = np.pad(SPIKES.astype(np.float32), [(0, 0), (0, 0), *((p, p) for p in padding), (0, 0)])
    sizes = [(x.shape[2 + n] - kernel[n]) // stride[n] + 1 for n in (0, 1)]
    out = np.zeros((3, 2, *sizes, 4), np.float32)
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            rows, columns = (slice(a * s, a * s + k) for a, s, k in zip((i, j), stride, kernel, strict=True))
            out[:, :, i, j] = x[:, :, rows, columns].sum((2, 3))
    return out if kind == "sum" else out / np.float32(kernel[0] * kernel[1])


@pytest.mark.parametrize("kind", ["sum", "mean"])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), ((3, 2), (1, 2), (1, 0)), (3, 2, 1)])
def test_pools(backend: Backend, kind: Any, kernel: Any, stride: Any, padding: Any) -> None:
    """In both layouts, of bool and of floating spikes, of a layer's train; shapes are told beforehand."""

    def pair(value: Any) -> Any:
        return value if isinstance(value, tuple) else (value, value)

    want = pooled(kind, pair(kernel), pair(kernel if stride is None else stride), pair(padding))
    pool = Pool2d(kind, kernel, stride, padding)
    assert pool.output_shape((7, 6)) == want.shape[2:4]
    for spikes in (SPIKES, SPIKES.astype(np.float32)):
        x = backend.from_numpy(spikes)
        np.testing.assert_allclose(backend.to_numpy(pool(x)), want, rtol=1e-6)
        np.testing.assert_array_equal(backend.to_numpy(pool(SpikeTrain(x, None))), backend.to_numpy(pool(x)))
        first = Pool2d(kind, kernel, stride, padding, layout="channels_first")
        got = backend.to_numpy(first(backend.from_numpy(np.moveaxis(spikes, -1, 2).copy())))
        np.testing.assert_array_equal(np.moveaxis(got, 2, -1), backend.to_numpy(pool(x)))


def test_flattening_and_factors(backend: Backend) -> None:
    x, factors = backend.from_numpy(SPIKES), RNG.random((6, 4)).astype(np.float32)
    assert_same("flat", backend.to_numpy(Flatten()(x)), SPIKES.reshape(3, 2, -1))
    assert_same("scaled", backend.to_numpy(Scale(factors)(x)), SPIKES * factors)
    assert repr(Scale(factors)) == "Scale(factors (6, 4))"


def test_factors_that_are_not_floating(backend: Backend) -> None:
    """They multiply as numbers: a type of few bits does not wrap, and a factor of True leaves a count as it is."""
    counts = np.full((1, 1, 2), 3, np.int32)
    for factors, want in ((np.array([200, 2], np.uint8), [600, 6]), (np.array([True, False]), [3, 0])):
        for spikes in (counts, counts.astype(np.float32)):
            got = backend.to_numpy(Scale(factors)(backend.from_numpy(spikes)))
            assert_same("scaled", got, np.array([[want]], np.float32))
    assert str(Scale(np.arange(3)).factors.dtype) == "float32"


def test_wrong_factors() -> None:
    """Refused when the layer is made, or with frames that they don't fit; they never make frames of other shapes."""
    for wrong in ([0.5, 1.0], 0.5, None):
        with pytest.raises(TypeError, match=r"^Scale: factors must be an array"):
            Scale(wrong)
    with pytest.raises(TypeError, match=r"^Scale: factors must be of a bool, integer or real floating dtype; got comp"):
        Scale(np.ones(2, complex))
    for shape in ((7, 1, 1, 1), (2, 1, 1, 1), (5,), (6, 1, 4), (1, 1, 1, 1)):
        with pytest.raises(ValueError, match=r"^Scale: spikes must be frames to which factors of shape \(.*; got sh"):
            Scale(np.ones(shape, np.float32))(SPIKES)


def test_wrong_arguments() -> None:
    for make, words in (
        (lambda: Pool2d("most", 2), "Pool2d: kind must be one of 'sum', 'mean', 'max'; got 'most'"),  # type: ignore[arg-type]
        (lambda: Pool2d("sum", 0), "must be at least 1; got 0"),
        (lambda: Pool2d("sum", (1, 2, 3)), "must be an int or 2 ints"),
        (lambda: Pool2d("sum", 2, padding=((1, 0), (0, 0))), "Pool2d: padding must be an int or an int for each axis"),  # type: ignore[arg-type]
        (lambda: Pool2d("sum", 2, layout="first"), "Pool2d: layout must be one of"),  # type: ignore[arg-type]
        (lambda: Flatten("first"), "Flatten: layout must be one of"),  # type: ignore[arg-type]
        (lambda: Pool2d("sum", 9)(SPIKES), r"Pool2d: spikes must be at least as large as the kernel \(9, 9\)"),
        (lambda: Pool2d("sum", 1)(SPIKES[..., 0]), "Pool2d: spikes must be an array"),
        (lambda: Flatten()(SPIKES[0, 0, 0]), "Flatten: spikes must be an array"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    for layer in (Flatten(), Pool2d("sum", 2), Scale(np.ones(4, np.float32))):
        for wrong in (None, 3, [1]):
            with pytest.raises(TypeError, match="spikes must be an array"):
                layer(wrong)
