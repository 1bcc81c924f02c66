"""A layer of the bitwise tier, and its inputs, which are the same on every machine and with every version.

Inputs are exact fractions drawn from SplitMix64 with Python integers; no array library has a part in them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .._core.grid import Grid

__all__ = ["Case", "Inputs", "bell", "inputs_of", "stream_of"]

Values = list[Fraction]
Inputs = dict[str, tuple[tuple[int, ...], Values]]
"""Shape and flat values by the argument's name."""


@dataclass(frozen=True)
class Case:
    """One call of an operator.

    Parameters
    ----------
    name : str
        Also the seed of the inputs.
    function : str
        Of `tacops`.
    spikes : tuple of int
        Shape (T, B, *S, C_in), channels last; of `lif` the current's.
    weight : tuple of int
        Shape (C_out, *kernel, C_in // groups); () for `lif`.
    options : mapping
        Keyword options of the operator. Tuples for beta, threshold and aggregation become arrays.
    values : {"coarse", "wide", "deep", "any", "uneven"}
        Weights: multiples of 1/16; of 2^-13; of 2^-40, which need float64; arbitrary float32; these with channels of very
        different size, one zero.
    drive : {"float", "bool", "counts", "signed", "halves"}
        Inputs: 0/1 as floats, as bool, uint8 up to 7, int8 from -3 to 3, multiples of 1/2 up to 2.
    bias, membrane : bool
        Whether the call has them.
    dtype : str
    """

    name: str
    function: str
    spikes: tuple[int, ...]
    weight: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    values: str = "coarse"
    drive: str = "float"
    bias: bool = False
    membrane: bool = False
    dtype: str = "float32"

    @property
    def grid(self) -> Grid | None:
        """The grid of reproducible mode."""
        reproducible = self.options.get("reproducible", False)
        return Grid() if reproducible is True else reproducible or None

    @property
    def channels_first(self) -> bool:
        """Whether the call has its channels first; inputs and golden results are stored channels last."""
        return self.options.get("layout") == "channels_first"

    def window(self) -> tuple[tuple[int, ...], list[tuple[int, int]], tuple[int, ...]]:
        """Stride, padding and dilation, one entry per axis."""
        dims = max(len(self.weight) - 2, 0)
        stride, dilation = (self.options.get(name, 1) for name in ("stride", "dilation"))
        padding = self.options.get("padding", 0)
        strides, dilations = ((n,) * dims if isinstance(n, int) else tuple(n) for n in (stride, dilation))
        if padding == "same":
            totals = [d * (k - 1) for d, k in zip(dilations, self.weight[1:-1], strict=True)]
            return strides, [(total // 2, total - total // 2) for total in totals], dilations
        entries = [padding] * dims if isinstance(padding, int) else padding
        return strides, [(p, p) if isinstance(p, int) else (p[0], p[1]) for p in entries], dilations

    def space(self) -> tuple[int, ...]:
        """Spatial shape of the output (with `tac_linear`, of any axes between B and F)."""
        if len(self.weight) <= 2:
            return self.spikes[2:-1]
        axes = zip(self.spikes[2:-1], self.weight[1:-1], *self.window(), strict=True)
        return tuple((size + low + high - d * (k - 1) - 1) // s + 1 for size, k, s, (low, high), d in axes)

    @property
    def channels(self) -> int:
        """C_out."""
        return self.weight[0] if self.weight else self.spikes[-1]


def stream_of(seed: str) -> Iterator[int]:
    """SplitMix64: 64-bit integers."""
    state, mask = zlib.crc32(seed.encode()), (1 << 64) - 1
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield z ^ (z >> 31)


def bell(stream: Iterator[int]) -> int:
    """An integer of at most 24 bits and a sign, bell-shaped with standard deviation 2^22.2."""
    z = next(stream)
    sixteens = sum((z >> shift) & 0xFFFF for shift in (0, 16, 32, 48)) - 2 * 0xFFFF
    return (sixteens << 7) + (next(stream) & 0x7F)


def inputs_of(case: Case) -> Inputs:
    """Every array argument of a call, channels last."""
    stream = stream_of(case.name)
    found: Inputs = {}
    if case.function == "lif":
        found["current"] = _draw(case.spikes, lambda: Fraction(bell(stream) + (1 << 21), 1 << 23))
    else:
        found["spikes"] = _draw(case.spikes, _drive(case, stream))
        found["weight"] = _weights(case, stream)
    if case.bias:
        unit = 4 if case.values in ("any", "uneven") else 20
        found["bias"] = _draw(
            (case.channels,), lambda: Fraction((bell(stream) >> unit) + ((1 << 21) >> unit), (1 << 24) >> unit)
        )
    if case.membrane:
        unit = 0 if case.grid else 20
        shape = (case.spikes[1], *case.space(), case.channels)
        found["membrane"] = _draw(shape, lambda: Fraction(bell(stream) >> unit, (1 << 23) >> unit))
    for name in ("beta", "threshold", "synapse_decay", "aggregation"):
        value = case.options.get(name)
        if isinstance(value, tuple):
            found[name] = (len(value),), [Fraction(entry) for entry in value]
    return found


def _draw(shape: tuple[int, ...], draw: Callable[[], Fraction]) -> tuple[tuple[int, ...], Values]:
    count = 1
    for size in shape:
        count *= size
    return shape, [draw() for _ in range(count)]


def _drive(case: Case, stream: Iterator[int]) -> Callable[[], Fraction]:
    if case.drive == "counts":
        return lambda: Fraction(max(0, next(stream) % 12 - 4))
    if case.drive == "signed":
        return lambda: Fraction(next(stream) % 7 - 3)
    if case.drive == "halves":
        return lambda: Fraction(max(-2, next(stream) % 8 - 4), 2)
    return lambda: Fraction(int(next(stream) % 10 < 3))


def _weights(case: Case, stream: Iterator[int]) -> tuple[tuple[int, ...], Values]:
    shape = case.weight
    if case.values == "coarse":
        return _draw(shape, lambda: Fraction(next(stream) % 13 - 4, 16))
    if case.values == "wide":
        return _draw(shape, lambda: Fraction(next(stream) % 6001 - 1800, 1 << 13))
    if case.values == "deep":
        return _draw(shape, lambda: Fraction(next(stream) % (3 << 38) - (1 << 38), 1 << 40))
    fan_in = 1
    for size in shape[1:]:
        fan_in *= size
    shift = 22 + max(0, (fan_in.bit_length() - 2) // 2)
    # a positive mean, so that neurons fire
    _, values = _draw(shape, lambda: Fraction(bell(stream) + (1 << 20), 1 << shift))
    if case.values == "uneven":
        scales = [Fraction(0), Fraction(1, 64), Fraction(4), Fraction(1)]
        values = [value * scales[(n // fan_in) % 4] for n, value in enumerate(values)]
    return shape, values
