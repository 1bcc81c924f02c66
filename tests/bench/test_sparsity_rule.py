"""bench sparsity: what the operator does by its rule against every other way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.sparsity.cases import LAYERS, NEURONS, RULE, WAYS, Workload
from bench.sparsity.layer import check_layer, layer_call
from bench.sparsity.result import SparsityResult, SparsityRow
from bench.sparsity.rule import choices, rule_rows, sentences
from bench.sparsity.subject import SparseSubject
from bench.timing.cases import CASES, describe_case
from bench.timing.subject import UnsupportedError
from bench.timing.times import Times
from tacops.backends._cpu import choose

LAYER = Workload(replace(CASES["S1"], B=1, space=(6, 6)), "iid", 0.2)


def result(**milliseconds: float) -> SparsityResult:
    found = SparsityResult({}, {})
    found.cases = {"S1": describe_case(CASES["S1"])}
    found.rows = [
        SparsityRow("S1", "iid", 0.02, "numpy", name.replace("_", " "), "only", Times.of([[value / 1e3]]))
        for name, value in milliseconds.items()
    ]
    return found


def test_a_better_way_is_named() -> None:
    found = result(rule=3.0, by_dense=6.0, by_events=2.0)
    ((choice),) = choices(found)
    assert choice.best[0] == "by events"
    assert choice.best[1] == pytest.approx(0.002)
    (said,) = sentences(found)
    assert "in 1 of the 1 layers" in said
    assert "S1, iid at 2 %: 1.50 x (by its loops over events)" in said
    assert rule_rows(found)[0][-1] == "1.50 (!)"


def test_a_strategy_needs_its_neurons() -> None:
    """Two milliseconds of currents and two of neurons are no better than three of both."""
    found = result(rule=3.0, scatter=2.0, neurons=2.0)
    assert choices(found)[0].over == pytest.approx(0.75)
    assert sentences(found)[0].startswith("No other way or strategy beats")
    assert not choices(result(rule=3.0, scatter=2.0)), "without their time nothing is said"
    assert not sentences(result(scatter=2.0))


@pytest.mark.parametrize("contender", LAYERS.values(), ids=lambda contender: contender.name)
def test_every_way_fires_the_dense_layers_spikes(contender: object) -> None:
    pytest.importorskip("numba")
    (variant,) = SparseSubject("numpy").variants(LAYER, contender)  # type: ignore[arg-type]
    assert variant.spikes is not None
    variant.spikes(variant.call())
    assert choose.forced() is None


def test_wrong_spikes_are_an_error() -> None:
    from functools import partial

    from bench.sparsity.subject import expected

    currents = partial(expected, LAYER)
    right = layer_call(NEURONS, None, None, currents)()
    check_layer(right, LAYER, RULE, currents)
    with pytest.raises(RuntimeError, match="not the dense layer's spikes"):
        check_layer(~np.asarray(right), LAYER, RULE, currents)


def test_ways_that_a_layer_does_not_have() -> None:
    pytest.importorskip("numba")
    x, w = np.zeros((1, 1, 4, 4, 64), bool), np.zeros((2, 3, 3, 64), np.float32)
    with pytest.raises(UnsupportedError, match="no table"):
        layer_call(WAYS["by tables"], x, w, lambda: None)
