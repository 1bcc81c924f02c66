"""Neurons that learn, as one function with a derivative of its own.

MLX records every operation of every step to differentiate it. Here the forward pass keeps the membranes that fire, where it is
transformed, and nothing where it is not; the backward pass goes back through time by formula (``formula.py``). Everything else
that MLX can do with a function (forward mode, `mx.vmap`, gradients of gradients) goes by the core's operations, surrogate and all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from tacops._backend.protocol import Backend
from tacops._backend.steps import Recipe, Reset
from tacops._core.checks import Derivative
from tacops.surrogate import Surrogate

from .formula import Course, gradients, slope_at

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = ["is_traced", "learn", "serves"]

PARAMETERS = ("decay", "threshold", "poison", "unit")
"""Of a step, where they are arrays. The last two are constants."""


@dataclass(frozen=True)
class _Neurons:
    """Neurons over time: functions of arrays, which are the currents, the first membrane if there is one, and parameters."""

    step: Any
    wanted: tuple[str, ...]
    """What the arrays behind the currents are."""
    repeat: int
    backend: Backend
    forwards: Backend
    """The same, for what nobody differentiates."""

    def split(self, given: Sequence[Array]) -> tuple[Any, Array, Array | None]:
        """The step, the currents and the first membrane."""
        currents, *others = given
        parameters = dict(zip(self.wanted, others, strict=True))
        start = parameters.pop("start", None)
        return replace(self.step, **parameters), currents, start

    def forth(self, given: Sequence[Array]) -> tuple[Array, Array]:
        """Spikes and the last membrane, by the fastest way there is where nothing is differentiated."""
        step, currents, start = self.split(_constants(given))
        plain = replace(step, surrogate=None, math=self.forwards)
        spikes, state = self.forwards.scan(plain, currents, _state(start), self.repeat)
        return spikes, state[0]

    def taped(self, slopes: Sequence[Array], *given: Array) -> tuple[Array, Array]:
        """The same by the core's operations, which MLX differentiates; the surrogate's values are `slopes` if there are any."""
        step, currents, start = self.split(given)
        if slopes:
            calls = _in_order(slopes, self.late, start is not None)
            step = replace(step, surrogate=lambda _: next(calls))
        spikes, state = Backend.scan(self.backend, step, currents, _state(start), self.repeat)
        return spikes, state[0]

    def course(self, given: Sequence[Array]) -> tuple[Array, Array, Course]:
        """The same, and what gradients are computed from, by the core's step in two halves."""
        step, currents, u = self.split(_constants(given))
        settle = replace(step, surrogate=None, math=self.forwards)
        integrate = settle if self.late else replace(settle, reset="none")
        before, firing, fired = [], [], []
        for current in self.backend.unstack(currents):
            for _ in range(self.repeat):
                before.append(u)
                (v,), _spikes = integrate(_state(u), current)
                (u,), spikes = settle(None, v)
                firing.append(v)
                fired.append(spikes)
        slopes: list[Array] = []
        if self.own:  # arrays by themselves, since what they are computed from may be differentiated by, too
            behind = [before[0]] if self.late and before[0] is not None else []
            slopes = [slope_at(step.recipe, v) for v in (*behind, *firing)]
        kept = Course(before if "decay" in self.wanted else before[:1], firing, slopes)
        return mx.stack(fired), u, kept

    def back(self, course: Course, given: Sequence[Array], to_spikes: Array, to_last: Array) -> list[Array]:
        """Gradients by what is given."""
        recipe = self.split(_constants(given))[0].recipe
        to_spikes, to_last = _constants([to_spikes, to_last])
        found = gradients(recipe, self.repeat, course, to_spikes, to_last, self.wanted)
        return [
            found[name] if name in found else mx.zeros_like(x)
            for name, x in zip(("currents", *self.wanted), given, strict=True)
        ]

    @property
    def late(self) -> bool:
        """Whether a spike resets the next step."""
        return bool(self.step.recipe.reset is Reset.LATE)

    @property
    def own(self) -> bool:
        """Whether the surrogate is a function of the user's."""
        surrogate = self.step.surrogate
        return type(surrogate.surrogate if isinstance(surrogate, Derivative) else surrogate) is not Surrogate


def serves(step: Recipe | None, currents: Array, start: Array | None) -> bool:
    """Whether neurons have a surrogate, and numbers of one dtype that is not of half precision."""
    if step is None or step.surrogate is None or step.compact or currents.ndim < 2 or not currents.size:
        return False
    parameters = [x for x in (getattr(step, name) for name in PARAMETERS) if isinstance(x, mx.array)]
    given = parameters if start is None else [start, *parameters]
    alike = all(x.dtype == currents.dtype for x in given) and all(x.ndim < 2 for x in parameters)
    return alike and currents.dtype in (mx.float32, mx.float64)


def learn(
    step: Any, currents: Array, start: Array | None, repeat: int, backend: Backend, forwards: Backend
) -> tuple[Array, Array]:
    """Spikes (T * repeat, ..., C) and membranes (..., C) of a step on currents (T, ..., C)."""
    named = {name: getattr(step, name) for name in PARAMETERS}
    arrays = {name: x for name, x in named.items() if isinstance(x, mx.array)}
    if start is not None:
        arrays = {"start": mx.broadcast_to(start, currents.shape[1:]), **arrays}
    neurons = _Neurons(step, tuple(arrays), repeat, backend, forwards)
    if neurons.own:  # what it returns is looked at before anything is done
        slope_at(step.recipe, currents[0, ...])
    given, kept = [currents, *arrays.values()], []
    traced = is_traced(given)

    def forward(given: list[Array]) -> tuple[Array, Array]:
        if not traced:
            return neurons.forth(given)
        spikes, last, course = neurons.course(given)
        kept.append(course)
        return spikes, last

    function: Any = mx.custom_function(forward)

    @function.vjp  # type: ignore[untyped-decorator]
    def backward(given: list[Array], cotangents: Sequence[Array], _: Any) -> list[Array]:
        course = kept[0] if kept else neurons.course(given)[2]
        return _gradients(neurons, course, given, list(cotangents))

    _by_operations(function, partial(neurons.taped, ()))
    spikes, membrane = function(given)
    return spikes, membrane


def _gradients(neurons: _Neurons, course: Course, given: list[Array], cotangents: list[Array]) -> list[Array]:
    """By each array, as a function whose own derivatives are those of the core's operations."""
    n, m = len(given), len(given) + len(cotangents)

    def taped(*every: Array) -> tuple[Array, ...]:
        found: Sequence[Array] = mx.vjp(partial(neurons.taped, every[m:]), list(every[:n]), list(every[n:m]))[1]
        return tuple(found)

    back: Any = mx.custom_function(
        lambda every: neurons.back(course._replace(slopes=_constants(every[m:])), every[:n], *every[n:m])
    )

    @back.vjp  # type: ignore[untyped-decorator]
    def again(every: list[Array], towards: Sequence[Array], _: Any) -> list[Array]:
        return list(mx.vjp(taped, list(every), list(towards))[1])

    _by_operations(back, taped)
    return list(back([*given, *cotangents, *course.slopes]))


class _Ran(threading.local):
    """Whether `_look` was run, in this thread."""

    yes = False


_RAN = _Ran()


def _look(numbers: list[Array]) -> list[Array]:
    _RAN.yes = True
    return numbers


_look_compiled = mx.compile(_look)


def is_traced(arrays: Sequence[Array]) -> bool:
    """Whether one of these stands in a transformation: MLX looks through its compiler there, and runs the function itself.

    Were it wrong, membranes would be kept that nobody needs, or be computed once more.
    """
    some = [mx.reshape(x, (-1,))[:1] for x in arrays]
    for _ in range(2):  # the first time of all it is run to be compiled
        _RAN.yes = False
        _look_compiled(some)
        if not _RAN.yes:
            return False
    return True


def _by_operations(function: Any, taped: Any) -> None:
    """Forward mode and `mx.vmap` of a function of one list, by the same as operations, whose arguments are its entries."""

    @function.jvp  # type: ignore[untyped-decorator]
    def forward(primals: list[Array], tangents: Sequence[Array | None]) -> list[Array]:
        filled = [mx.zeros_like(x) if t is None else t for x, t in zip(primals, tangents, strict=True)]
        return list(mx.jvp(taped, list(primals), filled)[1])

    @function.vmap  # type: ignore[untyped-decorator]
    def batched(primals: list[Array], axes: Sequence[int | None]) -> tuple[list[Array], list[int]]:
        found = list(mx.vmap(taped, in_axes=tuple(axes))(*primals))
        return found, [0] * len(found)


def _in_order(slopes: Sequence[Array], late: bool, starts: bool) -> Iterator[Array]:
    """As the core's steps ask for them; those that reset late ask for that of the membrane before them, too."""
    if not (late and starts):
        yield slopes[0]
    for before, slope in pairwise(slopes):
        if late:
            yield before
        yield slope


def _constants(arrays: Sequence[Array]) -> list[Array]:
    """Forward mode would walk through a function that has a rule of its own, and asks every operation for one."""
    return [mx.stop_gradient(x) for x in arrays]


def _state(membrane: Array | None) -> tuple[Array] | None:
    return None if membrane is None else (membrane,)
