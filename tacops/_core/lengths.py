"""Sequences of different length in one batch.

A sample of L frames gives what it gives alone, whatever the batch holds beyond its end. All samples run through the whole
chunks together. What a sample's last, shorter chunk gives is computed once for each number of frames that such a chunk
has, and selected; so lengths that are no multiples of K cost up to K - 1 more convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from .._backend.protocol import Array, Backend, State

__all__ = ["run_ragged"]

Run: TypeAlias = Callable[[Array, "State | None"], Array]
"""Frames (T, B, ...) and a state to spikes and states of every step, (steps, 1 + states, B, ...)."""


def run_ragged(
    backend: Backend,
    run: Run,
    frames: Array,
    state: State | None,
    lengths: Array,
    chunk: int,
    steps: Callable[[Any], Any],
) -> tuple[Array, tuple[Array, ...], State]:
    """Spikes, and each array of the state, of every step, (steps, B, ...), and every sample's last state, (B, ...).

    Parameters
    ----------
    backend : Backend
    run : callable
    frames : array, shape (T, B, ...)
    state : tuple of arrays, shape (B, ...), or None
    lengths : array, shape (B,), integer
        Frames of each sample, 0 to T.
    chunk : int
        Frames that share a convolution.
    steps : callable
        How many steps a number of frames gives; of an int, or of an array of them.
    """
    xp, T = backend.namespace(frames), frames.shape[0]
    frames = _select(xp, _times(xp, T, lengths) < lengths, frames, xp.zeros_like(frames))
    whole = lengths // chunk * chunk
    full, boundary, ends = T - T % chunk, steps(whole), steps(lengths)
    parts = [run(frames[:full, ...], state)] if full else []
    rests = _rests(backend, lengths - whole, min(chunk - 1, T))
    if not parts and not rests:  # no sample has a frame, and yet the result has a shape
        rests = [1]
    if rests:
        start = _last(xp, _states(parts[0]), boundary, state) if parts else state
        tails = _pick(xp, frames, _times(xp, rests[-1], lengths) + whole)
        parts.append(_tail(xp, run, tails, start, lengths - whole, rests))
    if full == T and not rests:
        fired, after = parts[0][:, 0, ...], _states(parts[0])
        at = _times(xp, fired.shape[0], lengths)
    else:
        every = parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)
        at = _times(xp, steps(T), lengths)
        place = xp.where(at < boundary, at, at - boundary + steps(full))
        fired, *others = (_pick(xp, every[:, n, ...], place) for n in range(every.shape[1]))
        after = tuple(others)
    last, alive = _last(xp, after, ends, state), at < ends
    fired = _select(xp, alive, fired, xp.zeros_like(fired))
    return fired, tuple(_select(xp, alive, x, end) for x, end in zip(after, last, strict=True)), last


def _states(train: Array) -> tuple[Array, ...]:
    """Every array of the state, of what a `Run` returns."""
    return tuple(train[:, n, ...] for n in range(1, train.shape[1]))


def _last(xp: Any, after: tuple[Array, ...], steps: Array, state: State | None) -> State:
    """The state of each sample after so many of its steps, of which it may have none."""
    resting = tuple(xp.zeros_like(x[0, ...]) for x in after) if state is None else state
    pairs = zip(after, resting, strict=True)
    return tuple(_select(xp, steps > 0, _pick(xp, x, steps - 1), rest) for x, rest in pairs)


def _rests(backend: Backend, rest: Array, most: int) -> list[int]:
    """Numbers of frames that shorter chunks have: those of the batch where they can be read, else all."""
    known = backend.read(rest)
    return [n for n in range(1, most + 1) if known is None or n in known]


def _tail(xp: Any, run: Run, frames: Array, state: State | None, rest: Array, rests: list[int]) -> Array:
    """What the shorter chunks give, each sample's from its own first frame on."""
    chosen: list[Array] = []
    for n in rests:
        train = run(frames[:n, ...], state)
        for t in range(train.shape[0]):
            step = train[t, ...]
            if t < len(chosen):
                chosen[t] = xp.where(xp.reshape(rest == n, (1, -1, *(1,) * (step.ndim - 2))), step, chosen[t])
            else:
                chosen.append(step)
    return xp.stack(chosen, axis=0)


def _times(xp: Any, steps: int, lengths: Array) -> Array:
    """0 to steps - 1, (steps, B), made of `lengths`, for its device."""
    ones = xp.stack([xp.ones_like(lengths)] * steps, axis=0)
    return xp.cumulative_sum(ones, axis=0) - ones


def _pick(xp: Any, x: Array, steps: Array) -> Array:
    """``x[steps[n, b], b]`` of x (T, B, ...) and steps (N, B) or (B,); beyond x, any of its values."""
    T, B = x.shape[:2]
    steps = xp.where(steps < 0, steps * 0, xp.where(steps < T, steps, steps * 0 + (T - 1)))
    ones = xp.ones_like(steps)
    places = xp.reshape(steps * B + xp.cumulative_sum(ones, axis=-1) - ones, (-1,))
    return xp.reshape(xp.take(xp.reshape(x, (T * B, *x.shape[2:])), places, axis=0), (*steps.shape, *x.shape[2:]))


def _select(xp: Any, chosen: Array, x: Array, other: Array) -> Array:
    """`x` for the steps and samples (steps, B), or samples (B,), that are chosen."""
    return xp.where(xp.reshape(chosen, (*chosen.shape, *(1,) * (x.ndim - chosen.ndim))), x, other)
