"""Arrays that are not on the CPU, or have no values: every operator keeps to its inputs' device, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import surrogate

RNG = np.random.default_rng(0)
STEPS = 7  # a rest of chunks
CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "surrogate": {"surrogate": surrogate.arctan(2.0)},
    "remat": {"surrogate": surrogate.fast_sigmoid(4.0), "remat": True},
    "compact": {"compact": True},
}
GEOMETRIES: dict[str, dict[str, Any]] = {
    "1-D": {"spatial": (6,), "kernel": (3,), "padding": 1},
    "2-D": {"spatial": (5, 6), "kernel": (3, 2), "padding": ((1, 2), (0, 1)), "stride": 2},
    "2-D first": {"spatial": (5, 6), "kernel": (3, 3), "padding": "same", "layout": "channels_first"},
    "3-D groups": {"spatial": (3, 4, 4), "kernel": (3, 1, 3), "padding": 1, "groups": 2},
    "1 x 1": {"spatial": (4, 4), "kernel": (1, 1), "stride": 2},
    "depth-wise": {"spatial": (4, 4), "kernel": (3, 3), "groups": 4, "padding": (3, 0)},
}
Make = Callable[[np.ndarray[Any, Any]], Any]
Layer = Callable[[Make], tuple[Any, list[Any]]]


def conv(geometry: dict[str, Any], **options: Any) -> Layer:
    options = {**{name: value for name, value in geometry.items() if name not in ("spatial", "kernel")}, **options}
    groups = options.get("groups", 1)
    x = RNG.random((STEPS, 2, *geometry["spatial"], 4)) < 0.4
    w = RNG.normal(0, 0.5, (8, *geometry["kernel"], 4 // groups)).astype(np.float32)
    if options.get("layout") == "channels_first":
        x, w = np.moveaxis(x, -1, 2).copy(), np.moveaxis(w, -1, 1).copy()

    def layer(make: Make) -> tuple[Any, list[Any]]:
        weight, bias = make(w), make(np.full(8, 0.1, np.float32))
        return tacops.tac_conv(make(x), weight, bias, **options), [weight, bias]

    return layer


def linear(**options: Any) -> Layer:
    x, w = RNG.random((STEPS, 2, 3)) < 0.4, RNG.normal(0, 1, (4, 3)).astype(np.float32)

    def layer(make: Make) -> tuple[Any, list[Any]]:
        weight = make(w)
        return tacops.tac_linear(make(x), weight, **options), [weight]

    return layer


def neurons(**options: Any) -> Layer:
    current = RNG.random((STEPS, 2, 4)).astype(np.float32)

    def layer(make: Make) -> tuple[Any, list[Any]]:
        given = make(current)
        beta, start = make(np.full(4, 0.75, np.float32)), make(np.zeros((2, 4), np.float32))
        return tacops.lif(given, beta=beta, membrane=start, **options), [given]

    return layer


def layers() -> Iterator[tuple[str, Layer]]:
    """Every operator; geometries, modes and options crossed where they meet in the code."""
    for (name, geometry), exact in product(GEOMETRIES.items(), (False, True)):
        for chunk, mode in ((1, "collapse"), (3, "collapse"), (3, "preserve")):
            yield f"{name} {chunk} {mode} {exact}", conv(geometry, chunk_size=chunk, mode=mode, reproducible=exact)
    for (name, chosen), exact in product(CHOICES.items(), (False, True)):
        yield f"conv {name} {exact}", conv(GEOMETRIES["2-D"], chunk_size=3, reproducible=exact, **chosen)
        yield f"linear {name} {exact}", linear(chunk_size=3, mode="preserve", reproducible=exact, **chosen)
        yield f"lif {name} {exact}", neurons(repeat=2, reproducible=exact, **chosen)


LAYERS = dict(layers())


def on_torch(kind: str) -> tuple[AbstractContextManager[Any], Callable[[Any], None], Make]:
    """A surrounding, a check of every result, and how its tensors are made."""
    torch = pytest.importorskip("torch", reason="PyTorch's devices are not tried: it is not installed")
    if kind == "default":  # tensors on the CPU, while new ones would go elsewhere

        def values(x: Any) -> None:
            assert x.device.type == "cpu"
            assert torch.isfinite(x.float()).all()

        return torch.device("meta"), values, lambda a: torch.from_numpy(a.copy())

    def meta(x: Any) -> None:
        assert x.device.type == ("cpu" if kind == "fake" else "meta")

    if kind == "meta":
        return nullcontext(), meta, lambda a: torch.from_numpy(a.copy()).to("meta")
    from torch._subclasses import FakeTensorMode

    mode = FakeTensorMode()
    return mode, meta, lambda a: mode.from_tensor(torch.from_numpy(a.copy()))


@pytest.mark.parametrize("kind", ["meta", "fake", "default"])
@pytest.mark.parametrize("name", LAYERS)
def test_torch(kind: str, name: str) -> None:
    """The meta device, tensors without values, and a default device that is not the inputs'."""
    around, check, make = on_torch(kind)

    def leaf(a: np.ndarray[Any, Any]) -> Any:
        tensor = make(a)
        return tensor.requires_grad_("compact" not in name and tensor.dtype.is_floating_point)

    with around:
        train, by = LAYERS[name](leaf)
        for result in train:
            check(result)
        if "compact" not in name:
            learns = "surrogate" in name or "remat" in name
            (train.spikes.sum() + train.membrane.sum() if learns else train.membrane.sum()).backward()
            for array in by:
                check(array.grad)
                assert array.grad.shape == array.shape


@pytest.mark.parametrize("kind", ["meta", "fake", "default"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_aggregate(kind: str, dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch's devices are not tried: it is not installed")
    around, check, make = on_torch(kind)
    x = np.arange(14, dtype=np.float32).reshape(7, 2)
    with around:
        got = tacops.aggregate(make(x).to(getattr(torch, dtype)), 3, aggregation="sum")
        check(got)
    assert got.shape == (3, 2)
    if kind == "default":
        np.testing.assert_array_equal(got.float().numpy(), [[6, 9], [24, 27], [12, 13]])


@pytest.mark.parametrize("name", [name for name in LAYERS if "surrogate" not in name and "remat" not in name])
def test_array_api_strict(name: str) -> None:
    """The standard's own second device, whose arrays meet no other's: the values are the first one's."""
    strict = pytest.importorskip("array_api_strict", reason="the standard's devices are not tried: it is not installed")
    device = strict.Device("device1")
    got, _ = LAYERS[name](lambda a: strict.asarray(a, device=device))
    want, _ = LAYERS[name](strict.asarray)
    for a, b in zip(got, want, strict=True):
        assert a.device == device
        there, here = (np.asarray(strict.asarray(x, device=strict.Device("CPU_DEVICE"))) for x in (a, b))
        np.testing.assert_array_equal(there, here)
