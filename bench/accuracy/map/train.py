"""One training under a condition of the map, and its comparison with exact on the same test samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from bench.accuracy.map import network
from bench.accuracy.map.conditions import Condition
from bench.accuracy.modes import VARIANTS
from bench.accuracy.tasks import Spikes
from bench.shared.datasets import FASHION_MNIST, MNIST, load_images
from bench.shared.encoding import moving_dots
from bench.shared.model import Mode

BATCH = 100
TEST_BATCH = 500
MOVING = 12_000
"""Recordings of moving dots; the last are for the test."""
CLASSES = {"mnist": 10, "fashion": 10, "dots": 8, "patches": 8}
TEST_CODE, DATA_SEED, SETTLING = 1, 7, 1000
"""Seeds of the spikes that code test images and of the moving dots; training samples that settle a norm's statistics."""


class Samples:
    """Training and test samples of one data set: grey levels (N, H, W) or spikes (N, T, H, W, 1)."""

    def __init__(self, name: str, time_steps: int) -> None:
        self.train: NDArray[Any]
        self.test: NDArray[Any]
        if name in ("mnist", "fashion"):
            dataset = MNIST if name == "mnist" else FASHION_MNIST
            (x, y), (test, test_labels) = (load_images(dataset, split) for split in ("train", "test"))
            self.train, self.labels = x, y.astype(np.int32)
            self.test, self.test_labels = test, test_labels.astype(np.int32)
        else:
            spikes, labels = moving_dots(MOVING, 1 if name == "dots" else 2, time_steps, seed=DATA_SEED)
            cut = [MOVING - Condition.tested]
            self.train, self.test = np.split(spikes, cut)
            self.labels, self.test_labels = np.split(labels.astype(np.int32), cut)

    def frames(self, samples: NDArray[Any], condition: Condition, seed: Sequence[int]) -> Spikes:
        """Spikes (T, B, H, W, C): images coded by independent draws, recordings as they are."""
        if samples.ndim == 5:
            return np.ascontiguousarray(np.moveaxis(samples, 1, 0))
        draws = np.random.default_rng(seed).random((condition.time_steps, *samples.shape), np.float32)
        spikes: Spikes = (draws < np.float32(condition.brightest / 255) * samples)[..., None]
        return spikes


def train(samples: Samples, condition: Condition, names: Sequence[str], seed: int) -> dict[str, Any]:
    """Train and test modes with one seed; all see the same weights, batches and spikes.

    Returns
    -------
    dict
        By mode: ``accuracy``; its ``gain`` over exact, and ``differs``, the share of test samples that exactly one of
        the two gets right; ``loss``, the last epoch's mean.
    """
    right: dict[str, NDArray[np.bool_]] = {}
    found: dict[str, Any] = {}
    for name in names:
        right[name], loss = _one(samples, condition, VARIANTS[name].mode, seed)
        record = {"accuracy": float(right[name].mean()), "loss": loss}
        record["gain"] = record["accuracy"] - found["exact"]["accuracy"] if found else 0.0
        record["differs"] = float((right[name] != right["exact"]).mean())
        found[name] = record
    return found


def _one(samples: Samples, condition: Condition, mode: Mode, seed: int) -> tuple[NDArray[np.bool_], float]:
    """Which test samples one mode gets right, and its last epoch's mean loss."""
    classes, tested = CLASSES[condition.data], condition.tested
    frame = (*samples.train.shape[-2:], 1) if samples.train.ndim == 3 else samples.train.shape[2:]
    compiled = _compiled(condition, mode)
    weights: Any = {
        name: jnp.asarray(array) for name, array in network.initial(condition, frame, classes, seed).items()
    }
    state = compiled.optimiser.init(weights)
    losses: list[Any] = []
    for epoch in range(condition.epochs):
        losses = []
        for frames, labels in _batches(samples, condition, seed, epoch):
            weights, state, loss = compiled.step(weights, state, frames, labels)
            losses.append(loss)
    first = samples.frames(samples.train[: min(SETTLING, condition.training)], condition, [2, seed])
    statistics = compiled.settle(weights, first) if condition.norm else None
    parts = [
        compiled.classify(weights, samples.frames(part, condition, [TEST_CODE, n]), statistics)
        for n, part in enumerate(np.array_split(samples.test[:tested], -(-tested // TEST_BATCH)))
    ]
    return np.concatenate([np.asarray(part) for part in parts]) == samples.test_labels[:tested], float(np.mean(losses))


def _batches(
    samples: Samples, condition: Condition, seed: int, epoch: int
) -> Iterator[tuple[Spikes, NDArray[np.int32]]]:
    """One epoch, in an order and a code of its own; equal for all modes."""
    order = np.random.default_rng([3, seed, epoch]).permutation(condition.training)
    for n in range(condition.training // BATCH):
        part = order[n * BATCH : (n + 1) * BATCH]
        yield samples.frames(samples.train[part], condition, [4, seed, epoch, n]), samples.labels[part]


class _Compiled(NamedTuple):
    """What one mode runs under a condition; the seeds share it."""

    optimiser: Any
    step: Any
    settle: Any
    """The norm's statistics of training samples."""
    classify: Any


@lru_cache(maxsize=8)
def _compiled(condition: Condition, mode: Mode) -> _Compiled:
    steps = condition.epochs * (condition.training // BATCH)
    optimiser = optax.adam(optax.cosine_decay_schedule(condition.learning_rate, steps))
    derivative = network.surrogate(condition)
    run = partial(network.logits, condition=condition, mode=mode)

    def loss(weights: Any, frames: Any, labels: Any) -> Any:
        scores, _ = run(weights, frames, derivative=derivative)
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    def step(weights: Any, state: Any, frames: Any, labels: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(weights, frames, labels)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(weights, updates), state, value

    def settle(weights: Any, frames: Any) -> Any:
        return run(weights, frames)[1]

    def classify(weights: Any, frames: Any, statistics: Any) -> Any:
        return jnp.argmax(run(weights, frames, statistics=statistics)[0], axis=-1)

    return _Compiled(optimiser, jax.jit(step), jax.jit(settle), jax.jit(classify))
