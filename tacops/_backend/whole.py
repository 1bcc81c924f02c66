"""A validated call as one piece: what a library takes whose arrays are blocks of another library's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

from .window import Array

__all__ = ["Described", "Move", "Whole"]


class Described(Protocol):
    """What a call does, apart from the arrays of frames and states; a frozen dataclass."""

    @property
    def values(self) -> tuple[Any, ...]:
        """What may be arrays: weights, decays, thresholds."""

    def at(self, backend: Any, values: tuple[Any, ...], padding: tuple[tuple[int, int], ...] | None) -> Self:
        """The same with another library's `values`, and where `padding` is given, with that around the spatial axes."""


class Move(NamedTuple):
    """How a kernel moves along an axis."""

    kernel: int
    stride: int
    dilation: int
    padding: tuple[int, int]


@dataclass(frozen=True)
class Whole:
    """A call whose arguments have been checked.

    Parameters
    ----------
    run : callable
        ``run(described, frames, state, lengths)`` of arrays of any library: a `SpikeTrain`, or with `stateful` False an
        array. It can be pickled.
    described : Described
    function, argument : str
        What errors call the function and its frames.
    dtype, state_dtype : dtype
        Of the result (None is bool), and of a membrane.
    chunk : int
        Frames that stay together: blocks of time end at multiples of it.
    steps : callable
        Frames of the result for so many frames.
    moves : mapping of int to Move
        Spatial axes of the frames along which a kernel moves; the others are independent, but for `channel_axis`.
    channel_axis : int or None
        The axis that can't be cut.
    channels : int
        How many of them the result has.
    stateful : bool
        Whether a membrane goes from one block of time to the next.
    states : int
        Arrays of a state: a membrane, and perhaps a synaptic current.
    trace : bool
    named_axis : int or None
        What errors call the channel axis, where it is another one of the caller's array.
    """

    run: Callable[..., Any]
    described: Any
    function: str
    argument: str
    dtype: Any
    chunk: int
    steps: Callable[[int], int]
    moves: dict[int, Move]
    channel_axis: int | None
    channels: int
    state_dtype: Any = None
    stateful: bool = False
    states: int = 1
    trace: bool = False
    named_axis: int | None = None

    def result(self, frames: Array, state: Any, lengths: Any) -> Any:
        """What the call returns for arrays that are no blocks."""
        return self.run(self.described, frames, state, lengths)
