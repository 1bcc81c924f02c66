r"""Reproducible numerics: every intermediate is an integer that float32 holds exactly.

Sums of floats depend on their order, and every array library has another order. Sums of integers below 2^24 do not, even
in float32. In reproducible mode a layer therefore computes in *units*: potentials are integer multiples of a power of two,
:math:`2^{-g_c - q}`, chosen per output channel c.

* weights: :math:`W = \mathrm{round}(w \, 2^{g_c})`, at most `Grid.weight_bits` bits (11 by default: exact under TF32 too);
* aggregation weights: :math:`A_k = \mathrm{round}(a_k 2^q)`; q = 0 where the weights are whole (chunk_size 1, "sum"), and
  larger by :math:`\lceil \log_2 K \rceil` where they sum to one (unless 1/K is exact anyway). Powers of an array beta are
  rounded to multiples of :math:`2^{-p}`, p = 23 - :math:`\lceil \log_2 K \rceil`, before they are summed;
* inputs: integer multiples of `Grid.input_step`, of magnitude at most `Grid.input_max`; anything else is an error;
* bias and threshold: rounded to units; decay: not rounded, but the decayed membrane is: ``round(beta * u)``, to even.

:math:`g_c` is the largest exponent for which the weights have their bits and for which no partial sum of the
convolution can reach 2^24 units:

.. math:: \Big(\sum |W| + n\Big) \sum_k |A_k| \, x_{max} < 2^{24}

with W the weights rounded with all their bits and then scaled, and n the fan-in, a margin for rounding them anew; with a
bias, that sum and the bias have 2^23 each. So sums are exact in any order, products are exact or rounded at
once, nothing is left for a compiler to contract, and spikes and membranes are equal bit for bit on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .._backend.protocol import Array, Backend
from .._values import as_float, as_int, fail, is_number, show
from .aggregation import cast

__all__ = [
    "Grid",
    "add_poison",
    "as_grid",
    "check_inputs",
    "check_units",
    "fits_half",
]

HALF_BITS = 11
"""float16 and TF32 hold integers of so many bits, and the power of two after them."""


@dataclass(frozen=True)
class Grid:
    """What reproducible mode rounds to; ``reproducible=True`` is ``reproducible=Grid()``.

    Parameters
    ----------
    weight_bits : int
        Most bits of a rounded weight, sign excluded; more than 11 needs full float32 convolutions (no TF32).
    aggregation_bits : int
        q: aggregation weights are rounded to multiples of 2^-q. Those that sum to one, of "normalized_decay" and "mean", are
        about K times smaller, and are rounded to multiples of 2^(-q - ceil(log2 K)) unless 1/K is exact without.
    input_step : float
        Inputs must be multiples of it; a power of two. 1 for spikes and counts.
    input_max : float
        Largest magnitude of an input: 1 for spikes, the largest count for counts. From input_step to 2^24 times that.
    threshold_bits : int
        `lif` alone, which has no weights to choose units by: the threshold is below 2^threshold_bits units.

    Examples
    --------
    >>> Grid(input_max=15)  # counts of up to 15
    Grid(weight_bits=11, aggregation_bits=6, input_step=1.0, input_max=15, threshold_bits=16)
    """

    weight_bits: int = 11
    aggregation_bits: int = 6
    input_step: float = 1.0
    input_max: float = 1.0
    threshold_bits: int = 16

    def __post_init__(self) -> None:
        for name, low, high in (("weight_bits", 4, 20), ("aggregation_bits", 0, 16), ("threshold_bits", 4, 23)):
            value = getattr(self, name)
            count = as_int(value)
            if count is None or not low <= count <= high:
                raise fail("Grid", name, f"an int in [{low}, {high}]", show(value))
            object.__setattr__(self, name, count)
        for name in ("input_step", "input_max"):
            value = getattr(self, name)
            if not is_number(value) or not 0.0 < as_float(value) < math.inf:
                raise fail("Grid", name, "a positive finite number", show(value))
            object.__setattr__(self, name, as_float(value) if not isinstance(value, int) else value)
        if math.frexp(self.input_step)[0] != 0.5 or not 2.0**-30 <= self.input_step <= 2.0**30:
            raise fail("Grid", "input_step", "a power of two between 2^-30 and 2^30", self.input_step)
        if not self.input_step <= self.input_max < 2**24 * self.input_step:
            raise fail("Grid", "input_max", "at least input_step, and below 2^24 input_steps", show(self.input_max))


def as_grid(function: str, reproducible: object, xp: Any, like: Array, argument: str = "weight") -> Grid | None:
    """The grid that the argument `reproducible` asks for."""
    if reproducible is False:
        return None
    if reproducible is not True and not isinstance(reproducible, Grid):
        raise fail(function, "reproducible", "True, False or a tacops.Grid", show(reproducible), TypeError)
    if like.dtype not in (xp.float32, xp.float64):
        raise fail(function, argument, "float32 or float64 in reproducible mode", str(like.dtype), TypeError)
    return Grid() if reproducible is True else reproducible


def check_units(function: str, backend: Backend, grid: Grid, valid: Array, threshold: Array) -> Array | None:
    """Fail if a layer's numbers are too far apart for one grid; `valid` is that of its units, `threshold` is in units."""
    xp = backend.namespace(threshold)

    def error() -> Exception:
        rule = (
            "within the grid's range in reproducible mode (weights of 4 bits or more, a threshold of one unit or more)"
        )
        got = f"numbers too far apart for {grid}; lower input_max, aggregation_bits or chunk_size"
        return fail(function, "weight and threshold", rule, got)

    return _require(backend, xp.logical_and(valid, xp.all(threshold >= 1.0)), threshold, error)


def check_inputs(function: str, backend: Backend, grid: Grid, spikes: Array, like: Array) -> Array | None:
    """Fail if an input is off the grid or too large for the sums to be exact."""
    xp = backend.namespace(spikes)
    low, high, step = -grid.input_max, grid.input_max, grid.input_step
    if xp.isdtype(spikes.dtype, "bool") and high >= 1.0 and step <= 1.0:
        return None

    def error() -> Exception:
        numbers = cast(xp, spikes, like.dtype)
        bottom, top = ((backend.read(end) or [math.nan])[0] for end in (xp.min(numbers), xp.max(numbers)))
        rule = f"multiples of {step} between {low} and {high} in reproducible mode"
        got = f"values from {bottom} to {top}; reproducible=Grid(input_step=..., input_max=...)"
        return fail(function, "spikes", rule, got + " sets the grid")

    return _require(backend, backend.on_grid(spikes, low, high, step), like, error)


def add_poison(poison: Array | None, x: Array | None) -> Array | None:
    """`x` plus poison, where either may be None."""
    if poison is None or x is None:
        return x if poison is None else poison
    return x + poison


def _require(backend: Backend, holds: Array, like: Array, error: Callable[[], Exception]) -> Array | None:
    """Raise `error()` unless `holds`.

    Where that can't be known yet, inside a trace or on a busy GPU, nothing may be raised and nothing may be silent:
    what is returned is 0 or NaN, to be added to all results.
    """
    known = backend.read(holds)
    if known is None:
        xp = backend.namespace(like)
        # of `holds`, which is on all devices of a mesh; an element of `like` may be on one of them
        zero = cast(xp, xp.zeros_like(holds), like.dtype)
        return xp.where(holds, zero, zero + float("nan"))
    if not known[0]:
        raise error()
    return None


def fits_half(grid: Grid, aggregation: Sequence[float | Array]) -> bool:
    """Whether the integers that a layer multiplies fit float16 and TF32: weights, and frames summed with weights `aggregation`.

    False where those are arrays, which are not read for it.
    """
    if not all(isinstance(weight, float) for weight in aggregation):
        return False
    most = sum(map(abs, aggregation)) * (grid.input_max / grid.input_step)
    return grid.weight_bits <= HALF_BITS and bool(most <= 2**HALF_BITS)
