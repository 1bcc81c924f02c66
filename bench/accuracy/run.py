"""One training, one comparison of times, one question to `tacops.advise`: the pieces of ``python -m bench accuracy``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import tacops
from bench.accuracy.model import aggregation, first_layer, initial, logits, shapes
from bench.accuracy.modes import VARIANTS, Variant
from bench.accuracy.tasks import Data, Indices, Settings, Spikes, Task, shuffled
from bench.shared.training import SURROGATE, State, Step, Weights, accuracy, adam, fit, make_step, start

CURVE = 1000
"""Test samples for the learning curve; the accuracy at the end is of all."""
TEST_BATCH = 500
TEST_CODE = 0
"""Seed of the spikes that code test images; training images are coded anew at each step."""
CALLS = 2
ADVISED = 32
"""Samples that `tacops.advise` sees."""

Classify = Callable[[Weights, Spikes], Any]
Tick = Callable[[str, float], None]
"""Called with the loss or another word, and with the share of the piece of work that was just done."""


class LoadedTask:
    """A task with its data, which are read when they are first needed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._data: dict[bool, Data] = {}

    def data(self, variant: Variant) -> Data:
        """The samples, their frames in order or shuffled."""
        if False not in self._data:
            self._data[False] = self.task.load(self.task.settings)
        if variant.shuffled and True not in self._data:
            self._data[True] = shuffled(self._data[False])
        return self._data[variant.shuffled]

    def train(self, name: str, run: int, tick: Tick) -> dict[str, Any]:
        """Train and test one mode with one seed or fold."""
        variant, settings = VARIANTS[name], self.task.settings
        data = self.data(variant)
        chosen, tested = data.split(run, settings)
        frames, labels = data.frames(tested, TEST_CODE), data.labels[tested]
        step, classify = compiled(name, settings, len(chosen))
        state = self.start(name, run, len(chosen))
        step(state, *next(batches(data, chosen, settings, run, 0)))  # compiles, and leaves the state as it is
        losses, curve, epochs, steps = [], [], [], []
        for epoch in range(settings.epochs):
            noted: list[tuple[float, float]] = []
            began = time.perf_counter()
            state = fit(step, state, batches(data, chosen, settings, run, epoch), partial(_note, noted))
            epochs.append(time.perf_counter() - began)
            losses.append(statistics.fmean(loss for loss, _ in noted))
            steps += [seconds for _, seconds in noted]
            count = len(labels) if epoch == settings.epochs - 1 else CURVE
            curve.append(accuracy(partial(classify, state[0]), parts(frames[:, :count], labels[:count])))
            tick(f"loss {losses[-1]:.3f}", 1 / settings.epochs)
        record = {"accuracy": curve[-1], "curve": curve, "losses": losses}
        record |= {"epoch_seconds": epochs, "step_seconds": statistics.median(steps)}
        record |= {"training": len(chosen), "tested": len(tested)}
        record["parameters"] = sum(int(np.size(array)) for array in state[0].values())
        if variant.learned:
            record["aggregation"] = np.asarray(aggregation(state[0], variant)).tolist()
        return record

    def start(self, name: str, run: int, samples: int) -> State:
        """Untrained weights of a mode, and the optimiser's state."""
        variant, settings = VARIANTS[name], self.task.settings
        sizes = shapes(self.data(variant).shape, self.task.classes, settings.kernel)
        return start(dict(initial(sizes, variant, run)), adam(settings.rate, steps(settings, samples)))

    def times(self, names: Sequence[str], rounds: int, tick: Tick) -> dict[str, Any]:
        """Seconds of a training step, of answering and of the first layer alone, all modes in turn."""
        settings = self.task.settings
        calls: dict[str, dict[str, Callable[[], Any]]] = {"train": {}, "infer": {}, "layer": {}}
        for name in names:
            variant = VARIANTS[name]
            data = self.data(variant)
            chosen, _ = data.split(0, settings)
            step, classify = compiled(name, settings, len(chosen))
            state = self.start(name, 0, len(chosen))
            frames, labels = next(batches(data, chosen, settings, 0, 0))
            placed = jnp.asarray(frames)
            layer = jax.jit(partial(first_layer, variant=variant))
            calls["train"][name] = partial(step, state, placed, labels)
            calls["infer"][name] = partial(classify, state[0], placed)
            calls["layer"][name] = partial(layer, state[0], placed)
        seconds: dict[str, Any] = {kind: {name: [] for name in names} for kind in calls}
        for n in range(rounds + 1):
            for kind, name in [(kind, name) for kind in calls for name in names]:
                taken = [timed(calls[kind][name]) for _ in range(CALLS)]
                seconds[kind][name] += taken if n else []  # the first round compiles
            tick("timing", 1 / (rounds + 1))
        return {**seconds, "batch": settings.batch}

    def advice(self) -> dict[str, Any]:
        """What `tacops.advise` says about the first training samples."""
        data = self.data(VARIANTS["exact"])
        chosen, _ = data.split(0, self.task.settings)
        found = tacops.advise(data.frames(chosen[:ADVISED], TEST_CODE + 1))
        keys = ("mode", "chunk_size", "p_value", "effect_size", "reason", "samples", "frames", "seed")
        about = asdict(found)
        return {**{key: about[key] for key in keys}, "losses": {str(K): loss for K, loss in found.losses.items()}}


def steps(settings: Settings, samples: int) -> int:
    """Training steps of one run; what doesn't fill a batch waits for the next epoch's order."""
    return settings.epochs * (samples // settings.batch)


@lru_cache(maxsize=16)
def compiled(name: str, settings: Settings, samples: int) -> tuple[Step, Classify]:
    """The compiled training step and the compiled classifier of a mode."""
    variant = VARIANTS[name]
    step = make_step(
        lambda weights, frames: logits(weights, frames, variant, SURROGATE),
        adam(settings.rate, steps(settings, samples)),
    )
    classify: Classify = jax.jit(lambda weights, frames: jnp.argmax(logits(weights, frames, variant), axis=-1))
    return step, classify


def batches(
    data: Data, chosen: Indices, settings: Settings, run: int, epoch: int
) -> Iterator[tuple[Spikes, NDArray[np.int32]]]:
    """Yield one epoch's batches, in an order of its own, coded and shifted anew; equal for all modes."""
    rng = np.random.default_rng([1, run, epoch])
    order = rng.permutation(chosen)
    for n in range(len(chosen) // settings.batch):
        part = order[n * settings.batch : (n + 1) * settings.batch]
        frames = data.frames(part, seed=1 + n + 100_000 * (epoch + 1000 * run))
        yield jittered(frames, settings.jitter, rng), data.labels[part].astype(np.int32)


def jittered(frames: Spikes, most: int, rng: np.random.Generator) -> Spikes:
    """Shift each sample by at most so many pixels, around the edges."""
    if not most:
        return frames
    shifts = rng.integers(-most, most + 1, (frames.shape[1], 2)).tolist()
    return np.stack([np.roll(frames[:, b], (dy, dx), axis=(1, 2)) for b, (dy, dx) in enumerate(shifts)], axis=1)


def parts(frames: Spikes, labels: NDArray[Any]) -> Iterator[tuple[Spikes, NDArray[Any]]]:
    """Cut a test set into pieces of about equal size."""
    count = -(-len(labels) // TEST_BATCH)
    for places in np.array_split(np.arange(len(labels)), count):
        inside = slice(places[0], places[-1] + 1)
        yield frames[:, inside], labels[inside]


def _note(noted: list[tuple[float, float]], loss: float, seconds: float) -> None:
    noted.append((loss, seconds))


def timed(call: Callable[[], Any]) -> float:
    """Seconds until the result is there."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began
