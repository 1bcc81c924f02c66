"""Tier 1, large layers: sizes at which libraries and adapters change their way, on numbers that are exact in float32.

Inputs are whole numbers, weights multiples of 1/16, beta is 1: no sum is rounded, in any order, on the default path and in
reproducible mode. So the definition, computed in float64, must be met bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any
from zlib import crc32

import tacops

from .._backend.protocol import Array, Backend, Window
from .._core.train import SpikeTrain
from ._check import Check, NotApplicable
from ._golden import keeps_dtype
from ._host import assert_same, assert_train, native, np, on_host
from ._reference import chunks, currents_of, simulate

__all__ = ["LAYERS", "Layer", "Numbers", "crossing", "large_checks", "layer_arrays", "layer_reference"]


@dataclass(frozen=True)
class Layer:
    """One layer.

    Parameters
    ----------
    spikes, weight : tuple of int
        Shapes, channels last.
    dtype : str
        Of the spikes.
    options : mapping
        ``chunk_size``, ``mode``, ``padding`` (one number) and ``compact``.
    """

    spikes: tuple[int, ...]
    weight: tuple[int, ...]
    dtype: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)


_PRESERVE = {"mode": "preserve"}
LAYERS = {
    "dense-frames": Layer((60, 32, 784), (1000, 784), "bool"),
    "dense-chunks": Layer((64, 16, 300), (200, 300), "uint8", {"chunk_size": 4}),
    "bool-chunks": Layer((8, 8, 28, 28, 8), (16, 3, 3, 8), "bool", {"chunk_size": 4, "padding": 1}),
    "float-chunks": Layer((8, 8, 28, 28, 8), (16, 3, 3, 8), "float32", {"chunk_size": 4, "padding": 1}),
    "half-frames": Layer((8, 4, 48, 48, 8), (8, 3, 3, 8), "float16", {"chunk_size": 8, "padding": 1, **_PRESERVE}),
    "unfolded": Layer((16, 4, 32, 32, 16), (4, 3, 3, 16), "bool", {"padding": 1}),
    "one-frame": Layer((1, 1, 160, 160, 48), (2, 3, 3, 48), "bool", {"padding": 1}),
    "rows-of-two": Layer((2, 2, 80, 80, 32), (2, 3, 3, 32), "bool", {"chunk_size": 2, "padding": 1}),
    "line": Layer((4, 1, 30000, 4), (8, 5, 4), "bool", {"chunk_size": 2, "padding": 2}),
    "long": Layer((400, 2, 6, 6, 4), (20, 3, 3, 4), "bool", {"padding": 1, "compact": True}),
    "many-in-a-chunk": Layer((66, 2, 12, 12, 4), (8, 3, 3, 4), "uint8", {"chunk_size": 33, "padding": 1}),
    "held": Layer((66, 2, 12, 12, 4), (8, 3, 3, 4), "bool", {"chunk_size": 20, "padding": 1, **_PRESERVE}),
    "volume": Layer((4, 2, 10, 12, 14, 4), (6, 3, 3, 3, 4), "bool", {"padding": 1, "chunk_size": 2}),
}


def large_checks() -> Iterator[Check]:
    """Every layer on both paths, the sizes that the adapter names, and half precision."""
    for name, layer in LAYERS.items():
        yield Check(f"bitwise-large-{name}", 1, partial(_check_layer, name, layer))
    yield Check("bitwise-large-crossings", 1, _check_crossings)
    yield Check("bitwise-half-sums", 1, _check_half)
    yield Check("bitwise-half-rounding", 1, _check_half_rounding)


class Numbers:
    """Many whole numbers at once, the same on every machine."""

    def __init__(self, seed: str) -> None:
        self.raw = np.random.PCG64(crc32(seed.encode()))

    def whole(self, shape: tuple[int, ...], below: int) -> Array:
        """From 0 to ``below - 1``, where `below` is at most 256; uint8."""
        count = int(np.prod(shape))
        words = self.raw.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]
        return (words % below).reshape(shape)


def layer_arrays(name: str, layer: Layer) -> tuple[Array, Array]:
    """Spikes and weights, from raw numbers that NumPy promises to keep."""
    numbers = Numbers(name)
    highest = 1 if layer.dtype == "bool" else 3
    counts = numbers.whole(layer.spikes, 8)
    spikes = np.where(counts <= highest, counts, 0).astype(layer.dtype)
    return spikes, (numbers.whole(layer.weight, 13).astype(np.float32) - 5) / np.float32(16)


def layer_reference(layer: Layer, spikes: Array, weight: Array) -> SpikeTrain:
    """The definition, in float64 and exact."""
    options, dims = layer.options, weight.ndim - 2
    pad = options.get("padding", 0)
    window = Window((1,) * dims, ((pad, pad),) * dims, (1,) * dims, 1)
    currents = currents_of(spikes.astype(np.float64), weight.astype(np.float64), window)
    size, mode = options.get("chunk_size", 1), options.get("mode", "collapse")
    parts = chunks(currents, 0.0, size, mode=mode, aggregation="sum", beta=1.0)
    fired, membrane, *_ = simulate(parts, 0.0, threshold=_threshold(layer), reset="subtract")
    return SpikeTrain(fired.astype(bool if options.get("compact") else np.float32), membrane.astype(np.float32))


def _threshold(layer: Layer) -> float:
    size: int = layer.options.get("chunk_size", 1)
    return 4.0 * size


@cache
def _stored(name: str, layer_key: tuple[Any, ...]) -> tuple[Array, Array, SpikeTrain]:
    spikes, weight, dtype, options = layer_key
    layer = Layer(spikes, weight, dtype, dict(options))
    arrays = layer_arrays(name, layer)
    return *arrays, layer_reference(layer, *arrays)


def _check_layer(name: str, layer: Layer, backend: Backend) -> None:
    """On both paths."""
    key = layer.spikes, layer.weight, layer.dtype, tuple(layer.options.items())
    spikes, weight, want = _stored(name, key)
    if not keeps_dtype(backend, layer.dtype):
        raise NotApplicable(f"{backend.name} keeps no {layer.dtype} here")
    given = [native(backend, array) for array in (spikes, weight)]
    operator = tacops.tac_conv if weight.ndim > 2 else tacops.tac_linear
    options = {"chunk_size": 1, "aggregation": "sum", "beta": 1.0, "threshold": _threshold(layer), **layer.options}
    for grid in (False, tacops.Grid(input_max=3)):
        train = on_host(backend, operator(*given, **options, reproducible=grid))
        assert_train(f"{name}, {'default path' if grid is False else 'reproducible'}", train, want)


def crossing(spikes: tuple[int, ...], weight: tuple[int, ...], chunk_size: int = 1) -> Layer:
    """A layer of a backend's `crossings`."""
    options = {"chunk_size": chunk_size, **({"padding": 1} if len(weight) > 2 else {})}
    return Layer(spikes, weight, "bool", options)


def _check_crossings(backend: Backend) -> str:
    """Below and above each size at which the adapter says that it changes its way."""
    sizes = list(backend.crossings())
    if not sizes:
        raise NotApplicable(f"{backend.name} names no sizes at which it changes its way")
    for spikes, weight, chunk_size in sizes:
        _check_layer(f"spikes {spikes}, weight {weight}", crossing(spikes, weight, chunk_size), backend)
    return f"{len(sizes)} layers"


def _check_half(backend: Backend) -> str:
    """Sums of half precision are float32's: they count beyond 2048, or 256 in bfloat16, where a sum in half precision stays."""
    for name, (xp, dtype) in (kinds := _half_kinds(backend)).items():
        count = {"float16": 3000, "bfloat16": 768}[name]
        weight = xp.astype(native(backend, np.ones((2, count), np.float32)), dtype)
        one = xp.astype(native(backend, np.ones((1, 1), np.float32)), dtype)
        wide = native(backend, np.ones((1, 1, count), bool))
        long = native(backend, np.full((16, 1, 1), 255, np.uint8))  # 4080 has eight bits, the sums on the way have more
        options: dict[str, Any] = {"beta": 1.0, "reset": "none"}
        fan_in = tacops.tac_linear(wide, weight, chunk_size=1, **options).membrane
        sums = tacops.tac_linear(long, one, chunk_size=16, aggregation="sum", **options).membrane
        given = xp.astype(native(backend, np.ones(16, np.float32)), dtype)
        learned = tacops.tac_linear(long, one, chunk_size=16, aggregation=given, **options).membrane
        for what, got, value in (
            (f"fan-in of {count}", fan_in, count),
            ("aggregation", sums, 4080),
            ("given aggregation", learned, 4080),
        ):
            host = backend.to_numpy(xp.astype(got, xp.float32))
            assert_same(f"{name}, {what}", host, np.full(host.shape, value, np.float32))
    return ", ".join(kinds)


def _half_kinds(backend: Backend) -> dict[str, tuple[Any, Any]]:
    """The namespace and the dtype of each kind of half precision that the backend has."""
    probe = native(backend, np.ones(1, np.float32))
    xp, found = backend.namespace(probe), {}
    for name in ("float16", "bfloat16"):
        try:
            xp.astype(probe, getattr(xp, name))
        except (AttributeError, TypeError, ValueError, RuntimeError):  # a name without arrays of it, too
            continue
        found[name] = xp, getattr(xp, name)
    if not found:
        raise NotApplicable(f"{backend.name} has no half precision")
    return found


def _check_half_rounding(backend: Backend) -> str:
    """Half precision is rounded once, at the end: neither weights of a chunk before they are summed, nor a power on its way."""
    beta = np.arange(128, 256).astype(np.float32) / np.float32(256)  # each has bfloat16's eight bits
    for name, (xp, dtype) in (kinds := _half_kinds(backend)).items():

        def half(array: Array, xp: Any = xp, dtype: Any = dtype) -> Array:
            return xp.astype(native(backend, array), dtype)

        def told(what: str, got: Array, want: Array, name: str = name, xp: Any = xp, half: Any = half) -> None:
            wide = (backend.to_numpy(xp.astype(x, xp.float32)) for x in (got, half(want.astype(np.float32))))
            assert_same(f"{name}, {what}", *wide)

        frames = half(np.array([[256.0], [-256.0]], np.float32))
        told("weights", tacops.aggregate(frames, 2, beta=1 - 2.0**-13), np.array([[-(2.0**-5)]]))
        still = native(backend, np.zeros((6, 1, 1), bool))
        given, weight = half(np.ones((1, 128), np.float32)), half(np.ones((128, 1), np.float32))
        options: dict[str, Any] = {"chunk_size": 6, "aggregation": "sum", "reset": "none", "membrane": given}
        told(
            "power",
            tacops.tac_linear(still, weight, beta=half(beta), **options).membrane[0, ...],
            beta.astype(float) ** 6,
        )
    return ", ".join(kinds)
