"""The independent simulation that golden results are made by.

It knows the documented rules (the operators' docstrings; docs/reproducible.md) and the inputs of the cases, calls
no operator of tacops and no array library, and computes with Python's fractions and integers. Convolution comes first
and aggregation after it, per frame, which is the other order than tacops has.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import prod

from tacops.testing._case import Case, Inputs
from tests.support.golden_rules import Number, Rule, chunk, current_rule, exact_rule, unit_rule


def frame_currents(case: Case, rule: Rule, t: int) -> list[Number]:
    """The convolution of one frame, flat (B, *S_out, C_out)."""
    frame = prod(case.spikes[1:])
    x = rule.spikes[t * frame : (t + 1) * frame]
    if case.function == "lif":
        return x
    if case.function == "tac_linear":
        features = case.spikes[-1]
        rows = [x[n : n + features] for n in range(0, frame, features)]
        columns = [rule.weight[n : n + features] for n in range(0, len(rule.weight), features)]
        return [sum(a * b for a, b in zip(row, column, strict=True)) for row in rows for column in columns]
    return list(convolved(case, rule, x))


def convolved(case: Case, rule: Rule, x: list[Number]) -> Iterator[Number]:
    """The definition of a convolution, term by term."""
    strides, pads, dilations = case.window()
    _, batch, *size, _ = case.spikes
    channels, *kernel, inner = case.weight
    outer = channels // case.options.get("groups", 1)
    for b, *place, c in product(range(batch), *map(range, case.space()), range(channels)):
        total: Number = 0
        for tap in product(*map(range, kernel)):
            axes = zip(place, tap, strides, pads, dilations, strict=True)
            at = [p * s - low + k * d for p, k, s, (low, _), d in axes]
            if all(0 <= a < n for a, n in zip(at, size, strict=True)):
                source = flat((b, *at, (c // outer) * inner), case.spikes[1:])
                weights = flat((c, *tap, 0), case.weight)
                total += sum(x[source + n] * rule.weight[weights + n] for n in range(inner) if x[source + n])
        yield total


def flat(index: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Position in a flat list."""
    position = 0
    for i, size in zip(index, shape, strict=True):
        position = position * size + i
    return position


def simulate(case: Case, inputs: Inputs) -> tuple[list[int], list[list[Fraction]]]:
    """Spikes, flat (frames, B, *S_out, C_out), and the last membrane, and the last synaptic current where there is one."""
    if case.grid is None:
        rule = exact_rule(case, inputs)
    else:
        rule = (current_rule if case.function == "lif" else unit_rule)(case, inputs)
    steps, channels = case.spikes[0], case.channels
    currents = [frame_currents(case, rule, t) for t in range(steps)]
    neurons = len(currents[0])
    start = inputs["membrane"][1] if case.membrane else [Fraction(0)] * neurons
    u = [rule.enter(n % channels, value) for n, value in enumerate(start)]
    synapse = "synapse_decay" in case.options
    j: list[Number] = [0] * neurons
    thresholds = [rule.threshold(c) for c in range(channels)]
    spikes: list[int] = []
    preserve = case.options.get("mode") == "preserve"
    for first in range(0, steps, chunk(case)):
        frames = currents[first : first + chunk(case)]
        repeat = len(frames) if preserve else case.options.get("repeat", 1)
        weights = [rule.weights(c, len(frames)) for c in range(channels)]
        bias = [rule.bias(c, sum(weights[c])) for c in range(channels)]  # once per frame, hence aggregated
        drive = [weighted(weights[n % channels], frames, n) + bias[n % channels] for n in range(neurons)]
        span = 1 if preserve or case.function == "lif" else len(frames)
        decays = [rule.decay("beta", c, span) for c in range(channels)]
        fading = [rule.decay("synapse_decay", c, span) if synapse else Fraction(0) for c in range(channels)]
        for _ in range(repeat):
            for n in range(neurons):
                threshold, reset = thresholds[n % channels], case.options.get("reset", "subtract")
                j[n] = rule.add(rule.keep(fading[n % channels], j[n]), drive[n]) if synapse else drive[n]
                v = rule.add(rule.keep(decays[n % channels], u[n]), j[n])
                if reset == "late" and u[n] >= threshold:
                    v = rule.add(v, -threshold)
                fired = v >= threshold
                spikes.append(int(fired))
                u[n] = after(v, fired, threshold, reset)
    return spikes, [
        [rule.leave(n % channels, x) for n, x in enumerate(state)] for state in ([u, j] if synapse else [u])
    ]


def weighted(weights: list[Number], frames: list[list[Number]], n: int) -> Number:
    """The aggregated current of one neuron."""
    return sum(a * frame[n] for a, frame in zip(weights, frames, strict=True))


def after(v: Number, fired: bool, threshold: Number, reset: str) -> Number:
    """The membrane after a reset."""
    if not fired or reset in ("none", "late"):
        return v
    return 0 if reset == "zero" else v - threshold
