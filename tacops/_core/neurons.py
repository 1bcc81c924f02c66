"""The leaky integrate-and-fire neuron, one step: decay, integrate, fire, reset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from .._backend.protocol import Array, Backend

__all__ = ["LIFStep", "Recipe", "Reset"]


class Reset(IntEnum):
    """What a spike does to the membrane; the numbers are those that compiled loops and kernels are given."""

    NONE = 0
    SUBTRACT = 1
    ZERO = 2
    LATE = 3


class Recipe(NamedTuple):
    """A `LIFStep` as plain data, for loops that repeat its arithmetic because a measurement demands it.

    Parameters
    ----------
    decay, threshold : float or array
    reset : Reset
    rounded, compact : bool
    poison : array or None
    """

    decay: float | Array
    threshold: float | Array
    reset: Reset
    rounded: bool
    compact: bool
    poison: Array | None


@dataclass(frozen=True)
class LIFStep:
    """``step(membrane, current) -> (membrane, spikes)``, a pure function of arrays.

    ::

        v = decay * u + i
        s = 1 if v >= threshold else 0               (a tie fires)
        u = v - s * threshold                        reset "subtract"
            0 where s, else v                        reset "zero"
            v                                        reset "none"
        v = decay * u + i - threshold * [u >= threshold],  u = v      reset "late"

    Parameters
    ----------
    backend : Backend
    decay, threshold : float or array
        Arrays broadcast against the membrane, channels last.
    reset : {"subtract", "zero", "none", "late"}
    surrogate : callable or None
        Derivative of the spike with respect to ``v - threshold``; None: zero.
    rounded : bool
        Round the decayed membrane to an integer (reproducible mode, where membranes are integers on a grid).
    poison : array or None, shape ()
        Added to the spikes: 0, or NaN where an input broke a rule that could not be checked in time.
    compact : bool
        Return spikes as bool, one byte each, instead of the membrane's dtype.
    unit : array or None, shape (C,) or ()
        Potential of one unit in reproducible mode: the surrogate is a function of potentials, not of units.
    detach_reset : bool
        No gradient flows through the reset.
    trace : bool
        Return the membrane after the step beside its spikes, stacked along a new first axis: (2, ...).
    """

    backend: Backend
    decay: float | Array
    threshold: float | Array
    reset: str
    surrogate: Callable[[Array], Array] | None = None
    rounded: bool = False
    poison: Array | None = None
    unit: Array | None = None
    compact: bool = False
    detach_reset: bool = False
    trace: bool = False

    @property
    def recipe(self) -> Recipe | None:
        """The step as plain data; None if it is not exactly this step, and a loop must call it instead."""
        if type(self) is not LIFStep or self.trace:
            return None
        reset = Reset[self.reset.upper()]
        return Recipe(self.decay, self.threshold, reset, self.rounded, self.compact, self.poison)

    def __call__(self, membrane: Array | None, current: Array) -> tuple[Array, Array]:
        """One step; `membrane` None is a membrane of zeros."""
        v = self._integrate(membrane, current)
        spikes = self._fire(v)
        u = self._reset(v, spikes)
        if self.trace:
            return u, self.backend.namespace(v).stack([spikes, u], axis=0)
        return u, v >= self.threshold if self.compact else spikes

    def _integrate(self, membrane: Array | None, current: Array) -> Array:
        if membrane is None:  # nothing to decay, nor to reset late
            return current
        v = self._decayed(membrane) + current
        return v - self._through_reset(self._fire(membrane)) * self.threshold if self.reset == "late" else v

    def _decayed(self, membrane: Array) -> Array:
        product = self.decay * membrane
        if not self.rounded:
            return product
        # The product is rounded before anything is added to it, so no compiler can fuse the two into one rounding.
        return self.backend.round_through(product)

    def _fire(self, v: Array) -> Array:
        xp = self.backend.namespace(v)
        spikes = xp.astype(v >= self.threshold, v.dtype)
        if self.poison is not None:
            spikes = spikes + self.poison
        if self.surrogate is None:
            return spikes
        # The spikes stay exactly 0 and 1, while their derivative is the surrogate's: forward and reverse mode, vmap and
        # compilation need no rule of their own.
        excess = v - self.threshold
        excess = self.backend.finite(excess if self.unit is None else excess * self.unit)
        constant = self.backend.stop_gradient(excess)
        return spikes + (excess - constant) * self.surrogate(constant)

    def _reset(self, v: Array, spikes: Array) -> Array:
        if self.reset == "subtract":
            return v - self._through_reset(spikes) * self.threshold
        if self.reset == "zero":
            backend = self.backend
            u = backend.namespace(v).where(v >= self.threshold, 0.0, v)  # a product would be NaN for an infinite v
            if self.surrogate is None or self.detach_reset:
                return u
            return u - backend.stop_gradient(backend.finite(v)) * (spikes - backend.stop_gradient(spikes))
        if self.reset in ("none", "late"):
            return v
        raise ValueError(f"LIFStep: reset must be one of {[r.name.lower() for r in Reset]}; got {self.reset!r}")

    def _through_reset(self, spikes: Array) -> Array:
        return self.backend.stop_gradient(spikes) if self.detach_reset else spikes
