"""Random calls on NumPy arrays, and the same on Dask's, cut anyhow: what each gives, in pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np

import tacops
from tacops.layers import FrozenLayer

__all__ = ["calls", "chopped"]


def chopped(x: Any, rng: Any, whole: tuple[int, ...] = (), chunk: int = 1) -> Any:
    """A Dask array in random chunks: of time at multiples of `chunk`, and whole along some axes."""
    sizes = [(n,) if axis in whole else _sizes(rng, n, 1 if axis else chunk) for axis, n in enumerate(x.shape)]
    return da.from_array(x, chunks=tuple(sizes))


def _sizes(rng: Any, n: int, unit: int) -> tuple[int, ...]:
    edges = {0, n} | {unit * int(e) for e in rng.integers(0, n // unit + 1, rng.integers(0, 5))}
    return tuple(int(size) for size in np.diff(sorted(edges)))


def calls(seed: int) -> Iterator[tuple[str, Any, Any]]:
    """The function's name, Dask's result and NumPy's, of a layer drawn by `seed`."""
    rng = np.random.default_rng(seed)
    dims, (T, B, K, groups) = seed % 3 + 1, (int(rng.integers(1, most)) for most in (9, 5, 5, 3))
    options, x, weight = _layer(rng, dims, T, B, groups)
    first = options["layout"] == "channels_first"
    time: dict[str, Any] = {"chunk_size": K, "mode": ("collapse", "preserve")[rng.integers(2)]}
    how: dict[str, Any] = {"trace": bool(rng.integers(2)), "compact": bool(rng.integers(2)), "reproducible": True}
    if rng.integers(2):
        how["synapse_decay"] = 0.7
    names = ("bias", "beta", "threshold")
    arrays: dict[str, Any] = {
        name: np.linspace(0.3, 0.9, 2 * groups).astype(np.float32) for name in names if rng.integers(2)
    }
    if rng.integers(2):
        arrays["aggregation"] = np.linspace(0.5, 1, K).astype(np.float32)
    lengths = [int(n) for n in rng.integers(0, T + 1, B)] if rng.integers(2) else None
    channel = (2 if first else x.ndim - 1,)
    spikes, kernel = chopped(x, rng, channel, K), chopped(weight, rng)
    ends = lengths if lengths is None or rng.integers(2) else chopped(np.array(lengths), rng)
    cut = {name: chopped(array, rng) for name, array in arrays.items()}
    start = tacops.tac_conv(x, weight, **options, **time, **how, **arrays).membrane if rng.integers(2) else None
    states = start if isinstance(start, tuple) else (start,)
    given: Any = tuple(None if state is None else chopped(state, rng) for state in states)
    given = given if isinstance(start, tuple) else given[0]
    want: Any = tacops.tac_conv(x, weight, membrane=start, lengths=lengths, **options, **time, **how, **arrays)
    more = {**options, **time, **how, **cut}
    yield "tac_conv", tacops.tac_conv(spikes, kernel, membrane=given, lengths=ends, **more), want

    plain = {name: value for name, value in options.items() if name != "layout"} | {"reproducible": True}
    layout = {"layout": options["layout"]}
    loose = chopped(x, rng, channel)
    yield "conv", tacops.conv(loose, kernel, **plain, **layout), tacops.conv(x, weight, **plain, **layout)
    current = rng.normal(0.3, 0.5, want.spikes.shape).astype(np.float32)
    ends = None if lengths is None else [min(n, len(current)) for n in lengths]
    held = {"repeat": int(rng.integers(1, 4)), "lengths": ends, "reproducible": True, "trace": how["trace"], **layout}
    yield "lif", tacops.lif(chopped(current, rng, channel), **held), tacops.lif(current, **held)

    space = x.shape[3:] if first else x.shape[2:-1]
    sizes = tuple(min(int(k), n) for k, n in zip(rng.integers(1, 4, dims), space, strict=True))
    moves = {"stride": options["stride"], "padding": tuple(k // 2 for k in sizes), **layout}
    for pool in (tacops.max_pool, tacops.sum_pool, tacops.avg_pool):
        yield pool.__name__, pool(chopped(x, rng), sizes, **moves), pool(x, sizes, **moves)

    vectors, dense = rng.random((T, B, 3, 5)) < 0.5, rng.normal(0.1, 0.4, (4, 5)).astype(np.float32)
    blocks = chopped(vectors, rng, (3,), K)
    lines: dict[str, Any] = {**time, "reproducible": True}
    yield "tac_linear", tacops.tac_linear(blocks, chopped(dense, rng), lengths=lengths, **lines), tacops.tac_linear(vectors, dense, lengths=lengths, **lines)  # fmt: skip
    frozen = FrozenLayer({"weight": dense, "bias": dense[:, 0]}, lines)
    yield "FrozenLayer", frozen(blocks), frozen(vectors)
    halves = vectors.astype(np.float32)
    yield "aggregate", tacops.aggregate(chopped(halves, rng, (), K), K, beta=0.5), tacops.aggregate(halves, K, beta=0.5)
    yield "flatten", tacops.flatten(chopped(x, rng)), tacops.flatten(x)


def _layer(rng: Any, dims: int, T: int, B: int, groups: int) -> tuple[dict[str, Any], Any, Any]:
    """Geometry, spikes and weights; padding is added until the kernel fits."""
    space, kernel, stride, dilation = (tuple(int(n) for n in rng.integers(1, m, dims)) for m in (9 - dims, 4, 4, 3))
    padding = [tuple(int(n) for n in rng.integers(0, 4, 2)) for _ in range(dims)]
    for axis in range(dims):
        lacking = dilation[axis] * (kernel[axis] - 1) + 1 - space[axis] - sum(padding[axis])
        padding[axis] = padding[axis][0] + max(0, lacking), padding[axis][1]
    x = rng.random((T, B, *space, 2 * groups)) < 0.4
    weight = rng.normal(0.05, 0.4, (2 * groups, *kernel, 2)).astype(np.float32)
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups}
    options["layout"] = ("channels_last", "channels_first")[rng.integers(2)]
    if options["layout"] == "channels_first":
        x, weight = np.ascontiguousarray(np.moveaxis(x, -1, 2)), np.ascontiguousarray(np.moveaxis(weight, -1, 1))
    return options, x, weight
