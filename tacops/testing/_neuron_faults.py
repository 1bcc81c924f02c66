"""Mistakes of the neurons, as changes of the step's data, of its arithmetic, and of a scan: tables for ``mutants.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .._backend.protocol import Array
from .._core.neurons import LIFStep, SynapticStep
from ._faults import LARGE, PLAIN, parent

__all__ = ["ARITHMETIC", "SCANS", "STEPS"]


# Another step than was asked for. Core and loops make the mistake alike, as both take the step's data.


def _swapped(step: LIFStep) -> LIFStep:
    others = {"subtract": "zero", "zero": "subtract"}
    return replace(step, reset=others.get(step.reset, step.reset))


def _integrates(step: LIFStep) -> LIFStep:
    slow = isinstance(step.decay, float) and step.decay > 0.995
    return replace(step, decay=1.0) if slow else step


def _fades_twice(step: LIFStep) -> LIFStep:
    if not isinstance(step, SynapticStep):
        return step
    return replace(step, synapse_decay=step.synapse_decay * step.synapse_decay)


STEPS: dict[str, tuple[str, Callable[[LIFStep], LIFStep]]] = {
    "decay-twice": ("decay applied twice", lambda step: replace(step, decay=step.decay * step.decay)),
    "reset-missing": ("no reset", lambda step: replace(step, reset="none")),
    "reset-swapped": ("resets to zero and by subtraction taken for each other", _swapped),
    "reset-late": (
        "a reset by subtraction one step late",
        lambda step: replace(step, reset="late" if step.reset == "subtract" else step.reset),
    ),
    "decay-unrounded": ("reproducible mode without its rounding", lambda step: replace(step, rounded=False)),
    "rounded-always": ("the default path rounded like reproducible mode", lambda step: replace(step, rounded=True)),
    "threshold-off": (
        "threshold a thousandth too high",
        lambda step: replace(step, threshold=step.threshold * (1 + 2.0**-10)),
    ),
    "compact-lost": ("compact spikes in the membrane's type", lambda step: replace(step, compact=False)),
    "synapse-twice": ("the synaptic current's decay applied twice", _fades_twice),
    "slow-decay-lost": ("a decay above 0.995 taken for 1", _integrates),
}


# Arithmetic that is not the step's; no loop knows it, so this is what a backend does that calls the step.

_fire, _reset = LIFStep._fire, LIFStep._reset


def _strict(step: LIFStep, v: Array) -> Array:
    return step.math.namespace(v).astype(v > step.threshold, v.dtype)


def _fires_after(step: LIFStep, v: Array) -> Array:
    return _fire(step, _reset(step, v, _fire(step, v)))


def _resets_before(step: LIFStep, v: Array, spikes: Array) -> Array:
    return _reset(step, v, _fire(step, v))


ARITHMETIC: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "tie-silent": ("a tie does not fire: > for >=", {"_fire": _strict}),
    "reset-first": (
        "reset before the comparison with the threshold",
        {"_fire": _fires_after, "_reset": _resets_before},
    ),
}


# Scans; the steps themselves are taken by the backend's own loop.


def _held_once_less(self: Any, step: LIFStep, currents: Array, state: Any, repeat: int) -> Any:
    """The last of more than four steps under one current is the one before it."""
    if repeat <= 4:
        return parent(self).scan(self, step, currents, state, repeat)
    fired = []
    for n in range(currents.shape[0]):
        spikes, state = parent(self).scan(self, step, currents[n : n + 1, ...], state, repeat - 1)
        fired += [spikes, spikes[-1:, ...]]
    return self.namespace(currents).concat(fired, axis=0), state


def _rests_after_64(self: Any, step: LIFStep, currents: Array, state: Any, repeat: int) -> Any:
    if currents.shape[0] <= 64:
        return parent(self).scan(self, step, currents, state, repeat)
    first, _ = parent(self).scan(self, step, currents[:64, ...], state, repeat)
    second, after = parent(self).scan(self, step, currents[64:, ...], None, repeat)
    return self.namespace(currents).concat([first, second], axis=0), after


def _compact_threshold(self: Any, step: LIFStep, currents: Array, state: Any, repeat: int) -> Any:
    """Compact spikes from the ninth step on by the first channel's threshold."""
    count = 8
    if not step.compact or isinstance(step.threshold, float) or currents.shape[0] <= count:
        return parent(self).scan(self, step, currents, state, repeat)
    first, state = parent(self).scan(self, step, currents[:count, ...], state, repeat)
    wrong = replace(step, threshold=step.threshold * 0.0 + step.threshold[..., :1])
    second, after = parent(self).scan(self, wrong, currents[count:, ...], state, repeat)
    return self.namespace(currents).concat([first, second], axis=0), after


def _channels_mixed(self: Any, step: LIFStep, currents: Array, state: Any, repeat: int) -> Any:
    """One threshold per channel, but that of another channel where there are many neurons to step."""
    xp, size = self.namespace(currents), 1
    for n in currents.shape:
        size *= n
    if size >= LARGE and not isinstance(step.threshold, float):
        step = replace(step, threshold=xp.stack(list(self.unstack(step.threshold))[::-1], axis=0))
    return parent(self).scan(self, step, currents, state, repeat)


SCANS: dict[str, tuple[str, dict[str, Any]]] = {
    "held-once-less": ("the last of more than 4 steps under one current left out", {**PLAIN, "scan": _held_once_less}),
    "rest-after-64": ("the membrane lost after 64 steps", {**PLAIN, "scan": _rests_after_64}),
    "compact-threshold": (
        "compact spikes: one channel's threshold for all after 8 steps",
        {**PLAIN, "scan": _compact_threshold},
    ),
    "channels-mixed": ("many neurons: another channel's threshold", {**PLAIN, "scan": _channels_mixed}),
}
