"""Recordings of any length: a network fed piece by piece, its membranes handed on, does what it does in one go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tacops import SpikeTrain, conv_lif, lif, tac_conv, tac_linear
from tacops.backends import Backend
from tests.support import judge
from tests.support.cases import Layer, assert_close, assert_same, float_layer, grid_layer, run

DYADIC: dict[str, Any] = {"beta": 0.5, "aggregation": "decay"}


def _stream(backend: Backend, function: Any, layer: Layer, lengths: list[int], **options: Any) -> SpikeTrain:
    """Feed a layer piece by piece: the pieces' spikes joined, and the last membrane."""
    membrane, spikes, start = None, [], 0
    for length in lengths:
        piece = replace(layer, spikes=layer.spikes[start : start + length])
        train = run(backend, function, *piece, membrane=membrane, **options)
        membrane, start = train.membrane, start + length
        spikes.append(train.spikes)
    assert start == layer.spikes.shape[0]
    return SpikeTrain(np.concatenate(spikes), membrane)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none", "late"])
@pytest.mark.parametrize("mode", ["collapse", "preserve"])
def test_pieces_of_whole_chunks(backend: Backend, mode: str, reset: str) -> None:
    """Pieces of one, two and one and a half chunks: only the last one of all may be ragged."""
    layer = grid_layer(21, steps=9)
    options: dict[str, Any] = {"chunk_size": 2, "mode": mode, "reset": reset, **DYADIC}
    whole = run(backend, tac_conv, *layer, **options)
    assert_same("membrane", whole.membrane, judge.tac(*layer, **options).membrane)
    pieces = _stream(backend, tac_conv, layer, [2, 4, 3], **options)
    assert_same("spikes", pieces.spikes, whole.spikes)
    assert_same("membrane", pieces.membrane, whole.membrane)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_frame_by_frame(backend: Backend, layout: str) -> None:
    """The exact layer takes any pieces, single frames too; membranes keep the layout."""
    layer = grid_layer(22, steps=5)
    if layout == "channels_first":
        layer = layer.channels_first()
    options: dict[str, Any] = {"layout": layout, "beta": 0.5, "padding": "same"}
    whole = run(backend, conv_lif, *layer, **options)
    pieces = _stream(backend, conv_lif, layer, [1, 1, 2, 1], **options)
    assert_same("spikes", pieces.spikes, whole.spikes)
    assert_same("membrane", pieces.membrane, whole.membrane)


def test_linear_pieces(backend: Backend) -> None:
    """Fully connected layers stream alike."""
    layer = grid_layer(23, steps=6, spatial=(), kernel=(), c_in=16)
    whole = run(backend, tac_linear, *layer, chunk_size=3, **DYADIC)
    pieces = _stream(backend, tac_linear, layer, [3, 3], chunk_size=3, **DYADIC)
    assert_same("spikes", pieces.spikes, whole.spikes)
    assert_same("membrane", pieces.membrane, whole.membrane)


def test_neurons_alone(backend: Backend) -> None:
    """Streams of currents."""
    current = np.random.default_rng(24).integers(-8, 24, (6, 2, 7)).astype(np.float32) / 16
    whole = run(backend, lif, current, beta=0.5, repeat=2)
    head = run(backend, lif, current[:2], beta=0.5, repeat=2)
    tail = run(backend, lif, current[2:], beta=0.5, repeat=2, membrane=head.membrane)
    assert_same("spikes", np.concatenate([head.spikes, tail.spikes]), whole.spikes)
    assert_same("membrane", tail.membrane, whole.membrane)


@pytest.mark.parametrize("mode", ["collapse", "preserve"])
def test_arbitrary_weights(backend: Backend, mode: str) -> None:
    """Off the grid the pieces meet the judge within rounding, with the default decay and aggregation."""
    layer = float_layer(25, steps=8)
    pieces = _stream(backend, tac_conv, layer, [4, 4], chunk_size=4, mode=mode)
    assert_close(pieces, judge.tac(*layer, chunk_size=4, mode=mode))


def test_a_split_inside_a_chunk_is_something_else(backend: Backend) -> None:
    """Pieces that are no whole chunks fire in between: the tests above would notice if chunks were cut anywhere."""
    layer = grid_layer(26, steps=8)
    whole = run(backend, tac_conv, *layer, chunk_size=4, **DYADIC)
    pieces = _stream(backend, tac_conv, layer, [2, 6], chunk_size=4, **DYADIC)
    assert pieces.spikes.shape[0] == 3
    assert not np.array_equal(pieces.membrane, whole.membrane)


@pytest.mark.parametrize(("mode", "frames"), [("collapse", 2), ("preserve", 5)])
def test_lengths_that_end_with_whole_chunks(mode: Any, frames: int) -> None:
    """Of fewer frames than the batch, which is not a whole number of chunks: results have its shape all the same."""
    layer = grid_layer(25, steps=5, batch=2, spatial=(), kernel=(), c_in=4)
    options: dict[str, Any] = {"chunk_size": 3, "mode": mode, **DYADIC}
    train = tac_linear(*layer, lengths=[3, 0], trace=True, **options)
    alone = tac_linear(layer.spikes[:3, :1], layer.weight, layer.bias, **options)
    count = alone.spikes.shape[0]
    assert train.spikes.shape == train.trace.shape == (frames, 2, layer.weight.shape[0])
    assert_same("spikes", train.spikes[:count, :1], alone.spikes)
    assert not train.spikes[count:].any()
    assert not train.spikes[:, 1].any()
    assert_same("membrane", train.membrane[:1], alone.membrane)
    assert_same("trace", train.trace[-1], train.membrane)
