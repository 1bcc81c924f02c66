"""A stand-in for cuBLAS: the one product that the CuPy adapter asks for by address, checked as cuBLAS would, and computed by NumPy."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

__all__ = ["HANDLE", "NAMES", "TYPES", "gemm_ex"]

TYPES = {"CUDA_R_32F": 0, "CUDA_R_16F": 2}
NAMES = {"CUBLAS_OP_N": 0, "CUBLAS_OP_T": 1, "CUBLAS_GEMM_DEFAULT": -1}
NAMES |= {"CUBLAS_COMPUTE_32F": 68, "CUBLAS_COMPUTE_32F_PEDANTIC": 69}

"""The numbers that cuBLAS and CUDA give them."""
HANDLE = 1


def gemm_ex(handle: int, *of: int) -> None:
    """What the adapter asks of cublasGemmEx: ``C.T = B.T @ A``, columns first, with sums of float32 (here, of float64, rounded)."""
    trans_b, trans_a, m, n, k, alpha, b, b_type, ldb, a, a_type, lda, beta, c, c_type, ldc, compute, algo = of
    dtypes = {0: np.float32, 2: np.float16}
    scalars = [_at(pointer, (1,), np.float32)[0] for pointer in (alpha, beta)]
    exact = 68 if a_type == 2 else 69  # of float32, others might round operands
    if handle != HANDLE or (trans_b, trans_a, a_type, c_type, algo) != (1, 0, b_type, 0, -1) or compute != exact:
        raise AssertionError(f"a product that is not simulated: {of}")
    if scalars != [1.0, 0.0] or min(m, n, k) < 1 or ldb < k or lda < k or ldc < m or max(m, n, k) >= 2**31:
        raise AssertionError(f"a product that cuBLAS refuses, or does not do: {of}")
    left, right = _at(a, (n, lda), dtypes[a_type])[:, :k], _at(b, (m, ldb), dtypes[b_type])[:, :k]
    _at(c, (n, ldc), np.float32)[:, :m] = left.astype(np.float64) @ right.astype(np.float64).T


def _at(pointer: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Memory as an array."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype=dtype).reshape(shape)
