"""Codes: the same spikes on every backend, as snnTorch has them, and what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacops import encode
from tacops.backends import Backend
from tests.support.cases import assert_same

RNG = np.random.default_rng(0)
X = RNG.random((6, 7, 5)).astype(np.float32)


def test_same_spikes_on_every_backend(backend: Backend) -> None:
    """Of every floating dtype that NumPy has too, and of the extremes."""
    x = np.concatenate([X, np.array([0.0, 1.0, -1.0, 2.0, np.nan], np.float32) + np.zeros_like(X[:1])])
    for given in (x, x.astype(np.float64)):
        own = backend.from_numpy(given)
        for got, want in (
            (encode.rate(own, 9, seed=3), encode.rate(x, 9, seed=3)),
            (encode.latency(own, 9), encode.latency(x, 9)),
            (encode.latency(own, 9, tau=2.0, threshold=0.25), encode.latency(x, 9, tau=2.0, threshold=0.25)),
            (encode.delta(own, threshold=0.25), encode.delta(x, threshold=0.25)),
            (encode.delta(own, padding=True, off_spike=True), encode.delta(x, padding=True, off_spike=True)),
        ):
            assert_same("spikes", backend.to_numpy(got), want)
    half = backend.namespace(backend.from_numpy(X))
    if hasattr(half, "float16"):
        own = half.astype(backend.from_numpy(X), half.float16)
        assert_same("half", backend.to_numpy(encode.rate(own, 9, seed=3)), encode.rate(X.astype(np.float16), 9, seed=3))


def test_rate_is_a_rate() -> None:
    """Independent draws of the probability; 0 and 1 are certain; a sample's spikes depend on no other sample."""
    spikes = encode.rate(np.broadcast_to(np.array([0.0, 0.3, 1.0]), (50, 40, 3)), 64, seed=0)
    assert spikes.shape == (64, 50, 40, 3)
    assert not spikes[..., 0].any()
    assert spikes[..., 2].all()
    n = spikes[..., 1].size
    assert abs(spikes[..., 1].mean() - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5
    noise = spikes[..., 1] - 0.3
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 * 0.21 / n**0.5
    assert_same("two samples", encode.rate(X[:2], 9, seed=3), encode.rate(X, 9, seed=3)[:, :2])
    assert (encode.rate(X, 9, seed=3) != encode.rate(X, 9, seed=4)).any()


def test_rate_is_the_stored_one() -> None:
    """The generator's numbers, of which no release of NumPy may change one."""
    spikes = encode.rate(np.full((1, 40), 0.5), 1, seed=2026)
    raw = np.random.PCG64(2026).random_raw(20)
    want = [int(number >> shift & 0xFFFFFFFF) < 2**31 for number in raw.tolist() for shift in (0, 32)]
    assert spikes[0, 0].tolist() == want


def test_latency_means_what_it_says() -> None:
    """One spike each, at the rounded time of the equation (in float64, ties apart)."""
    for T, tau in ((1, None), (2, None), (16, None), (16, 1.0), (4, 3.0), (100, 20.0)):
        x = X.astype(np.float64)
        time = (T - 1) * (1 - x) if tau is None else tau * np.log(x / np.maximum(x - 0.01, 1e-9))
        sure = abs(time % 1 - 0.5) > 1e-4
        fires = (x >= 0.01) & (np.round(time) < T)
        spikes = encode.latency(X, T, tau=tau)
        np.testing.assert_array_equal(spikes.sum(0)[sure], fires[sure])
        np.testing.assert_array_equal(spikes.argmax(0)[sure & fires], np.round(time)[sure & fires])


def test_as_snntorch() -> None:
    """The same spikes as snnTorch's codes, but where its logarithm rounds a time over a half."""
    spikegen = pytest.importorskip("snntorch.spikegen")
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X)
    for T, tau in ((2, None), (16, None), (16, 1.0), (50, 5.0)):
        options = {"normalize": True, "linear": True} if tau is None else {"tau": tau, "bypass": True}
        want = spikegen.latency(x, num_steps=T, clip=True, threshold=0.01, **options).numpy()
        assert (encode.latency(X, T, tau=tau) != want).sum() <= 2
    for padding in (False, True):
        for off in (False, True):
            want = spikegen.delta(x, threshold=0.25, padding=padding, off_spike=off).numpy()
            got = encode.delta(X, threshold=0.25, padding=padding, off_spike=off)
            np.testing.assert_array_equal(got, want)


def test_thresholds_are_what_they_say(backend: Backend) -> None:
    """A number that equals the threshold as it is written fires, in float32 and in float64, and what is just below doesn't."""
    below = np.nextafter(np.float64(0.1), 0)
    for x, least in (
        (np.array([0, 0.1, 0], np.float32), 0.1),
        (np.array([0, 0.1, 0]), 0.1),
        (np.array([0, below, 0]), below),
    ):
        own = backend.from_numpy(x)
        least = float(least) if backend.to_numpy(own).dtype == x.dtype else 0.1  # some GPUs have no float64
        assert backend.to_numpy(encode.delta(own, threshold=least, off_spike=True)).tolist() == [0, 1, -1]
        assert backend.to_numpy(encode.latency(own, 2, threshold=least)).sum(0).tolist() == [0, 1, 0]
    x = np.array([0, below, 0])
    if backend.to_numpy(backend.from_numpy(x)).dtype == x.dtype:
        assert not backend.to_numpy(encode.delta(backend.from_numpy(x), threshold=0.1)).any()
        assert not backend.to_numpy(encode.latency(backend.from_numpy(x), 2, threshold=0.1)).any()
    assert not encode.delta(x, threshold=1e30).any()


def test_many_steps_are_few_operations() -> None:
    """Programs of one operation for each step take JAX minutes to compile."""
    jax = pytest.importorskip("jax")
    short, long = (str(jax.make_jaxpr(lambda x, T=T: encode.latency(x, T))(X)).count("=") for T in (4, 64))
    assert short == long


def test_compiled() -> None:
    jax = pytest.importorskip("jax")
    coded = jax.jit(lambda x: (encode.rate(x, 9, seed=3), encode.latency(x, 9)))(X)
    for got, want in zip(coded, (encode.rate(X, 9, seed=3), encode.latency(X, 9)), strict=True):
        assert_same("compiled", np.asarray(got), want)


def half() -> Any:
    """A wrong value that type checkers don't see."""
    return 0.5


BAD: list[tuple[Any, str]] = [
    (lambda: encode.rate(X, 0, seed=0), "rate: T must be at least 1"),
    (lambda: encode.rate(X, 4, seed=-1), "rate: seed must be an int of at least 0"),
    (lambda: encode.rate(X, 4, seed=half()), "rate: seed must be an int of at least 0"),
    (lambda: encode.rate((X * 255).astype(np.uint8), 4, seed=0), r"rate: x must be .* \(of images of 0 to 255, x / 255\)"),
    (lambda: encode.rate(np.zeros((2, 1024)), 2**20, seed=0), "rate: x must be so small that there are at most 1073741824 spikes"),
    (lambda: encode.rate(X, 2**21, seed=0), "rate: T must be at most 1048576"),
    (lambda: encode.rate(np.zeros(()), 4, seed=0), r"rate: x must be a nonempty array \(B, ...\)"),
    (lambda: encode.latency(X, 4, tau=0), "latency: tau must be positive and finite"),
    (lambda: encode.latency(X, 4, threshold=0), "latency: threshold must be in "),
    (lambda: encode.delta(X, threshold=-1), "delta: threshold must be from "),
    (lambda: encode.delta(X, off_spike=half()), "delta: off_spike must be True or False"),
    (lambda: encode.delta([1.0]), "delta: x must be an array"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_refusals(number: int) -> None:
    call, words = BAD[number]
    with pytest.raises((TypeError, ValueError), match=words):
        call()
