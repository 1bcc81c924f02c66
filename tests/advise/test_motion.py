"""advise: fine patterns that move keep every rate, and are seen all the same."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.shared.encoding import moving_dots
from bench.spikes import advise as simulation
from bench.spikes.motions import MOTIONS, motion_power, moving_points, translated
from tacops._advise.advise import advise
from tacops._advise.motion import RADIUS, agreement, displaced_products, displacements, padded
from tacops._advise.orders import orders_of
from tacops._cli.advise import add_arguments, main
from tests.support.advise_inputs import T, bernoulli, rng

CHUNKS = {
    "dots of 2 x 2": (1, 3), "dots of 2 x 2, across": (1, 3), "dots, rotation": (1, 4), "dots, zoom": (1, 4),
    "drifting grating": (1, 2), "0.5 pixels per frame": (1, 3), "0.25 pixels per frame": (2, 6),
}  # fmt: skip


@pytest.mark.parametrize("name", MOTIONS)
def test_motions(name: str) -> None:
    """None collapses; single pixels that move by a pixel or more per frame need the exact simulation."""
    advice = advise(MOTIONS[name](rng(3)))
    assert advice.mode == "preserve", advice
    low, high = CHUNKS.get(name, (1, 1))
    assert low <= (advice.chunk_size or 0) <= high, advice
    assert advice.motion[1] > advice.motion_limit[1]
    if high == 1:
        assert "only exact keeps it" in advice.reason
        assert "fine patterns move" in advice.reason


@pytest.mark.parametrize(("size", "chunk"), [(1, 1), (2, 2)])
def test_dots_of_the_benchmark(size: int, chunk: int) -> None:
    """What training shows: 1 pixel loses 10 points with K = 2, 2 x 2 pixels lose less than 2 with K = 2 and 11 with K = 4."""
    spikes, _ = moving_dots(32, size)
    advice = advise(np.moveaxis(spikes, 1, 0))
    assert (advice.mode, advice.chunk_size) == ("preserve", chunk), advice


@pytest.mark.parametrize(("side", "speed", "seed"), [(16, 3, 1), (20, 6, 1), (24, 5, 1), (28, 5, 1)])
def test_motion_that_is_seen_but_not_measured(side: int, speed: int, seed: int) -> None:
    """Dots that jump further than frames are displaced, and around the edge, agree by chance, again and again: no loss shows it."""
    dots = rng(seed).random((4, side, side, 1)) < 0.05
    advice = advise(np.stack([np.roll(dots, (speed * t, speed * t), axis=(1, 2)) for t in range(T)]))
    assert advice.p_value <= 0.01
    assert advice.effect_size <= 0.05
    assert (advice.mode, advice.chunk_size) == (None, None), advice
    assert "can't be measured" in advice.reason


def test_wide_patterns_that_move_little_still_collapse() -> None:
    """Displaced frames agree, and neighbourhoods show the change, which is small."""
    wave = np.sin(np.arange(64) * 2 * np.pi / 64 + 0.04 * np.arange(T)[:, None])[:, None, None, :, None]
    advice = advise(rng().random((T, 8, 64, 64, 1)) < 0.2 + 0.15 * wave)
    assert advice.motion[1] > advice.motion_limit[1]
    assert (advice.mode, advice.chunk_size) == ("collapse", T), advice


def test_long_recordings_of_moving_dots() -> None:
    """Seen in windows of 32 frames; groups of frames alone would lose it."""
    advice = advise(moving_points(rng(), translated(1, 0), T=80))
    assert (advice.mode, advice.chunk_size) == ("preserve", 1), advice
    assert list(advice.motion) == [1]
    assert advice.effect_size > 0.8


def test_shifts_up_to_the_radius_in_one_and_three_dimensions() -> None:
    for shape, axis in (((4, 200, 1), 1), ((4, 9, 10, 11, 1), 3)):
        pattern = rng(2).random(shape) < 0.1
        radius = RADIUS[len(shape) - 2]
        near = np.stack([np.roll(pattern, radius * t, axis=axis) for t in range(T)])
        assert advise(near).chunk_size == 1
        assert advise(near).mode == "preserve"


def test_few_channels_of_many_are_looked_at() -> None:
    """Of large samples some channels are displaced, with the same result in the units of all."""
    spikes = np.concatenate([moving_points(rng(n), translated(1, 1), batch=2, density=0.3) for n in range(12)], axis=-1)
    some, one = advise(spikes), advise(spikes[..., :1])
    assert spikes[:, 0].size > 2**16
    assert (some.mode, some.chunk_size) == ("preserve", 1)
    assert some.effect_size == pytest.approx(one.effect_size, abs=0.05)


@pytest.mark.parametrize("shape", [(7,), (5, 6), (1, 9), (3, 4, 2)])
def test_displaced_products_are_what_the_docstring_says(shape: tuple[int, ...]) -> None:
    """Against loops: no displaced pixel meets another row's, and opposite displacements are each other's transpose."""
    x: Any = rng().normal(size=(4, 2, *shape, 3))
    flat = np.moveaxis(padded(np, x).reshape(4, 2, -1), 0, 1)
    got = displaced_products(np, flat, shape, 3)
    half = displacements(shape)
    radius = RADIUS[len(shape)]
    everything = set(itertools.product(*[range(-min(radius, n - 1), min(radius, n - 1) + 1) for n in shape]))
    assert {*half, *(tuple(-n for n in d) for d in half), (0,) * len(shape)} == everything
    for row, d in enumerate(half):
        want = np.zeros((2, 4, 4))
        for p in itertools.product(*map(range, shape)):
            q = tuple(a + b for a, b in zip(p, d, strict=True))
            if all(0 <= a < n for a, n in zip(q, shape, strict=True)):
                want += np.einsum("smc,tmc->mst", x[(slice(None), slice(None), *p)], x[(slice(None), slice(None), *q)])
        assert got[row] == pytest.approx(want)


def test_excess_is_the_energy_that_moves() -> None:
    """Nothing where nothing moves, however many displacements there are to choose from; else the energy of what does."""
    order = orders_of(np, T, (2,), 199, 0)
    found = {}
    for moving in (False, True):
        x = moving_points(rng(1), translated(0, 1), batch=40) if moving else bernoulli(np.full((40, 24, 24, 1), 0.05))
        rows = np.moveaxis(padded(np, x - x.mean(axis=0)).reshape(T, 40, -1), 0, 1)
        seen = agreement(np, displaced_products(np, rows, (24, 24), 1), order)
        assert seen is not None
        found[moving] = seen.excess / x.sum(axis=(2, 3, 4)).mean(axis=0)
        assert seen.fine is moving
    assert abs(found[False].mean()) < 4 * found[False].std() / 40**0.5
    # of dots that live for 16 frames, 15/16 are in the next one, less those that leave 24 pixels, less the mean frame's part
    assert 0.65 < found[True].mean() < 15 / 16 * 23 / 24


def test_frames_of_one_feature_have_no_displacement() -> None:
    advice = advise((rng().random((T, 32, 1)) < 0.3).astype(np.float32))
    assert advice.motion == {}
    assert "displaced" not in str(advice)


@pytest.mark.parametrize("code", ["Bernoulli", "neighbours", "hot pixels"])
def test_false_alarms_of_fine_motion(code: str) -> None:
    """Stationary dots, with neighbours that spike together and hot pixels: at most the level, within binomial error."""
    alarms = simulation.false_alarms(code, (16, 4, 10, 0.2), 120, 7)
    assert alarms.within_error(0.01, 3.0), alarms
    assert alarms.within_error(0.05, 3.0), alarms


def test_power_ends_at_the_radius() -> None:
    """Steps of 2 pixels are found, steps of 3 are not: what the documentation states."""
    near, far = (motion_power(8, 20, 0.05, speed, 10, 0) for speed in (2.0, 3.0))
    assert near.found >= 8
    assert far.found <= 3


def test_detectable_motion_is_found_half_of_the_time() -> None:
    """A part of the dots moves, the others are somewhere else in every frame."""
    rate = 0.05

    def spikes(share: float, seed: int) -> Any:
        moving = moving_points(rng(seed), translated(0, 1), density=share * rate)
        return np.maximum(moving, rng(seed + 100).random(moving.shape) < (1 - share) * rate)

    still = [advise((rng(seed).random((T, 8, 24, 24, 1)) < rate).astype(np.float32)) for seed in range(5)]
    limit = float(np.mean([advice.detectable_motion for advice in still]))
    # of the energy rate**2 + share * rate the second part moves, of which a dot's life leaves 15/16 in the next frame
    share = limit / (1 - limit) * rate * 16 / 15
    below, above = (np.mean([advise(spikes(f * share, n)).p_value <= 0.01 for n in range(20)]) for f in (0.5, 2))
    assert below < 0.5 < above


def test_what_would_be_enough() -> None:
    """Small inputs that can't tell say how many samples or frames would; with as many they do."""
    told: list[tuple[bool, bool]] = []
    for n in range(25):
        g = rng(n)
        rates = g.random((100, 12, 12, 1)) * 0.18
        advice = advise(bernoulli(rates[:4], seed=1000 + n))
        if advice.mode is None:
            assert (
                f"about {advice.enough_samples} samples like these, or {advice.enough_frames} frames" in advice.reason
            )
            more = advise(bernoulli(rates[: advice.enough_samples], seed=2000 + n))
            longer = advise(bernoulli(rates[:4], advice.enough_frames or 0, seed=3000 + n))
            told.append((more.mode == "collapse", longer.mode == "collapse"))
    assert len(told) >= 10
    assert (np.mean(told, axis=0) > 0.75).all(), told


def test_more_samples_are_looked_at_where_they_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two samples can't tell, the batch can; also recordings in a file. Where two samples can, two are looked at."""
    rates = rng(1).random((60, 12, 12, 1)) * 0.3
    spikes = bernoulli(rates)
    few = advise(spikes[:, :2], max_samples=2)
    assert few.mode is None
    many = advise(spikes, max_samples=2)
    assert many.mode == "collapse"
    assert 2 < many.samples <= 32
    assert advise(bernoulli(rng(1).random((60, 28, 28, 1))), max_samples=2).samples == 2
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    n, t, y, x, _ = np.nonzero(np.moveaxis(spikes, 1, 0))
    np.savez(tmp_path / "events.npz", x=x, y=y, t=t, offsets=np.searchsorted(n, np.arange(61)), sensor_size=[12, 12])
    assert main(parser.parse_args([str(tmp_path / "events.npz"), "--max-samples", "2"])) == 0
    assert capsys.readouterr().out.startswith("collapse, chunk_size=16")


def test_print_and_plot_show_motion(tmp_path: Path) -> None:
    advice = advise(MOTIONS["two motions at once"](rng()))
    assert "agreement of displaced frames" in str(advice)
    assert f"{advice.motion[1]:.2f}* (1 frame apart)" in str(advice)
    assert max(map(len, str(advice).splitlines()[3:])) <= 80
    pytest.importorskip("matplotlib")
    texts = [text.get_text() for axes in advice.plot().axes for text in axes.texts]
    assert "next frame,\ndisplaced" in texts
