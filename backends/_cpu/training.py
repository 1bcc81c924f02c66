"""Gradients of neurons: blocks of them, shared out between threads, through the loops of ``backwards.py``.

Which blocks there are depends on the sizes alone, so gradients don't depend on the number of threads.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import memory
from .cores import count_cores
from .neurons import KNOWN, compiled
from .threads import aside, run_here, share_out
from .tiles import PARALLEL

if TYPE_CHECKING:
    from tacops._backend.protocol import Array
    from tacops._backend.steps import Recipe

__all__ = ["Gradients", "can_train", "neurons_back"]

BLOCK = 1 << 17
"""Numbers of one task, about: nothing can interrupt one."""
CACHED = 1 << 14
"""Membranes of a block of neurons that stay in the closest caches."""
FEWEST, MOST = 64, 1024
"""Neurons of such a block."""


class Gradients(NamedTuple):
    """By each array; None where it isn't asked for, or there is none."""

    currents: Array
    membrane: Array | None
    decay: Array | None
    threshold: Array | None


def can_train(dtype: np.dtype[Any]) -> bool:
    """Whether there are compiled loops for gradients of a dtype."""
    return dtype.isnative and dtype.char in KNOWN and compiled() is not None and _loops() is not None


def neurons_back(
    step: Recipe,
    surrogate: tuple[str, float],
    currents: Array,
    membrane: Array | None,
    repeat: int,
    to_spikes: Array | None,
    to_membrane: Array,
    parameters: tuple[bool, bool],
    threads: int | None = None,
) -> Gradients:
    """Gradients of ``scan(step, currents, membrane, repeat)``.

    Parameters
    ----------
    step : Recipe
    surrogate : tuple
        Its name and slope; "" is none.
    currents : array, shape (n, B, ..., C)
    membrane : array, shape (B, ..., C), or None
    repeat : int
    to_spikes : array, shape (n * repeat, B, ..., C), or None
        The gradient by the spikes; None is zero.
    to_membrane : array, shape (B, ..., C)
    parameters : tuple of bool
        Whether gradients by decay and threshold are asked for; they have shape (C,).
    threads : int or None
        At most so many.
    """
    loops, dtype, channels = _loops(), currents.dtype, currents.shape[-1]
    n, steps, numbers = len(currents), len(currents) * repeat, to_membrane.size
    out = Gradients(
        memory.fresh(currents.shape, dtype),
        None if membrane is None else memory.fresh(membrane.shape, dtype),
        *(np.zeros(channels) if asked else None for asked in parameters),
    )
    size = min(MOST, max(FEWEST, CACHED // max(1, steps)))
    unit = 1.0 if step.unit is None else step.unit
    decay, threshold, units = (loops.period(p, channels, dtype, size) for p in (step.decay, step.threshold, unit))
    neurons = decay, threshold, units, dtype.type(1), step.rounded, int(step.reset)
    nothing = np.empty(0, dtype)
    start = nothing if membrane is None else np.ascontiguousarray(membrane).reshape(-1)
    last, by_currents = np.ascontiguousarray(to_membrane).reshape(-1), out.currents.reshape(n, numbers)
    by_start = nothing if out.membrane is None else out.membrane.reshape(-1)
    width = max(1, BLOCK // max(1, steps * len(decay))) * len(decay)
    tasks = list(range(0, numbers, width))
    sums = [np.zeros((len(tasks), len(decay) if asked else 0)) for asked in parameters]
    flat, flat_spikes = _flat(currents), np.empty((0, 0), dtype) if to_spikes is None else _flat(to_spikes)

    def run(task: int) -> None:
        low, high = tasks[task], min(numbers, tasks[task] + width)
        (own, a), (fired, b) = _part(flat, low, high), _part(flat_spikes, low, high)
        work, scratch = memory.empty((steps, len(decay)), dtype), memory.empty((6, len(decay)), dtype)
        given = own, start, fired, last, repeat, neurons, loops.constants(*surrogate, dtype), step.detach_reset
        by = by_currents, by_start, sums[0][task], sums[1][task]
        loops.run_back((low, high, a, b), *given, *by, work, scratch)

    cores = count_cores() if steps * numbers >= PARALLEL else 1
    workers = min(cores, len(tasks), cores if threads is None else threads)
    if workers > 1:
        share_out(run, [range(k, len(tasks), workers) for k in range(workers)])
    else:
        run_here(run, range(len(tasks)))
    for total, parts in zip(out[2:], sums, strict=True):
        if total is not None:
            total += parts.sum(0).reshape(-1, channels).sum(0)
    return out


def _flat(x: Array) -> Array:
    """Of every frame the numbers in a row, without a copy where there is such a view."""
    return x.reshape(len(x), -1)


def _part(x: Array, low: int, high: int) -> tuple[Array, int]:
    """An array whose rows lie in one piece, with the columns from low to high, and where those begin."""
    if x.flags.c_contiguous or not x.size:
        return x, low
    return np.ascontiguousarray(x[:, low:high]), 0


@cache
def _loops() -> Any:
    """The loops, or None."""
    return aside(_import)


def _import() -> Any:
    try:
        from . import backwards
    except Exception:  # noqa: BLE001 (as of `neurons`)
        return None
    return backwards
