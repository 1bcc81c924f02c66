"""One training under a condition of the map, and its comparison with exact on the same test samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
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


class Training(Protocol):
    """A network in training."""

    def step(self, frames: Spikes, labels: NDArray[np.int32]) -> Any:
        """Take one step of Adam, and return the batch's mean loss; a library may compute it later."""

    def settle(self, frames: Spikes) -> None:
        """Normalise by the statistics of these frames from now on."""

    def classify(self, frames: Spikes) -> NDArray[Any]:
        """The most likely class of each sample."""


Start = Callable[[Condition, Mode, int, Mapping[str, NDArray[np.float32]]], Training]
"""Begin a training of so many steps from these weights."""


def versions_of(condition: Condition) -> dict[str, str]:
    """Versions of what trains, beside what every condition needs."""
    return {} if condition.library == "jax" else {condition.library: version(condition.library)}


def train(
    samples: Samples,
    condition: Condition,
    names: Sequence[str],
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
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
        right[name], loss = _one(samples, condition, VARIANTS[name].mode, seed, tell)
        record = {"accuracy": float(right[name].mean()), "loss": loss}
        record["gain"] = record["accuracy"] - found["exact"]["accuracy"] if found else 0.0
        record["differs"] = float((right[name] != right["exact"]).mean())
        found[name] = record
        tell(f"{VARIANTS[name].label}: {record['accuracy']:.2%} right")
    return found


def _one(
    samples: Samples, condition: Condition, mode: Mode, seed: int, tell: Callable[[str], None]
) -> tuple[NDArray[np.bool_], float]:
    """Which test samples one mode gets right, and its last epoch's mean loss."""
    start: Start = import_module(f"bench.accuracy.map.with_{condition.library}").start
    frame = (*samples.train.shape[-2:], 1) if samples.train.ndim == 3 else samples.train.shape[2:]
    weights = network.initial(condition, frame, CLASSES[condition.data], seed)
    training = start(condition, mode, condition.epochs * (condition.training // BATCH), weights)
    losses: list[Any] = []
    for epoch in range(condition.epochs):
        losses = [training.step(*batch) for batch in _batches(samples, condition, seed, epoch)]
        tell(f"{mode.label}, epoch {epoch + 1} of {condition.epochs}: loss {np.mean(losses):.3f}")
    if condition.norm:
        first = samples.train[: min(SETTLING, condition.training)]
        training.settle(samples.frames(first, condition, [2, seed]))
    tested = condition.tested
    parts = [
        training.classify(samples.frames(part, condition, [TEST_CODE, n]))
        for n, part in enumerate(np.array_split(samples.test[:tested], -(-tested // TEST_BATCH)))
    ]
    return np.concatenate(parts) == samples.test_labels[:tested], float(np.mean(losses))


def _batches(
    samples: Samples, condition: Condition, seed: int, epoch: int
) -> Iterator[tuple[Spikes, NDArray[np.int32]]]:
    """One epoch, in an order and a code of its own; equal for all modes."""
    order = np.random.default_rng([3, seed, epoch]).permutation(condition.training)
    for n in range(condition.training // BATCH):
        part = order[n * BATCH : (n + 1) * BATCH]
        yield samples.frames(samples.train[part], condition, [4, seed, epoch, n]), samples.labels[part]
