"""Spikes of every code that advise is asked about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.shared import subset

Floats = NDArray[Any]

Spikes = NDArray[Any]

T = 16


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


def latency(image: Floats, steps: int = T) -> Spikes:
    """One spike per pixel, the brighter the earlier."""
    when = np.clip((1 - image) * steps, 0, steps - 1).astype(int)
    return np.asarray((np.arange(steps)[:, None, None, None, None] == when) & (image > 0.05))


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
