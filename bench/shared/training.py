"""What all training here shares: Adam on a cosine schedule, the compiled step through a surrogate, the loop, the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

import tacops

Weights: TypeAlias = dict[str, Any]
State: TypeAlias = tuple[Weights, Any]
Step: TypeAlias = Callable[..., tuple[State, Any]]
SLOPE = 5.0
SURROGATE = tacops.surrogate.fast_sigmoid(slope=SLOPE)


def adam(rate: float, steps: int) -> optax.GradientTransformation:
    """Adam, its learning rate falling from ``rate`` to 0 along a cosine over ``steps``."""
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def start(weights: dict[str, NDArray[Any]], optimiser: optax.GradientTransformation) -> State:
    """Put initial weights and the optimiser's state on the device."""
    placed: Weights = {name: jnp.asarray(array) for name, array in weights.items()}
    return placed, optimiser.init(placed)


def make_step(logits: Callable[..., Any], optimiser: optax.GradientTransformation) -> Step:
    """Build the compiled training step.

    Parameters
    ----------
    logits : callable
        ``logits(weights, *inputs) -> (B, classes)``.
    optimiser : optax.GradientTransformation

    Returns
    -------
    callable
        ``step(state, *inputs, labels) -> (state, loss)``, the loss being the mean cross-entropy.
    """

    def loss(weights: Weights, inputs: tuple[Any, ...], labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits(weights, *inputs), labels).mean()

    def step(state: State, *batch: Any) -> tuple[State, Any]:
        weights, optimiser_state = state
        value, gradient = jax.value_and_grad(loss)(weights, batch[:-1], batch[-1])
        updates, optimiser_state = optimiser.update(gradient, optimiser_state)
        return (optax.apply_updates(weights, updates), optimiser_state), value

    compiled: Step = jax.jit(step)
    return compiled


def fit(step: Step, state: State, batches: Iterable[tuple[Any, ...]], report: Callable[[float, float], None]) -> State:
    """Take a step for every batch; ``report`` gets its loss and the seconds that the step took."""
    for batch in batches:
        began = time.perf_counter()
        state, loss = step(state, *batch)
        value = float(loss)  # waits for the device
        report(value, time.perf_counter() - began)
    return state


def accuracy(classify: Callable[[Any], Any], batches: Iterable[tuple[Any, NDArray[Any]]]) -> float:
    """Share of right answers over (inputs, labels)."""
    right = total = 0
    for inputs, labels in batches:
        right += int((np.asarray(classify(inputs)) == labels).sum())
        total += len(labels)
    return right / total
