"""What the machine can do: matrix products of a layer's own shape, large ones, and copies, with NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from bench.shared.machine import cores
from bench.timing.cases import FLOAT, MODES, Case, Floats, Mode
from bench.timing.subject import Subject, UnsupportedError, Variant

SGEMM = Mode("sgemm", "sgemm 2048")
COPY = Mode("copy", "copy")
GEMMS = [MODES[name] for name in ("exact", "collapse4", "collapse16", "preserve2")]
"""One for each number of convolutions; preserve K=4 takes as many as collapse K=4."""
SIDE = 2048
SGEMM_FLOPS = 2 * SIDE**3
COPY_NUMBERS = 1 << 26
COPY_BYTES = 2 * FLOAT * COPY_NUMBERS
"""256 MiB are read and 256 MiB written."""


class Ceilings(Subject):
    """NumPy's matrix product and copy, into memory that is there."""

    def __init__(self) -> None:
        self.blas = ThreadpoolController().select(user_api="blas")
        self.pool = ThreadPoolExecutor(cores())

    def version(self) -> str:
        """NumPy's, and its BLAS."""
        info = self.blas.info()
        name = ", ".join(f"{lib['internal_api']} {lib['version']} ({lib.get('architecture')})" for lib in info)
        return f"NumPy {np.__version__}, {name or 'unknown BLAS'}"

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """A ceiling's best ways."""
        if mode == COPY:
            return [Variant("copy", self._copy(), None)]
        if mode == SGEMM:
            return [Variant("BLAS", _products(*_operands(SIDE, SIDE, SIDE), 1), None)]
        if case.groups > 1:
            raise UnsupportedError("a depth-wise convolution is no matrix product of any size")
        count = case.convolutions(mode)
        a, b, out = _operands(case.rows, case.depth, case.c_out)
        columns = np.ascontiguousarray(a.T)
        return [
            Variant("BLAS threads", _products(a, b, out, count), None),
            Variant("BLAS threads, columns", _products(columns.T, b, out, count), None),
            Variant("one product per core", self._shared(a, b, out, count), None),
            Variant("one product per core, columns", self._shared(columns.T, b, out, count), None),
        ]

    def _copy(self) -> Callable[[], Any]:
        source, target = np.ones(COPY_NUMBERS, np.float32), np.zeros(COPY_NUMBERS, np.float32)
        parts = list(zip(np.array_split(source, cores()), np.array_split(target, cores()), strict=True))

        def call() -> None:
            for _ in self.pool.map(lambda part: np.copyto(part[1], part[0]), parts):
                pass

        return call

    def _shared(self, a: Floats, b: Floats, out: Floats, count: int) -> Callable[[], Any]:
        parts = list(zip(np.array_split(a, cores()), np.array_split(out, cores()), strict=True))

        def work(part: tuple[Floats, Floats]) -> None:
            for _ in range(count):
                np.matmul(part[0], b, out=part[1])

        def call() -> None:
            with self.blas.limit(limits=1):
                for _ in self.pool.map(work, parts):
                    pass

        return call


def _operands(m: int, k: int, n: int) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(0)
    a, b = rng.random((m, k), dtype=np.float32), rng.random((k, n), dtype=np.float32)
    return a, b, np.zeros((m, n), np.float32)


def _products(a: Floats, b: Floats, out: Floats, count: int) -> Callable[[], Any]:
    def call() -> None:
        for _ in range(count):
            np.matmul(a, b, out=out)

    return call


def least_seconds(case: Case, mode: Mode, gemm: float | None, bandwidth: float) -> float:
    """Time that no implementation can beat: the matrix products alone, or the memory traffic alone.

    Parameters
    ----------
    case, mode
        The layer.
    gemm : float or None
        Seconds of its matrix products.
    bandwidth : float
        Bytes per second of a copy; infinite if unknown.
    """
    return max(gemm or 0.0, case.traffic(mode) / bandwidth if math.isfinite(bandwidth) else 0.0)
