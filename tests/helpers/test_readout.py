"""Read-outs and their loss: PyTorch's and snnTorch's numbers, on every library, with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import readout
from tacops.backends import Backend
from tests.support.cases import assert_same

RNG = np.random.default_rng(0)
SPIKES = RNG.random((8, 5, 4)) < 0.4
LABELS = np.array([0, 3, 1, 1, 2])


def defined(x: Any, labels: Any = LABELS) -> Any:
    """The loss, in float64."""
    x = x.astype(np.float64).reshape(-1, *x.shape[-2:])
    x = x - x.max(-1, keepdims=True)
    logs = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return -logs[:, np.arange(len(labels)), labels].mean()


def test_rate(backend: Backend) -> None:
    for spikes in (SPIKES, SPIKES.astype(np.float32)):
        train = tacops.SpikeTrain(backend.from_numpy(spikes), None)
        assert_same("rate", backend.to_numpy(readout.rate(train)), SPIKES.mean(0).astype(np.float32))


def test_loss(backend: Backend) -> None:
    """Of spikes, of membranes however large, and of rates."""
    membranes = RNG.normal(0, 30, SPIKES.shape).astype(np.float32)
    labels = backend.from_numpy(LABELS.astype(np.int32))
    for x in (SPIKES, membranes, SPIKES.mean(0).astype(np.float32), membranes + np.float32(1e4)):
        loss = readout.cross_entropy(backend.from_numpy(x), labels)
        np.testing.assert_allclose(backend.to_numpy(loss), defined(x), rtol=1e-5)
        assert backend.to_numpy(loss).dtype == np.float32


def test_as_snntorch() -> None:
    functional = pytest.importorskip("snntorch.functional")
    torch = pytest.importorskip("torch")
    spikes, labels = torch.from_numpy(SPIKES.astype(np.float32)), torch.from_numpy(LABELS)
    want = functional.ce_rate_loss()(spikes, labels)
    np.testing.assert_allclose(readout.cross_entropy(spikes, labels), want, rtol=1e-6)
    counts = functional.ce_count_loss()(spikes, labels)
    np.testing.assert_allclose(readout.cross_entropy(8 * readout.rate(spikes), labels), counts, rtol=1e-6)


@pytest.mark.parametrize("name", ["jax", "mlx", "torch"])
def test_gradients(need: Callable[[str], Backend], name: str) -> None:
    """The softmax less the right class, over steps and samples."""
    backend = need(name)
    x = RNG.normal(0, 2, (3, 5, 4)).astype(np.float32)
    labels = backend.from_numpy(LABELS.astype(np.int32))
    [got] = backend.gradient(lambda x: readout.cross_entropy(x, labels), [backend.from_numpy(x)])
    share = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    want = (share - np.eye(4)[LABELS]) / 15
    np.testing.assert_allclose(backend.to_numpy(got), want, rtol=1e-4, atol=1e-7)
    [rates] = backend.gradient(lambda x: (readout.rate(x) ** 2).sum(), [backend.from_numpy(x)])
    np.testing.assert_allclose(
        backend.to_numpy(rates), np.broadcast_to(2 * x.mean(0) / 3, x.shape), rtol=1e-4, atol=1e-6
    )


def test_labels_that_cannot_be_read() -> None:
    """In a trace, one of no class makes the loss NaN."""
    jax = pytest.importorskip("jax")
    loss = jax.jit(readout.cross_entropy)
    assert np.isnan(loss(SPIKES, np.array([0, 3, 1, 1, 4])))
    np.testing.assert_allclose(loss(SPIKES, LABELS), defined(SPIKES), rtol=1e-6)


BAD: list[tuple[Any, str]] = [
    (lambda: readout.rate(SPIKES[0, 0]), r"rate: spikes must be an array \(T, B, ...\)"),
    (lambda: readout.rate(SPIKES[:0]), "rate: spikes must be a nonempty array"),
    (lambda: readout.cross_entropy(SPIKES, LABELS[:3]), r"cross_entropy: labels must be of shape \(5,\), one for each"),
    (lambda: readout.cross_entropy(SPIKES, LABELS * 1.0), "cross_entropy: labels must be of an integer dtype"),
    (lambda: readout.cross_entropy(SPIKES, LABELS + 1), "cross_entropy: labels must be from 0 to 3; got .* holds 4"),
    (lambda: readout.cross_entropy(SPIKES[..., None], LABELS), "cross_entropy: logits must be a nonempty array"),
    (lambda: readout.cross_entropy(SPIKES, None), "cross_entropy: labels must be an array"),
    (lambda: readout.cross_entropy(SPIKES, [0, 1, 2, 3, 0]), "cross_entropy: labels must be an array"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_refusals(number: int) -> None:
    call, words = BAD[number]
    with pytest.raises((TypeError, ValueError), match=words):
        call()
