"""NumPy's LIF step on one tile, in place: compiled by Numba where it is installed, else NumPy's own operations.

Both take the step as plain data (`LIFStep.recipe`) and are `LIFStep` operation by operation, so the results are equal bit for bit. Measured, not assumed: with the core's
step, whose every operation makes a new array, layers with few channels take twice as long, because there the neurons are
the work; a compiled loop halves the rest (``python -m bench speed``).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tacops._backend.steps import Reset

from . import memory
from .threads import aside, lost_in_fork

if TYPE_CHECKING:
    from tacops._backend.protocol import Array
    from tacops._backend.steps import Recipe

__all__ = ["Neurons", "compiled", "loops_for", "tile_neurons"]

COMPILE = 1 << 18
"""Steps of neurons, or other numbers, below which compiled code is not worth loading."""
KNOWN = "?bBhHiIlLqQfd"
"""Dtypes that Numba has: not half precision."""


class Neurons(Protocol):
    """The neurons of a tile."""

    def hold(self, current: Array, first: int, last: int) -> None:
        """Step through frames ``first:last``, under `current` all along."""


def tile_neurons(step: Recipe, membrane: Array, start: Array | None, spikes: Array, place: int, steps: int) -> Neurons:
    """Neurons of one tile.

    Parameters
    ----------
    step : Recipe
    membrane : array, shape of the tile, contiguous
        To be overwritten.
    start : array or None
        Its first values; None is zeros.
    spikes : array, shape (T, B, *S, C)
        To be written, the part of each frame that starts at element `place` of it.
    place : int
    steps : int
        How often a neuron of the layer will be stepped, in all.
    """
    if start is not None:
        np.copyto(membrane, start)
    loops = loops_for(steps, membrane.dtype)
    if loops is None:
        frames = spikes.reshape(len(spikes), -1)[:, place : place + membrane.size]
        return _Operations(step, membrane, start is None, frames.reshape(-1, *membrane.shape))
    return _Loops(loops, step, membrane, start is None, spikes, place)


def loops_for(count: int, *dtypes: np.dtype[Any]) -> Any:
    """The compiled loops, if there are enough numbers to loop over, of dtypes that Numba knows; or None."""
    if count < COMPILE or not all(dtype.isnative and dtype.char in KNOWN for dtype in dtypes):
        return None
    return compiled()


def compiled() -> Any:
    """The module of compiled loops, or None without a Numba that works with this NumPy."""
    return _load() if not lost_in_fork() else None


@cache
def _load() -> Any:
    return aside(_import)


def _import() -> Any:
    try:
        from . import loops

        loops.load()
    except Exception:  # noqa: BLE001 (a library that was left half imported, by Ctrl-C, raises all kinds)
        return None
    return loops


class _Loops:
    """One compiled loop over all neurons."""

    def __init__(self, loops: Any, step: Recipe, membrane: Array, fresh: bool, spikes: Array, place: int):
        self.loops, self.whole, self.fresh, self.place = loops, membrane, fresh, place
        self.membrane, self.spikes = membrane.reshape(-1), spikes.reshape(len(spikes), -1)
        self.decay, self.threshold = (
            loops.period(parameter, membrane.shape[-1], membrane.dtype) for parameter in (step.decay, step.threshold)
        )
        self.flags = step.rounded, int(step.reset)

    def hold(self, current: Array, first: int, last: int) -> None:
        if self.fresh and current is not self.whole:
            np.copyto(self.whole, current)
        flat = np.ascontiguousarray(current).reshape(-1)
        one = self.membrane.dtype.type(1)
        parameters = self.decay, self.threshold, one, self.fresh
        self.loops.hold(self.membrane, flat, self.spikes, first, last, self.place, *parameters, *self.flags)
        self.fresh = False


class _Operations:
    """One NumPy operation after the other."""

    def __init__(self, step: Recipe, membrane: Array, fresh: bool, spikes: Array):
        self.step, self.membrane, self.fresh, self.spikes = step, membrane, fresh, spikes
        self.decay, self.threshold = _spread(step.decay, membrane), _spread(step.threshold, membrane)
        self.fired = memory.empty(membrane.shape, bool)
        self.scratch = memory.empty(membrane.shape, membrane.dtype)

    def hold(self, current: Array, first: int, last: int) -> None:
        for frame in self.spikes[first:last]:
            self._integrate(current)
            fired, spikes = (frame, self.scratch) if self.step.compact else (self.fired, frame)
            np.greater_equal(self.membrane, self.threshold, out=fired)
            np.copyto(spikes, fired)
            self._reset(spikes, fired)

    def _integrate(self, current: Array) -> None:
        u = self.membrane
        if self.fresh:
            if current is not u:
                np.copyto(u, current)
            self.fresh = False
            return
        late = self.step.reset is Reset.LATE
        if late:
            np.greater_equal(u, self.threshold, out=self.fired)
        if not (isinstance(self.decay, float) and self.decay == 1.0):
            np.multiply(u, self.decay, out=u)
        if self.step.rounded:
            np.rint(u, out=u)
        u += current
        if late:
            u -= np.multiply(self.fired, self.threshold, out=self.scratch)

    def _reset(self, spikes: Array, fired: Array) -> None:
        if self.step.reset is Reset.SUBTRACT:
            unit = isinstance(self.threshold, float) and self.threshold == 1.0
            self.membrane -= spikes if unit else np.multiply(spikes, self.threshold, out=self.scratch)
        elif self.step.reset is Reset.ZERO:
            np.copyto(self.membrane, 0.0, where=fired)
        elif self.step.reset not in (Reset.NONE, Reset.LATE):
            raise ValueError(f"unknown reset {self.step.reset!r}")


def _spread(parameter: float | Array, membrane: Array) -> float | Array:
    """A parameter per channel, written out for all neurons: NumPy runs one loop over them, not one for every few channels."""
    if isinstance(parameter, float) or not np.ndim(parameter):  # asking a float takes as long as a small operation
        return parameter
    return np.broadcast_to(parameter, membrane.shape).copy()
