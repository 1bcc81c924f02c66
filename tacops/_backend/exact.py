"""What reproducible mode asks of a backend: whether inputs fit a grid, and numbers in units and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from .window import Array

__all__ = ["Exact"]


class Exact(ABC):
    """The part of `Backend` that reproducible mode needs; nothing of it is required."""

    @abstractmethod
    def namespace(self, array: Array) -> Any:
        """As of `Backend`."""

    @abstractmethod
    def round_through(self, x: Array) -> Array:
        """As of `Backend`."""

    def on_grid(self, x: Array, low: float, high: float, step: float) -> Array:
        """Whether every value is a multiple of `step`, a power of two, between `low` and `high`.

        Parameters
        ----------
        x : array
            bool, integer or floating; not empty.
        low, high, step : float

        Returns
        -------
        array, bool, shape ()
        """
        xp = self.namespace(x)
        axes = tuple(range(x.ndim))  # named, because ONNX knows no other extremes
        odd: Array | None = None
        if xp.isdtype(x.dtype, "integral") and step <= 1.0:  # whole numbers are multiples
            x, axes = xp.stack([xp.min(x, axis=axes), xp.max(x, axis=axes)], axis=0), (0,)
        elif xp.isdtype(x.dtype, "integral"):  # float32 would round those of more than 24 bits
            odd = xp.any((x & min(int(step) - 1, int(xp.iinfo(x.dtype).max))) != 0)
        if not xp.isdtype(x.dtype, "real floating"):
            x = xp.astype(x, xp.float32)
        steps = x if step == 1.0 else x * (1.0 / step)
        inside = xp.logical_and(xp.max(x, axis=axes) <= high, xp.min(x, axis=axes) >= low)
        fits = xp.logical_and(inside, xp.all(xp.round(steps) == steps))
        return fits if odd is None else xp.logical_and(fits, xp.logical_not(odd))

    def reads_frames(self, frames: Array) -> bool:
        """Whether the values of `frames` are at hand (`read`), and `schedule` may be left to check them: `Synapses.due`."""
        return False

    def lends(self, values: Sequence[Any]) -> tuple[Any, Sequence[Any], Callable[[Array], Array]] | None:
        """Another backend, `values` with its arrays in place of one's own, and the way back for what it makes of them.

        For what depends on parameters alone, many operations on few numbers, where those of the other one are sooner done;
        None where they are not.
        """
        return None

    def round_rows(self, x: Array, factors: Array) -> Array:
        """`round_through` of ``x * factors``, one for each index of the first axis."""
        return self.round_through(x * self._along_first(factors, x))

    def _along_first(self, row: Array, like: Array) -> Array:
        return self.namespace(row).reshape(row, (-1, *(1 for _ in like.shape[1:])))

    def rescale(self, x: Array, factor: Array) -> Array:
        """``x * factor + 0.0``, channels last. Nobody needs `x` any more, so it may be overwritten."""
        return x * factor + 0.0
