"""bench accuracy: the network in all modes, and that training trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.accuracy.model import aggregation, initial, logits, shapes
from bench.accuracy.modes import VARIANTS
from bench.accuracy.run import LoadedTask
from bench.shared import model
from tests.support.accuracy_tasks import TINY

# network


@pytest.mark.parametrize("name", VARIANTS)
def test_every_mode_answers(name: str) -> None:
    variant = VARIANTS[name]
    weights = {key: jnp.asarray(a) for key, a in initial(shapes((10, 7, 2), 3, 5), variant, 0).items()}
    frames = jnp.zeros((16, 4, 10, 7, 2), bool)
    answer = jax.eval_shape(lambda weights, frames: logits(weights, frames, variant), weights, frames)
    assert (answer.shape, answer.dtype) == ((4, 3), jnp.float32)


def test_the_network_is_that_of_the_demonstration() -> None:
    frames = jnp.asarray(np.random.default_rng(0).random((16, 2, 28, 28, 1)) < 0.2)
    trained = model.load_trained()
    for name in ("exact", "collapse4", "preserve4"):
        weights = {key: jnp.asarray(array) for key, array in trained.parameters[name].items()}
        assert {key: array.shape for key, array in weights.items()} == shapes((28, 28, 1), 10, 3)
        expected = model.forward(weights, frames, model.MODES[name], jnp).logits
        np.testing.assert_array_equal(logits(weights, frames, VARIANTS[name]), expected)


@pytest.mark.parametrize(
    ("name", "count"), [("exact", 32), ("collapse4", 8), ("preserve2", 16), ("deep2", 12), ("deep4", 5)]
)
def test_convolutions_are_counted(name: str, count: int) -> None:
    assert VARIANTS[name].convolutions(16) == count


def test_learned_aggregation_starts_as_decay() -> None:
    sizes = shapes((8, 8, 1), 4, 3)
    weights = {key: jnp.asarray(a) for key, a in initial(sizes, VARIANTS["learned4"], 1).items()}
    np.testing.assert_allclose(aggregation(weights, VARIANTS["learned4"]), 0.9 ** np.arange(3, -1, -1), rtol=1e-6)
    weights["aggregation"] = jnp.asarray([5.0, 0.0, -3.0, 1.0])
    np.testing.assert_allclose(aggregation(weights, VARIANTS["learned4"]).sum(), 1 + 0.9 + 0.81 + 0.729, rtol=1e-6)


def test_only_the_plain_sum_forgets_the_order() -> None:
    rng = np.random.default_rng(0)
    frames = jnp.asarray(rng.random((16, 8, 8, 8, 1)) < 0.3)
    weights = {key: jnp.asarray(a) for key, a in initial(shapes((8, 8, 1), 4, 3), VARIANTS["exact"], 1).items()}
    weights = {key: jnp.asarray(rng.normal(0, 0.3, a.shape), jnp.float32) for key, a in weights.items()}
    changed = {
        name: bool((logits(weights, frames, VARIANTS[name]) != logits(weights, frames[::-1], VARIANTS[name])).any())
        for name in ("sum16", "collapse16", "exact")
    }
    assert changed == {"sum16": False, "collapse16": True, "exact": True}


# training


@pytest.fixture(scope="module")
def trained() -> Callable[[str], dict[str, Any]]:
    """The record of one training in a mode."""
    return cache(lambda name: LoadedTask(TINY).train(name, 0, lambda word, share: None))


@pytest.mark.parametrize("name", ["exact", "learned4", "preserve4"])
def test_training_learns(name: str, trained: Callable[[str], dict[str, Any]]) -> None:
    record = trained(name)
    assert record["losses"][-1] < 0.6 * record["losses"][0]
    assert record["accuracy"] >= 0.8
    assert (record["training"], record["tested"], len(record["curve"])) == (80, 40, 6)
    assert ("aggregation" in record) == (name == "learned4")
    if name == "learned4":
        assert not np.allclose(record["aggregation"], 0.9 ** np.arange(3, -1, -1), atol=1e-3)


def test_training_repeats(trained: Callable[[str], dict[str, Any]]) -> None:
    again = LoadedTask(TINY).train("preserve4", 0, lambda word, share: None)
    assert again["losses"] == trained("preserve4")["losses"]
    assert again["accuracy"] == trained("preserve4")["accuracy"]
