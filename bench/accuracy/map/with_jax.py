"""The map's trainings in JAX: one program for each condition and mode, which all seeds share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from bench.accuracy.map import network
from bench.accuracy.map.conditions import Condition
from bench.accuracy.tasks import Spikes
from bench.shared.model import Mode


class Training:
    """See `bench.accuracy.map.train.Training`."""

    def __init__(self, programs: Programs, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self.programs = programs
        self.weights: Any = {name: jnp.asarray(array) for name, array in weights.items()}
        self.state = programs.optimiser.init(self.weights)
        self.statistics: Any = None

    def step(self, frames: Spikes, labels: NDArray[np.int32]) -> Any:
        """One step of Adam; the batch's mean loss."""
        self.weights, self.state, loss = self.programs.step(self.weights, self.state, frames, labels)
        return loss

    def settle(self, frames: Spikes) -> None:
        """Normalise by the statistics of these frames from now on."""
        self.statistics = self.programs.settle(self.weights, frames)

    def classify(self, frames: Spikes) -> NDArray[Any]:
        """The most likely class of each sample."""
        return np.asarray(self.programs.classify(self.weights, frames, self.statistics))


def start(condition: Condition, mode: Mode, steps: int, weights: Mapping[str, NDArray[np.float32]]) -> Training:
    """Begin a training of so many steps."""
    return Training(_programs(condition, mode, steps), weights)


class Programs(NamedTuple):
    """What one mode runs under a condition."""

    optimiser: Any
    step: Any
    settle: Any
    classify: Any


@lru_cache(maxsize=8)
def _programs(condition: Condition, mode: Mode, steps: int) -> Programs:
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

    return Programs(optimiser, jax.jit(step), jax.jit(settle), jax.jit(classify))
