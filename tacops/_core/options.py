"""A layer's options in groups: how time is treated, what the neurons are, and how they are run.

The operators hand over what they were given, as ``...Options``; ``arguments.py`` validates each group once, and what it makes
travels whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .._backend.window import Array
from .aggregation import Weights
from .grid import Grid

__all__ = ["GeometryOptions", "How", "HowOptions", "NeuronOptions", "Neurons", "Time", "TimeOptions"]


class TimeOptions(NamedTuple):
    """As given; `tacops.tac_conv` has their meaning."""

    chunk_size: Any
    mode: Any = "collapse"
    aggregation: Any = None


class NeuronOptions(NamedTuple):
    """As given."""

    beta: Any
    threshold: Any
    reset: Any
    synapse_decay: Any
    surrogate: Any
    detach_reset: Any


class GeometryOptions(NamedTuple):
    """As given."""

    stride: Any
    padding: Any
    dilation: Any
    groups: Any
    layout: Any


class HowOptions(NamedTuple):
    """As given."""

    trace: Any
    remat: Any
    compact: Any
    reproducible: Any


@dataclass(frozen=True)
class Time:
    """Chunks of frames, and what is made of each.

    Parameters
    ----------
    chunk_size : int
    preserve : bool
        A step for every frame of a chunk, or one for all.
    aggregation : str or tuple
        A rule of ``rules.py``, or K weights.
    """

    chunk_size: int
    preserve: bool
    aggregation: str | Weights

    def steps(self, size: int) -> int:
        """Steps of the neurons for a chunk of `size` frames."""
        return size if self.preserve else 1

    def frames(self, count: int) -> int:
        """Frames of the result for `count` frames."""
        return count if self.preserve else -(-count // self.chunk_size)


@dataclass(frozen=True)
class Neurons:
    """Parameters of the neurons; without a `synapse_decay` they have no synaptic current."""

    beta: float | Array
    threshold: float | Array
    reset: str
    synapse_decay: float | Array | None
    surrogate: Callable[[Array], Array] | None
    detach_reset: bool

    @property
    def values(self) -> tuple[Any, ...]:
        """What may be arrays that are differentiated by, for `with_values`."""
        return self.beta, self.threshold, self.synapse_decay

    def with_values(self, beta: Any, threshold: Any, synapse_decay: Any) -> Neurons:
        """The same neurons of other `values`."""
        return Neurons(beta, threshold, self.reset, synapse_decay, self.surrogate, self.detach_reset)


@dataclass(frozen=True)
class How:
    """What is kept of a run, and in which numbers it is computed.

    Parameters
    ----------
    trace : bool
        Keep the membrane of every step.
    remat : bool
        Compute again in the backward pass instead of keeping.
    compact : bool
        Spikes as bool.
    grid : Grid or None
        Of reproducible mode.
    """

    trace: bool
    remat: bool
    compact: bool
    grid: Grid | None

    @property
    def traced(self) -> How:
        """The same, with the membranes kept."""
        return replace(self, trace=True)
