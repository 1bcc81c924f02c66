"""The map's network: convolutions and LIF neurons in one of the modes, with all that a `Condition` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

import tacops
from bench.accuracy.map.conditions import Condition
from bench.accuracy.modes import EXACT
from bench.shared.model import Mode, hidden_layer

Statistics = dict[str, tuple[Any, Any]]
"""Mean and variance of each normalised layer's currents, by channel."""
EPSILON = 1e-5
THRESHOLD = 1.0


Norm = Callable[[Any, Any, Any, tuple[Any, Any] | None], tuple[Any, tuple[Any, Any]]]
"""Batch normalisation over all axes but the last, as `batch_norm`; a library may have its own."""


def batch_norm(
    current: Any, gain: Any, bias: Any, statistics: tuple[Any, Any] | None = None
) -> tuple[Any, tuple[Any, Any]]:
    """``gain (current - mean) / sqrt(variance + EPSILON) + bias``, and the mean and variance: the current's, or those given."""
    xp, axes = array_namespace(current), tuple(range(current.ndim - 1))
    mean, variance = statistics or (xp.mean(current, axis=axes), xp.var(current, axis=axes))
    return gain * (current - mean) / xp.sqrt(variance + EPSILON) + bias, (mean, variance)


def shapes(condition: Condition, frame: tuple[int, int, int], classes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights for frames of (height, width, channels)."""
    found: dict[str, tuple[int, ...]] = {}
    kernel, (height, width, channels) = condition.kernel, frame
    for n in range(condition.depth):
        filters = condition.width * (1 if n == 0 else 2)
        found[f"conv{n}"] = (filters, kernel, kernel, channels)
        found[f"bias{n}"] = (filters,)
        if condition.norm:
            found[f"gain{n}"] = (filters,)
        height, width = ((size + 1) // 2 if n < 2 else size for size in (height, width))
        channels = filters
    found["readout"] = (classes, height * width * channels)
    found["bias"] = (classes,)
    return found


def initial(
    condition: Condition, frame: tuple[int, int, int], classes: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Draw untrained weights; equal for all modes."""
    rng, weights = np.random.default_rng(seed), {}
    for name, shape in shapes(condition, frame, classes).items():
        if len(shape) == 1:
            weights[name] = np.full(shape, float(name.startswith("gain")), np.float32)
        else:
            limit = condition.scale * np.sqrt(6 / np.prod(shape[1:]))
            weights[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return weights


def surrogate(condition: Condition) -> Any:
    """The surrogate derivative that the condition names."""
    return getattr(tacops.surrogate, condition.surrogate)(slope=condition.slope)


def logits(
    weights: Mapping[str, Any],
    frames: Any,
    condition: Condition,
    mode: Mode,
    statistics: Statistics | None = None,
    derivative: Any = None,
    norm: Norm = batch_norm,
) -> tuple[Any, Statistics]:
    """Class scores (B, classes) of spikes (T, B, H, W, C), and the statistics of these frames.

    Without `statistics` each normalised layer uses those of the frames themselves, as in training.
    """
    xp = array_namespace(frames)
    spikes, found = frames, {}
    for n in range(condition.depth):
        here = mode if n == 0 or mode.kind == "preserve" or condition.everywhere else EXACT
        given = None if statistics is None else statistics.get(str(n))
        spikes, own = _layer(weights, n, spikes, condition, here, given, derivative, norm)
        if own is not None:
            found[str(n)] = own
    return _read_out(weights, xp.reshape(spikes, (*spikes.shape[:2], -1)), condition, derivative), found


def _layer(
    weights: Mapping[str, Any],
    n: int,
    frames: Any,
    condition: Condition,
    mode: Mode,
    given: Any,
    derivative: Any,
    norm: Norm,
) -> tuple[Any, Any]:
    """Spikes of hidden layer n, and what they were normalised by."""
    place: dict[str, Any] = {"stride": 2 if n < 2 else 1, "padding": condition.kernel // 2}
    neurons: dict[str, Any] = {"beta": condition.beta, "threshold": THRESHOLD, "surrogate": derivative}
    weight, bias = weights[f"conv{n}"], weights[f"bias{n}"]
    if not condition.norm:
        return hidden_layer(frames, weight, bias, mode, {**place, **neurons}).spikes, None
    # a norm belongs to a frame: with weights that sum to A, a chunk's current is normalised as current / A
    K, beta = min(mode.chunk_size, frames.shape[0]), condition.beta
    rule, total = ("decay", sum(beta**k for k in range(K))) if mode.kind == "collapse" else ("normalized_decay", 1.0)
    frames = array_namespace(frames).astype(frames, weight.dtype)
    current = tacops.conv(tacops.aggregate(frames, K, aggregation=rule, beta=beta), weight, **place) / total
    normalised, own = norm(current, weights[f"gain{n}"], bias, given)
    options = {"beta": beta**K} if mode.kind == "collapse" else {"repeat": K}
    return tacops.lif(total * normalised, **{**neurons, **options}).spikes, own


def _read_out(weights: Mapping[str, Any], spikes: Any, condition: Condition, derivative: Any) -> Any:
    """Class scores of spikes (T', B, inputs)."""
    xp, steps, weight, bias = array_namespace(spikes), spikes.shape[0], weights["readout"].T, weights["bias"]
    if condition.readout == "rate":
        return xp.mean(spikes, axis=0) @ weight + bias
    if condition.readout == "last":
        return spikes[-1] @ weight + bias
    if condition.readout == "membrane":
        # u_t = sum_{s <= t} beta^(t - s) (W x_s + b): its mean over t takes frame s with these weights
        shares = np.array([sum(condition.beta**t for t in range(steps - s)) for s in range(steps)]) / steps
        return (
            xp.tensordot(xp.asarray(shares, dtype=spikes.dtype), spikes, axes=1) @ weight + float(shares.sum()) * bias
        )
    current = spikes @ weight + bias
    return xp.sum(tacops.lif(current, beta=condition.beta, threshold=THRESHOLD, surrogate=derivative).spikes, axis=0)
