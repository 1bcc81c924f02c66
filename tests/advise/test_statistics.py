"""advise: the statistics are what the docstrings say; false alarms and power."""

from __future__ import annotations

import itertools
import math
import os
import tracemalloc
from typing import Any

import numpy as np
import pytest

from bench.spikes import advise as simulation
from tacops._advise import orders
from tacops._advise.advise import advise
from tacops._advise.gram import Plan, grams
from tacops._advise.products import gram_matrix, products
from tacops._advise.statistics import Outcome, block_lengths, chunk_losses, permutation_test
from tacops.backends import get_backend
from tests.support.advise_inputs import Spikes, T, bernoulli, moving, rng


def measured(spikes: Spikes) -> tuple[Any, Any, Any]:
    n = spikes.shape[1]
    return grams(get_backend("numpy"), spikes, Plan(list(range(n)), [0] * n, len(spikes), 1, None))


def gram_of(spikes: Spikes) -> tuple[Any, Any]:
    return measured(spikes)[:2]


def outcome_of(spikes: Spikes, lengths: list[int], draws: int, significance: float) -> Outcome:
    gram, _, displaced = measured(spikes)
    return permutation_test(gram[:, :, :-1, :-1], displaced, lengths, draws, significance, 0)


def agreement_of(spikes: Spikes, orders: Any) -> Any:
    """Of one sample (T, 1, H, W, 1) in every order, written out: all displacements by up to 2 pixels but none."""
    x = spikes[:, 0, :, :, 0]
    energy = (x**2).mean(axis=0)
    y = x / np.sqrt(energy + energy[energy > 0].mean())
    y -= y.mean(axis=0)
    padded = np.pad(y, ((0, 0), (2, 2), (2, 2)))
    height, width = x.shape[1:]
    total = np.zeros(len(orders))
    for dy, dx in itertools.product(range(-2, 3), repeat=2):
        if (dy, dx) != (0, 0):
            moved = padded[:, 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]
            products = np.einsum("shw,thw->st", y, moved)
            sums = products[orders[:, :-1], orders[:, 1:]].sum(axis=1)
            total += np.maximum((sums - sums.mean()) / sums.std(), 0) ** 2
    return total


def test_dispersion_is_what_the_docstring_says() -> None:
    """Against the formula written out, for the whole frame of pixels that all have the same weight."""
    spikes = rng().permuted(np.tile(np.arange(7.0), (1, 3, 5, 1)), axis=3).transpose(3, 0, 1, 2)[..., None]
    outcome = outcome_of(spikes, [2, 3], 199, 0.01)
    x = spikes.sum(axis=(2, 3))[:, 0, 0]
    x = x - x.mean()
    for row, K in enumerate([2, 3]):
        sums = sum(x[s : s + K].sum() ** 2 for s in range(7 - K + 1))
        want = 7 * 6 / (K * (7 - K) * (7 - K + 1)) * sums / (x**2).sum()
        assert outcome.dispersion[row][2] == pytest.approx(want, rel=1e-5)


def test_mean_dispersion_over_all_orders_is_one() -> None:
    spikes = rng().poisson(1.0, (5, 2, 4, 6, 2)).astype(np.float64)
    values = []
    for order in itertools.permutations(range(5)):
        values.append(outcome_of(spikes[list(order)], [2, 3], 1, 0.5).dispersion)
    assert np.mean(values, axis=0) == pytest.approx(np.ones((2, 3)), rel=1e-5)


@pytest.mark.parametrize(("steps", "tolerance"), [(5, 0.0), (7, 0.03)])
def test_p_value_of_one_sample_is_the_exact_one(steps: int, tolerance: float) -> None:
    """Over all orders; where there are too many to look at, the drawn ones come close."""
    spikes = rng(5).poisson(1.0, (steps, 1, 4, 4, 1)).astype(np.float64)
    got, gram = outcome_of(spikes, [2, 3], 4000, 0.01).p_value, gram_of(spikes)[0][:, :, :-1, :-1]
    windows = []
    for K in (2, 3):
        rows = np.stack([(np.arange(steps) >= s) & (np.arange(steps) < s + K) for s in range(steps - K + 1)]).astype(
            float
        )
        windows.append(rows.T @ rows)
    orders = np.array(list(itertools.permutations(range(steps))))
    permuted = gram[:, 0][:, orders[:, :, None], orders[:, None, :]]
    roots = np.cbrt(np.einsum("pouv,kuv->pok", permuted, np.stack(windows)))
    score = (np.abs(roots - roots.mean(axis=1, keepdims=True)) / roots.std(axis=1, keepdims=True)).max(axis=(0, 2))
    moved = np.cbrt(agreement_of(spikes, orders))
    score = np.maximum(score, (moved - moved.mean()) / moved.std())
    low, high = (float((score >= score[0] - 1e-3 - margin).mean()) for margin in (-1e-5, 1e-5))  # rounding of ties
    assert low - tolerance - 1e-9 <= got <= high + tolerance + 1e-9


@pytest.mark.parametrize("code", ["Bernoulli", "Poisson"])
def test_losses_are_those_of_the_rates(code: str) -> None:
    """Measured from the spikes without the rates, they are what the rates say."""
    picture = np.kron(rng(1).random((40, 8, 8)), np.ones((4, 4)))[..., None]
    rate = moving(picture, 1.0) * np.linspace(0.2, 0.5, T)[:, None, None, None, None]
    spikes = (rng().random(rate.shape) < rate) if code == "Bernoulli" else rng().poisson(rate)
    lengths = [2, 3, 4, 8, 16]
    losses = chunk_losses(*gram_of(spikes.astype(np.float32)), lengths, pixels=False)
    smooth = rate.reshape(T, 40, 8, 4, 8, 4)
    together = smooth.sum(axis=(3, 5)).reshape(T, -1)
    alone = rate.reshape(T, -1)
    products = together @ together.T - alone @ alone.T
    lags = [np.diagonal(products, lag).mean() for lag in range(T)]
    for K in lengths:
        want = 1 - (lags[0] * K + 2 * sum((K - t) * lags[t] for t in range(1, K))) / (K * K * lags[0])
        assert losses.by_length[K] == pytest.approx(want, abs=0.015)


def test_error_of_the_loss_is_its_spread() -> None:
    """Over draws of one rate the loss of a single chunk scatters as the stated error says."""
    rate = rng().random((1, 16, 16, 1)) * 0.4
    found = [chunk_losses(*gram_of(bernoulli(rate, 8, seed)), [8], pixels=False) for seed in range(300)]
    spread = np.std([f.by_length[8] for f in found])
    assert np.mean([f.error for f in found]) == pytest.approx(spread, rel=0.15)
    assert abs(np.mean([f.by_length[8] for f in found])) < 4 * spread / math.sqrt(300)


@pytest.mark.parametrize(("rows", "size"), [(1, 5), (2, 3000), (7, 20011), (16, 4096)])
def test_scalar_products_in_pieces(rows: int, size: int) -> None:
    """Of rows of any length, whose last piece is shorter."""
    a, b = rng().normal(size=(2, 3, rows, size)).astype(np.float32)
    assert products(np, a, b) == pytest.approx(np.einsum("msn,mtn->mst", a, b, dtype=np.float64), abs=1e-2)
    both = np.concatenate([a, b[:, :1]], axis=1)
    want = np.einsum("msn,mtn->mst", both, both, dtype=np.float64)
    assert gram_matrix(np, a, b[:, :1]) == pytest.approx(want, rel=1e-5, abs=1e-2)


def test_block_lengths() -> None:
    assert block_lengths(3, 1) == [2]
    assert block_lengths(16, 8) == [2, 3, 4, 6, 8]
    assert block_lengths(100, 100) == [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]


@pytest.mark.parametrize("code", list(simulation.CODES))
@pytest.mark.parametrize("size", [(4, 8, 8, 0.5), (16, 1, 12, 0.1), (16, 4, 8, 0.02), (40, 1, 8, 0.3)], ids=str)
def test_false_alarms(code: str, size: tuple[int, int, int, float]) -> None:
    """At most the level, within binomial error; ``python -m bench advise`` does this with 1,000 draws of larger inputs."""
    alarms = simulation.false_alarms(code, size, int(os.environ.get("TACOPS_DRAWS", "100")), 1)
    assert alarms.within_error(0.01, 4.0), alarms
    assert alarms.within_error(0.05, 4.0), alarms


def test_power_grows_with_the_input() -> None:
    """A change of 5 % of the signal: hardly seen in 64 pixels, always in 8 images."""
    small, large = (simulation.power(16, batch, side, 0.3, 0.05, 30, 0) for batch, side in ((1, 8), (8, 28)))
    assert small.found < 15
    assert large.found == 30


@pytest.mark.parametrize(("batch", "side"), [(1, 28), (8, 16)])
def test_detectable_drift_is_found_half_of_the_time(batch: int, side: int) -> None:
    """What the advice says about its own power, against draws."""
    rate = 0.3 * rng().random((batch, side, side, 1))
    limit = float(np.mean([advise(bernoulli(rate, seed=n)).detectable for n in range(10)]))
    below, above = (simulation.power(T, batch, side, 0.3, limit * f, 60, 3).found / 60 for f in (0.4, 2.5))
    assert below < 0.5 < above


def test_simulated_drift_has_the_stated_size() -> None:
    spikes = simulation.drifting(rng(), 16, np.full((64, 32, 32, 1), 0.3), 0.1)
    assert advise(spikes, max_samples=64).effect_size == pytest.approx(0.1, abs=0.01)


def test_memory_of_long_windows() -> None:
    """Orders are looked at some at a time: all pairs of 300 frames in 200 orders and 14 lengths would be 500 MB."""
    frames = rng().normal(size=(1, 300, 40))
    frames -= frames.mean(axis=1, keepdims=True)
    gram = np.stack([frames @ frames.swapaxes(1, 2)] * 3)
    tracemalloc.start()
    outcome = permutation_test(gram, np.zeros((0, 1, 300, 300), np.float32), block_lengths(300, 256), 199, 0.01, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    shown = [
        value
        for row, band in zip(outcome.dispersion, outcome.band, strict=True)
        for value in zip(row, band, strict=True)
    ]
    assert all(low <= value <= high for value, (low, high) in shown)


def test_little_is_kept() -> None:
    """Of many samples or orders nothing stays in memory."""
    orders._kept.cache_clear()
    orders._kept_picks.cache_clear()
    advise(bernoulli(np.full((600, 2, 2, 1), 0.3)), max_samples=600, significance=0.0005)
    assert orders._kept.cache_info().currsize == orders._kept_picks.cache_info().currsize == 0
    advise(bernoulli(np.full((6, 2, 2, 1), 0.3)))
    assert orders._kept.cache_info().currsize == orders._kept_picks.cache_info().currsize == 1


def test_orders_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are looked at at once, the outcome is the same, and none is looked at twice."""
    gram, _, displaced = measured(bernoulli(rng().random((3, 8, 8, 1)) * 0.4))
    arguments: Any = (gram[:, :, :-1, :-1], displaced, [2, 3, 4, 8], 199, 0.01, 0)
    whole = permutation_test(*arguments)
    monkeypatch.setattr(orders, "KEPT", 0)
    monkeypatch.setattr(orders, "PAIRS", 7 * 4 * T * (T + 1) // 2)
    looked, together = list[int](), orders._together

    def look(np_: Any, lengths: Any, places: Any) -> Any:
        looked.append(len(places))
        return together(np_, lengths, places)

    monkeypatch.setattr(orders, "_together", look)
    parts = permutation_test(*arguments)
    assert len(looked) > 1
    assert sum(looked) == 200
    np.testing.assert_allclose(parts.dispersion, whole.dispersion, rtol=1e-6)
    np.testing.assert_allclose(parts.band, whole.band, rtol=1e-5)
    np.testing.assert_allclose(parts.drift, whole.drift, rtol=1e-5)
    assert (parts.p_value, parts.p_values) == (whole.p_value, whole.p_values)
