"""Backends with planted mistakes, to show that the checks can fail: each must be found.

Mistakes of convolutions, sums and schedules are methods of a class derived from the backend's. Mistakes of the neurons are
planted in the core's step, and thereby in the recipe that an adapter's own loop or kernel is given; other mistakes of the
core are patched, too, while the mutant is in use. Mutants are for trying one at a time, not from several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .._backend.protocol import Array, Backend, Window
from .._core import known, run, scale, units
from .._core.aggregation import Weights, chunk_weights
from .._core.neurons import LIFStep, SynapticStep
from ._faults import COMPILED_PATCHES, METHODS, PATCHES, PLAIN, parent
from ._more_faults import MORE_METHODS, MORE_PATCHES
from ._neuron_faults import ARITHMETIC, SCANS, STEPS

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
    >>> next(m.mistake for m in mutants(get_backend("numpy")) if m.name == "tie-silent")
    'a tie does not fire: > for >='
    """
    for name, (mistake, changes) in (_METHODS | METHODS | MORE_METHODS | SCANS).items():
        yield Mutant(name, mistake, _method_mutant(type(backend), changes))
    for name, (mistake, change) in STEPS.items():
        yield Mutant(name, mistake, _step_mutant(type(backend), change))
    for name, (mistake, methods) in ARITHMETIC.items():
        yield Mutant(name, mistake, _arithmetic_mutant(type(backend), methods))
    patches = PATCHES | (COMPILED_PATCHES if backend.compiles_fast else {})
    for name, (mistake, module, target, function) in (_PATCHES | MORE_PATCHES | patches).items():
        yield Mutant(name, mistake, _patch_mutant(backend, module, target, function))


def _method_mutant(kind: type[Backend], changes: dict[str, Any]) -> Callable[[], Any]:
    @contextmanager
    def use() -> Iterator[Backend]:
        yield type(f"Mutant{kind.__name__}", (kind,), dict(changes))()

    return use


@contextmanager
def _patched(targets: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Attributes of modules and classes replaced for a while."""
    originals = [vars(owner)[name] for owner, name, _ in targets]
    known.forget()  # what other rules found valid
    for owner, name, value in targets:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), original in zip(targets, originals, strict=True):
            setattr(owner, name, original)
        known.forget()


def _patch_mutant(backend: Backend, module: Any, target: str, function: Callable[..., Any]) -> Callable[[], Any]:
    modules = module if isinstance(module, tuple) else (module,)

    @contextmanager
    def use() -> Iterator[Backend]:
        with _patched([(module_, target, function) for module_ in modules]):
            yield backend

    return use


def _step_mutant(kind: type[Backend], change: Callable[[LIFStep], LIFStep]) -> Callable[[], Any]:
    """Another step than was asked for, in the core and in every loop that is given its recipe."""
    recipe = vars(LIFStep)["recipe"].fget

    def calling(kind: type[LIFStep]) -> Callable[..., Any]:
        call: Callable[..., Any] = kind.__call__
        return lambda step, *arrays: call(change(step), *arrays)

    changed = [
        *((kind, "__call__", calling(kind)) for kind in (LIFStep, SynapticStep)),
        (LIFStep, "recipe", property(lambda step: recipe(change(step)))),
    ]

    @contextmanager
    def use() -> Iterator[Backend]:
        with _patched(changed):
            yield kind()  # a copy: a program that a library has compiled for the other is not taken for it

    return use


def _arithmetic_mutant(kind: type[Backend], methods: dict[str, Callable[..., Any]]) -> Callable[[], Any]:
    """The core's step with other arithmetic, which no recipe describes: every backend has to call it."""
    changed = [(LIFStep, name, method) for name, method in methods.items()]

    @contextmanager
    def use() -> Iterator[Backend]:
        with _patched([*changed, (LIFStep, "recipe", property(lambda step: None))]):
            yield kind()

    return use


# Mistakes of the convolution


def _changed_conv(change: Callable[[Any, Array, Array], tuple[Array, Array]]) -> dict[str, Any]:
    """Plain schedule, and a convolution of changed inputs and weights."""

    def conv(self: Any, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        x, weight = change(self, x, weight)
        return parent(self).conv(self, x, weight, bias, window, exact=exact)

    return {"conv": conv, **PLAIN}


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


# Mistakes of the schedule


def _forgets(self: Any, conv: Any, step: LIFStep, frames: Array, state: Any, repeat: int) -> Any:
    return Backend.schedule(self, conv, step, frames, None, repeat)


def _averages(self: Any, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
    out = parent(self).conv(self, x, weight, bias, window, exact=exact)
    return out + 2.0**-10 * (out[:1, ...] - out[-1:, ...])


def _remembering(self: Any, step: LIFStep, currents: Array, state: Any, repeat: int) -> Any:
    """The last state of a shape is where the next simulation starts."""
    last, shape = self.__dict__.setdefault("_last", {}), tuple(currents.shape[1:])
    spikes, after = parent(self).scan(self, step, currents, last.get(shape) if state is None else state, repeat)
    last[shape] = after
    return spikes, after


_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "conv-scaled": ("convolution scaled by 1.001", _changed_conv(lambda b, x, w: (x, w * 1.001))),
    "kernel-transposed": ("height and width of the kernel swapped", _changed_conv(_transposed)),
    "kernel-flipped": ("kernel applied backwards", _changed_conv(_flipped)),
    "weights-tf32": ("weights rounded to TF32's 11 bits", _changed_conv(_tf32)),
    "membrane-forgotten": ("the given membrane ignored", {**PLAIN, "schedule": _forgets}),
    "batch-mixed": ("frames of a batch leak into each other", {"conv": _averages, **PLAIN}),
    "state-kept": ("a call starts where the last one ended", {**PLAIN, "scan": _remembering}),
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
