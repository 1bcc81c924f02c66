"""A network that is fed frame by frame: how long each frame takes, and whether memory grows with their number."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.timing.cases import SEED, Case
from bench.timing.memory import begin_peak, end_peak
from tacops import Stream
from tacops.backends import Backend
from tacops.layers import Flatten, FrozenLayer

__all__ = ["CHUNK", "NETWORK", "camera", "feed", "network"]

CAMERA = Case("stream", 64, 1, (32, 32), 2, 32)
CHUNK = 4
CLASSES = 10
NETWORK = f"T without end, {CAMERA.text.partition(', ')[2]}, collapse K={CHUNK}, then {CLASSES} classes"
"""In words."""
WARM = 3 * CHUNK
"""Frames that are not timed: what a library compiles for each of them it has compiled then."""


def network() -> Stream:
    """A convolution that collapses frames, and a dense layer that follows it at once."""
    features = CAMERA.c_out * math.prod(CAMERA.space)
    dense = np.random.default_rng(SEED).standard_normal((CLASSES, features), np.float32) / math.sqrt(features)
    return Stream(
        [
            FrozenLayer({"weight": CAMERA.arrays()[1]}, {"chunk_size": CHUNK, "padding": CAMERA.padding}),
            Flatten(),
            FrozenLayer({"weight": dense}, {"chunk_size": 1}),
        ]
    )


def camera(backend: Backend) -> list[Any]:
    """Single frames, which are on the device before anything is timed."""
    frames = CAMERA.arrays()[0] > 0
    return [backend.from_numpy(frames[t : t + 1]) for t in range(len(frames))]


def feed(stream: Any, frames: Sequence[Any], marks: Sequence[int], wait: Callable[..., None]) -> dict[str, Any]:
    """Feed frames one by one, again and again, and look at the memory after so many as each of `marks` says.

    Returns
    -------
    dict
        ``median`` and ``worst`` seconds of the frames that complete a chunk (``complete``: its result is waited for) and of
        all others (``inside``). At each mark, the bytes that the stream keeps (``kept``), and by how many the process has at
        most exceeded its memory after the first frames (``peak``).
    """
    for n in range(WARM):
        stream.feed(frames[n % len(frames)])
    times: dict[str, list[float]] = {"inside": [], "complete": []}
    kept, peak, before = [], [], begin_peak()
    for first, last in zip((WARM, *marks), marks, strict=False):
        for n in range(first, last):
            start = time.perf_counter()
            train = stream.feed(frames[n % len(frames)])
            if train is not None:
                wait(*train)
            times["inside" if train is None else "complete"].append(time.perf_counter() - start)
        peak.append(end_peak(before))
        kept.append(sum(int(array.nbytes) for array in stream.state().values()))
    seconds = {part: {"median": float(np.median(found)), "worst": max(found)} for part, found in times.items()}
    return {**seconds, "kept": kept, "peak": peak}
