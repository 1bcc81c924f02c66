"""Layers to test with, and the two ways to compare an answer with the judge's.

*Grid cases* hold 0/1 spikes and weights that are small multiples of 1/16, with a dyadic beta and threshold: every partial sum is
exact in float32, so spikes **and membranes** must match the judge bit for bit, whatever the order of summation.
*Float cases* hold arbitrary weights: membranes must be close, and spikes equal wherever the judge's margin exceeds rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacops import SpikeTrain
from tacops.backends import Backend, backend_of
from tests.support.judge import Floats, Parameter, Verdict

Array = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """NumPy arrays for one call."""

    spikes: Array
    weight: Array
    bias: Array

    def __iter__(self) -> Any:
        return iter((self.spikes, self.weight, self.bias))

    def channels_first(self) -> Layer:
        """Move the channels of spikes and weight."""
        return replace(self, spikes=np.moveaxis(self.spikes, -1, 2), weight=np.moveaxis(self.weight, -1, 1))

    def as_dtype(self, dtype: str) -> Layer:
        """Cast every array."""
        return Layer(*(array.astype(dtype) for array in self))


def grid_layer(
    seed: int = 0,
    *,
    steps: int = 6,
    batch: int = 2,
    spatial: Sequence[int] = (5, 6),
    kernel: Sequence[int] = (3, 3),
    c_in: int = 4,
    c_out: int = 6,
    groups: int = 1,
    unit: int = 16,
    density: float = 0.3,
) -> Layer:
    """0/1 spikes, weights and biases that are multiples of 1/unit: exact in float32, and lively around threshold 1."""
    rng = np.random.default_rng(seed)
    x = (rng.random((steps, batch, *spatial, c_in)) < density).astype(np.float32)
    w = rng.integers(-unit // 4, unit // 2 + 1, (c_out, *kernel, c_in // groups)).astype(np.float32) / unit
    b = rng.integers(-unit // 8, unit // 4 + 1, (c_out,)).astype(np.float32) / unit
    return Layer(x, w, b)


def float_layer(seed: int = 0, **options: Any) -> Layer:
    """Like ``grid_layer``, with weights that no grid holds."""
    layer = grid_layer(seed, **options)
    rng = np.random.default_rng(seed + 1000)
    fan_in = layer.weight[0].size
    w = rng.normal(0.2, 1.0, layer.weight.shape).astype(np.float32) / np.float32(np.sqrt(fan_in) * 0.5)
    b = rng.normal(0.05, 0.1, layer.bias.shape).astype(np.float32)
    return Layer(layer.spikes, w, b)


def to_backend(backend: Backend, value: Any, dtype: str | None = None) -> Any:
    """Copy a NumPy array to the backend, a floating one cast to ``dtype``; return anything else unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    array = backend.from_numpy(value)
    if dtype is None or value.dtype.kind != "f":
        return array
    xp = backend.namespace(array)
    return xp.astype(array, getattr(xp, dtype))


def run(
    backend: Backend, function: Callable[..., SpikeTrain], *arrays: Any, dtype: str | None = None, **options: Any
) -> SpikeTrain:
    """Call with the backend's arrays and return the answer as NumPy arrays; the answer's own type is checked on the way."""
    native = [to_backend(backend, array, dtype) for array in arrays]
    train = function(*native, **{name: to_backend(backend, value, dtype) for name, value in options.items()})
    assert isinstance(train, SpikeTrain)
    assert backend_of(train.spikes, train.membrane) is backend
    reference = native[1] if len(native) > 1 else native[0]  # the weight, or the current of lif
    assert train.spikes.dtype == train.membrane.dtype == reference.dtype
    return as_numpy(backend, train)


def as_numpy(backend: Backend, train: SpikeTrain) -> SpikeTrain:
    """Copy an answer to NumPy arrays."""
    return SpikeTrain(backend.to_numpy(train.spikes), backend.to_numpy(train.membrane))


def assert_same(name: str, got: Array, want: Array) -> None:
    """Equal shapes and values, bit for bit; the message shows the first difference."""
    assert got.shape == want.shape, f"{name}: shape {got.shape}, the judge has {want.shape}"
    if not np.array_equal(got, want):
        where = np.argwhere(got != want)
        first = tuple(int(i) for i in where[0])
        message = (
            f"{name}: {len(where)} of {got.size} differ, first at {first}: {got[first]}, the judge has {want[first]}"
        )
        raise AssertionError(message)


def assert_exact(got: SpikeTrain | Verdict, want: Verdict) -> None:
    """Spikes and membranes equal the judge's bit for bit; the judge's own numbers must be exact in float32."""
    for array in (want.potentials, want.membrane):
        assert np.array_equal(array.astype(np.float32), array), (
            "not a grid case: the judge's answer has more than 24 bits"
        )
    assert_same("membrane", got.membrane, want.membrane)
    assert_same("spikes", got.spikes, want.spikes)


def assert_lively(want: Verdict, *, ties: float | None = None) -> None:
    """Guard against vacuous cases: some neurons fire, some don't, and (asked) some sit exactly on the threshold."""
    assert 0.02 < want.spikes.mean() < 0.98
    assert np.any(want.membrane != 0)
    if ties is not None:
        assert np.any(want.potentials == ties), "no tie in this case"


def assert_close(
    got: SpikeTrain | Verdict, want: Verdict, *, threshold: Parameter = 1.0, rtol: float = 1e-5, lost: float = 0.02
) -> None:
    """Membranes close and spikes equal, except for neurons that came within rounding of the threshold: at most ``lost`` of them."""
    assert got.spikes.shape == want.spikes.shape
    assert got.membrane.shape == want.membrane.shape
    tolerance = rtol * float(np.max(np.abs(want.potentials)) + 1)
    margin: Floats = np.min(np.abs(want.potentials - threshold), axis=0)
    sure = margin > tolerance
    assert 1 - sure.mean() <= lost, f"{1 - sure.mean():.1%} of the neurons are too close to the threshold to compare"
    assert_same("spikes", got.spikes[:, sure], want.spikes[:, sure])
    error = np.max(np.abs(got.membrane - want.membrane)[sure], initial=0.0)
    assert error <= tolerance, f"membrane: off by {error:.3g}, allowed {tolerance:.3g}"
