"""The two functions that a backend is handed: synapses and a step of the neurons.

They are pure functions of arrays, and all that an adapter knows of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from .window import Array, Window

__all__ = ["Due", "Potential", "Recipe", "Reset", "State", "Step", "Synapses", "membrane_of"]

State: TypeAlias = tuple[Array, ...]
"""What neurons keep from step to step, each array of shape (B, ...): the membrane first. None is a state of zeros."""


class Potential(NamedTuple):
    """The state after a layer, where a schedule returns it as a potential: ``membrane * unit + poison`` of its step.

    A kernel that has the last membrane at hand does both on the way, which would be launches of their own after it.
    """

    membrane: Array


class Reset(IntEnum):
    """What a spike does to the membrane; the numbers are those that compiled loops and kernels are given."""

    NONE = 0
    SUBTRACT = 1
    ZERO = 2
    LATE = 3


class Recipe(NamedTuple):
    """A leaky integrate-and-fire step as plain data, for loops that repeat its arithmetic because a measurement demands it.

    The state of such a step is the membrane alone.

    Parameters
    ----------
    decay, threshold : float or array
    reset : Reset
    rounded, compact : bool
    poison : array or None
    surrogate : callable or None
    detach_reset : bool
    unit : array or None
        What gradients depend on beside: `LIFStep`'s.
    """

    decay: float | Array
    threshold: float | Array
    reset: Reset
    rounded: bool
    compact: bool
    poison: Array | None
    surrogate: Callable[[Array], Array] | None = None
    detach_reset: bool = False
    unit: Array | None = None


class Due:
    """A check of frames that is still to be made: all are whole numbers of a magnitude up to `most`, or `look` raises.

    A schedule that reads every number anyway may see to it, and then says so (`done`); what it leaves, its caller does.
    """

    def __init__(self, most: float, check: Callable[[], object]):
        self.most, self.check, self.done = most, check, False

    def look(self) -> None:
        """Make the check, unless it is done."""
        if not self.done:
            self.check()
            self.done = True


class Step(Protocol):
    """``step(state, current) -> (state, spikes)``, a frozen dataclass."""

    arrays: ClassVar[tuple[str, ...]]
    """Fields that may be arrays; the others are constants of a program that is compiled."""

    @property
    def recipe(self) -> Recipe | None:
        """The step as plain data; None if it is another one, which a loop must call instead."""

    def __call__(self, state: State | None, current: Array) -> tuple[State, Array]:
        """One step."""


class Synapses(Protocol):
    """``conv(conv.aggregate(frames)) -> currents``, one for each chunk of frames, channels last; a frozen dataclass."""

    arrays: ClassVar[tuple[str, ...]]
    """As of `Step`."""

    @property
    def window(self) -> Window:
        """How the kernel moves."""

    @property
    def weight(self) -> Array:
        """(C_out, *kernel, C_in // groups)."""

    @property
    def bias(self) -> Array | None:
        """(C_out,), multiplied by the sum of the aggregation weights."""

    @property
    def aggregation(self) -> Sequence[float | Array] | None:
        """Weights of a chunk's frames; None: every frame is a chunk."""

    @property
    def exact(self) -> bool:
        """Whether all numbers are integers, which only plain sums of products keep exact."""

    @property
    def fits_half(self) -> bool:
        """Whether they are `exact`, and those that are multiplied, weights and aggregated frames, fit float16: up to 2048.

        Known without reading them, so it may be False of numbers that do. Where frames break the rules of reproducible mode,
        and that could not be raised, the step's poison is NaN.
        """

    @property
    def due(self) -> Due | None:
        """What is still to be checked of the frames, see `Backend.reads_frames`; None if nothing is."""

    @property
    def chunk_size(self) -> int:
        """Frames that share one convolution."""

    @property
    def per_channel(self) -> bool:
        """Whether aggregation differs between output channels, so that currents are summed instead of frames."""

    def aggregate(self, frames: Array) -> Array:
        """What the convolution takes of every chunk."""

    def __call__(self, frames: Array) -> Array:
        """Currents (N, *S_out, C_out) of any number of aggregated frames (N, ...)."""


def membrane_of(state: State | None) -> Any:
    """The membrane of a step that has a recipe, or None."""
    return None if state is None else state[0]
