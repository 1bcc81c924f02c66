"""The Metal kernel on the CPU: what `mx.fast.metal_kernel` returns, compiled by g++ from the same text.

As MLX does, it writes the signature from names, dtypes and constants, passes arrays as pointers to contiguous numbers, and
starts a thread for each place of the grid.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from tacops.backends import get_backend
from tests.cuda.host import _compiled

__all__ = ["HostKernel"]

SHIM = """
#include <cmath>
#include <cstdint>
#define __METAL_VERSION__ 310
typedef unsigned long ulong;
struct uint3 { unsigned x, y, z; };
using std::rint, std::fma, std::floor;
"""
TEMPLATE = """
template <int RESET, bool ROUNDED, bool RESTING, bool COMPACT, class SPIKE>
void tacops_lif(const float* currents, [[maybe_unused]] const float* start, const float* decay, const float* threshold,
                const float* poison, const int64_t* sizes, SPIKE* spikes, float* membrane, uint3 thread_position_in_grid)
{
#line 1 "lif.metal"
"""
LAUNCH = """
}
template <int RESET, bool ROUNDED, bool RESTING>
void run(const float* const* in, const int64_t* sizes, bool compact, void* spikes, float* membrane, unsigned grid, bool backwards)
{
    for (unsigned n = 0; n < grid; ++n) {
        const uint3 at = {backwards ? grid - 1 - n : n, 0, 0};
        if (compact)
            tacops_lif<RESET, ROUNDED, RESTING, true>(in[0], in[1], in[2], in[3], in[4], sizes, (bool*)spikes, membrane, at);
        else
            tacops_lif<RESET, ROUNDED, RESTING, false>(in[0], in[1], in[2], in[3], in[4], sizes, (float*)spikes, membrane, at);
    }
}
using Run = decltype(&run<0, false, false>);
#define RESETS(r) {{run<r, false, false>, run<r, false, true>}, {run<r, true, false>, run<r, true, true>}}
static const Run RUNS[4][2][2] = {RESETS(0), RESETS(1), RESETS(2), RESETS(3)};
extern "C" void launch(int reset, int rounded, int resting, const float* const* in, const int64_t* sizes, int compact,
                       void* spikes, float* membrane, unsigned grid, int backwards)
{ RUNS[reset][rounded][resting](in, sizes, compact, spikes, membrane, grid, backwards); }
"""
NAMES = ["RESET", "ROUNDED", "RESTING", "COMPACT", "SPIKE"]


class HostKernel:
    """Called as MLX calls its kernels."""

    def __init__(self, header: str, body: str) -> None:
        text = f'{SHIM}\n#line 1 "lif_step.h"\n{header}{TEMPLATE}{body}{LAUNCH}'
        self.launch = ctypes.CDLL(str(_compiled(text, ("-Wno-unused", "-Wno-unused-parameter")))).launch
        self.launches = 0
        self.backwards = False

    def __call__(
        self,
        *,
        inputs: Sequence[Any],
        template: Sequence[tuple[str, Any]],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        output_shapes: Sequence[tuple[int, ...]],
        output_dtypes: Sequence[Any],
    ) -> list[Any]:
        """Run all threads."""
        backend = get_backend("mlx")
        mx = backend.namespace(inputs[0])
        given = [np.ascontiguousarray(backend.to_numpy(x)) for x in inputs]
        assert [x.dtype.name for x in given] == ["float32"] * 5 + ["int64"]
        assert all(x.ndim and x.size for x in given)
        assert 1 <= threadgroup[0] <= 1024
        assert grid[1:] == threadgroup[1:] == (1, 1)
        constants = dict(template)
        assert list(constants) == NAMES
        assert constants["SPIKE"] == output_dtypes[0] == (mx.bool_ if constants["COMPACT"] else mx.float32)
        kinds = [np.dtype(bool if constants["COMPACT"] else np.float32), np.dtype(np.float32)]
        spikes, membrane = (np.empty(shape, kind) for shape, kind in zip(output_shapes, kinds, strict=True))
        spikes.view(np.uint8).fill(7)  # memory is not empty
        membrane.fill(np.inf)
        pointers = (ctypes.c_void_p * 5)(*(x.ctypes.data for x in given[:5]))
        flags = [ctypes.c_int(int(constants[name])) for name in NAMES[:3]]
        results = (ctypes.c_void_p(x.ctypes.data) for x in (spikes, membrane))
        sizes, compact = ctypes.c_void_p(given[5].ctypes.data), ctypes.c_int(int(constants["COMPACT"]))
        self.launch(
            *flags, pointers, sizes, compact, *results, ctypes.c_uint(grid[0]), ctypes.c_int(int(self.backwards))
        )
        self.launches += 1
        return [mx.array(spikes), mx.array(membrane)]
