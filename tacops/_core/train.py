"""What a layer of neurons returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._backend.window import Array

__all__ = ["SpikeTrain", "TracedSpikeTrain", "concatenate", "remap"]


class SpikeTrain(NamedTuple):
    """What a layer of neurons returns.

    Attributes
    ----------
    spikes : array
        0 and 1, in the computing dtype, time first.
    membrane : array
        Membrane potential after the last step and its reset; pass it on as ``membrane=`` to continue the simulation. With
        ``synapse_decay`` a pair: the membrane, and the synaptic current.
    """

    spikes: Array
    membrane: Any

    @property
    def trace(self) -> Array:
        """The membrane of every step, of a layer called with ``trace=True``."""
        raise AttributeError("SpikeTrain: trace is kept by a call with trace=True only")


class TracedSpikeTrain(NamedTuple):
    """What a layer of neurons returns with ``trace=True``: a `SpikeTrain` and the membrane of every step.

    Attributes
    ----------
    spikes, membrane : array
        As of `SpikeTrain`.
    trace : array
        Membrane potential after every step and its reset, one for each frame of `spikes`; the last is `membrane`.
    """

    spikes: Array
    membrane: Any
    trace: Array


def remap(train: SpikeTrain, over_time: Callable[[Array], Array], over_space: Callable[[Array], Array]) -> SpikeTrain:
    """A train whose arrays with time, and whose membrane, are laid out anew."""
    state = train.membrane
    membrane = tuple(map(over_space, state)) if isinstance(state, tuple) else over_space(state)
    if isinstance(train, TracedSpikeTrain):
        return train._replace(spikes=over_time(train.spikes), membrane=membrane, trace=over_time(train.trace))
    return SpikeTrain(over_time(train.spikes), membrane)


def concatenate(xp: Any, parts: Sequence[SpikeTrain]) -> SpikeTrain:
    """Trains one after the other as one."""
    if len(parts) == 1:
        return parts[0]
    spikes, membrane = xp.concat([part.spikes for part in parts], axis=0), parts[-1].membrane
    if not isinstance(parts[0], TracedSpikeTrain):
        return SpikeTrain(spikes, membrane)
    return TracedSpikeTrain(spikes, membrane, xp.concat([part.trace for part in parts], axis=0))
