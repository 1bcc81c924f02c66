"""Unfolding on the real `cupy.ndarray`, whose views need no GPU: shapes, strides and offsets over host memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tacops.backends._unfold import pad, unfold
from tests.cuda.cases import layer

REASON = "strides are not checked on CuPy's own arrays: CuPy is not installed (tacops[cupy-dev])"


def _on_real_class(cupy: Any, x: np.ndarray[Any, Any]) -> Any:
    """A `cupy.ndarray` whose memory is a NumPy array's."""
    memory = cupy.cuda.UnownedMemory(x.ctypes.data, x.nbytes, x, device_id=0)
    return cupy.ndarray(x.shape, x.dtype, cupy.cuda.MemoryPointer(memory, 0), strides=x.strides)


def _values(view: Any, memory: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a view of `memory` shows, read by NumPy; the view must stay inside."""
    start = view.data.ptr - memory.ctypes.data
    last = start + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True)) + view.itemsize
    assert 0 <= start < last <= memory.nbytes
    flat = memory.reshape(-1)[start // memory.itemsize :]
    return np.lib.stride_tricks.as_strided(flat, view.shape, view.strides)


@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
def test_windows_show_what_unfolding_copies(dimensions: int) -> None:
    """Every layer's view equals the core's unfolding, row tiles included."""
    cupy = pytest.importorskip("cupy", reason=REASON)
    try:
        from tacops.backends.cupy_ import windows
    except ImportError as error:  # pragma: no cover
        pytest.fail(f"the adapter cannot be imported beside CuPy: {error}")
    for seed in range(40):
        rng = np.random.default_rng(seed)
        spatial, kernel, window = layer(rng, dimensions)
        x = rng.random((int(rng.integers(1, 4)), *spatial, int(rng.integers(1, 4)))).astype(np.float32)
        padded = np.ascontiguousarray(pad(np, x, window))
        space = window.output_shape(spatial, kernel)
        want = unfold(np, padded, kernel, space, window).reshape(len(x), *space, *kernel, x.shape[-1])
        device = _on_real_class(cupy, padded)
        view = windows(device, kernel, space, window)
        assert view.shape == want.shape
        np.testing.assert_array_equal(_values(view, padded), want)
        if dimensions:  # a tile of rows, as the adapter cuts it
            row = int(rng.integers(space[0]))
            tile = windows(device[:, row * window.stride[0] :], kernel, (space[0] - row, *space[1:]), window)
            np.testing.assert_array_equal(_values(tile, padded), want[:, row:])


def test_tiles_of_the_output_are_written_in_place() -> None:
    """A tile, whole samples or rows of one, reshapes to a matrix without a copy."""
    cupy = pytest.importorskip("cupy", reason=REASON)
    memory = np.zeros((4, 6, 5, 3), np.float32)
    out = _on_real_class(cupy, memory)
    for tile in (out[1:3], out[1:3, 0:6], out[2:3, 2:5]):
        assert tile.flags.c_contiguous
        matrix = tile.reshape(-1, 3)
        assert matrix.data.ptr == tile.data.ptr
        assert matrix.shape == (math.prod(tile.shape[:-1]), 3)


def test_a_one_by_one_kernel_copies_nothing() -> None:
    """Its windows are the input, contiguous as cuBLAS wants them."""
    cupy = pytest.importorskip("cupy", reason=REASON)
    from tacops._backend.protocol import Window
    from tacops.backends.cupy_ import windows

    x = _on_real_class(cupy, np.zeros((2, 4, 5, 3), np.float32))
    view = windows(x, (1, 1), (4, 5), Window((1, 1), ((0, 0), (0, 0)), (1, 1), 1))
    assert view.flags.c_contiguous
    assert cupy.ascontiguousarray(view, dtype=np.float32).data.ptr == x.data.ptr
    weight = _on_real_class(cupy, np.zeros((7, 1, 1, 3), np.float32))
    assert weight.reshape(7, -1).T.flags.f_contiguous
