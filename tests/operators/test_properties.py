"""What defines correctness, on every backend: aggregation changes the cost of a layer and never its meaning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tacops import conv_lif, membrane_error_bound, tac_conv, tac_linear
from tacops.backends import Backend
from tests.support import judge
from tests.support.cases import (
    Layer,
    assert_close,
    assert_exact,
    assert_lively,
    assert_same,
    float_layer,
    grid_layer,
    run,
)

MODES = ("collapse", "preserve")
RESETS = ("subtract", "zero", "none", "late")


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("mode", MODES)
def test_single_frame_chunks_are_the_plain_simulation(backend: Backend, mode: str, reset: str) -> None:
    """chunk_size=1 is convolution and LIF for every frame, in both modes, and so is conv_lif."""
    layer = grid_layer(3)
    want = judge.plain(*layer, beta=0.5, reset=reset, padding=1)
    assert_lively(want, ties=1.0)
    assert_exact(run(backend, tac_conv, *layer, chunk_size=1, mode=mode, beta=0.5, reset=reset, padding=1), want)
    assert_exact(run(backend, conv_lif, *layer, beta=0.5, reset=reset, padding=1), want)


@pytest.mark.parametrize("chunk", [2, 3, 4])
def test_collapse_without_reset_keeps_the_membrane(backend: Backend, chunk: int) -> None:
    """With reset="none" the membrane at the end of every chunk, also of a shorter last one, is the plain simulation's."""
    layer = grid_layer(4, steps=7)
    ends = [*range(chunk, 7, chunk), 7]
    for end in ends:
        head = replace(layer, spikes=layer.spikes[:end])
        want = judge.plain(*head, beta=0.5, reset="none")
        got = run(backend, tac_conv, *head, chunk_size=chunk, beta=0.5, reset="none")
        assert_same(f"membrane after frame {end}", got.membrane, want.membrane)


@pytest.mark.parametrize("beta", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("chunk", [2, 4])
def test_preserve_without_reset_keeps_the_membrane(backend: Backend, chunk: int, beta: float) -> None:
    """The same for preserve, whose default aggregation is divided by its sum; bias included."""
    layer = float_layer(5, steps=7)
    for end in [*range(chunk, 7, chunk), 7]:
        head = replace(layer, spikes=layer.spikes[:end])
        want = judge.plain(*head, beta=beta, reset="none")
        got = run(backend, tac_conv, *head, chunk_size=chunk, mode="preserve", beta=beta, reset="none")
        assert np.abs(want.membrane).max() > 1
        np.testing.assert_allclose(got.membrane, want.membrane, rtol=0, atol=2e-5, err_msg=f"after frame {end}")


@pytest.mark.parametrize("mode", MODES)
def test_a_split_at_a_chunk_boundary_changes_nothing(backend: Backend, mode: str) -> None:
    """Two calls, the first one's membrane handed to the second, give what one call gives."""
    layer = grid_layer(6, steps=8)
    options: dict[str, Any] = {"chunk_size": 2, "mode": mode, "beta": 0.5, "aggregation": "decay", "padding": "same"}
    whole = run(backend, tac_conv, *layer, **options)
    head = run(backend, tac_conv, *replace(layer, spikes=layer.spikes[:4]), **options)
    tail = run(backend, tac_conv, *replace(layer, spikes=layer.spikes[4:]), membrane=head.membrane, **options)
    assert_same("spikes", np.concatenate([head.spikes, tail.spikes]), whole.spikes)
    assert_same("membrane", tail.membrane, whole.membrane)


@pytest.mark.parametrize("mode", MODES)
def test_samples_do_not_see_each_other(backend: Backend, mode: str) -> None:
    """Any batch size and any order of the batch, one sample at a time or nineteen at once: the same answers."""
    layer = grid_layer(7, steps=4, batch=19, spatial=(9, 8))
    options: dict[str, Any] = {"chunk_size": 2, "mode": mode, "beta": 0.5, "aggregation": "decay", "padding": 1}
    whole = run(backend, tac_conv, *layer, **options)
    assert_exact(whole, judge.tac(*layer, **options))
    order = np.random.default_rng(0).permutation(19)
    mixed = run(backend, tac_conv, *replace(layer, spikes=layer.spikes[:, order]), **options)
    assert_same("spikes, permuted", mixed.spikes, whole.spikes[:, order])
    assert_same("membrane, permuted", mixed.membrane, whole.membrane[order])
    for n in (0, 18):
        one = run(backend, tac_conv, *replace(layer, spikes=layer.spikes[:, n : n + 1]), **options)
        assert_same(f"spikes of sample {n}", one.spikes, whole.spikes[:, n : n + 1])
        assert_same(f"membrane of sample {n}", one.membrane, whole.membrane[n : n + 1])


@pytest.mark.parametrize("spatial", [(), (1500,), (40, 41)])
def test_large_batches_equal_small_ones(backend: Backend, spatial: tuple[int, ...]) -> None:
    """Enough samples that a backend which works in tiles needs several, the last one not full."""
    batch = 37 if spatial else 6001
    layer = grid_layer(8, steps=3, batch=batch, spatial=spatial, kernel=(3,) * len(spatial), c_in=3, c_out=4)
    function = tac_conv if spatial else tac_linear
    whole = run(backend, function, *layer, chunk_size=2, beta=0.5)
    half = batch // 2
    for part in (slice(0, half), slice(half, None)):
        got = run(backend, function, *replace(layer, spikes=layer.spikes[:, part]), chunk_size=2, beta=0.5)
        assert_same("spikes", got.spikes, whole.spikes[:, part])
        assert_same("membrane", got.membrane, whole.membrane[part])
    few = replace(layer, spikes=layer.spikes[:, -3:])
    want = judge.tac(*few, chunk_size=2, beta=0.5)
    assert_lively(want)
    assert_same("spikes of the last samples", whole.spikes[:, -3:], want.spikes)
    assert_same("membrane of the last samples", whole.membrane[-3:], want.membrane)


@pytest.mark.parametrize("chunk", [2, 3])
@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_published_equations(backend: Backend, beta: float, chunk: int) -> None:
    """aggregation="decay" without a bias is TAC and TAC-TP as published."""
    layer = grid_layer(9, steps=7)
    x, w = layer.spikes, layer.weight
    options: dict[str, Any] = {"chunk_size": chunk, "beta": beta, "padding": 1, "aggregation": "decay"}
    compare = assert_exact if beta == 0.5 else assert_close
    want = judge.published_collapse(x, w, chunk, beta, 1.0, 1)
    assert_lively(want)
    compare(run(backend, tac_conv, x, w, mode="collapse", **options), want)
    want = judge.published_preserve(x, w, chunk, beta, 1.0, 1)
    assert_lively(want)
    compare(run(backend, tac_conv, x, w, mode="preserve", **options), want)


def test_membrane_error_stays_under_the_bound(backend: Backend) -> None:
    """What a collapsed neuron holds just before it fires, against the plain simulation.

    The bound at the neurons' rates holds for the average over neurons; no single one exceeds the bound at rate 1.
    """
    layer = _bounded_layer()
    for beta, chunk in [(0.5, 4), (0.9, 4), (0.9, 8), (0.9, 16)]:
        plain = judge.plain(*layer, beta=beta)
        got = run(backend, tac_linear, *layer, chunk_size=chunk, beta=beta)
        before = got.membrane + got.spikes[-1]  # undo the subtraction of the threshold, 1
        error = np.abs(before - plain.potentials[-1])
        rates = plain.spikes.mean(axis=0).ravel()
        assert rates.mean() > 0.05
        assert 0.05 < error.mean() <= np.mean([membrane_error_bound(float(rate), beta=beta) for rate in rates])
        assert error.max() <= membrane_error_bound(1.0, beta=beta)


def test_membrane_error_bound_is_the_formula() -> None:
    """The bound is rate * threshold * beta / (1 - beta)."""
    assert membrane_error_bound(0.25, threshold=2.0, beta=0.75) == 1.5
    assert membrane_error_bound(0.0) == 0.0
    assert membrane_error_bound(1, beta=0) == 0.0


def _bounded_layer() -> Layer:
    rng = np.random.default_rng(11)
    x = (rng.random((16, 64, 32)) < 0.3).astype(np.float32)
    w = rng.uniform(-0.05, 0.15, (24, 32)).astype(np.float32)
    return Layer(x, w, np.zeros(24, np.float32))
