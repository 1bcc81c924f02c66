"""Gradients of neurons by formula: the arithmetic of `LIFStep`, differentiated by hand, back through time.

The gradient by the membrane that fires in a step is that of the step after it times a factor, plus a term of the step's own
spikes. Factors and terms of several steps are computed at once, and two operations a step remain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx

from tacops._backend.steps import Reset

if TYPE_CHECKING:
    from tacops._backend.protocol import Array
    from tacops._backend.steps import Recipe

__all__ = ["Course", "gradients", "slope_at"]

MOST = 16
"""Steps whose factors are computed at once."""
CACHED = 1 << 17
"""Numbers of those, at most: small arrays are a matter of the number of operations, large ones of memory."""


class Course(NamedTuple):
    """What the membranes did.

    Parameters
    ----------
    before : list of array or None
        The membrane before each step; where no gradient by decay is wanted, before the first one alone.
    firing : list of array
        The one that fires in each step.
    slopes : list of array
        The surrogate at each of these, behind that at the first membrane if there is one and spikes reset late; or
        empty: the surrogate is to be asked.
    """

    before: list[Array | None]
    firing: list[Array]
    slopes: list[Array]


def slope_at(step: Recipe, v: Array) -> Array:
    """What the surrogate returns at membranes, which stand at the threshold where they are infinite or missing."""
    return _asked(step, _only(*_excess(step, v)))


def gradients(
    step: Recipe, repeat: int, course: Course, to_spikes: Array, to_last: Array, wanted: Sequence[str]
) -> dict[str, Array]:
    """By "currents", and by "start", "decay" and "threshold" where they are `wanted`."""
    steps, size = len(course.firing), max(1, min(MOST, CACHED // to_last.size))
    by_firing: list[Array] = []  # the last step first
    sums: dict[str, list[Array]] = {name: [] for name in ("decay", "threshold") if name in wanted}
    for low in reversed(range(0, steps, size)):
        piece = _Piece(step, course, slice(low, min(low + size, steps)), to_spikes)
        after = piece.back(by_firing, to_last)
        if "decay" in sums:
            sums["decay"] += piece.by_decay(by_firing)
        if "threshold" in sums:
            sums["threshold"].append(piece.by_threshold(after, to_last))
    found = {"currents": mx.stack(by_firing[::-1])}
    if repeat > 1:
        found["currents"] = mx.sum(mx.reshape(found["currents"], (-1, repeat, *to_last.shape)), axis=1)
    if "start" in wanted:
        found["start"], more = _by_start(step, course, by_firing[-1])
        if "threshold" in sums:
            sums["threshold"].append(more)
    parameters: dict[str, Any] = step._asdict()
    return found | {name: _total(terms, parameters[name]) for name, terms in sums.items()}


class _Piece:
    """Some steps, one after the other, with their factors and terms."""

    def __init__(self, step: Recipe, course: Course, steps: slice, to_spikes: Array) -> None:
        self.step, self.before, self.v = step, course.before[steps], mx.stack(course.firing[steps])
        own = course.slopes[-len(course.firing) :][steps]
        self.slope = _slope(step, self.v, mx.stack(own) if own else None)
        self.to_spikes = to_spikes[steps]
        self.term = self.to_spikes * self.slope
        self.takes = self._takes()

    def _takes(self) -> Any:
        """What a spike takes from a membrane, where gradients go that way."""
        if self.step.detach_reset or self.step.reset is Reset.NONE:
            return None
        if self.step.reset is Reset.ZERO:
            return _only(self.v, mx.abs(self.v) < math.inf)
        return self.step.threshold

    def back(self, by_firing: list[Array], to_last: Array) -> list[Array | None]:
        """Append gradients by the membranes that fire; return that of the step after each, None after the last step of all."""
        decay, late = self.step.decay, self.step.reset is Reset.LATE
        factors, size, afters = self._factors(1.0 if late else decay, decay), len(self.v), []
        for term, factor in zip(_rows(self.term, size)[::-1], _rows(factors, size)[::-1], strict=True):
            after = by_firing[-1] if by_firing else None
            afters.append(after)
            if after is not None:
                by_firing.append(after * factor + term)
            elif late:
                by_firing.append(to_last + term)
            else:
                by_firing.append(to_last * _rows(self._factors(1.0, 1.0), size)[-1] + term)
        return afters[::-1]

    def _factors(self, spent: Any, decay: Any) -> Any:
        """What becomes of a membrane until the next step: `decay` of it is left, and `spent` of what its spike takes is gone."""
        if self.step.reset is Reset.ZERO:
            decay = (1.0 - _fired(self.step, self.v)) * decay
        return decay if self.takes is None else decay - self.slope * (self.takes * spent)

    def by_decay(self, by_firing: list[Array]) -> list[Array]:
        """Terms of it."""
        mine = by_firing[-len(self.v) :][::-1]
        pairs = [(g, u) for g, u in zip(mine, self.before, strict=True) if u is not None]
        if not pairs:
            return []
        return [_sum_to(mx.stack([g for g, _ in pairs]) * mx.stack([u for _, u in pairs]), self.step.decay)]

    def by_threshold(self, afters: list[Array | None], to_last: Array) -> Array:
        """A term of it."""
        late, total = self.step.reset is Reset.LATE, -self.term
        if self.step.reset is Reset.NONE:
            return _sum_to(total, self.step.threshold)
        # by the membranes that the spikes reset
        if late:
            reset = mx.stack([mx.zeros_like(to_last) if g is None else g for g in afters])
        else:
            reset = mx.stack([to_last if g is None else g * self.step.decay for g in afters])
        if self.takes is not None:
            total = (reset * self.takes - self.to_spikes) * self.slope
        if self.step.reset is not Reset.ZERO:
            total = total - reset * _spikes(self.step, self.v)
        return _sum_to(total, self.step.threshold)


def _by_start(step: Recipe, course: Course, first: Array) -> tuple[Array, Array]:
    """The gradient by the first membrane, and what its late spikes add to that by the threshold."""
    start: Any = course.before[0]
    by_start, more = first * step.decay, mx.zeros_like(first)
    if step.reset is Reset.LATE:
        more = -first * _spikes(step, start)
        if not step.detach_reset:
            lost = first * step.threshold * _slope(step, start, course.slopes[0] if course.slopes else None)
            by_start, more = by_start - lost, more + lost
    return by_start, _sum_to(more, step.threshold)


def _excess(step: Recipe, v: Array) -> tuple[Array, Array]:
    """Over the threshold, and where that is a number."""
    x = v - step.threshold
    x = x if step.unit is None else x * step.unit
    return x, mx.abs(x) < math.inf


def _asked(step: Recipe, x: Array) -> Array:
    surrogate: Any = step.surrogate
    found: Any = surrogate(x)
    return mx.full(x.shape, found, dtype=x.dtype) if isinstance(found, (int, float)) else found


def _slope(step: Recipe, v: Array, found: Array | None = None) -> Array:
    """The derivative of spikes by membranes; 0 where these are infinite or missing."""
    x, inside = _excess(step, v)
    slope = _only(_asked(step, x) if found is None else found, inside)
    return slope if step.unit is None else slope * step.unit


def _fired(step: Recipe, v: Array) -> Array:
    fired: Array = (v >= step.threshold).astype(v.dtype)
    return fired


def _spikes(step: Recipe, v: Array) -> Array:
    return _fired(step, v) if step.poison is None else _fired(step, v) + step.poison


def _only(x: Array, where: Array) -> Array:
    """`x`, and 0 elsewhere. On CPUs by its bits, since `mx.where` takes several times as long there."""
    if mx.default_device().type != mx.DeviceType.cpu:
        return mx.where(where, x, mx.zeros((), dtype=x.dtype))
    bits = mx.int32 if x.dtype == mx.float32 else mx.int64
    return mx.view(mx.view(x, bits) * where.astype(bits), x.dtype)


def _rows(x: Any, size: int) -> list[Any]:
    """One for each of so many steps, of what has one for each, or is the same for all."""
    if not isinstance(x, mx.array) or x.ndim < 2:
        return [x] * size
    return [mx.squeeze(x[n : n + 1], 0) for n in range(size)]


def _total(terms: list[Array], like: Array) -> Array:
    return sum(terms[1:], terms[0]) if terms else mx.zeros_like(like)


def _sum_to(x: Array, like: Any) -> Array:
    """Sums over what a parameter is broadcast along; `x` itself where that is a number."""
    if not isinstance(like, mx.array):
        return x
    more = x.ndim - like.ndim
    axes = [*range(more), *(more + n for n, size in enumerate(like.shape) if size == 1)]
    return mx.reshape(mx.sum(x, axis=axes) if axes else x, like.shape)
