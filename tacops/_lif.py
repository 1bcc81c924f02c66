"""The leaky integrate-and-fire neuron, one step: decay, integrate, fire, reset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ._protocol import Array, Backend

__all__ = ["LIFStep"]


@dataclass(frozen=True)
class LIFStep:
    """``step(membrane, current) -> (membrane, spikes)``, a pure function of arrays.

    ::

        v = decay * u + i
        s = 1 if v >= threshold else 0        (a tie fires)
        u = v - s * threshold                 reset "subtract"
            v * (1 - s)                       reset "zero"
            v                                 reset "none"

    Parameters
    ----------
    backend : Backend
    decay, threshold : float or array
        Arrays broadcast against the membrane, channels last.
    reset : {"subtract", "zero", "none"}
    surrogate : callable or None
        Derivative of the spike with respect to ``v - threshold``; None: zero.
    rounded : bool
        Round the decayed membrane to an integer (reproducible mode, where membranes are integers on a grid).
    poison : array or None, shape ()
        Added to the spikes: 0, or NaN where an input broke a rule that could not be checked in time.
    compact : bool
        Answer spikes as bool, one byte each, instead of the membrane's dtype.
    unit : array or None, shape (C,) or ()
        Potential of one unit in reproducible mode: the surrogate is a function of potentials, not of units.
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

    def __call__(self, membrane: Array | None, current: Array) -> tuple[Array, Array]:
        """One step; `membrane` None is a membrane of zeros."""
        v = current if membrane is None else self._decayed(membrane) + current
        spikes = self._fire(v)
        answer = v >= self.threshold if self.compact else spikes
        if self.reset == "subtract":
            return v - spikes * self.threshold, answer
        if self.reset == "zero":
            return v * (1.0 - spikes), answer
        return v, answer

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
        # x - x is exactly 0 (never "nearly", whatever the compiler contracts), so the spikes stay exactly 0 and 1,
        # while its derivative is 1: forward and reverse mode, vmap and compilation need no rule of their own.
        stop = self.backend.stop_gradient
        excess = v - self.threshold
        if self.unit is not None:
            excess = excess * self.unit
        return spikes + (excess - stop(excess)) * self.surrogate(stop(excess))
