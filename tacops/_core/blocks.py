"""Layers as whole calls, for libraries whose arrays are blocks of another library's (`Backend.run_blocks`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._backend.protocol import Array
from .._backend.whole import Move, Whole
from .._values import shape_of
from .layer import Driven, Layer

__all__ = ["whole_layer", "whole_neurons"]


def whole_layer(run: Callable[..., Any], layer: Layer, spikes: Array, first: bool, *, currents: bool = False) -> Whole:
    """A layer on spikes of its layout; without neurons if it gives `currents`."""
    window, time, weight = layer.window, layer.time, layer.weight
    axis = 3 if first else 2
    moves = zip(shape_of(weight)[1:-1], window.stride, window.dilation, window.padding, strict=True)
    return Whole(
        run,
        layer,
        layer.function,
        "spikes",
        dtype=None if layer.how.compact else weight.dtype,
        chunk=time.chunk_size,
        steps=time.frames,
        moves={axis + n: Move(*move) for n, move in enumerate(moves)},
        channel_axis=2 if first else spikes.ndim - 1,
        channels=weight.shape[0],
        state_dtype=weight.dtype,
        stateful=not currents,
        states=_states(layer),
        trace=layer.how.trace,
    )


def whole_neurons(run: Callable[..., Any], driven: Driven, current: Array) -> Whole:
    """Neurons on currents (T, B, ..., C), which are independent but for time."""
    return Whole(
        run,
        driven,
        driven.function,
        "current",
        dtype=None if driven.how.compact else current.dtype,
        chunk=1,
        steps=lambda frames: frames * driven.repeat,
        moves={},
        channel_axis=current.ndim - 1,
        channels=current.shape[-1],
        state_dtype=current.dtype,
        stateful=True,
        states=_states(driven),
        named_axis=driven.axis,
        trace=driven.how.trace,
    )


def _states(described: Layer | Driven) -> int:
    return 1 if described.neurons.synapse_decay is None else 2
