"""Views and addresses of the real `cupy.ndarray`, which need no GPU, over host memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

REASON = "strides are not checked on CuPy's own arrays: CuPy is not installed (tacops[cupy-dev])"


def _on_real_class(cupy: Any, x: np.ndarray[Any, Any]) -> Any:
    """A `cupy.ndarray` whose memory is a NumPy array's."""
    memory = cupy.cuda.UnownedMemory(x.ctypes.data, x.nbytes, x, device_id=0)
    return cupy.ndarray(x.shape, x.dtype, cupy.cuda.MemoryPointer(memory, 0), strides=x.strides)


def test_tiles_are_written_in_place() -> None:
    """Rows of the output as a matrix, and the first rows of what is unfolded, are views, contiguous as cuBLAS wants them."""
    cupy = pytest.importorskip("cupy", reason=REASON)
    out = _on_real_class(cupy, np.zeros((4, 6, 5, 3), np.float32))
    matrix = out.reshape(120, 3)
    assert matrix.data.ptr == out.data.ptr
    for begin, end in ((0, 50), (50, 100), (100, 120)):
        tile = matrix[begin:end]
        assert tile.flags.c_contiguous
        assert tile.data.ptr == out.data.ptr + begin * 12
        assert len(tile) == end - begin
    part = out[:2].reshape(2 * 6, 5, 3)
    assert part.data.ptr == out.data.ptr


def test_weights_are_transposed_by_a_view() -> None:
    """Without a copy, in the order that CuPy's product takes."""
    cupy = pytest.importorskip("cupy", reason=REASON)
    weight = _on_real_class(cupy, np.zeros((7, 1, 1, 3), np.float32))
    flat = cupy.ascontiguousarray(weight, dtype=np.float32).reshape(7, 3)
    assert flat.data.ptr == weight.data.ptr
    assert flat.T.flags.f_contiguous


def test_runs_are_taken_where_memory_is_aligned() -> None:
    """Whole runs of 16 bytes in every row, and addresses that are multiples of that."""
    cupy = pytest.importorskip("cupy", reason=REASON)
    from tacops.backends._cuda import building

    memory = np.zeros(64, np.float32)
    x = _on_real_class(cupy, memory[(-memory.ctypes.data // 4) % 4 :])
    assert x.data.ptr % 16 == 0
    assert building.run(8, 4, x, None) == 4
    assert building.run(8, 2, x) == 8
    assert building.run(8, 8, x[4:]) == 2
    assert building.run(6, 4, x) == 1
    assert building.run(8, 4, x, x[1:]) == 1
    assert building.is_narrow(5, building.NARROW - 1)
    assert not building.is_narrow(5, building.NARROW)


def test_products_are_what_cupy_has() -> None:
    """Names of cuBLAS, which can't be called without a GPU, and of the device's attributes."""
    cupy = pytest.importorskip("cupy", reason=REASON)
    from pathlib import Path

    import cupy_backends.cuda.libs as libraries

    assert callable(cupy.cuda.device.get_cublas_handle)
    assert (cupy.cuda.runtime.CUDA_R_32F, cupy.cuda.runtime.CUDA_R_16F) == (0, 2)
    # it can't be imported where cuBLAS is missing; its names are in it all the same
    (binary,) = (path for path in Path(libraries.__path__[0]).glob("cublas*.so"))
    found = binary.read_bytes()
    for name in ("CUBLAS_OP_T", "CUBLAS_COMPUTE_32F_PEDANTIC", "CUBLAS_GEMM_DEFAULT"):
        assert name.encode() in found
    order = b"gemmEx(intptr_t handle, int transa, int transb, int m, int n, int k, size_t alpha, size_t A, int Atype, int lda, "
    order += b"size_t B, int Btype, int ldb, size_t beta, size_t C, int Ctype, int ldc, int computeType, int algo)"
    assert order in found
