"""Random convolutions for ``python -m bench geometries``: drawing them, making them smaller, writing them as a program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["DTYPES", "LARGEST", "Case", "as_program", "draw", "shrink"]

LARGEST = {"float32": 2**24, "float64": 2**53, "float16": 2**11, "bfloat16": 2**8}
"""Integers up to this are exact."""
DTYPES = tuple(LARGEST)
WORK = 300_000
"""Most products of a case."""

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One layer of currents: a convolution whose membranes are the sums over time."""

    dtype: str
    steps: int
    batch: int
    spatial: Ints
    kernel: Ints
    c_in: int
    """Of each group, as is `c_out`."""
    c_out: int
    groups: int
    stride: Ints
    padding: tuple[tuple[int, int], ...]
    dilation: Ints
    bias: bool
    reproducible: bool
    seed: int

    @property
    def space(self) -> Ints:
        """Spatial shape of the output."""
        axes = zip(self.spatial, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + low + high - d * (k - 1) - 1) // s + 1 for n, k, s, (low, high), d in axes)

    @property
    def largest(self) -> int:
        """A bound of every sum, forwards and backwards, of spikes 0 and 1 and of weights and gradients -1, 0 and 1."""
        taps, places = math.prod(self.kernel), math.prod(self.space)
        forwards = self.steps * (taps * self.c_in + 1)
        return max(forwards, self.steps * self.batch * places, taps * self.c_out)

    @property
    def fits(self) -> bool:
        """Whether there is an output, every sum is exact, and the work is small."""
        if min(self.space) < 1 or min(self.spatial) < 1 or self.largest > LARGEST[self.dtype]:
            return False
        outputs = self.steps * self.batch * math.prod(self.space) * self.groups * self.c_out
        return outputs * math.prod(self.kernel) * self.c_in <= WORK


def draw(seed: int, number: int, dtypes: Sequence[str]) -> Case:
    """Case `number`: small sizes are likely, because the odd ones among them are where libraries failed."""
    for attempt in range(1000):
        rng = np.random.default_rng((seed, number, attempt))
        dims = int(rng.integers(1, 4))

        def some(*values: int, rng: np.random.Generator = rng, dims: int = dims) -> Ints:
            return tuple(int(rng.choice(values)) for _ in range(dims))

        def one(*values: int, rng: np.random.Generator = rng) -> int:
            return int(rng.choice(values))

        kernel, dilation = some(1, 1, 2, 3, 3, 4), some(1, 1, 1, 2, 3)
        reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        padding = tuple((one(0, 0, 1, r // 2, r, r + 1), one(0, 1, r)) for r in reach)
        if rng.random() < 0.7:
            padding = tuple((low, low) for low, _ in padding)
        dtype = dtypes[number % len(dtypes)]
        case = Case(
            dtype=dtype,
            steps=one(1, 2),
            batch=one(1, 1, 2, 3, 4, 16, 17),
            spatial=some(1, 1, 2, 3, 4, 5, 7, 9, 12),
            kernel=kernel,
            c_in=one(1, 1, 1, 2, 3, 4, 8, 16, 17),
            c_out=one(1, 1, 2, 3, 4, 8, 16, 17),
            groups=one(1, 1, 1, 2, 3, 8),
            stride=some(1, 1, 1, 2, 3),
            padding=padding,
            dilation=dilation,
            bias=bool(rng.random() < 0.5),
            reproducible=bool(rng.random() < 0.4) and dtype in ("float32", "float64"),
            seed=int(rng.integers(2**31)),
        )
        if case.fits:
            return case
    raise RuntimeError(f"no case that fits in 1000 attempts (seed {seed}, number {number})")


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The smallest case that still fails, by one step at a time."""
    again = True
    while again:
        again = False
        for smaller in _smaller(case):
            if smaller.fits and fails(smaller):
                case, again = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Neighbours of a case with one thing less: first an axis, then sizes, at once to one and by one."""
    for axis in range(len(case.spatial) if len(case.spatial) > 1 else 0):
        fields = ("spatial", "kernel", "stride", "padding", "dilation")
        yield _with(case, {name: _without(getattr(case, name), axis) for name in fields})
    for name in ("steps", "batch", "c_in", "c_out", "groups"):
        value = getattr(case, name)
        for less in dict.fromkeys((1, value // 2, value - 1)):
            if 0 < less < value:
                yield _with(case, {name: less})
    for name in ("bias", "reproducible"):
        if getattr(case, name):
            yield _with(case, {name: False})
    for name in ("spatial", "kernel", "stride", "dilation"):
        values = getattr(case, name)
        for axis, value in enumerate(values):
            for less in dict.fromkeys((1, value // 2, value - 1)):
                if 0 < less < value:
                    yield _with(case, {name: (*values[:axis], less, *values[axis + 1 :])})
    for axis, pair in enumerate(case.padding):
        for less in ((0, 0), (pair[0], 0), (0, pair[1]), (pair[0] - 1, pair[1] - 1)):
            if less != pair and min(less) >= 0:
                yield replace(case, padding=(*case.padding[:axis], less, *case.padding[axis + 1 :]))


def _with(case: Case, fields: dict[str, Any]) -> Case:
    return replace(case, **fields)


def _without(values: tuple[object, ...], axis: int) -> tuple[object, ...]:
    return (*values[:axis], *values[axis + 1 :])


def as_program(backend: str, case: Case, what: str) -> str:
    """What anybody can run in this repository to see it."""
    lines = [
        f"# {what}",
        "from bench.spikes.geometry_cases import Case",
        "from bench.spikes.geometry_check import mistake, prepare",
        "from tacops.backends import get_backend",
        f"prepare({backend!r})",
        f"print(mistake(get_backend({backend!r}), {case!r}))",
    ]
    return "\n".join(lines)
