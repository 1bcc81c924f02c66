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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._backend.protocol import Array, Backend
from .aggregation import Weights, cast, chunk_weights, shares
from .rules import RULES
from .values import as_float, as_int, fail, is_number, show

__all__ = [
    "Grid",
    "Units",
    "add_poison",
    "aggregation_bits",
    "as_grid",
    "check_inputs",
    "check_units",
    "current_units",
    "layer_units",
    "unit_weights",
]

EXACT = 2.0**24 - 8.0  # a few units of margin for the rounding of the bound itself
FINEST = 2.0**31
"""Most units per unit of weight."""
TINY = 2.0**-100
"""Weights that are nothing on any grid; some libraries take subnormal ones for 0."""
MOST_POWERS = 1 << 12
"""Chunks up to so many frames are bounded by the sum of an array beta's powers, each of which is an operation; longer
ones by their number of frames."""
MIN_WEIGHT = 8.0
"""The largest weight of a channel must be at least this many units (4 bits and a sign), or the grid is too coarse."""


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


@dataclass(frozen=True)
class Units:
    """Units per unit of potential, one power of two for each channel.

    Parameters
    ----------
    per_one, inverse : array, shape (C_out,) or ()
        The power and its reciprocal.
    weight_scale : array, shape (C_out,)
        Weights are multiplied by it and rounded.
    valid : array, bool, shape ()
        False if the grid is too coarse for the layer.
    """

    per_one: Array
    inverse: Array
    weight_scale: Array
    valid: Array


def as_grid(function: str, reproducible: object, xp: Any, like: Array, argument: str = "weight") -> Grid | None:
    """The grid that the argument `reproducible` asks for."""
    if reproducible is False:
        return None
    if reproducible is not True and not isinstance(reproducible, Grid):
        raise fail(function, "reproducible", "True, False or a tacops.Grid", show(reproducible), TypeError)
    if like.dtype not in (xp.float32, xp.float64):
        raise fail(function, argument, "float32 or float64 in reproducible mode", str(like.dtype), TypeError)
    return Grid() if reproducible is True else reproducible


def aggregation_bits(grid: Grid, aggregation: str | Weights, chunk_size: int) -> int:
    """q: 0 where every weight is whole by definition.

    Weights that sum to one are about K times smaller and get log2 K more bits, unless 1/K is a multiple of 2^-q already.
    """
    if not isinstance(aggregation, str):
        return grid.aggregation_bits
    rule = RULES[aggregation]
    if rule.whole or chunk_size == 1:
        return 0
    exact = not rule.decays and 2**grid.aggregation_bits % chunk_size == 0
    return grid.aggregation_bits + (_log2(chunk_size) if rule.shared and not exact else 0)


def unit_weights(
    backend: Backend, aggregation: str | Weights, size: int, beta: float | Array, bits: int
) -> list[float | Array]:
    """Aggregation weights of a chunk of `size` frames in multiples of 2^-bits, as integers."""
    weights = chunk_weights(aggregation, size, beta)
    if isinstance(aggregation, str) and RULES[aggregation].shared and not isinstance(weights[0], float):
        # A compiler may contract the sum of products that the powers' total is: of whole numbers it is exact either way.
        fine = 2.0 ** max(0, 23 - _log2(size))
        powers = chunk_weights("decay", size, beta)
        weights = shares([backend.round_through(power * fine) for power in powers])
    scale = 2.0**bits
    return [float(round(w * scale)) if isinstance(w, float) else backend.round_through(w * scale) for w in weights]


def layer_units(
    backend: Backend,
    grid: Grid,
    weight: Array,
    bias: Array | None,
    aggregation: str | Weights,
    chunk_size: int,
    beta: float | Array,
) -> Units:
    """Choose the units of a layer by the rule at the top of this file.

    Only exact operations and single roundings are used, so every library chooses the same.
    """
    xp = backend.namespace(weight)
    axes = tuple(range(1, weight.ndim))
    fan_in = math.prod(weight.shape[1:])
    q = aggregation_bits(grid, aggregation, chunk_size)
    reach = _largest_sum(backend, aggregation, chunk_size, beta, q)
    magnitude = xp.abs(backend.stop_gradient(weight))
    widest = xp.max(magnitude, axis=axes)
    limit = EXACT if bias is None else EXACT / 2
    offset = None if bias is None else xp.abs(backend.stop_gradient(bias)) * (reach / grid.input_step)

    def fits(power: Array) -> Array:
        narrow = widest * power <= 2.0**grid.weight_bits
        return narrow if offset is None else xp.logical_and(narrow, offset * power < limit)

    fine = _largest_power(xp, widest, fits, 6)
    # Sums of integers, the same in any order; above that fan-in, a coarser bound takes their place.
    rounded = xp.round(magnitude * xp.reshape(fine, (-1, *(1 for _ in axes))))
    summable = fan_in * 2**grid.weight_bits < EXACT
    sums = xp.sum(rounded, axis=axes) if summable else xp.max(rounded, axis=axes) * float(fan_in)
    reach = reach * (grid.input_max / grid.input_step)

    def exact(power: Array) -> Array:
        return (sums * power + float(fan_in)) * reach < limit

    scale = fine * _largest_power(xp, widest, exact, 4, top=0)
    # weights of less than 2^-31 may round to nothing, unless it is a bias that has made the grid coarse
    nothing = xp.logical_or(widest < TINY, scale >= FINEST)
    enough = xp.logical_and(xp.logical_or(nothing, widest * scale >= MIN_WEIGHT), exact(scale / fine))
    per_one = scale * (2.0**q / grid.input_step)
    return Units(per_one, _reciprocal(xp, per_one), scale, xp.all(enough))


def current_units(backend: Backend, grid: Grid, current: Array, threshold: float | Array) -> Units:
    """Choose the units of `lif`: the threshold has `grid.threshold_bits` bits."""
    xp = backend.namespace(current)
    level = xp.zeros_like(current[0, 0, ...]) + threshold
    level = backend.stop_gradient(level)
    level = xp.max(xp.reshape(level, (-1, level.shape[-1] if level.ndim else 1)), axis=0)
    per_one = _largest_power(xp, level, lambda power: level * power <= 2.0**grid.threshold_bits, 6)
    return Units(per_one, _reciprocal(xp, per_one), per_one, xp.all(level * per_one >= 1.0))


def check_units(function: str, backend: Backend, grid: Grid, units: Units, threshold: Array) -> Array | None:
    """Fail if a layer's numbers are too far apart for one grid; `threshold` is in units."""
    xp = backend.namespace(threshold)

    def error() -> Exception:
        rule = (
            "within the grid's range in reproducible mode (weights of 4 bits or more, a threshold of one unit or more)"
        )
        got = f"numbers too far apart for {grid}; lower input_max, aggregation_bits or chunk_size"
        return fail(function, "weight and threshold", rule, got)

    return _require(backend, xp.logical_and(units.valid, xp.all(threshold >= 1.0)), threshold, error)


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
    the answer is 0 or NaN, to be added to all results.
    """
    known = backend.read(holds)
    if known is None:
        xp = backend.namespace(like)
        zero = xp.zeros_like(xp.reshape(like, (-1,))[0, ...])
        return xp.where(holds, zero, zero + float("nan"))
    if not known[0]:
        raise error()
    return None


def _largest_sum(backend: Backend, aggregation: str | Weights, chunk_size: int, beta: float | Array, q: int) -> Any:
    """Upper bound of ``sum_k |A_k|`` over chunks of every size up to `chunk_size`, so that no unit depends on T.

    The weights of a shorter chunk are the last of a longer one's, unless they are shares of one.
    """
    rule = None if not isinstance(aggregation, str) else RULES[aggregation]
    if rule is not None and (rule.shared or rule.whole):
        whole = 2.0**q * (chunk_size if rule.whole else 1)
        return whole + 0.5 * chunk_size if rule.shared and chunk_size > 1 else whole
    if rule is not None and isinstance(beta, float):
        return _sum_of_powers(beta, chunk_size, q)
    if rule is not None and chunk_size > MOST_POWERS:
        return 2.0**q * chunk_size
    rounded = unit_weights(backend, aggregation, chunk_size, beta, q)
    return sum(abs(backend.stop_gradient(a)) if not isinstance(a, float) else abs(a) for a in rounded)


def _sum_of_powers(beta: float, count: int, q: int) -> float:
    """``sum_k round(beta^k 2^q)``; of so many that no grid holds them, enough to show it."""
    total, power = 0.0, 1.0
    for _ in range(count):
        term = float(round(power * 2.0**q))
        total, power = total + term, power * beta
        if not term or total > EXACT:
            break
    return total


def _log2(n: int) -> int:
    """The logarithm of n, rounded up."""
    return (n - 1).bit_length()


def _largest_power(xp: Any, like: Array, holds: Callable[[Array], Array], bits: int, top: int | None = None) -> Array:
    """The largest power of two, elementwise, for which a monotone condition holds: a binary search of its exponent.

    The exponent lies in ``[top - 2**bits + 1, top]``; `top` is ``2**(bits - 1) - 1`` unless given. Neither log2 nor exp2
    would do: they round differently from library to library.
    """
    top = 2 ** (bits - 1) - 1 if top is None else top
    power = xp.ones_like(like) * 2.0 ** (top - 2**bits + 1)
    for bit in reversed(range(bits)):
        larger = power * 2.0 ** (2**bit)
        power = xp.where(holds(larger), larger, power)
    return power


def _reciprocal(xp: Any, power: Array) -> Array:
    """``1 / power`` of powers of two (exact in every library that divides by IEEE 754)."""
    return xp.ones_like(power) / power
