"""Fine patterns that move, for `bench.spikes.advise` and for tests: dots, two motions at once, rotation, zoom and more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacops._advise.advise import advise

__all__ = ["DENSITIES", "DIRECTIONS", "MOTIONS", "SPEEDS", "MotionPower", "motion_power", "moving_points"]

Spikes = NDArray[Any]
Generator = np.random.Generator
Move = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]
DIRECTIONS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
LIFE = 16
"""Frames that a dot lives on average before it is drawn anew somewhere else."""
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.5)
SPEEDS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
SHARE = 0.1
"""Of all spikes that are dots which move."""


def moving_points(
    rng: Generator, move: Move, T: int = 16, batch: int = 8, side: int = 24, density: float = 0.05, size: int = 1
) -> Spikes:
    """Dots that move, as spikes (T, batch, side, side, 1).

    Parameters
    ----------
    rng : Generator
    move : callable
        From positions (batch, dots, 2) and the dots' numbers to their positions in the next frame. Dots that leave the picture, and
        one in `LIFE`, begin anew at random, so that the rate of every pixel stays what it is.
    T, batch, side : int
    density : float
        Dots per pixel.
    size : int
        Height and width of a dot.
    """
    dots = max(1, round(density * side**2))
    number = np.arange(dots)
    at = rng.random((batch, dots, 2)) * side
    spikes = np.zeros((T, batch, side, side, 1), np.float32)
    for t in range(T):
        y, x = np.moveaxis(at.astype(np.int64), 2, 0)
        for n in range(size**2):
            spikes[t, np.arange(batch)[:, None], (y + n // size) % side, (x + n % size) % side, 0] = 1
        at = move(at, number)
        anew = ((at < 0) | (at >= side)).any(axis=2, keepdims=True) | (rng.random((batch, dots, 1)) < 1 / LIFE)
        at = np.where(anew, rng.random(at.shape) * side, at)
    return spikes


def translated(y: float, x: float) -> Move:
    """Every dot by as much."""
    return lambda at, number: at + np.array([y, x])


def rotated(angle: float, side: int = 24) -> Move:
    """Around the middle."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return lambda at, number: (at - side / 2) @ turn + side / 2


def zoomed(factor: float, side: int = 24) -> Move:
    """Away from the middle."""
    return lambda at, number: (at - side / 2) * factor + side / 2


def in_two_directions(at: NDArray[np.float64], number: NDArray[np.int64]) -> NDArray[np.float64]:
    """Half of the dots to the right, half of them down."""
    return at + np.where(number[:, None] % 2, [0.0, 1.0], [1.0, 0.0])


def grating(rng: Generator) -> Spikes:
    """A grating with a period of 6 pixels that drifts by one pixel per frame."""
    phase = (np.arange(24) - np.arange(16)[:, None, None, None]) * (2 * math.pi / 6)
    rate = np.broadcast_to(0.15 * (1 + np.cos(phase))[..., None], (16, 8, 24, 24, 1))
    return (rng.random(rate.shape) < rate).astype(np.float32)


def shifts(rng: Generator) -> Spikes:
    """Spectrograms (T, B, F) whose every line moves up by one row per frame."""
    lines = rng.random((8, 128)) < 0.1
    return np.stack([np.roll(lines, t, axis=1) for t in range(16)]).astype(np.float32)


def some_samples(rng: Generator) -> Spikes:
    """A quarter of the samples moves; in the others dots are somewhere else in every frame."""
    still = (rng.random((16, 24, 24, 24, 1)) < 0.05).astype(np.float32)
    return np.concatenate([still, moving_points(rng, translated(0, 1))], axis=1)


def _dots(y: float, x: float) -> Callable[[Generator], Spikes]:
    return lambda rng: moving_points(rng, translated(y, x))


MOTIONS: dict[str, Callable[[Generator], Spikes]] = {
    **{f"dots, {y:+d} down, {x:+d} right": _dots(y, x) for y, x in DIRECTIONS},
    "dots of 2 x 2": lambda rng: moving_points(rng, translated(0, 1), density=0.025, size=2),
    "dots of 2 x 2, across": lambda rng: moving_points(rng, translated(1, 1), density=0.025, size=2),
    "dots, rotation": lambda rng: moving_points(rng, rotated(0.1)),
    "dots, zoom": lambda rng: moving_points(rng, zoomed(1.1)),
    "drifting grating": grating,
    "shifts of spectrograms": shifts,
    "two motions at once": lambda rng: moving_points(rng, in_two_directions),
    "a quarter of the samples": some_samples,
    "0.5 pixels per frame": _dots(0.5, 0),
    "0.25 pixels per frame": _dots(0, 0.25),
    "2 pixels per frame": _dots(2, 0),
}  # fmt: skip
"""What must never be answered by "collapse"."""


@dataclass(frozen=True)
class MotionPower:
    """How often the motion of dots of one pixel was found, each sample in a direction of its own, and what was advised."""

    batch: int
    side: int
    density: float
    """Spikes per pixel and frame."""
    speed: float
    """Pixels per frame along one axis, or along both."""
    draws: int
    found: int
    answers: dict[str, int] = field(default_factory=dict)


def motion_power(batch: int, side: int, density: float, speed: float, draws: int, seed: int) -> MotionPower:
    """Count how often the motion of dots of one pixel is found at significance 0.01, T = 16.

    `SHARE` of all spikes are dots that move, the others are somewhere else in every frame.
    """
    rng = np.random.default_rng([seed, batch, side, round(1e4 * density), round(100 * speed)])
    found, answers = 0, dict[str, int]()
    for n in range(draws):
        steps = speed * rng.choice(np.array(DIRECTIONS, float), (batch, 1))  # (batch, 1, 2)
        moving = moving_points(rng, _by(steps), 16, batch, side, SHARE * density)
        advice = advise(np.maximum(moving, rng.random(moving.shape) < (1 - SHARE) * density), seed=n)
        found += advice.p_value <= 0.01
        answer = advice.mode or "none"
        answers[answer] = answers.get(answer, 0) + 1
    return MotionPower(batch, side, density, speed, draws, found, answers)


def _by(steps: NDArray[np.float64]) -> Move:
    return lambda at, number: at + steps
