"""advise: which mode and chunk it answers for rate codes, motion, and all between."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.shared import encoding as encode
from tacops._advise.advise import advise
from tests.support.advise_inputs import Floats, Spikes, T, bernoulli, camera, drawn, latency, moving, rng


def rate_over_time(rate: Floats, factor: Any, seed: int = 0) -> Spikes:
    """Bernoulli with a factor for each frame."""
    factor = np.asarray(factor)[:, None, None, None, None]
    return drawn(rate * factor, seed)


def phase(image: Floats, steps: int = T) -> Spikes:
    """The bits of the grey level, again and again."""
    grey = (image * 256).astype(int)
    return np.stack([(grey >> (7 - t % 8)) & 1 for t in range(steps)]).astype(np.float32)


def bursts(image: Floats, steps: int = T) -> Spikes:
    """The brighter, the longer the burst at the start."""
    return np.asarray(np.arange(steps)[:, None, None, None, None] < np.ceil(5 * image), np.float32)


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


def test_spikes_that_never_come_again() -> None:
    """Each channel fires once: frames have nothing in common, and what rounding leaves of that is no signal."""
    spikes = np.zeros((5, 1, 1, 1, 3), np.float32)
    spikes[[3, 2, 4], 0, 0, 0, [0, 1, 2]] = 1
    advice = advise(spikes)
    assert advice.mode is None
    assert math.isnan(advice.effect_size)
    assert "nan" not in str(advice)


def test_a_loss_that_cannot_be_measured_allows_no_chunk() -> None:
    """Every pixel spikes once in 32 frames, at the same time in the next 32: windows hold no spike twice, groups of frames do."""
    when = rng().integers(0, 32, (8, 1, 64))
    spikes = np.zeros((64, 8, 1, 64), np.float32)
    for start in (0, 32):
        np.put_along_axis(spikes, (when + start)[None], 1, axis=0)
    advice = advise(spikes)
    assert (advice.mode, advice.chunk_size) == ("preserve", 1)
    assert "too few to say how fast" in advice.reason
    assert "nan" not in str(advice)


@pytest.mark.parametrize("seed", range(3))
def test_recordings_that_begin_in_silence(seed: int) -> None:
    """Of single frames only a window is looked at: where it holds no spikes, groups of frames say how fast the rate changes."""
    rate = 0.3 * np.kron(rng(1).random((1, 6, 6)) < 0.3, np.ones((4, 4)))[..., None]
    spikes = np.zeros((400, 1, 24, 24, 1), np.float32)
    spikes[300:] = drawn(np.stack([np.roll(rate, t // 8, axis=2) for t in range(100)]))
    advice = advise(spikes, seed=seed)
    assert advice.mode == "preserve"
    assert 20 < (advice.chunk_size or 0) < 100


def test_constant_pairs_collapse() -> None:
    """Two equal frames need no test."""
    advice = advise(np.broadcast_to(rng().random((1, 3, 7)), (2, 3, 7)))
    assert (advice.mode, advice.chunk_size) == ("collapse", 2)
    assert "direct coding" in advice.reason
