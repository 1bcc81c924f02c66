"""Spike trains from grey levels and from events, the same bits on every platform."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.shared.datasets import Images

TIME_STEPS = 16


def rate_code(images: Images, time_steps: int = TIME_STEPS, seed: int = 0) -> NDArray[np.bool_]:
    """Code each grey level g as independent spikes with probability g / 256 per time step.

    The random bytes are the raw 64-bit output of PCG64 in little-endian order, which NumPy guarantees never to change
    (its distributions it may). Image number b always gets the same bytes, however many images are coded with it.

    Parameters
    ----------
    images : (B, H, W) uint8
        Grey levels, 0 to 255.
    time_steps : int
        Number of frames T.
    seed : int
        Seed of the generator.

    Returns
    -------
    spikes : (T, B, H, W, 1) bool
    """
    batch, height, width = images.shape
    count = batch * time_steps * height * width
    raw = np.random.PCG64(seed).random_raw(-(-count // 8))
    draws = raw.astype("<u8").view(np.uint8)[:count].reshape(batch, time_steps, height, width)
    spikes = draws < images[:, None]
    return np.ascontiguousarray(np.moveaxis(spikes, 1, 0))[..., None]


def frames_of_equal_time(times: NDArray[np.integer], time_steps: int, begin: int, end: int) -> NDArray[np.int64]:
    """Say in which of ``time_steps`` frames of equal length each event lies, for times in [begin, end).

    Examples
    --------
    >>> frames_of_equal_time(np.array([0, 99, 100, 399]), 4, 0, 400)
    array([0, 0, 1, 3])
    """
    return (times.astype(np.int64) - begin) * time_steps // (end - begin)


def frames_of_equal_count(count: int, time_steps: int) -> NDArray[np.int64]:
    """Put ``count`` successive events into ``time_steps`` frames that hold equally many, give or take one.

    Examples
    --------
    >>> frames_of_equal_count(6, 3)
    array([0, 0, 1, 1, 2, 2])
    """
    return np.arange(count) * time_steps // max(count, 1)


def event_frames(
    frame: NDArray[np.integer],
    y: NDArray[np.integer],
    x: NDArray[np.integer],
    channel: NDArray[np.integer] | int,
    shape: tuple[int, int, int, int],
) -> NDArray[np.bool_]:
    """Draw events into frames (T, H, W, C): true wherever at least one event fell."""
    spikes = np.zeros(shape, np.bool_)
    spikes[frame, y, x, channel] = True
    return spikes


def moving_dots(
    count: int, size: int = 1, time_steps: int = TIME_STEPS, side: int = 16, seed: int = 0
) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Draw random dots that move one pixel per frame in one of eight directions, around the edges of the picture.

    Dots of ``size`` x ``size`` pixels cover about a tenth of the picture; each pixel of them shows in three quarters of
    the frames, and in each frame one pixel in a hundred is noise.
    With ``time_steps`` a multiple of ``side`` every dot comes back to where it was, so the sum over time is the same
    for a direction and its opposite.

    Returns
    -------
    spikes : (count, T, side, side, 1) bool
    labels : (count,) uint8
        The direction in steps of 45 degrees; 0 is to the right, 2 is up.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 8, count).astype(np.uint8)
    dots = rng.random((count, side, side)) < 0.1 / size**2
    for axis in (1, 2):
        dots = np.logical_or.reduce([np.roll(dots, n, axis) for n in range(size)])
    steps = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
    spikes = np.empty((count, time_steps, side, side, 1), np.bool_)
    for label, (down, right) in enumerate(steps):
        chosen = np.flatnonzero(labels == label)
        for t in range(time_steps):
            spikes[chosen, t, :, :, 0] = np.roll(dots[chosen], (t * down, t * right), axis=(1, 2))
    spikes &= rng.random(spikes.shape, np.float32) < 0.75
    spikes |= rng.random(spikes.shape, np.float32) < 0.01
    return spikes, labels
