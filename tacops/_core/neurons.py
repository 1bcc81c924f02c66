"""Neurons, one step: decay, integrate, fire, reset. Leaky integrate-and-fire, and the same behind a synaptic current."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from .._backend.steps import Recipe, Reset, State
from .._backend.window import Array

__all__ = ["LIFStep", "SynapticStep"]


class Arithmetic(Protocol):
    """The functions of arrays that neurons take; a backend has them."""

    def namespace(self, array: Array) -> Any:
        """The Array API namespace of `array`."""

    def stop_gradient(self, x: Array) -> Array:
        """`x` as a constant."""

    def finite(self, x: Array) -> Array:
        """`x`, and 0 where it is infinite or NaN."""

    def round_through(self, x: Array) -> Array:
        """`x` rounded, with the derivative of the identity."""


@dataclass(frozen=True)
class LIFStep:
    """``step(state, current) -> (state, spikes)``, a pure function of arrays; the state is the membrane u.

    ::

        v = decay * u + i
        s = 1 if v >= threshold else 0               (a tie fires)
        u = v - s * threshold                        reset "subtract"
            0 where s, else v                        reset "zero"
            v                                        reset "none"
        v = decay * u + i - threshold * [u >= threshold],  u = v      reset "late"

    Parameters
    ----------
    math : Arithmetic
        Of the arrays' library: its backend.
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
        Return the state after the step beside its spikes, stacked along a new first axis: (2, ...).
    """

    math: Arithmetic
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

    arrays: ClassVar[tuple[str, ...]] = ("decay", "threshold", "poison", "unit")

    def __hash__(self) -> int:
        """Of the fields that there are: torch.compile asks before there are any (PyTorch 2.11)."""
        return hash(tuple(vars(self).values()))

    @property
    def recipe(self) -> Recipe | None:
        """The step as plain data; None if it is not exactly this step, and a loop must call it instead."""
        if type(self) is not LIFStep or self.trace:
            return None
        reset = Reset[self.reset.upper()]
        gradients = self.surrogate, self.detach_reset, self.unit
        return Recipe(self.decay, self.threshold, reset, self.rounded, self.compact, self.poison, *gradients)

    def __call__(self, state: State | None, current: Array) -> tuple[State, Array]:
        """One step; `state` None is a state of zeros."""
        v = self._integrate(None if state is None else state[0], current)
        spikes = self._fire(v)
        u = self._reset(v, spikes)
        return (u,), self._kept(v, spikes, u)

    def _kept(self, v: Array, spikes: Array, *state: Array) -> Array:
        if self.trace:
            return self.math.namespace(v).stack([spikes, *state], axis=0)
        return v >= self.threshold if self.compact else spikes

    def _integrate(self, membrane: Array | None, current: Array) -> Array:
        if membrane is None:  # nothing to decay, nor to reset late
            return current
        v = self._decayed(membrane) + current
        return v - self._through_reset(self._fire(membrane)) * self.threshold if self.reset == "late" else v

    def _decayed(self, membrane: Array) -> Array:
        return self._times(self.decay, membrane)

    def _times(self, decay: float | Array, x: Array) -> Array:
        product = decay * x
        if not self.rounded:
            return product
        # The product is rounded before anything is added to it, so no compiler can fuse the two into one rounding.
        return self.math.round_through(product)

    def _fire(self, v: Array) -> Array:
        xp = self.math.namespace(v)
        spikes = xp.astype(v >= self.threshold, v.dtype)
        if self.poison is not None:
            spikes = spikes + self.poison
        if self.surrogate is None:
            return spikes
        # The spikes stay exactly 0 and 1, while their derivative is the surrogate's: forward and reverse mode, vmap and
        # compilation need no rule of their own.
        excess = v - self.threshold
        excess = self.math.finite(excess if self.unit is None else excess * self.unit)
        constant = self.math.stop_gradient(excess)
        return spikes + (excess - constant) * self.surrogate(constant)

    def _reset(self, v: Array, spikes: Array) -> Array:
        if self.reset == "subtract":
            return v - self._through_reset(spikes) * self.threshold
        if self.reset == "zero":
            math = self.math
            u = math.namespace(v).where(v >= self.threshold, 0.0, v)  # a product would be NaN for an infinite v
            if self.surrogate is None or self.detach_reset:
                return u
            return u - math.stop_gradient(math.finite(v)) * (spikes - math.stop_gradient(spikes))
        if self.reset in ("none", "late"):
            return v
        raise ValueError(f"LIFStep: reset must be one of {[r.name.lower() for r in Reset]}; got {self.reset!r}")

    def _through_reset(self, spikes: Array) -> Array:
        return self.math.stop_gradient(spikes) if self.detach_reset else spikes


@dataclass(frozen=True)
class SynapticStep(LIFStep):
    """`LIFStep` behind a synaptic current j that decays, too: the state is (u, j).

    ::

        j = synapse_decay * j + i
        then LIFStep, driven by j

    Parameters
    ----------
    synapse_decay : float or array
    """

    synapse_decay: float | Array = 0.0

    arrays: ClassVar[tuple[str, ...]] = (*LIFStep.arrays, "synapse_decay")
    __hash__ = LIFStep.__hash__

    def __call__(self, state: State | None, current: Array) -> tuple[State, Array]:
        """One step; `state` None is a state of zeros."""
        synaptic = current if state is None else self._times(self.synapse_decay, state[1]) + current
        v = self._integrate(None if state is None else state[0], synaptic)
        spikes = self._fire(v)
        u = self._reset(v, spikes)
        return (u, synaptic), self._kept(v, spikes, u, synaptic)
