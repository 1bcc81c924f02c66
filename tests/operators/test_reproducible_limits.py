"""Reproducible mode: no sum reaches the limit, rounding errors are bounded, what can't be exact is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacops import Grid, conv_lif, tac_conv, tac_linear
from tacops.backends import Backend, get_backend
from tacops.testing import run_checks
from tests.support.reproducible_layers import Array, layer, run

# Exactness, by construction


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 16),
    scale=st.floats(-6, 6),
    bits=st.integers(4, 20),
    aggregation=st.sampled_from(["decay", "normalized_decay", "sum", "mean"]),
    top=st.sampled_from([1, 15, 255]),
)
def test_no_sum_reaches_the_limit(seed: int, size: int, scale: float, bits: int, aggregation: str, top: int) -> None:
    """What is handed to the convolution: integers, whose largest possible sum, bias included, is below 2^24."""
    rng = np.random.default_rng(seed)
    w = (rng.normal(size=(4, 12)) * 10**scale).astype(np.float32)
    b = (rng.normal(size=4) * 10**scale).astype(np.float32)
    seen: list[tuple[Array, Array, Array]] = []

    class Spy(type(get_backend("array_api"))):  # type: ignore[misc]
        def conv(self, x: Any, weight: Any, bias: Any, window: Any, *, exact: bool) -> Any:
            assert exact
            seen.append(tuple(self.to_numpy(a).astype(np.float64) for a in (x, weight, bias)))
            return super().conv(x, weight, bias, window, exact=exact)

    from tacops.testing._host import dispatched_to

    spy = Spy()
    grid = Grid(weight_bits=bits, input_max=top)
    full = np.full((size, 1, 12), top, np.float32)
    options = {"chunk_size": size, "aggregation": aggregation, "threshold": 10.0**scale, "reproducible": grid}
    with dispatched_to(spy):
        try:
            tac_linear(*(spy.from_numpy(a) for a in (full, w, b)), **options)
        except ValueError as error:
            assert "too far apart" in str(error)  # noqa: PT017 (a grid may be too coarse)
            return
    [(frames, weight, bias)] = seen
    for array in (frames, weight, bias):
        assert np.array_equal(array, np.round(array))
    worst = np.sum(np.abs(weight), axis=1) * np.max(frames) + np.abs(bias)
    assert np.all(worst < 2**24)
    assert np.max(np.abs(weight)) <= 2**bits


@pytest.mark.parametrize("bits", [8, 11])
def test_error_of_the_rounding_is_bounded(bits: int) -> None:
    """A membrane without resets is as far from the default path as half units, summed up, allow."""
    x, w, b = layer(9, steps=32)
    beta = 0.9
    plain = tac_conv(x, w, b, chunk_size=1, beta=beta, reset="none")
    grid = Grid(weight_bits=bits)
    rounded = tac_conv(x, w, b, chunk_size=1, beta=beta, reset="none", reproducible=grid)
    unit = np.array([unit_of(rounded.membrane[..., c]) for c in range(w.shape[0])])
    widest = np.max(np.abs(w), axis=(1, 2, 3))
    assert np.all(unit >= widest / 2**bits)  # the rule: so many bits, no more
    # one half unit for every input that can be active, one for the bias, one for the decay, in every step
    bound = 0.5 * unit * (w[0].size + 2) / (1 - beta)
    error = np.max(np.abs(rounded.membrane - plain.membrane), axis=(0, 1, 2))
    assert np.all(error <= bound)
    assert np.all(error > 0)


def unit_of(potentials: Array) -> float:
    """The largest power of two that divides all numbers."""
    exponent = 40
    while not np.array_equal(potentials * 2.0**-exponent, np.round(potentials * 2.0**-exponent)):
        exponent -= 1
    return 2.0**exponent


def test_eleven_bits_survive_tf32_and_winograd() -> None:
    """Why the default is 11 bits: rounded weights have no more than a TF32 operand holds."""
    x, w, _ = layer(10, c_in=64, c_out=4)
    membrane = tac_conv(x[:1], w, chunk_size=1, reset="none", reproducible=True).membrane
    units = np.max(np.abs(w), axis=(1, 2, 3)) / np.array([unit_of(membrane[..., c]) for c in range(4)])
    assert np.all(units <= 2**11)


# What can't be exact is refused


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"x": 2.0}, {}, "spikes must be multiples of 1.0 between -1.0 and 1.0"),
        ({"x": 0.5}, {}, "spikes must be multiples of 1.0"),
        ({"x": float("nan")}, {}, "spikes must be multiples of 1.0"),
        ({"x": 16.0}, {"reproducible": Grid(input_max=15)}, "between -15 and 15"),
        ({"x": 0.25}, {"reproducible": Grid(input_step=0.5)}, "multiples of 0.5"),
        ({"w": 1e30}, {}, "too far apart"),
        ({"w": 2e13}, {"threshold": 2e13}, "too far apart"),  # beyond the coarsest units
        ({"w": 1e12, "b": 1e18}, {"threshold": 1e18}, "too far apart"),
        ({"w": 1e-30}, {}, "too far apart"),
        ({"w": float("nan")}, {}, "too far apart"),
        ({"b": 1e9}, {}, "too far apart"),
        ({"b": float("inf")}, {}, "too far apart"),
        ({}, {"threshold": 1e-9}, "too far apart"),
        ({}, {"reproducible": Grid(input_max=1e6)}, "too far apart"),
        ({}, {"aggregation": np.full(2, 1e6, np.float32)}, "too far apart"),
    ],
)
def test_refusals(backend: Backend, change: dict[str, float], options: dict[str, Any], message: str) -> None:
    """Inputs off the grid and numbers too far apart for one: an error that names the argument and the remedy."""
    arrays = dict(zip("xwb", layer(11, size=4, c_in=2, c_out=2), strict=True))
    for name, factor in change.items():
        arrays[name] = (arrays[name] * np.float32(factor)).astype(np.float32)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message) as caught:
        run(backend, *arrays.values(), **{"chunk_size": 2, **options})
    assert "tac_conv: " in str(caught.value)


@pytest.mark.parametrize("options", [{"weight_bits": 3}, {"weight_bits": 2.5}, {"input_step": 0.3}, {"input_max": 0}])
def test_grids_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"Grid: {next(iter(options))} must be"):
        Grid(**options)


def test_half_precision_is_refused() -> None:
    """Its integers end at 2^11."""
    x, w, _ = (a.astype(np.float16) for a in layer())
    with pytest.raises(TypeError, match="weight must be float32 or float64 in reproducible mode"):
        tac_conv(x, w, chunk_size=2, reproducible=True)
    with pytest.raises(TypeError, match=r"reproducible must be True, False or a tacops\.Grid"):
        tac_conv(x, w, chunk_size=2, reproducible=1)  # type: ignore[arg-type]


def test_the_default_path_differs_where_this_one_does_not() -> None:
    """The reason for all this: another order of summation changes membranes on the default path alone."""
    x, w, b = layer(12, c_in=32)
    turn: tuple[Any, ...] = (..., slice(None, None, -1))
    for reproducible in (False, True):
        one = conv_lif(x, w, b, reproducible=reproducible)
        other = conv_lif(x[turn].copy(), w[turn].copy(), b, reproducible=reproducible)
        assert np.array_equal(one.membrane, other.membrane) == reproducible


def test_the_suite_looks_at_this_mode() -> None:
    """The bitwise tier has the cases that third parties rely on."""
    from tacops.testing import conformance_checks

    checks = [check for check in conformance_checks() if check.id.startswith("bitwise-reproducible")]
    assert len(checks) >= 35
    assert all(outcome.status == "passed" for outcome in run_checks(get_backend("numpy"), checks))
