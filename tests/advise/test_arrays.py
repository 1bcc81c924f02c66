"""advise: one to three dimensions, layouts, libraries, and inputs too large to look at whole."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tacops._advise.advise import advise
from tacops.backends import Backend
from tests.support.advise_inputs import Floats, T, bernoulli, camera, drawn, latency, moving, rng


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


def test_sums_that_do_not_vary(backend: Backend) -> None:
    """Pixels that move around within a neighbourhood leave its sum as it is; what rounding makes of that is not tested."""
    picture = rng(11).random((4, 4, 4, 2)) < 0.2
    spikes = np.stack([np.roll(picture, t, axis=2) for t in range(4)]).astype(np.float32)
    advice = advise(backend.from_numpy(spikes))
    assert advice.p_value == advise(spikes).p_value
    assert not np.isnan(list(advice.dispersion["pixel"].values())).any()
    for pool in ("neighbourhood", "frame"):
        assert np.isnan(list(advice.dispersion[pool].values())).all()


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


@pytest.mark.parametrize("shape", [(16, 3, 9), (16, 3, 9, 1, 2), (16, 3, 9, 7, 2), (70, 3, 9, 7, 2)], ids=str)
def test_inputs_stay_as_they_are(backend: Backend, shape: tuple[int, ...]) -> None:
    """The frames are weighed and centred in place: in a copy, whether or not they must be padded, cast or grouped."""
    spikes = rng().poisson(0.4, shape).astype(np.float32)
    given = backend.from_numpy(spikes.copy())
    advise(given)
    assert np.array_equal(backend.to_numpy(given), spikes)


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


def test_helper_arrays_are_on_the_input_s_device(images: Floats) -> None:
    """On a second device, and where new arrays go to another device than the input's; 9 x 7 pixels must be filled up."""
    strict = pytest.importorskip("array_api_strict")
    odd = rng().poisson(0.4, (70, 3, 9, 7, 2)).astype(np.float32)
    for spikes in (odd, odd[:2], odd[:, :, 0, 0], np.zeros_like(odd), drawn(moving(images[:5]))):
        want = advise(spikes)
        assert str(advise(strict.asarray(spikes, device=strict.Device("device1")))) == str(want)
    torch = pytest.importorskip("torch")
    torch.set_default_device("meta")
    try:
        assert advise(torch.tensor(odd, device="cpu")).p_value == advise(odd).p_value
    finally:
        torch.set_default_device(None)
