"""Reproducible mode follows its documented rule: an independent simulation gives every spike and membrane."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacops import Grid, SpikeTrain, lif, tac_conv, tac_linear
from tacops._core import units
from tacops.backends import Backend, get_backend
from tacops.testing._case import Case, inputs_of
from tacops.testing._host import assert_train
from tests.support import golden_simulation
from tests.support.reproducible_layers import Array, run


def fraction(value: float) -> Fraction:
    """The float32 nearest to a number."""
    return Fraction(float(np.float32(value)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Layers of every kind."""
    size = draw(st.integers(1, 7))
    steps = draw(st.integers(1, 7))
    linear = draw(st.booleans())
    channels = draw(st.sampled_from([1, 4]))
    options: dict[str, Any] = {
        "chunk_size": size,
        "mode": draw(st.sampled_from(["collapse", "preserve"])),
        "reset": draw(st.sampled_from(["subtract", "zero", "none", "late"])),
        "beta": draw(st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]) | st.floats(0, 1)),
        "threshold": draw(st.floats(0.2, 3.0)),
        "aggregation": draw(st.sampled_from(["decay", "normalized_decay", "sum", "mean", None])),
        "reproducible": Grid(weight_bits=draw(st.integers(5, 12)), aggregation_bits=draw(st.integers(3, 8))),
    }
    if draw(st.booleans()):
        options["aggregation"] = tuple(float(fraction(draw(st.floats(-1, 1.5)))) for _ in range(size))
    if draw(st.booleans()):
        options["beta"] = tuple(float(fraction(draw(st.floats(0, 1)))) for _ in range(channels))
        options["threshold"] = tuple(float(fraction(draw(st.floats(0.2, 3.0)))) for _ in range(channels))
    shape: dict[str, Any] = {"spikes": (steps, 2, 9), "weight": (channels, 9)}
    if not linear:
        shape = {"spikes": (steps, 2, 4, 3, 2), "weight": (channels, 2, 2, 2)}
        options["padding"] = draw(st.integers(0, 1))
    more: dict[str, Any] = {"bias": draw(st.booleans()), "membrane": draw(st.booleans())}
    values = draw(st.sampled_from(["any", "coarse", "wide"]))
    name = f"seed-{draw(st.integers(0, 10**6))}"
    return Case(name, "tac_linear" if linear else "tac_conv", **shape, options=options, values=values, **more)


def arguments(case: Case) -> tuple[list[Array], dict[str, Any]]:
    """Host arrays of a case, and its options."""
    arrays = {
        name: np.array([float(v) for v in values], case.dtype).reshape(shape)
        for name, (shape, values) in inputs_of(case).items()
    }
    positional = [arrays.pop(key) for key in ("current", "spikes", "weight", "bias") if key in arrays]
    return positional, {**case.options, **arrays}


def simulated(case: Case) -> SpikeTrain:
    """What the independent simulation says."""
    spikes, (membrane, *_) = golden_simulation.simulate(case, inputs_of(case))
    shape = (case.spikes[1], *case.space(), case.channels)
    last = np.array([float(v) for v in membrane]).astype(case.dtype).reshape(shape)
    return SpikeTrain(np.array(spikes, case.dtype).reshape(-1, *shape), last)


def follows_the_rule(backend: Backend, case: Case) -> None:
    arrays, options = arguments(case)
    function: Any = {"tac_conv": tac_conv, "tac_linear": tac_linear, "lif": lif}[case.function]
    assert_train(case.name, run(backend, *arrays, function=function, **options), simulated(case))


@given(case=cases())
def test_follows_the_documented_rule(need: Callable[[str], Backend], case: Case) -> None:
    """Any layer, on the libraries that need no compiling: what integers give, bit for bit."""
    for name in ("numpy", "array_api", "mlx", "torch"):
        try:
            backend = need(name)
        except pytest.skip.Exception:
            continue
        follows_the_rule(backend, case)


@settings(max_examples=5)
@given(case=cases())
def test_jax_follows_the_documented_rule(need: Callable[[str], Backend], case: Case) -> None:
    """The same where every layer is compiled anew."""
    follows_the_rule(need("jax"), case)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9, 1.0])
def test_neurons_alone(beta: float, dtype: str) -> None:
    """`lif` follows its rule, float64 too."""
    options = {"beta": beta, "threshold": 0.7, "reproducible": Grid(threshold_bits=9)}
    follows_the_rule(get_backend("numpy"), Case("alone", "lif", (9, 2, 5), (), options, membrane=True, dtype=dtype))


@pytest.mark.parametrize("fan_in", [9, 4090, 8170, 8190, 9000])
@pytest.mark.parametrize("with_bias", [False, True])
def test_sums_that_can_t_reach_the_limit_need_not_be_known(
    fan_in: int, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units by the bound alone are those by the sums, also of weights that come as near to it as any."""
    rng = np.random.default_rng(2)
    weight = rng.normal(0, 1, (4, fan_in)).astype(np.float32)
    weight[1], weight[2] = 1.0, -0.7
    bias = rng.normal(0, 1, 4).astype(np.float32) if with_bias else None
    layer = get_backend("numpy"), Grid(), weight, bias, "decay", 1, 0.9
    found = units.layer_units(*layer)
    monkeypatch.setattr(units, "SURELY", 0.0)
    for got, want in zip(vars(found).values(), vars(units.layer_units(*layer)).values(), strict=True):
        np.testing.assert_array_equal(got, want)
