"""Backends with planted mistakes, to show that the checks can fail: each must be found.

A mutant is derived from a backend's class and differs from it in one mistake. Mistakes of the neurons run on the plain
schedule of `Backend`, whatever faster one the backend has; some mistakes are of the core itself, which is patched while
the mutant is in use. Mutants are for trying one at a time, not from several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from .._backend.protocol import Array, Backend, State, Window
from .._core import run, scale, units
from .._core.aggregation import Weights, chunk_weights
from .._core.neurons import LIFStep
from ._faults import COMPILED_PATCHES, METHODS, PATCHES

__all__ = ["Mutant", "mutants"]


@dataclass(frozen=True)
class Mutant:
    """One planted mistake.

    Parameters
    ----------
    name : str
    mistake : str
        In words.
    use : callable
        ``with mutant.use() as backend`` gives the backend that makes the mistake.
    """

    name: str
    mistake: str
    use: Callable[[], Any]


def mutants(backend: Backend) -> Iterator[Mutant]:
    """Every mistake, planted in copies of `backend`.

    Parameters
    ----------
    backend : Backend
        Its class must be constructible without arguments.

    Yields
    ------
    Mutant

    Examples
    --------
    >>> from tacops.backends import get_backend
    >>> from tacops.testing.mutants import mutants
    >>> len({mutant.name for mutant in mutants(get_backend("numpy"))})
    36
    """
    for name, (mistake, changes) in (_METHODS | METHODS).items():
        yield Mutant(name, mistake, _method_mutant(type(backend), changes))
    for name, (mistake, step) in _STEPS.items():
        yield Mutant(name, mistake, _method_mutant(type(backend), _with_step(step)))
    patches = PATCHES | (COMPILED_PATCHES if backend.compiles_fast else {})
    for name, (mistake, module, target, function) in (_PATCHES | patches).items():
        yield Mutant(name, mistake, _patch_mutant(backend, module, target, function))


def _method_mutant(kind: type[Backend], changes: dict[str, Any]) -> Callable[[], Any]:
    @contextmanager
    def use() -> Iterator[Backend]:
        yield type(f"Mutant{kind.__name__}", (kind,), dict(changes))()

    return use


def _patch_mutant(backend: Backend, module: Any, target: str, function: Callable[..., Any]) -> Callable[[], Any]:
    @contextmanager
    def use() -> Iterator[Backend]:
        modules = module if isinstance(module, tuple) else (module,)
        originals = [getattr(module, target) for module in modules]
        for module_ in modules:
            setattr(module_, target, function)
        try:
            yield backend
        finally:
            for module_, original in zip(modules, originals, strict=True):
                setattr(module_, target, original)

    return use


# Mistakes of the convolution


def _changed_conv(change: Callable[[Any, Array, Array], tuple[Array, Array]]) -> dict[str, Any]:
    """Plain schedule, and a convolution of changed inputs and weights."""

    def conv(self: Any, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        x, weight = change(self, x, weight)
        return _parent(self).conv(self, x, weight, bias, window, exact=exact)

    return {"conv": conv, **_with_step(None)}


def _parent(mutant: Any) -> type[Backend]:
    parent: type[Backend] = type(mutant).__mro__[1]
    return parent


def _transposed(backend: Backend, x: Array, weight: Array) -> tuple[Array, Array]:
    """Height and width of the kernel swapped; other kernels as they are."""
    square = weight.ndim == 4 and weight.shape[1] == weight.shape[2]
    return x, backend.namespace(weight).permute_dims(weight, (0, 2, 1, 3)) if square else weight


def _flipped(backend: Backend, x: Array, weight: Array) -> tuple[Array, Array]:
    """The last axis of the kernel backwards: a convolution in the mathematicians' sense."""
    if weight.ndim < 3:
        return x, weight
    columns = [weight[..., k, :] for k in range(weight.shape[-2])]
    return x, backend.namespace(weight).stack(columns[::-1], axis=-2)


def _tf32(backend: Backend, x: Array, weight: Array) -> tuple[Array, Array]:
    """Eleven significant bits, by Veltkamp's splitting."""
    large = weight * 8193.0
    return x, large - (large - weight)


# Mistakes of the neurons


def _with_step(change: type[LIFStep] | None) -> dict[str, Any]:
    """The plain scan and schedule, with another step."""

    def changed(step: LIFStep) -> LIFStep:
        if change is None:
            return step
        return change(**{field.name: getattr(step, field.name) for field in fields(step)})

    def scan(self: Any, step: LIFStep, currents: Array, membrane: Array | None, repeat: int) -> Any:
        return Backend.scan(self, changed(step), currents, membrane, repeat)

    def schedule(self: Any, conv: Any, step: LIFStep, frames: Array, membrane: Array | None, repeat: int) -> Any:
        # it ends in self.scan, which changes the step
        return Backend.schedule(self, conv, step, frames, membrane, repeat)

    return {"scan": scan, "schedule": schedule}


class _Strict(LIFStep):
    def _fire(self, v: Array) -> Array:
        xp = self.math.namespace(v)
        return xp.astype(v > self.threshold, v.dtype)


class _ResetFirst(LIFStep):
    def __call__(self, state: State | None, current: Array) -> tuple[State, Array]:
        v = current if state is None else self._decayed(state[0]) + current
        spikes = self._fire(v)
        u = {"subtract": v - spikes * self.threshold, "zero": v * (1.0 - spikes), "none": v, "late": v}[self.reset]
        return (u,), self._kept(u, self._fire(u), u)


class _DecayTwice(LIFStep):
    def _decayed(self, membrane: Array) -> Array:
        return super()._decayed(super()._decayed(membrane))


class _NoReset(LIFStep):
    def __call__(self, state: State | None, current: Array) -> tuple[State, Array]:
        v = current if state is None else self._decayed(state[0]) + current
        return (v,), self._kept(v, self._fire(v), v)


class _Unrounded(LIFStep):
    def _decayed(self, membrane: Array) -> Array:
        return self.decay * membrane


# Mistakes of the schedule


def _forgets(self: Any, conv: Any, step: LIFStep, frames: Array, membrane: Array | None, repeat: int) -> Any:
    return Backend.schedule(self, conv, step, frames, None, repeat)


def _averages(self: Any, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
    out = _parent(self).conv(self, x, weight, bias, window, exact=exact)
    return out + 2.0**-10 * (out[:1, ...] - out[-1:, ...])


class _Remembering:
    """State between calls: the last membrane of a shape is where the next simulation starts."""

    def __init__(self) -> None:
        self.last: dict[tuple[int, ...], Array] = {}

    def __call__(self, backend: Any, step: LIFStep, currents: Array, membrane: Array | None, repeat: int) -> Any:
        shape = tuple(currents.shape[1:])
        spikes, u = Backend.scan(
            backend, step, currents, self.last.get(shape) if membrane is None else membrane, repeat
        )
        self.last[shape] = u
        return spikes, u


def _remembering(self: Any, step: LIFStep, currents: Array, membrane: Array | None, repeat: int) -> Any:
    memory = self.__dict__.setdefault("_memory", _Remembering())
    return memory(self, step, currents, membrane, repeat)


_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "conv-scaled": ("convolution scaled by 1.001", _changed_conv(lambda b, x, w: (x, w * 1.001))),
    "kernel-transposed": ("height and width of the kernel swapped", _changed_conv(_transposed)),
    "kernel-flipped": ("kernel applied backwards", _changed_conv(_flipped)),
    "weights-tf32": ("weights rounded to TF32's 11 bits", _changed_conv(_tf32)),
    "membrane-forgotten": ("the given membrane ignored", {**_with_step(None), "schedule": _forgets}),
    "batch-mixed": ("frames of a batch leak into each other", {"conv": _averages, **_with_step(None)}),
    "state-kept": ("a call starts where the last one ended", {**_with_step(None), "scan": _remembering}),
}
_STEPS: dict[str, tuple[str, type[LIFStep]]] = {
    "tie-silent": ("a tie does not fire: > for >=", _Strict),
    "reset-first": ("reset before the comparison with the threshold", _ResetFirst),
    "decay-twice": ("decay applied twice", _DecayTwice),
    "reset-missing": ("no reset", _NoReset),
    "decay-unrounded": ("reproducible mode without its rounding", _Unrounded),
}
_PATCHES: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "bias-once": ("bias added once per chunk instead of once per frame", run, "_total", lambda weights: weights[-1]),
    "last-chunk-first": (
        "a shorter last chunk takes the first of the given weights",
        (scale, units),
        "chunk_weights",
        lambda aggregation, size, beta: _first_weights(aggregation, size, beta),
    ),
}


def _first_weights(aggregation: str | Weights, size: int, beta: float | Array) -> Weights:
    return chunk_weights(aggregation, size, beta) if isinstance(aggregation, str) else aggregation[:size]
