"""Collapse or preserve: right on every code, false alarms controlled, the same on every library, files read safely."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import advise as simulation
from bench import encode, subset
from tacops._advice import Advice
from tacops._advise import advise
from tacops._advise_cli import add_arguments, main
from tacops._advise_gram import Plan, grams
from tacops._advise_stats import block_lengths, chunk_losses, permutation_test
from tacops.backends import Backend, _files, get_backend

ROOT = Path(__file__).parent.parent
Floats = NDArray[Any]
Spikes = NDArray[Any]
T = 16


@pytest.fixture(scope="module")
def images() -> Floats:
    """Rates (B, 28, 28, 1) of real images."""
    return np.asarray(subset.load_subset().images[:24, :, :, None] / 256)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def bernoulli(rate: Floats, steps: int = T, seed: int = 0) -> Spikes:
    return drawn(np.broadcast_to(rate, (steps, *rate.shape)), seed)


def drawn(rates: Floats, seed: int = 0) -> Spikes:
    """0/1 spikes from rates that already have frames."""
    return np.asarray(rng(seed).random(rates.shape) < rates, np.float32)


def rate_over_time(rate: Floats, factor: Any, seed: int = 0) -> Spikes:
    """Bernoulli with a factor for each frame."""
    factor = np.asarray(factor)[:, None, None, None, None]
    return drawn(rate * factor, seed)


def latency(image: Floats, steps: int = T) -> Spikes:
    """One spike per pixel, the brighter the earlier."""
    when = np.clip((1 - image) * steps, 0, steps - 1).astype(int)
    return np.asarray((np.arange(steps)[:, None, None, None, None] == when) & (image > 0.05))


def phase(image: Floats, steps: int = T) -> Spikes:
    """The bits of the grey level, again and again."""
    grey = (image * 256).astype(int)
    return np.stack([(grey >> (7 - t % 8)) & 1 for t in range(steps)]).astype(np.float32)


def bursts(image: Floats, steps: int = T) -> Spikes:
    """The brighter, the longer the burst at the start."""
    return np.asarray(np.arange(steps)[:, None, None, None, None] < np.ceil(5 * image), np.float32)


def moving(image: Floats, pixels_per_frame: float = 1.0, steps: int = T) -> Floats:
    """Rates of images that move to the right."""
    return np.stack([np.roll(image, int(t * pixels_per_frame), axis=2) for t in range(steps)])


def camera(seed: int = 0, batch: int = 16, steps: int = T) -> Spikes:
    """Events of an edge camera on a pan-tilt unit: a disc moves in three straight lines; ON in front, OFF behind."""
    g = rng(seed)
    at = np.cumsum(
        np.repeat([(1.0, 0.5), (-0.5, 1.0), (-1.0, -1.0)], -(-steps // 3), axis=0)[:steps] * 24 / steps, axis=0
    )
    y, x = np.mgrid[:34, :34]
    start, radius = g.uniform(10, 18, (batch, 2)), g.uniform(4, 8, batch)
    center = start[None] + at[:, None]
    dy, dx = y - center[..., 0, None, None], x - center[..., 1, None, None]
    on_edge = np.exp(-(((dy**2 + dx**2) ** 0.5 - radius[:, None, None]) ** 2))
    speed = np.gradient(at, axis=0)[:, None, None, None]
    ahead = (dy * speed[..., 0] + dx * speed[..., 1]) / radius[:, None, None]
    rate = np.stack([np.maximum(ahead, 0), np.maximum(-ahead, 0)], axis=-1) * on_edge[..., None] + 0.01
    return np.asarray(g.poisson(rate), np.float32)


def last_frames(steps: int, length: int = 4) -> list[float]:
    return [1.0 if t >= steps - length else 0.05 for t in range(steps)]


CODES: dict[str, Callable[[Floats], Spikes]] = {
    "Bernoulli": bernoulli,
    "coded by the demonstration": lambda p: encode.rate_code((p[..., 0] * 256).astype(np.uint8)),
    "Poisson": lambda p: rng().poisson(p, (T, *p.shape)),
    "counts": lambda p: rng().poisson(9 * p, (T, *p.shape)).astype(np.uint8),
    "counts of bursts": lambda p: 7.0 * bernoulli(p / 5),
    "sparse": lambda p: bernoulli(p / 10),
    "few active pixels": lambda p: bernoulli(p * (np.arange(784).reshape(28, 28, 1) % 50 == 0)),
    "one hot pixel": lambda p: np.where(np.arange(784).reshape(28, 28, 1) == 99, rng(1).poisson(300, (T, 1, 1, 1, 1)), bernoulli(p)),
    "direct": lambda p: np.broadcast_to(p, (T, *p.shape)),
    "slow drift": lambda p: rate_over_time(p, np.linspace(0.7, 0.8, T)),
    "latency": latency,
    "latency, long": lambda p: latency(p, 64),
    "phase": phase,
    "bursts": bursts,
    "burst at the end": lambda p: rate_over_time(p, last_frames(T)),
    "moving": lambda p: drawn(moving(p)),
    "moving, binary": lambda p: moving(p) > 0.5,
    "moving, float": moving,
    "moving fast": lambda p: drawn(moving(p, 3)),
    "moving slowly": lambda p: drawn(moving(p, 0.25)),
    "moving, long": lambda p: drawn(moving(p, 0.25, 80)),
    "camera": lambda p: camera(),
    "strong drift": lambda p: rate_over_time(p, np.linspace(0.1, 0.5, T)),
    "flicker": lambda p: rate_over_time(p / 2, np.where(np.arange(T) % 2, 1.4, 0.6)),
    "flicker, long": lambda p: rate_over_time(p / 2, np.where(np.arange(100) % 2, 1.4, 0.6)),
    "hot pixel, moving": lambda p: np.where(np.arange(784).reshape(28, 28, 1) == 99, 300.0, drawn(moving(p))),
}  # fmt: skip
STEADY = list(CODES)[: list(CODES).index("slow drift") + 1]
CHUNKS = {
    "latency": (2, 3),
    "phase": (1, 2),
    "moving": (3, 8),
    "moving fast": (2, 3),
    "moving slowly": (6, 12),
    "moving, long": (12, 40),
    "camera": (2, 6),
    "flicker": (1, 1),
    "flicker, long": (1, 1),
}


@pytest.mark.parametrize("code", CODES)
def test_codes(code: str, images: Floats) -> None:
    """A rate code collapses wholly, whatever the law of its counts; anything else is preserved, in chunks that fit its pace."""
    spikes = CODES[code](images)
    advice = advise(spikes)
    steps = len(spikes)
    assert advice.frames == steps
    if code in STEADY:
        assert (advice.mode, advice.chunk_size, advice.saving) == ("collapse", steps, steps), advice
        assert abs(advice.effect_size) < 0.05
    else:
        assert advice.mode == "preserve", advice
        assert advice.p_value <= 0.01
        assert advice.effect_size > 0.05
        low, high = CHUNKS.get(code, (2, steps // 2))
        assert advice.chunk_size is not None
        assert low <= advice.chunk_size <= high, advice


def test_chunks_follow_the_pace(images: Floats) -> None:
    """The faster the motion, the shorter the chunks; what a chunk loses never falls with its length."""
    advices = [advise(drawn(moving(images, pace))) for pace in (0.25, 0.5, 1, 2, 4)]
    chunks = [a.chunk_size or 0 for a in advices]
    assert chunks == sorted(chunks, reverse=True)
    assert chunks[0] >= 3 * chunks[-1]
    for a in advices[:3]:
        assert list(a.losses.values()) == sorted(a.losses.values())


def test_very_long_windows() -> None:
    """A thousand frames: single frames in windows, and groups of frames."""
    rate = rng(1).random((2, 6, 6, 1)) * 0.2
    still = advise(bernoulli(rate, 1000))
    assert (still.mode, still.chunk_size) == ("collapse", 1000)
    wave = advise(rate_over_time(rate, 1 + np.sin(np.arange(1000) / 50)))
    assert wave.mode == "preserve"
    assert 32 <= (wave.chunk_size or 0) <= 256


def test_change_that_cannot_be_measured() -> None:
    """Every feature spikes once, far from others that spike at the same time: a change, but no products."""
    spikes = np.zeros((T, 40, 17 * T), np.float32)
    for t in range(T):
        spikes[t, :, 17 * t] = 1 if t < 8 else 0
    advice = advise(spikes)
    assert math.isnan(advice.effect_size)
    assert (advice.mode, advice.chunk_size) in (("preserve", 1), (None, None))
    assert "too few" in advice.reason
    str(advice)


def test_flicker_is_named(images: Floats) -> None:
    """Alternation that every chunk averages away: K = 1, and the reason says what else one might do."""
    advice = advise(CODES["flicker"](images))
    assert "alternating" in advice.reason
    assert advice.saving == 1
    assert advice.dispersion["frame"][2] < 0.8


def test_alternation_of_period_four(images: Floats) -> None:
    """Chunks of two fit into it, longer ones do not."""
    advice = advise(rate_over_time(images / 2, np.where(np.arange(T) % 4 < 2, 2, 0)))
    assert (advice.mode, advice.chunk_size) == ("preserve", 2)


def test_samples_that_disagree(images: Floats) -> None:
    """Half of the batch moves: preserve, and say so; one that moves in a crowd is mentioned, too."""
    still, shifted = bernoulli(images), drawn(moving(images, 2), seed=1)
    half = advise(np.concatenate([still[:, :12], shifted[:, :12]], axis=1))
    assert half.mode == "preserve"
    assert "disagree: 12 of 24" in half.reason
    few = advise(np.concatenate([still[:, :22], shifted[:, :2]], axis=1))
    assert few.changing == 2
    assert "disagree: 2 of 24" in few.reason
    assert "disagree" not in advise(shifted).reason


def test_silent_samples_are_left_out(images: Floats) -> None:
    spikes = np.concatenate([bernoulli(images), np.zeros((T, 5, 28, 28, 1), np.float32)], axis=1)
    advice = advise(spikes)
    assert (advice.mode, advice.samples) == ("collapse", 24)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 4, 8, 8, 1), "one frame"),
        ((2, 4, 8, 8, 1), "two frames"),
        ((3, 1, 8, 8, 1), "too few"),
        ((4, 1, 9), "too few"),
    ],
)
def test_too_short_to_tell(shape: tuple[int, ...], words: str) -> None:
    advice = advise((rng().random(shape) < 0.4).astype(np.float32))
    assert (advice.mode, advice.chunk_size, advice.saving) == (None, None, 1.0)
    assert words in advice.reason
    assert "can't tell" in str(advice)


def test_too_few_spikes_to_tell() -> None:
    """Nothing is significant, but nothing could have been."""
    advice = advise((rng().random((16, 1, 8, 8, 1)) < 0.02).astype(np.float32))
    assert advice.mode is None
    assert "too few" in advice.reason
    assert advice.detectable > advice.max_loss


def test_shared_gain_is_no_change_of_rate(images: Floats) -> None:
    """All rates go up and down together at random from frame to frame: no order, so never "preserve"; but not one rate either."""
    gain = rng(1).integers(1, 3, (T, 24, 1, 1, 1))
    advice = advise(drawn(images / 2 * gain))
    assert advice.mode is None
    assert advice.p_value > 0.01


def test_features_without_neighbours() -> None:
    """Features whose rates drift up or down at random: pooled they cancel, single features show it."""
    sign = rng(1).choice([-1.0, 1.0], (16, 256))
    rate = 0.3 * (1 + np.linspace(-0.8, 0.8, T)[:, None, None] * sign)
    advice = advise(drawn(rate))
    assert advice.mode == "preserve", advice
    assert advice.effect_size == pytest.approx(0.19, abs=0.06)
    assert (advice.chunk_size or 0) >= 4


def test_order_that_the_test_cannot_see(images: Floats) -> None:
    """Each frame shows another image at random: no order, but no independent spikes either; the answer is not collapse."""
    spikes = np.stack([images[rng(t).permutation(24)] > 0.4 for t in range(T)])
    advice = advise(spikes)
    assert advice.mode is None
    assert "preserve is safer" in advice.reason


@pytest.mark.parametrize("shape", [(T, 4, 6, 6, 2), (1, 4, 6, 6, 2), (2, 1, 5)])
def test_silent(shape: tuple[int, ...]) -> None:
    advice = advise(np.zeros(shape, np.float32))
    assert advice.mode is None
    assert "no spikes" in advice.reason
    assert math.isnan(advice.p_value)


def test_constant_pairs_collapse() -> None:
    """Two equal frames need no test."""
    advice = advise(np.broadcast_to(rng().random((1, 3, 7)), (2, 3, 7)))
    assert (advice.mode, advice.chunk_size) == ("collapse", 2)
    assert "direct coding" in advice.reason


@pytest.mark.parametrize("width", [1, 5, 300])
def test_one_dimension(width: int) -> None:
    """(T, B, F): rates of features; that they double half-way is found, for a single feature, too."""
    rate = rng(1).uniform(0.2, 0.4, (32, width))
    still = drawn(np.broadcast_to(rate, (T, 32, width)))
    step = drawn(rate * np.where(np.arange(T) < 8, 0.0, 2.0)[:, None, None])
    assert advise(still).mode in ("collapse", None)
    assert advise(step).mode == "preserve"
    if width == 300:
        assert advise(still).mode == "collapse"


def test_volumes() -> None:
    """Three spatial dimensions."""
    rate = rng().random((2, 9, 8, 7, 2))
    assert advise((rng(1).random((T, *rate.shape)) < rate).astype(np.float32)).mode == "collapse"
    shifted = np.stack([np.roll(rate, t, axis=2) for t in range(T)])
    assert advise((rng(1).random(shifted.shape) < shifted).astype(np.float32)).mode == "preserve"


def test_channels_first(images: Floats) -> None:
    """The other layout is the same question."""
    spikes = camera(batch=4)
    assert advise(np.moveaxis(spikes, -1, 2), layout="channels_first") == advise(spikes)


def test_same_answer_on_every_library(backend: Backend, images: Floats) -> None:
    """The mode, the chunk and the p-value agree; the statistics up to rounding."""
    odd = rng().poisson(0.4, (70, 3, 9, 7, 2)).astype(np.float32)
    for spikes in (bernoulli(images[:5]), drawn(moving(images[:5])), latency(images[:5]), odd, camera(batch=3)):
        want, got = advise(spikes), advise(backend.from_numpy(spikes))
        assert (got.mode, got.chunk_size, got.p_value, got.changing) == (
            want.mode,
            want.chunk_size,
            want.p_value,
            want.changing,
        )
        assert got.effect_size == pytest.approx(want.effect_size, rel=1e-3, abs=1e-5)
        for pool, row in want.dispersion.items():
            assert got.dispersion[pool] == pytest.approx(row, rel=1e-3)


def test_answer_depends_neither_on_memory_layout_nor_on_units(images: Floats) -> None:
    spikes = drawn(moving(images))
    want = advise(spikes)
    other = advise(np.asfortranarray(spikes))
    assert (other.mode, other.chunk_size, other.p_value) == (want.mode, want.chunk_size, want.p_value)
    assert other.effect_size == pytest.approx(want.effect_size, rel=1e-4)
    assert advise(spikes.astype(bool)) == want
    assert advise(spikes.astype(np.float64)) == want
    scaled = advise(64 * spikes)
    assert (scaled.mode, scaled.chunk_size, scaled.p_value) == (want.mode, want.chunk_size, want.p_value)
    before = spikes.copy()
    advise(spikes)
    assert np.array_equal(spikes, before)


def test_large_batches_are_sampled(images: Floats) -> None:
    """With the stated seed, and no more samples than allowed."""
    spikes = np.tile(bernoulli(images), (1, 10, 1, 1, 1))
    advice = advise(spikes, max_samples=8, seed=3)
    assert advice.samples == 8
    assert advice == advise(spikes, max_samples=8, seed=3)
    assert advice.dispersion != advise(spikes, max_samples=8, seed=4).dispersion


def test_large_frames_are_sampled_and_memory_is_bounded() -> None:
    """A sensor of a megapixel and a large batch: nowhere near a float32 copy of the input."""
    for shape in ((64, 2, 720, 640, 1), (16, 512, 64, 64, 1)):
        spikes = np.zeros(shape, bool)
        spikes[:, :, ::7, ::5] = rng().random(spikes[:, :, ::7, ::5].shape) < 0.2
        tracemalloc.start()
        advice = advise(spikes)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert advice.mode == "collapse", advice
        assert peak < 200e6
        assert advice.seed == 0


# the statistics themselves


def gram_of(spikes: Spikes) -> tuple[Any, Any]:
    n = spikes.shape[1]
    return grams(get_backend("numpy"), spikes, Plan(list(range(n)), [0] * n, len(spikes), 1, None))


def test_dispersion_is_what_the_docstring_says() -> None:
    """Against the formula written out, for the whole frame of pixels that all have the same weight."""
    spikes = rng().permuted(np.tile(np.arange(7.0), (1, 3, 5, 1)), axis=3).transpose(3, 0, 1, 2)[..., None]
    gram = gram_of(spikes)[0][:, :, :-1, :-1]
    outcome = permutation_test(gram, [2, 3], 199, 0.01, 0)
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
        gram = gram_of(spikes[list(order)])[0][:, :, :-1, :-1]
        values.append(permutation_test(gram, [2, 3], 1, 0.5, 0).dispersion)
    assert np.mean(values, axis=0) == pytest.approx(np.ones((2, 3)), rel=1e-5)


@pytest.mark.parametrize(("steps", "tolerance"), [(5, 0.0), (7, 0.03)])
def test_p_value_of_one_sample_is_the_exact_one(steps: int, tolerance: float) -> None:
    """Over all orders; where there are too many to look at, the drawn ones come close."""
    spikes = rng(5).poisson(1.0, (steps, 1, 4, 4, 1)).astype(np.float64)
    gram = gram_of(spikes)[0][:, :, :-1, :-1]
    got = permutation_test(gram, [2, 3], 4000, 0.01, 0).p_value
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
    assert got == pytest.approx(float((score >= score[0] - 1e-3).mean()), abs=tolerance + 1e-9)


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


# the answer


def test_print(images: Floats) -> None:
    advice = advise(drawn(moving(images)))
    text = str(advice)
    assert text.startswith(f"preserve, chunk_size={advice.chunk_size} ({advice.saving:.3g} x fewer convolutions)\n")
    assert advice.reason in text
    assert "p = 0.005" in text
    assert "seed 0" in text
    assert max(map(len, text.splitlines())) <= 120
    with pytest.raises(dataclasses.FrozenInstanceError):
        advice.mode = None  # type: ignore[misc]


def test_saving_counts_the_shorter_last_chunk() -> None:
    advice = Advice("preserve", 6, "", 0.01, 0.5, 16, 1)
    assert advice.saving == 16 / 3


def test_plot(images: Floats, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for spikes in (drawn(moving(images)), bernoulli(images), (rng().random((16, 1, 8)) < 0.02).astype(np.float32)):
        figure = advise(spikes).plot()
        assert len(figure.axes) == 2
        figure.savefig(tmp_path / "plot.svg")
    with pytest.raises(
        ValueError, match=r"^plot: the advice must hold statistics; got none, because there are no spikes"
    ):
        advise(np.zeros((4, 1, 5))).plot()


def test_plot_without_matplotlib(images: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    advice = advise(bernoulli(images[:2]))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"^plot: matplotlib must be installed"):
        advice.plot()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "NHWC"}, "layout must be one of 'channels_last', 'channels_first'; got 'NHWC'"),
        ({"max_loss": 0.0}, r"max_loss must be in \(0, 1\); got 0.0"),
        ({"max_loss": math.nan}, r"max_loss must be in \(0, 1\); got nan"),
        ({"keep": 1.5}, r"keep must be in \(0, 1\); got 1.5"),
        ({"significance": 0.0001}, r"significance must be in \[0.0005, 0.5\]; got 0.0001"),
        ({"max_samples": 0}, "max_samples must be at least 1; got 0"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^advise: {message}$"):
        advise(np.ones((4, 1, 5), np.float32), **options)


@pytest.mark.parametrize("options", [{"max_loss": "1"}, {"max_samples": 1.5}, {"seed": 0.5}, {"seed": True}])
def test_options_of_a_wrong_type(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=rf"^advise: {next(iter(options))} must be "):
        advise(np.ones((4, 1, 5), np.float32), **options)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 0, 3), (0, 1, 3), (1, 1, 1, 1, 1, 1, 1)])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^advise: spikes must be a nonempty array \(T, B, \*S, C\)"):
        advise(np.ones(shape, np.float32))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_numbers_out_of_range(value: float) -> None:
    spikes = np.ones((4, 2, 3), np.float64)
    spikes[1, 0, 0] = value
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"^advise: spikes must be finite"):
        advise(spikes)


def test_no_array() -> None:
    with pytest.raises(TypeError, match=r"^advise: "):
        advise([[1, 0]])
    with pytest.raises(TypeError, match=r"^advise: spikes must be of a bool, integer or real floating dtype"):
        advise(np.ones((4, 1, 5), np.complex64))


# files


def run(*arguments: object) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args([str(a) for a in arguments]))


def events_of(frames: Spikes) -> dict[str, Any]:
    """Events in the middle of their frames' time, recording after recording, with a span that gives the frames back."""
    steps, batch = frames.shape[:2]
    parts = {n: [] for n in "xytp"}  # type: dict[str, list[Any]]
    offsets = [0]
    for b in range(batch):
        t, y, x, p = np.nonzero(frames[:, b])
        ends = np.array([0, steps * 1000])  # two more events fix the span
        parts["t"].append(np.concatenate([ends[:1], t * 1000 + 500, ends[1:]]))
        for name, values in (("x", x), ("y", y), ("p", p)):
            parts[name].append(np.concatenate([[0], values, [0]]))
        offsets.append(offsets[-1] + len(t) + 2)
    arrays = {name: np.concatenate(values).astype(np.uint32) for name, values in parts.items()}
    return {**arrays, "offsets": np.array(offsets), "sensor_size": np.array([frames.shape[3], frames.shape[2], 2])}


def test_files_of_frames(tmp_path: Path, images: Floats, capsys: pytest.CaptureFixture[str]) -> None:
    spikes = drawn(moving(images[:6]))
    want = str(advise(spikes, max_loss=0.03))
    np.save(tmp_path / "frames.npy", spikes)
    np.savez(tmp_path / "one.npz", spikes)
    np.savez_compressed(tmp_path / "two.npz", spikes=spikes, labels=np.arange(6))
    for arguments in (["frames.npy"], ["one.npz"], ["two.npz", "--array", "spikes"]):
        assert run(tmp_path / arguments[0], *arguments[1:], "--max-loss", 0.03) == 0
        assert capsys.readouterr().out == want + "\n"


def test_files_of_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Binned into the frames they were made of."""
    frames = (camera(batch=5) > 0).astype(np.float32)
    arrays = events_of(frames)
    np.savez(tmp_path / "events.npz", **arrays, labels=np.arange(5))
    read = _files.read_spikes(tmp_path / "events.npz", frames=T)
    assert np.abs(read - frames).sum() == 2 * 5  # the two events that fix the span
    assert run(tmp_path / "events.npz", "--frames", T) == 0
    assert "preserve" in capsys.readouterr().out
    first = _files.read_spikes(tmp_path / "events.npz", frames=T, layout="channels_first")
    assert np.array_equal(np.moveaxis(first, 2, -1), read)
    assert _files.read_spikes(tmp_path / "events.npz", frames=4, samples=2).shape == (4, 2, 34, 34, 2)


def test_events_without_polarity_or_offsets() -> None:
    t = np.array([10.0, 11.0, 30.0, 12.5])
    out = _files.bin_events({"x": np.array([0, 1, 2, 2]), "y": np.array([0, 0, 1, 1]), "t": t}, frames=2)
    assert out.shape == (2, 1, 2, 3, 1)
    assert out[0, 0, :, :, 0].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert out[1, 0, :, :, 0].tolist() == [[0, 0, 0], [0, 0, 1]]


def test_plot_of_a_file(tmp_path: Path, images: Floats, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "frames.npy", bernoulli(images[:4]))
    assert run(tmp_path / "frames.npy", "--plot", tmp_path / "out.png") == 0
    assert (tmp_path / "out.png").stat().st_size > 1000
    assert run(tmp_path / "frames.npy", "--plot", tmp_path / "out.nonsense") == 2
    assert "nonsense" in capsys.readouterr().err


class Evil:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("unpickled"),))


def test_unsafe_and_damaged_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence each, exit status 2, and nothing is unpickled."""
    monkeypatch.chdir(tmp_path)
    frames = np.ones((4, 2, 6, 6, 1), np.float32)
    np.save("whole.npy", frames)
    np.savez("whole.npz", a=frames)
    np.save("pickle.npy", np.array([Evil()], object))
    np.savez("pickle.npz", a=np.array([Evil()], object))
    Path("raw.npy").write_bytes(pickle.dumps(Evil()))
    Path("empty.npy").write_bytes(b"")
    Path("short.npy").write_bytes(Path("whole.npy").read_bytes()[:200])
    Path("header.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff")
    Path("short.npz").write_bytes(Path("whole.npz").read_bytes()[:150])
    damaged = bytearray(Path("whole.npz").read_bytes())
    damaged[200] ^= 255
    Path("damaged.npz").write_bytes(damaged)
    np.savez("many.npz", a=frames, b=frames)
    np.savez("words.npz", a=np.array(["spike"]))
    with zipfile.ZipFile("text.npz", "w") as archive:
        archive.writestr("a.txt", "no array")
    for name in ("pickle.npy", "pickle.npz", "raw.npy", "empty.npy", "short.npy", "header.npy", "short.npz", "damaged.npz",
                 "many.npz", "words.npz", "text.npz", "missing.npy", "."):  # fmt: skip
        assert run(name) == 2, name
        error = capsys.readouterr().err
        assert error.startswith("python -m tacops advise: FILE must "), name
        assert error.count("\n") == 1, error
    assert not Path("unpickled").exists()
    assert run("many.npz", "--array", "c") == 2
    assert "hold an array called 'c'; got a, b" in capsys.readouterr().err
    assert run("whole.npy", "--keep", "2") == 2
    assert capsys.readouterr().err == "python -m tacops advise: keep must be in (0, 1); got 2.0\n"
    assert run("whole.npy", "--max-samples", "0") == 2


def test_large_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small archive that would unfold into gigabytes."""
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (2**32,)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(5):
            file.write(bytes(2**20))
    with zipfile.ZipFile(path) as archive:
        held = archive.getinfo("a.npy").file_size
    monkeypatch.setattr(_files, "LARGEST", held - 1)
    with pytest.raises(ValueError, match=r"^advise: FILE must hold at most [\d,]+ bytes; got "):
        _files.read_spikes(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.array([0, 1])}, "one length"),
        ({"x": np.zeros(3)}, "integer pixel coordinates"),
        ({"x": np.array([0, -1, 2])}, "at least 0"),
        ({"x": np.array([0, 1, 2**40])}, "numbers per recording"),
        ({"sensor_size": np.array([2, 2])}, "sensor_size that holds its events"),
        ({"offsets": np.array([0, 2])}, "offsets that rise from 0 to its 3 events"),
        ({"offsets": np.array([0, 3, 2, 3])}, "offsets that rise"),
        ({"t": np.array([], float), "x": np.array([], int), "y": np.array([], int)}, "nonempty"),
    ],
)
def test_wrong_events(change: dict[str, Any], words: str) -> None:
    arrays = {"x": np.array([0, 1, 2]), "y": np.array([0, 1, 1]), "t": np.array([1.0, 2.0, 3.0]), **change}
    with pytest.raises(ValueError, match=f"^advise: FILE must .*{words}"):
        _files.bin_events(arrays)


def test_command_line(tmp_path: Path, images: Floats) -> None:
    """Through ``python -m tacops``."""
    np.save(tmp_path / "frames.npy", bernoulli(images[:8]))
    done = subprocess.run(
        [sys.executable, "-m", "tacops", "advise", str(tmp_path / "frames.npy")], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("collapse, chunk_size=16 (16 x fewer convolutions)\n")


# real recordings


def recordings() -> Path:
    for folder in os.environ.get("TACOPS_DATA", "").split(os.pathsep):
        for path in (Path(folder) / "nmnist_small" / "nmnist_small.npz", Path(folder) / "nmnist_small.npz"):
            if folder and path.is_file():
                return path
    pytest.skip("N-MNIST: no nmnist_small.npz in the folders that TACOPS_DATA names")


@pytest.mark.parametrize("frames", [8, 10, 16, 32, 64])
def test_event_camera_recordings(frames: int) -> None:
    """Saccades: preserve, and with finer frames longer chunks."""
    spikes = _files.read_spikes(recordings(), frames=frames)
    advice = advise(spikes)
    assert advice.mode == "preserve", advice
    assert advice.effect_size > 0.3
    if frames >= 16:
        assert 2 <= (advice.chunk_size or 0) <= frames // 4
    assert advise(np.minimum(spikes, 1)).mode == "preserve"
