"""Rematerialisation: time is cut into parts, of which the backward pass keeps no more than what went in.

A layer of n chunks runs in about sqrt(n) parts, each a function of its frames, the state it starts from and the layer's
arrays. What happened inside a part is computed again when the backward pass reaches it (Chen et al., "Training Deep Nets
with Sublinear Memory Cost", arXiv:1604.06174), so memory holds the states between parts and the insides of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from .._backend.protocol import Array, Backend, State
from .._values import is_array

__all__ = ["run_in_parts"]

_ARRAY = "array"
Run: TypeAlias = Callable[..., tuple[Array, State]]


def run_in_parts(
    backend: Backend,
    run: Run,
    frames: Array,
    state: State | None,
    values: Sequence[Array | float | None],
    chunk: int,
) -> tuple[Array, State]:
    """``run(frames, state, *values)``, part by part.

    Parameters
    ----------
    backend : Backend
    run : callable
        Returns spikes, time first, and the state with which the next frames can be run.
    frames : array, shape (T, ...)
    state : tuple of arrays or None
    values : sequence of array, float or None
        Whatever else the result may be differentiated by. `run` must not reach such an array in another way: not every
        library would find its gradient.
    chunk : int
        Frames that stay together.
    """
    xp, T = backend.namespace(frames), frames.shape[0]
    chunks = -(-T // chunk)
    size = min(T, chunk * (math.isqrt(chunks - 1) + 1))  # the square root, rounded up
    arrays = [value for value in values if is_array(value)]
    plain = tuple(_ARRAY if is_array(value) else value for value in values)
    part = partial(_part, run, plain)  # without the arrays, so that a compiler can tell that it has seen it before
    fired, whole = [], T - T % size
    for some, length in ((frames[:whole, ...], size), (frames[whole:, ...], T - whole)):
        if length:
            parts = xp.reshape(some, (-1, length, *frames.shape[1:]))
            spikes, state = backend.remat(part, parts, state, arrays)
            fired.append(spikes)
    return fired[0] if len(fired) == 1 else xp.concat(fired, axis=0), state or ()


def _part(run: Run, plain: tuple[Any, ...], state: State | None, frames: Array, *arrays: Array) -> tuple[Array, State]:
    """``run(frames, state, *values)``, where the values are `plain` with the arrays in their places."""
    given = iter(arrays)
    return run(frames, state, *(next(given) if value is _ARRAY else value for value in plain))
