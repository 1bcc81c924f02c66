"""What reproducible mode makes of a layer's parameters in PyTorch: the same however it is found, and anew where anything changes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tacops import Grid
from tacops._core.scale import _round
from tacops._core.units import current_units, layer_units
from tacops.backends._torch import constants
from tacops.backends.torch_ import BACKEND
from tacops.layers import FrozenLayer

HUGE = 3e38
VALUES = [0.0, -0.0, 1e-45, 1e-38, 1e-31, 1e-20, 2.0**-12, 0.1, 1.0, 1.5, 2048.0, 1e6, 1e20, HUGE, np.inf, np.nan]


def number(x: Any) -> Any:
    return x.double().nan_to_num(-1.0)


@pytest.fixture(params=[torch.float32, torch.float64])
def found(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """Compares what a function returns where all powers are tried at once, and where they are searched."""

    def same(run: Callable[[Any], Any]) -> None:
        got = run(request.param)
        with monkeypatch.context() as patch:
            patch.setattr(constants, "FLOATS", {})
            want = run(request.param)
        for name, x in vars(want).items():
            assert torch.equal(number(getattr(got, name)), number(x)), name

    return same


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 5])
def test_units_are_those_of_a_search(found: Any, bias: bool, chunk_size: int) -> None:
    """Weights and biases of every size, one channel for each pair."""
    rng = np.random.default_rng(0)
    largest = torch.tensor([a for a in VALUES for _ in VALUES], dtype=torch.float64)
    beside = torch.tensor([b for _ in VALUES for b in VALUES], dtype=torch.float64)
    shape = torch.from_numpy(rng.uniform(-1, 1, (len(largest), 3, 4)))
    shape[:, 0, 0] = 1.0
    betas = torch.from_numpy(rng.uniform(0, 1, len(largest)))

    def run(dtype: Any) -> Any:
        weight = (shape * largest[:, None, None]).to(dtype)
        given = weight, beside.to(dtype) if bias else None, "decay", chunk_size
        return layer_units(BACKEND, Grid(), *given, betas.to(dtype) if chunk_size > 1 else 0.9)

    found(run)


def test_units_of_currents_are_those_of_a_search(found: Any) -> None:
    """By their thresholds."""
    found(lambda dtype: current_units(BACKEND, Grid(), torch.ones(2, 1, len(VALUES), dtype=dtype), torch.tensor(VALUES, dtype=dtype)))  # fmt: skip


def test_powers_are_exact() -> None:
    """Of both dtypes, and on devices where they are made; programs that are exported search."""
    for dtype in (torch.float32, torch.float64):
        got: Any = constants.powers(torch.ones(3, dtype=dtype), -32, 64)
        assert got.dtype == dtype
        assert got[:, 0].tolist() == [2.0**n for n in range(-32, 32)]
    assert constants.powers(torch.ones(3).half(), -32, 64) is None
    assert constants.powers(torch.ones(1 << 9), -32, 64) is None


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often parameters are rounded, on CPUs as on GPUs."""
    calls: list[int] = []

    def counted(*given: Any) -> Any:
        calls.append(1)
        return _round(*given)

    monkeypatch.setattr("tacops._core.scale._round", counted)
    monkeypatch.setattr(constants, "_lasts", lambda x: True)
    return calls


X = torch.rand(6, 2, 5, 5, 3, generator=torch.Generator().manual_seed(0)) < 0.4


def frozen(**options: Any) -> FrozenLayer:
    generator = torch.Generator().manual_seed(1)
    arrays = {
        "weight": torch.randn(4, 3, 3, 3, generator=generator) * 0.5,
        "bias": torch.randn(4, generator=generator) * 0.2,
        "beta": torch.rand(4, generator=generator),
        "threshold": torch.rand(4, generator=generator) + 0.5,
    }
    return FrozenLayer(arrays, {"chunk_size": 1, "reproducible": True, **options})


def check(layer: FrozenLayer) -> Any:
    """The layer's result, which is that of a new layer."""
    got, want = layer(X), FrozenLayer({k: v.clone() for k, v in layer.arrays.items()}, layer.options)(X)
    assert torch.equal(got.spikes, want.spikes)
    assert torch.equal(got.membrane, want.membrane)
    return got.membrane


CHANGES: dict[str, Callable[[Any], Any]] = {
    "in place": lambda a: a["weight"].mul_(1.5),
    "through a view": lambda a: a["weight"][0].add_(0.25),
    "replaced": lambda a: a.update(weight=a["weight"] * 1.5),
    "its data replaced": lambda a: setattr(a["weight"], "data", a["weight"] * 1.5),
    "bias": lambda a: a["bias"].add_(0.5),
    "beta": lambda a: a["beta"].mul_(0.5),
    "threshold": lambda a: a["threshold"].mul_(2.0),
    "loaded": lambda a: a["weight"].copy_(a["weight"].flip(0)),
}


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_noticed(name: str, layout: str, rounded: list[int]) -> None:
    """Nothing is rounded twice, and nothing is old."""
    layer, x = frozen(), X
    if layout == "channels_first":
        layer, x = frozen(layout=layout), X.movedim(-1, 2)
    before = layer(x).membrane
    layer(x)
    assert len(rounded) == 1
    CHANGES[name](layer.arrays)
    after = layer(x).membrane
    assert len(rounded) == 2
    assert not torch.equal(before, after)
    assert torch.equal(after, FrozenLayer(dict(layer.arrays), layer.options)(x).membrane)


def test_shorter_chunks(rounded: list[int]) -> None:
    """Of the same layer, whose biases are others."""
    layer = frozen(chunk_size=4, aggregation="mean")
    for _ in range(2):
        check(layer)
    assert len(rounded) == 3  # once, and in each new layer


def test_copies_round_anew(rounded: list[int]) -> None:
    """Their arrays are others."""
    layer = frozen()
    layer(X)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other(X)
        other.arrays["weight"].mul_(2.0)
        check(other)
    check(layer)
    assert len(rounded) == 1 + 2 * 3 + 1


def test_what_is_differentiated_is_not_kept(rounded: list[int]) -> None:
    """Each call has a graph of its own."""
    layer = frozen(surrogate=lambda x: 1 / (1 + x * x))
    layer.arrays["weight"].requires_grad_()
    for _ in range(2):
        layer(X).spikes.sum().backward()
    assert len(rounded) == 2
    assert float(layer.arrays["weight"].grad.abs().sum()) > 0


def test_inference_mode_keeps_for_itself(rounded: list[int]) -> None:
    """What it made can't be used in training."""
    layer = frozen(surrogate=lambda x: 1 / (1 + x * x))
    with torch.inference_mode():
        layer(X)
        layer(X)
    assert len(rounded) == 1
    x = X.float().requires_grad_()
    layer(x).spikes.sum().backward()
    assert float(x.grad.abs().sum()) > 0


def test_nothing_is_kept_where_writes_are_not_counted() -> None:
    """On CPUs NumPy may write to the same memory; nor where a compiler, a transform or a recording looks on."""
    weight = torch.ones(3)
    assert BACKEND.stamp(weight) is None
    assert BACKEND.stamp(weight.to("meta")) is None


def test_recordings_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph would read what is thrown away later; nor is anything kept that a mode looks at."""
    weight = SimpleCUDA()
    monkeypatch.setattr(constants, "PLAIN", (SimpleCUDA,))
    assert constants._lasts(weight)
    monkeypatch.setattr(constants, "is_capturing", lambda: True)
    assert not constants._lasts(weight)


class SimpleCUDA:
    """All that is asked of a tensor, before its numbers."""

    device = torch.device("cuda", 0)
