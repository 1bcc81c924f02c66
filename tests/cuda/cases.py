"""Random cases for the adapter and its kernels, each held to the core on NumPy arrays, bit for bit.

``python -m tests.cuda.cases NAME`` runs them in a process of its own, with the kernels as they are ("none") or with one
of the mistakes of ``mutants.py`` planted, for sanitizers that would end the process of the tests.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tacops._backend.protocol import Backend, Window
from tacops._core.neurons import LIFStep
from tacops._core.synapses import Convolve
from tacops.backends import get_backend
from tests.cuda.mutants import MUTANTS, planted
from tests.support import fake_cupy

Array = np.ndarray[Any, Any]
CORE = get_backend("array_api")
"""Its `scan`, `weighted_sum` and `schedule` are the core's own; it computes with the arrays that it is given."""


def neurons(rng: np.random.Generator, real: str, channels: int) -> dict[str, Any]:
    """Parameters of `LIFStep`, as NumPy arrays or floats."""

    def parameter(low: float, high: float) -> float | Array:
        values: Array = rng.uniform(low, high, (channels,)).astype(real)
        return (float(rng.integers(1, 5) / 4.0), np.asarray(values[0]), values)[rng.integers(3)]

    rounded, poison = bool(rng.integers(2)), (None, 0.0, np.nan)[rng.choice(3, p=(0.6, 0.2, 0.2))]
    threshold = parameter(0.5, 1.5)
    return {
        "decay": parameter(0.0, 1.0),
        "threshold": threshold * 4 // 1 + 1 if rounded else threshold,
        "reset": ("subtract", "zero", "none", "late")[rng.integers(4)],
        "rounded": rounded,
        "poison": None if poison is None else np.asarray(poison, dtype=real),
        "compact": bool(rng.integers(2)),
    }


def on_device(value: Any) -> Any:
    """NumPy arrays become the stand-in's."""
    return fake_cupy.ndarray(value) if isinstance(value, np.ndarray) else value


def currents(rng: np.random.Generator, real: str, shape: tuple[int, ...], rounded: bool) -> Array:
    """Whole numbers where the core has them; quarters, on which membranes meet thresholds; or anything."""
    if rounded:
        return rng.integers(-6, 9, shape).astype(real)
    quarters = bool(rng.integers(2))
    return ((rng.integers(-2, 5, shape) / 4) if quarters else rng.normal(0.3, 0.6, shape)).astype(real)


def strided(rng: np.random.Generator, x: Array) -> Array:
    """`x`, sometimes with its first and last axes apart in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 0)), 0, -1) if rng.integers(2) and x.ndim > 1 else x


def equal(got: Any, want: Any) -> None:
    """Bit for bit: dtype, shape, values, signs of zero; NaN where NaN is due."""
    got = got._data
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)
    if want.dtype.kind == "f":
        finite = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(want[finite]))


def as_state(membrane: Any) -> Any:
    """What steps with a membrane alone are given."""
    return None if membrane is None else (membrane,)


def check_lif(module: Any, seed: int) -> None:
    """`scan`."""
    rng = np.random.default_rng(seed)
    real, channels = ("float32", "float64")[seed // 2 % 2], int(rng.integers(1, 8))
    shape = (int(rng.integers(1, 6)), *(int(n) for n in rng.integers(1, 9, rng.integers(1, 4))), channels)
    options, repeat = neurons(rng, real, channels), int(rng.integers(1, 5))
    drive = currents(rng, real, shape, options["rounded"])
    start = currents(rng, real, shape[1:], options["rounded"]) if rng.integers(2) else None
    want = Backend.scan(CORE, LIFStep(CORE, **options), drive, as_state(start), repeat)
    step = LIFStep(module.BACKEND, **{name: on_device(value) for name, value in options.items()})
    got = module.BACKEND.scan(step, on_device(strided(rng, drive)), as_state(on_device(start)), repeat)
    equal(got[0], want[0])
    equal(*got[1], *want[1])


def check_sum(module: Any, seed: int) -> None:
    """`weighted_sum`."""
    rng = np.random.default_rng(seed)
    # the types of a kernel are few, since each takes a compilation
    kinds = ("bool", "uint8", "int32", "float32", "float64"), ("float64", "uint8")
    wide = seed // 2 % 2
    real, frames = ("float32", "float64")[wide], kinds[wide][seed // 4 % len(kinds[wide])]
    channels, size = int(rng.integers(1, 9)), int(rng.choice((1, 2, 3, 5, 16, 40, 70)))
    shape = (int(rng.integers(1, 5)), size, *(int(n) for n in rng.integers(1, 12, rng.integers(0, 3))), channels)
    x = (
        rng.normal(0, 9, shape).astype(frames)
        if frames[0] == "f"
        else rng.integers(0, 2 if frames == "bool" else 99, shape)
    )
    x = strided(rng, x.astype(frames))
    kind = rng.integers(3)
    weights: list[Any] = [float(w) for w in rng.normal(size=size)] if kind else [1.0] * size
    if kind == 2:
        weights = list(rng.normal(size=(size, channels) if rng.integers(2) else (size,)).astype(real))
    if kind == 2 and not isinstance(weights[0], np.ndarray):
        weights = [np.asarray(weight) for weight in weights]
    want = Backend.weighted_sum(CORE, x, weights, np.dtype(real))
    equal(module.BACKEND.weighted_sum(on_device(x), [on_device(w) for w in weights], np.dtype(real)), want)


def layer(
    rng: np.random.Generator, dimensions: int, groups: int = 1
) -> tuple[tuple[int, ...], tuple[int, ...], Window]:
    """A kernel that fits its input, (*S), (*kernel), and how it moves."""
    spatial, kernel, stride, dilation, padding = [], [], [], [], []
    for _ in range(dimensions):
        kernel.append(int(rng.integers(1, 4)))
        dilation.append(int(rng.integers(1, 3)))
        stride.append(int(rng.integers(1, 4)))
        padding.append((int(rng.integers(0, 3)), int(rng.integers(0, 3))))
        spatial.append(int(rng.integers(dilation[-1] * (kernel[-1] - 1) + 1, 9)))
    return tuple(spatial), tuple(kernel), Window(tuple(stride), tuple(padding), tuple(dilation), groups)


def check_layer(module: Any, seed: int, fused: bool) -> None:
    """`schedule`, on weights whose sums are exact in any order: in layers that one kernel can do, or by products."""
    rng = np.random.default_rng(seed)
    real = ("float32", "float64")[seed // 2 % 2]
    frames = ("bool", "uint8", real)[seed // 4 % 3] if real == "float32" else real
    groups = 1 if fused else int(rng.choice((1, 1, 1, 1, 2)))
    spatial, kernel, window = layer(rng, 2 if fused else int(rng.choice((0, 1, 2, 3))), groups)
    channels, filters = int(rng.choice((1, 2, 3, 4, 8))) * groups, int(rng.choice((3, 8, 16, 19))) * groups
    if not fused:  # too many for shared memory
        room = module.launching.ROOM_BYTES // (np.dtype(real).itemsize * channels * math.prod(kernel))
        filters += groups * (room + 4 - room % 4)
    weight = (rng.integers(-3, 5, (filters, *kernel, channels // groups)) / 8).astype(real)
    bias = (rng.integers(-2, 3, (filters,)) / 8).astype(real) if rng.integers(2) else None
    T, batch, repeat = int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    size = int(rng.integers(1, 4))
    aggregation = tuple(float(w) for w in rng.choice((0.25, 0.5, 1.0), size)) if size > 1 else None
    x = strided(
        rng, rng.integers(0, 2 if frames == "bool" else 4, (T * size, batch, *spatial, channels)).astype(frames)
    )
    options = neurons(rng, real, filters)
    rounded = options["rounded"]
    if rounded:
        weight, bias = weight * 8, None if bias is None else bias * 8
        aggregation = aggregation and tuple(4.0 * a for a in aggregation)
    shape = (batch, *window.output_shape(spatial, kernel), filters)
    start = currents(rng, real, shape, rounded) if rng.integers(2) else None
    numbers = {"exact": rounded, "fits_half": rounded and bool(rng.integers(2))}
    conv = Convolve(CORE, window, weight, bias, aggregation, **numbers)
    want = Backend.schedule(CORE, conv, LIFStep(CORE, **options), np.ascontiguousarray(x), as_state(start), repeat)
    conv = Convolve(module.BACKEND, window, on_device(weight), on_device(bias), aggregation, **numbers)
    assert fused == module.launching.fits_conv_lif(conv)
    step = LIFStep(module.BACKEND, **{name: on_device(value) for name, value in options.items()})
    got = module.BACKEND.schedule(conv, step, on_device(x), as_state(on_device(start)), repeat)
    equal(got[0], want[0])
    equal(*got[1], *want[1])


def plain(kernel: str, seed: int) -> bool:
    """Whether a case is in float32 on bool frames."""
    return seed % 4 < 2 and seed // 4 % {"lif": 1, "weighted_sum": 5, "conv_lif": 3, "unfold": 3}[kernel] == 0


CHECKS: dict[str, tuple[Callable[[Any, int], None], int]] = {
    "lif": (check_lif, 300),
    "weighted_sum": (check_sum, 200),
    "conv_lif": (partial(check_layer, fused=True), 60),
    "unfold": (partial(check_layer, fused=False), 90),
}
"""Checks by the kernel that they are about, and how many seeds of each the tests run."""


def main(name: str) -> None:
    """Run some plain cases: of every check, or of the kernel that is wrong."""
    mutant = None if name == "none" else MUTANTS[name]
    with fake_cupy.simulated() as module, planted(module, mutant):
        for kernel, (check, count) in CHECKS.items():
            if mutant is None or mutant.found_by.endswith(f" {kernel}"):
                for seed in range(count if mutant is None else 4 * count):
                    if plain(kernel, seed):
                        check(module, seed)
    print("clean")


if __name__ == "__main__":
    main(sys.argv[1])
