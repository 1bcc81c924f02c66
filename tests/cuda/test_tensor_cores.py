"""Published models of tensor cores, and the integers of reproducible mode: their sums are exact.

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
