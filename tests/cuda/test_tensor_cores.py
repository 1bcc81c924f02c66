"""Published models of tensor cores: sums of reproducible mode's integers are exact, and those of weights in three parts accurate.

A tensor core adds a few products and the sum so far at once: it aligns all to the largest exponent, keeps 24 bits and up to two
more, cuts off the rest, and cuts the sum to 24 bits (Fasi et al. 2021; Khattak and Mikaitis 2025). No GPU has been asked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

Numbers = npt.NDArray[np.float64]
MODELS = {"V100": (4, 0), "A100": (8, 1), "H100": (16, 2), "B200": (16, 2)}
"""Products at once, and further bits, of float16 operands."""


def exponent(x: Numbers) -> Numbers:
    return np.where(x != 0, np.frexp(x)[1] - 1.0, -999.0)


def cut(x: Numbers, unit: Numbers) -> Numbers:
    return np.asarray(np.trunc(x / unit) * unit)


def summed(a: Numbers, b: Numbers, at_once: int, more: int) -> Numbers:
    """``sum(a * b)`` of each row."""
    total = np.zeros(len(a))
    for k in range(0, a.shape[1], at_once):
        x, y = a[:, k : k + at_once], b[:, k : k + at_once]
        largest = np.maximum((exponent(x) + exponent(y)).max(1), exponent(total))
        unit = np.exp2(np.maximum(largest, -133.0) - 23 - more)
        total = cut(x * y, unit[:, None]).sum(1) + cut(total, unit)
        total = cut(total, np.exp2(np.maximum(exponent(total), -133.0) - 23))
    return total


def layers(top: float) -> list[tuple[Numbers, Numbers]]:
    """Inputs and weights whose sums of magnitudes come up to `top`."""
    rng, found = np.random.default_rng(0), []
    for most in (1, 56, 2048):
        x = rng.integers(0, most, (200, 288), endpoint=True).astype(np.float64)
        w = rng.integers(-2048, 2048, (200, 288), endpoint=True).astype(np.float64)
        for weights in (w, abs(w)):
            reach = np.cumsum(x * abs(weights), axis=1)
            found.append((x, np.where(reach < top, weights, 0.0)))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_integers_below_2_24_are_exact(name: str) -> None:
    """Spikes, counts and aggregated frames."""
    largest = 0.0
    for x, w in layers(2.0**24):
        np.testing.assert_array_equal(summed(x, w, *MODELS[name]), (x * w).sum(1))
        largest = max(largest, float((x * w).sum(1).max()))
    assert largest > 0.95 * 2**24


@pytest.mark.parametrize("name", MODELS)
def test_larger_ones_are_not(name: str) -> None:
    """So the test above can fail."""
    assert any((summed(x, w, *MODELS[name]) != (x * w).sum(1)).any() for x, w in layers(2.0**28))


def test_sums_of_14_bits_are_not() -> None:
    """As float8's are, which are not used."""
    assert any((summed(x, w, 32, -10) != (x * w).sum(1)).any() for x, w in layers(2.0**24))


def in_parts(w: Numbers) -> list[Numbers]:
    """Numbers of 8 bits each, rounded, whose sum is a float32."""
    found, rest = [], w
    for _ in range(3):
        unit = np.exp2(exponent(rest) - 7)
        found.append(np.where(rest != 0, np.round(rest / unit) * unit, 0.0))
        rest = rest - found[-1]
    assert not rest.any()
    return found


@pytest.mark.parametrize("name", ["A100", "H100", "B200"])
def test_three_parts_are_as_accurate_as_float32(name: str) -> None:
    """Spikes by weights of 24 bits, the small parts summed apart; beside float32 added one by one, and one part alone."""
    rng = np.random.default_rng(0)
    x, w = (rng.random((400, 576)) < 0.2).astype(np.float64), rng.normal(0, 1, (400, 576)).astype(np.float32)
    high, middle, low = in_parts(w.astype(np.float64))
    want = (x * w).sum(1)
    small = summed(np.concatenate([x, x], 1), np.concatenate([low, middle], 1), *MODELS[name])
    parts = abs(summed(x, high, *MODELS[name]).astype(np.float32) + small.astype(np.float32) - want)
    single = abs(np.cumsum(x.astype(np.float32) * w, 1, dtype=np.float32)[:, -1] - want)
    assert parts.max() <= 0.2 * single.max()
    assert abs(summed(x, high, *MODELS[name]) - want).max() > 100 * single.max()
