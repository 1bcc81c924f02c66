"""The CUDA kernels: their texts, built once for each combination of types, and what a launch must know of arrays and device.

Asking for a device's attributes waits for nothing.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import cupy as cp

from tacops.backends._step import LIF_STEP, lif_step

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = [
    "BLOCK", "INPUTS", "KERNELS", "REALS", "blocks", "contiguous", "is_narrow", "kernel", "l2_bytes", "options", "processors", "run", "source",
]  # fmt: skip

KERNELS = ("lif", "weighted_sum", "conv_lif", "unfold")
REALS = {"float32": "float", "float64": "double"}
"""Computing dtypes; float16 would need rounding rules that no machine without a GPU can check."""
INPUTS = {
    "bool": "unsigned char",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
} | REALS
"""What frames may hold; other dtypes are cast before."""
BLOCK = 128
MOST_BLOCKS = 1 << 20
"""Beyond it, threads loop."""
NARROW = 1 << 30
"""Below it, 31 bits hold every index, and a grid's stride beyond it."""
BYTES = 16
"""Of one load or store."""
LEAST_L2 = 1 << 20
"""Of GPUs that do not say."""


@cache
def source(name: str) -> str:
    """The text of a kernel, and what it includes before it."""
    here = resources.files(__package__)
    texts = {LIF_STEP: lif_step()}
    texts |= {file: here.joinpath(file).read_text(encoding="utf-8") for file in ("common.h", f"{name}.cu")}
    return "\n".join(f'#line 1 "{file}"\n{text}' for file, text in texts.items())


def options(
    real: str, frames: str = "bool", spike: str = "bool", run: int = 1, narrow: bool = False, half: bool = False
) -> tuple[str, ...]:
    """What the compiler is told: dtypes of numbers, of frames and of spikes, neighbours of a thread, width of indices."""
    spikes = "bool" if spike == "bool" else REALS[real]
    types = f"-DREAL={REALS[real]}", f"-DINPUT={INPUTS[frames]}", f"-DSPIKE={spikes}"
    return *types, f"-DRUN={run}", f"-DINDEX={'int' if narrow else 'long long'}", *(("-DHALF",) if half else ())


@cache
def kernel(name: str, *chosen: Any) -> Any:
    """A kernel with some `options`."""
    # a raw kernel compiles itself anew for every device that it is called on
    return cp.RawModule(code=source(name), options=options(*chosen)).get_function(name)


def run(row: int, size: int, *arrays: Array | None) -> int:
    """How many neighbours of `size` bytes a thread may take: those of 16 bytes, or one where rows or arrays are not aligned so."""
    count = BYTES // size
    return count if row % count == 0 and all(a is None or a.data.ptr % BYTES == 0 for a in arrays) else 1


def is_narrow(*sizes: int) -> bool:
    """Whether indices of 32 bits reach everything."""
    return max(sizes) < NARROW


def blocks(threads: int) -> int:
    """Of a grid whose threads loop."""
    return min(-(-threads // BLOCK), MOST_BLOCKS)


def contiguous(array: Array | None, dtype: Any) -> Array | None:
    """`array` as kernels read it."""
    return None if array is None else cp.ascontiguousarray(array, dtype=dtype)


def processors() -> int:
    """Multiprocessors of the current device."""
    return _attributes(cp.cuda.Device().id)[0]


def l2_bytes() -> int:
    """The second-level cache of the current device."""
    return max(LEAST_L2, _attributes(cp.cuda.Device().id)[1])


@cache
def _attributes(device: int) -> tuple[int, int]:
    attributes = cp.cuda.Device(device).attributes
    return int(attributes["MultiProcessorCount"]), int(attributes["L2CacheSize"])
