"""The units of reproducible mode: how many of them a potential of one is, by the rule at the top of ``grid.py``.

Only exact operations and single roundings are used, so every library chooses the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._backend.protocol import Array, Backend
from .aggregation import Weights, chunk_weights, shares
from .grid import Grid
from .rules import RULES

__all__ = ["Units", "aggregation_bits", "current_units", "layer_units", "unit_weights"]

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
    enough = xp.logical_and(enough, fits(fine))  # not of numbers beyond the coarsest units that are tried
    per_one = scale * (2.0**q / grid.input_step)
    return Units(per_one, _reciprocal(xp, per_one), scale, xp.all(enough))


def current_units(backend: Backend, grid: Grid, current: Array, threshold: float | Array) -> Units:
    """Choose the units of `lif`: the threshold has `grid.threshold_bits` bits."""
    xp = backend.namespace(current)
    highest = backend.blank(current) + threshold
    highest = backend.stop_gradient(highest)
    highest = xp.max(xp.reshape(highest, (-1, highest.shape[-1] if highest.ndim else 1)), axis=0)
    per_one = _largest_power(xp, highest, lambda power: highest * power <= 2.0**grid.threshold_bits, 6)
    return Units(per_one, _reciprocal(xp, per_one), per_one, xp.all(highest * per_one >= 1.0))


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
