"""What a task computes: a call on one block, in one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tacops._backend.dispatch import backend_of
from tacops._core.checks import check_decay, check_lengths, check_threshold, fail, shape_of
from tacops._core.layer import Driven, Layer

from .._cpu.blas import OneBlasThread
from .._cpu.cores import one_core

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Backend, State

__all__ = ["Call", "gather", "part_of", "run_call", "run_train"]


class Call(NamedTuple):
    """What all blocks of one place have in common."""

    run: Callable[..., Any]
    described: Any
    """A `Described` without its arrays."""
    function: str
    argument: str
    padding: tuple[tuple[int, int], ...] | None
    start: int = 0
    """Of the block's frames, in time."""
    total: int = 0
    """Frames of the whole recording."""
    shape: tuple[int, ...] = ()
    """Of the block and its neighbours' borders, as the chunks of the frames say."""


def gather(*values: Any) -> list[Any]:
    """Weights and other numbers of a call, one task for all of its blocks; a block of no axes may come as a scalar."""
    return [np.asarray(value) if isinstance(value, np.generic) else value for value in values]


def part_of(result: Any, *places: Any) -> Any:
    """``result[places[0]][places[1]]``, as deep as it goes."""
    for place in places:
        result = result[place]
    return result


def run_call(call: Call, values: Sequence[Any], block: Any) -> Array:
    """An array of a block, or of a block and its neighbours' borders."""
    return _run(call, values, block, None, None)


def run_train(
    call: Call, values: Sequence[Any], block: Any, before: Any, lengths: Any
) -> tuple[Array, State, Array | None]:
    """Spikes, state and trace; `before` is such a result of the block of time before, or a state that was given."""
    state = None if before is None else tuple(before[1])
    train = _run(call, values, block, state, lengths)
    after = train.membrane if isinstance(train.membrane, tuple) else (train.membrane,)
    return train.spikes, after, getattr(train, "trace", None)


def _run(call: Call, values: Sequence[Any], block: Any, state: State | None, lengths: Any) -> Any:
    backend = _backend(call, values, block, state)
    held = OneBlasThread()
    try:
        held.hold()
        with one_core(), backend.undisturbed() or nullcontext():
            frames = _joined(backend, block, 0)
            if shape_of(frames) != call.shape:
                rule = f"in blocks as large as its chunks say, {call.shape}"
                raise fail(call.function, call.argument, rule, f"a block of shape {shape_of(frames)}")
            described = call.described.at(backend, tuple(values), call.padding)
            _check_values(described, frames)
            mine = None if lengths is None else _lengths(call, backend, frames, lengths)
            return call.run(described, frames, state, mine)
    finally:
        held.release()


def _backend(call: Call, values: Sequence[Any], block: Any, state: State | None) -> Backend:
    """The one of the blocks."""
    first = block
    while isinstance(first, list):
        first = first[0]
    others = [value for value in (*values, *(state or ())) if hasattr(value, "shape")]
    names = (f"the blocks of {call.argument}", *(f"array {n}" for n in range(1, len(others) + 1)))
    return backend_of(first, *others, function=call.function, names=names)


def _joined(backend: Backend, block: Any, axis: int) -> Array:
    """Neighbours' borders around a block: lists of lists, one level for every axis."""
    if not isinstance(block, list):
        return block
    parts = [_joined(backend, part, axis + 1) for part in block]
    return parts[0] if len(parts) == 1 else backend.namespace(parts[0]).concat(parts, axis=axis)


def _check_values(described: Any, frames: Array) -> None:
    """Decays and thresholds, which nobody could read before."""
    if not isinstance(described, (Layer, Driven)):
        return
    function, backend, neurons = described.function, described.backend, described.neurons
    like = described.weight if isinstance(described, Layer) else frames
    channels = like.shape[0] if isinstance(described, Layer) else like.shape[-1]
    check_decay(function, backend, like, "beta", neurons.beta, channels)
    check_threshold(function, backend, like, neurons.threshold, channels)
    if neurons.synapse_decay is not None:
        check_decay(function, backend, like, "synapse_decay", neurons.synapse_decay, channels)


def _lengths(call: Call, backend: Backend, frames: Array, lengths: Any) -> Any:
    """Each sample's frames in this block."""
    known = lengths if isinstance(lengths, tuple) else backend.read(lengths)
    for length in known or ():
        if not 0 <= length <= call.total:
            raise fail(call.function, "lengths", f"from 0 to the {call.total} frames", length)
    if known is None:
        xp = backend.namespace(lengths)
        mine = xp.astype(lengths, xp.int32) - call.start
        mine = xp.where(mine < 0, xp.zeros_like(mine), mine)
        mine = xp.where(mine > frames.shape[0], xp.zeros_like(mine) + frames.shape[0], mine)
    else:
        mine = tuple(min(max(int(length) - call.start, 0), frames.shape[0]) for length in known)
    return check_lengths(call.function, backend, mine, frames)
