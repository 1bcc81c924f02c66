"""Tier 4, what stands around layers: codes, pools, currents without neurons, and read-outs."""

from __future__ import annotations

from typing import Any

import tacops

from .. import encode, readout
from .._backend.dispatch import get_backend
from .._backend.protocol import Backend
from ._host import assert_same, native, np
from ._reference import draw

__all__ = ["HELPERS"]


def codes(backend: Backend) -> None:
    """Rate, latency and delta codes: the spikes that NumPy's arrays give, bit for bit."""
    x = np.abs(draw("codes-x", (3, 2, 5), 1.0))
    given = native(backend, x)
    for name, got, want in (
        ("rate", encode.rate(given, 4, seed=7), encode.rate(x, 4, seed=7)),
        ("latency", encode.latency(given, 4), encode.latency(x, 4)),
        ("latency, charging", encode.latency(given, 4, tau=1.5), encode.latency(x, 4, tau=1.5)),
        ("delta", encode.delta(given), encode.delta(x)),
        ("delta, off", encode.delta(given, off_spike=True), encode.delta(x, off_spike=True)),
    ):
        assert_same(name, backend.to_numpy(got), want)


def pools(backend: Backend) -> None:
    """Windows of space, in both layouts: the maximum, the sum of spikes, and their mean, rounded once."""
    x = draw("pools-x", (2, 2, 5, 4, 3), 1.0)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    corners = [padded[:, :, i : i + 5 : 2, j : j + 4 : 2] for i in range(3) for j in range(3)]
    lowest = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    largest = np.stack([lowest[:, :, i : i + 5 : 2, j : j + 4 : 2] for i in range(3) for j in range(3)]).max(0)
    fired = sum((corner > 0).astype(np.float32) for corner in corners)
    for function, given, want in (
        (tacops.max_pool, x, largest),
        (tacops.max_pool, x > 0, np.stack([corner > 0 for corner in corners]).any(0)),
        (tacops.sum_pool, x > 0, fired),
        (tacops.avg_pool, x > 0, fired * np.float32(1 / 9)),
    ):
        options: dict[str, Any] = {"stride": 2, "padding": 1}
        got = function(native(backend, given), 3, **options)
        assert_same(f"{function.__name__}, {given.dtype}", backend.to_numpy(got), want)
        first = native(backend, np.ascontiguousarray(np.moveaxis(given, -1, 2)))
        got = function(first, 3, layout="channels_first", **options)
        assert_same(f"{function.__name__}, channels first", np.moveaxis(backend.to_numpy(got), 2, -1), want)


def pooled_currents(backend: Backend) -> None:
    """Convolution, pool and neurons one by one, channels first, in reproducible mode: as NumPy's arrays, bit for bit."""
    arrays = [
        draw("currents-x", (3, 2, 2, 5, 6), 1.0) > 0.2,
        draw("currents-w", (3, 2, 3, 3), 0.4, 0.05),
        np.linspace(0.5, 1.0, 3, dtype=np.float32),
    ]
    results = []
    for own in (get_backend("numpy"), backend):
        x, w, beta = (native(own, array) for array in arrays)
        options: dict[str, Any] = {"layout": "channels_first", "reproducible": True}
        current = tacops.conv(x, w, padding=1, **options)
        train = tacops.lif(tacops.max_pool(current, 2, layout="channels_first"), beta=beta, threshold=beta, **options)
        results.append([own.to_numpy(array) for array in (current, *train)])
    for name, want, got in zip(("currents", "spikes", "membrane"), *results, strict=True):
        assert_same(name, got, want)


def readouts(backend: Backend) -> None:
    """Firing rates exactly, and the cross-entropy within rounding."""
    x, labels = draw("readout-x", (4, 3, 5), 1.0), np.array([4, 0, 2], np.int32)
    assert_same("rate", backend.to_numpy(readout.rate(native(backend, x > 0))), (x > 0).mean(0).astype(np.float32))
    logs = x - np.log(np.exp(x.astype(np.float64)).sum(-1, keepdims=True))
    want = -logs[:, np.arange(3), labels].mean()
    got = backend.to_numpy(readout.cross_entropy(native(backend, x), native(backend, labels)))
    if got.shape != () or not abs(float(got) - want) <= 1e-5 * want:
        raise AssertionError(f"cross_entropy: {got}, must be {want}")


HELPERS = (codes, pools, pooled_currents, readouts)
