"""JAX functions compiled by XLA for an H100 on a machine without a GPU, and what one call of them launches and moves.

The optimised program shows every kernel. Those in the body of a loop are launched once for each of its rounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

__all__ = ["Cost", "compiled_for_gpu", "cost", "on_gpu"]

H100 = """gpu_device_info {
    threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
    shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
    block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
    registers_per_core_limit: 65536 registers_per_block_limit: 65536 clock_rate_ghz: 1.98
    memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84978434048
    cuda_compute_capability { major: 9 }
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } device_description_str: "NVIDIA H100 80GB HBM3" """
BYTES = {"pred": 1, "s8": 1, "u8": 1, "f16": 2, "bf16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8}
KERNELS = ("fusion", "copy", "custom-call", "convolution", "dot", "reduce", "scatter", "sort")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (.*?) ([a-z][a-z\-]*)\((.*)")
COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$")
Lines = list[tuple[str, str, str, str]]


class Cost(NamedTuple):
    """Of one call: kernels launched, and bytes that they read and write, each argument as if it was read whole."""

    kernels: int
    moved: int


@cache
def _device() -> Any:
    import jax
    from jax.experimental import topologies

    jax.devices()  # loads the plug-ins
    return topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1").devices[0]


def on_gpu(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    """An argument without values that lives on that GPU."""
    import jax

    return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.sharding.SingleDeviceSharding(_device()))


def compiled_for_gpu(function: Callable[..., Any], *arguments: Any) -> str:
    """The optimised program as text."""
    import jax

    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",))
    return str(lowered.compile().as_text())


def cost(program: str) -> Cost:
    """What one call of the program costs."""
    bodies: dict[str, Lines] = {}
    lines: Lines = []
    for line in program.splitlines():
        if begins := COMPUTATION.match(line):
            lines = bodies.setdefault("ENTRY" if begins[1] else begins[2], [])
        elif found := INSTRUCTION.match(line):
            name, shape, operation, rest = found.groups()
            lines.append((name, shape, operation, rest))
    return _cost(bodies, "ENTRY")


def _cost(bodies: dict[str, Lines], name: str) -> Cost:
    sizes = {result: _size(shape) for result, shape, _, _ in bodies[name]}
    kernels = moved = 0
    for result, _, operation, rest in bodies[name]:
        if operation == "while":
            rounds, body = re.search(r'known_trip_count":\{"n":"(\d+)"', rest), re.search(r"body=%?([\w.\-]+)", rest)
            assert rounds, "a loop of unknown length"
            assert body
            inner = _cost(bodies, body[1])
            kernels, moved = kernels + int(rounds[1]) * inner.kernels, moved + int(rounds[1]) * inner.moved
        elif operation in KERNELS:
            arguments = re.findall(r"%([\w.\-]+)", rest.split(")")[0])
            kernels, moved = kernels + 1, moved + sizes[result] + sum(sizes[a] for a in arguments)
        else:
            assert operation not in ("conditional", "call"), f"{operation} is not counted"
    return Cost(kernels, moved)


def _size(shape: str) -> int:
    """Bytes of an array, or of those of a tuple."""
    arrays = re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shape)
    return sum(BYTES[kind] * math.prod(int(n) for n in size.split(",") if n) for kind, size in arrays)
