"""The rules of the independent simulation: numbers of a layer, and how they are rounded, by the documentation alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from tacops.testing._case import Case, Inputs

Number = Fraction | int
DIGITS = {"float32": 24, "float64": 53}
LIMIT = 2**24 - 8


def to_float(value: Number, digits: int) -> Fraction:
    """The nearest number with so many binary digits, ties to even: how a floating product or sum is rounded."""
    value = Fraction(value)
    if value == 0:
        return value
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length() - digits
    while abs(value) >= Fraction(2) ** (exponent + digits):
        exponent += 1
    return round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent


@dataclass
class Rule:
    """A layer's numbers and how it rounds; per channel where a function takes ``c``."""

    spikes: list[Number]
    weight: list[Number]
    bias: Callable[[int, Number], Number]
    weights: Callable[[int, int], list[Number]]
    threshold: Callable[[int], Number]
    decay: Callable[[str, int, int], Fraction]
    """Of the option's name, channel and number of frames."""
    keep: Callable[[Fraction, Number], Number]
    """Decayed membrane."""
    enter: Callable[[int, Fraction], Number]
    leave: Callable[[int, Number], Fraction]
    add: Callable[[Number, Number], Number]


# Parameters


def given(case: Case, inputs: Inputs, name: str, default: float) -> Callable[[int], Fraction]:
    """Beta or threshold per channel, as the layer's floating type holds it; scalars stay as Python has them."""
    if name in inputs:
        return lambda c: inputs[name][1][c]
    return lambda c: Fraction(case.options.get(name, default))


def aggregation_of(case: Case) -> str:
    """The rule's name, "given" for an array."""
    if case.function in ("conv_lif", "lif"):
        return "sum"
    named = case.options.get("aggregation")
    if isinstance(named, tuple):
        return "given"
    return named or {"collapse": "decay", "preserve": "normalized_decay"}[case.options.get("mode", "collapse")]


def raw_weights(case: Case, inputs: Inputs, size: int, c: int, digits: int) -> list[Fraction]:
    """Weights a_0 .. a_{size-1}; of an array beta every power, sum and quotient is rounded to floats, of a scalar none."""
    kind = aggregation_of(case)
    if kind == "given":
        return inputs["aggregation"][1][-size:]
    if kind in ("sum", "mean"):
        return [Fraction(1, size if kind == "mean" else 1)] * size
    beta = given(case, inputs, "beta", 0.9)(c)

    def rounded(value: Fraction) -> Fraction:
        return to_float(value, digits) if "beta" in inputs else value

    powers = [Fraction(1)]
    while len(powers) < size:
        powers.insert(0, rounded(powers[0] * beta))
    if kind == "decay":
        return powers
    if "beta" in inputs and case.grid:  # whole numbers, so that no sum is rounded
        fine = 2 ** (23 - (size - 1).bit_length())
        powers = [Fraction(round(rounded(power * fine))) for power in powers]
    total = powers[0]
    for power in powers[1:]:
        total = rounded(total + power)
    return [rounded(power / total) for power in powers]


def decay_of(case: Case, inputs: Inputs, name: str, c: int, frames: int, digits: int) -> Fraction:
    """beta^frames: of a scalar in float64 and rounded at the end, of an array by repeated squaring."""
    beta = given(case, inputs, name, 0.9)(c)
    if name not in inputs:
        return to_float(beta**frames, digits)
    power = Fraction(1)
    while frames:
        if frames % 2:
            power = to_float(power * beta, digits)
        beta, frames = to_float(beta * beta, digits), frames // 2
    return power


# Two sets of rules


def exact_rule(case: Case, inputs: Inputs) -> Rule:
    """Default path: nothing is rounded, and every number is checked to need no more than the type's digits."""
    digits = DIGITS[case.dtype]
    threshold = given(case, inputs, "threshold", 1.0)

    def exactly(value: Number) -> Fraction:
        assert to_float(value, digits) == value, f"{case.name}: {value} is not exact"
        return Fraction(value)

    bias = inputs["bias"][1] if case.bias else None
    driven = inputs["current" if case.function == "lif" else "spikes"][1]
    return Rule(
        spikes=list(driven),
        weight=list(inputs["weight"][1]) if case.weight else [],
        bias=lambda c, total: bias[c] * total if bias else 0,
        weights=lambda c, size: list(raw_weights(case, inputs, size, c, digits)),
        threshold=threshold,
        decay=lambda name, c, frames: decay_of(case, inputs, name, c, frames, digits),
        keep=lambda decay, u: exactly(decay * u),
        enter=lambda c, value: value,
        leave=lambda c, value: exactly(value),
        add=lambda u, i: exactly(u + i),
    )


def power_of_two(holds: Callable[[Fraction], bool], top: int, bottom: int) -> Fraction:
    """The largest 2^n, n from `bottom` to `top`, that fits; 2^bottom if none does."""
    return next((Fraction(2) ** n for n in range(top, bottom, -1) if holds(Fraction(2) ** n)), Fraction(2) ** bottom)


def whole_bits(case: Case) -> int:
    """q, the binary digits of aggregation weights: none where they are whole by definition."""
    assert case.grid
    kind = aggregation_of(case)
    if kind == "sum" or (kind != "given" and chunk(case) == 1):
        return 0
    bits = case.grid.aggregation_bits
    if kind == "normalized_decay" or (kind == "mean" and 2**bits % chunk(case)):
        bits += (chunk(case) - 1).bit_length()
    return bits


def chunk(case: Case) -> int:
    """K."""
    size: int = case.options.get("chunk_size", 1)
    return size


def weight_scale(case: Case, inputs: Inputs, c: int, rounded: Callable[[int, int], list[Number]]) -> Fraction:
    """2^g of one channel."""
    grid, fan_in = case.grid, prod(case.weight[1:])
    assert grid
    step, most = Fraction(grid.input_step), Fraction(grid.input_max)
    limit = LIMIT // 2 if case.bias else LIMIT
    mine = [abs(Fraction(w)) for w in inputs["weight"][1][c * fan_in : (c + 1) * fan_in]]
    offset = abs(inputs["bias"][1][c]) if case.bias else Fraction(0)
    q = whole_bits(case)
    if aggregation_of(case) in ("normalized_decay", "mean"):
        reach = 2**q + Fraction(chunk(case), 2) if chunk(case) > 1 else Fraction(2**q)
    else:
        reach = sum((abs(Fraction(a)) for a in rounded(c, chunk(case))), Fraction(0))
    fine = power_of_two(
        lambda p: max(mine) * p <= 2**grid.weight_bits and offset * reach / step * p < limit, top=31, bottom=-32
    )
    sums = sum(round(w * fine) for w in mine)
    assert fan_in * 2**grid.weight_bits < LIMIT
    return fine * power_of_two(lambda p: (sums * p + fan_in) * reach * most / step < limit, top=0, bottom=-15)


def unit_rule(case: Case, inputs: Inputs) -> Rule:
    """Reproducible mode: integers, and a decayed membrane that is rounded twice, to the type's digits and to units."""
    digits, grid = DIGITS[case.dtype], case.grid
    assert grid
    q, step = whole_bits(case), Fraction(grid.input_step)
    fan_in = prod(case.weight[1:])
    threshold = given(case, inputs, "threshold", 1.0)

    def weights(c: int, size: int) -> list[Number]:
        return [round(a * 2**q) for a in raw_weights(case, inputs, size, c, digits)]

    scales = [weight_scale(case, inputs, c, weights) for c in range(case.channels)]
    per_one = [scale * 2**q / step for scale in scales]

    def bias(c: int, total: Number) -> Number:
        if not case.bias:
            return 0
        return round(to_float(inputs["bias"][1][c] * scales[c] * total / step, digits))

    def whole(value: Number) -> Number:
        assert -(2**24) < value < 2**24, f"{case.name}: {value} units"
        return value

    return Rule(
        spikes=[whole_number(x / step) for x in inputs["spikes"][1]],
        weight=[round(w * scales[n // fan_in]) for n, w in enumerate(inputs["weight"][1])],
        bias=bias,
        weights=weights,
        threshold=lambda c: round(to_float(threshold(c), digits) * per_one[c]),
        decay=lambda name, c, frames: decay_of(case, inputs, name, c, frames, digits),
        keep=lambda decay, u: round(to_float(decay * u, digits)),
        enter=lambda c, value: round(value * per_one[c]),
        leave=lambda c, value: Fraction(value) / per_one[c],
        add=lambda u, i: whole(u + i),
    )


def current_rule(case: Case, inputs: Inputs) -> Rule:
    """`lif` in reproducible mode: the threshold has so many bits, and currents are rounded."""
    digits, grid = DIGITS[case.dtype], case.grid
    assert grid
    threshold = given(case, inputs, "threshold", 1.0)
    per_one = [
        power_of_two(lambda p, c=c: threshold(c) * p <= 2**grid.threshold_bits, top=31, bottom=-32)  # type: ignore[misc]
        for c in range(case.channels)
    ]
    rule = exact_rule(case, inputs)
    rule.spikes = [round(i * per_one[n % case.channels]) for n, i in enumerate(inputs["current"][1])]
    rule.threshold = lambda c: round(to_float(threshold(c), digits) * per_one[c])
    rule.keep = lambda decay, u: round(to_float(decay * u, digits))
    rule.enter = lambda c, value: round(value * per_one[c])
    rule.leave = lambda c, value: Fraction(value) / per_one[c]
    return rule


def whole_number(value: Fraction) -> int:
    """An integer, or an error."""
    assert value.denominator == 1
    return value.numerator
