"""Gradients by a weight that follow the spikes: blocks of frames, shared out between threads, through the loops of ``weighing.py``.

Which blocks there are depends on the sizes alone, so gradients don't depend on the number of threads.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from . import choose, memory
from .cores import count_cores
from .frames import Frames
from .neurons import KNOWN, compiled
from .threads import aside, run_here, share_out

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window

__all__ = ["can_weigh", "follows", "weight_back"]

TASKS = 16
"""Parts of the frames, each with a sum of its own."""
LARGEST = 1 << 19
"""Numbers of a weight of which so many sums are small enough to be kept, 64 MiB in all."""
TOGETHER = 1 << 13
"""Places, about, whose gradients are added up in the weight's dtype; the rest is summed in float64. Nothing can interrupt them."""
DENSE = 0.018
"""Nanoseconds of a product in PyTorch's own gradient, on one core of the machine on which all prices were fitted."""
PRICES = (0.6, 0.3, 8.0, 0.7, 0.035, 2.2)
"""Of a number of the gradient that is copied, of one of the input that is looked at, of an event that is sorted, of an event at a tap, of
a number that it adds there, and of one of the sums that are summed up."""


def can_weigh(dtype: np.dtype[Any]) -> bool:
    """Whether there are compiled loops for weights of a dtype."""
    return dtype.isnative and dtype.char in KNOWN and compiled() is not None and _loops() is not None


def follows(x: Array, weight: tuple[int, ...], window: Window) -> bool:
    """Whether the gradient by the weight of a layer is to follow the spikes of its input (N, *S, C_in): if that costs less.

    By counted spikes, as of ``choose.py``: the same input always goes the same way.
    """
    forced = choose.forced()
    if forced is not None or any(step != 1 for step in window.stride) or window.groups > 1 or not window.stride:
        return forced not in (None, "dense") and window.groups == 1 and set(window.stride) == {1}
    shape = choose.shape_of((1, *x.shape), weight, window)
    products = shape.places * shape.width * shape.depth
    if products < choose.LEAST or math.prod(weight) > LARGEST or shape.sample >= choose.MOST_SITES:
        return False
    density, _ = choose._count(Frames(x[None], None))
    places, taps, columns = shape.places // len(x), math.prod(weight[1:-1]), -(-shape.width // 16) * 16
    rounds = sum(-(-(b - a) // _together(places)) for a, b in _tasks(len(x)))
    events = shape.inputs * density
    done = shape.places * shape.width, shape.inputs, events, events * taps, events * taps * columns
    sums = rounds * taps * shape.channels * columns
    cost = sum(price * some for price, some in zip(PRICES, (*done, sums), strict=True))
    return bool(cost <= choose.MARGIN * DENSE * products)


def weight_back(
    x: Array, gradient: Array, kernel: tuple[int, ...], window: Window, threads: int | None = None
) -> Array | None:
    """The gradient by the weight (C_out, *kernel, C_in) of a convolution whose stride is 1, without groups; or None.

    None where a number is infinite or missing: its product with what is no event would be missing, too.

    Parameters
    ----------
    x : array, shape (N, *S, C_in)
        Of the gradient's dtype.
    gradient : array, shape (N, *S_out, C_out)
        By the convolution's result.
    kernel : tuple of int
    window : Window
    threads : int or None
        At most so many.
    """
    frames, width, channels = len(x), gradient.shape[-1], x.shape[-1]
    taps, columns = math.prod(kernel), -(-width // 16) * 16
    flat, flat_gradient = (np.ascontiguousarray(a).reshape(frames, -1) for a in (x, gradient))
    shape, out, sides, padded = _geometry(x.shape[1:-1], gradient.shape[1:-1], kernel, window)
    tasks = _tasks(frames)
    sums = np.zeros((len(tasks), taps, channels * columns))
    loops, together, finite = _loops(), _together(math.prod(out)), [True] * len(tasks)

    def run(task: int) -> None:
        first, last = tasks[task]
        work = _work(math.prod(shape), channels, padded, columns, x.dtype)
        total = memory.empty(sums.shape[1:], x.dtype)
        for low in range(first, last, together):
            high = min(last, low + together)
            total[:] = 0
            given = flat[low:high], flat_gradient[low:high], (*shape, channels), out, sides, padded
            if not loops.weigh_frames(*given, work, total):
                finite[task] = False
                return
            sums[task] += total

    workers = min(count_cores(), len(tasks), len(tasks) if threads is None else threads)
    if workers > 1:
        share_out(run, [range(k, len(tasks), workers) for k in range(workers)])
    else:
        run_here(run, range(len(tasks)))
    if not all(finite):
        return None
    found = sums.sum(0).reshape(taps, channels, columns)[..., :width]
    return found.transpose(2, 0, 1).reshape(width, *kernel, channels).astype(x.dtype, order="C")


def _tasks(frames: int) -> list[tuple[int, int]]:
    edges = [n * frames // TASKS for n in range(TASKS + 1)]
    return [(a, b) for a, b in pairwise(edges) if a < b]


def _together(places: int) -> int:
    """Frames of so many places of the output that are one call of the loops."""
    return -(-TOGETHER // max(1, places))


def _geometry(
    spatial: tuple[int, ...], space: tuple[int, ...], kernel: tuple[int, ...], window: Window
) -> tuple[Any, Any, Any, Any]:
    """Shapes as triples, the window as ``weighing.py`` takes it, and the shape of the gradient with its margins."""

    def triple(values: Any, missing: int) -> tuple[int, ...]:
        return (*(missing for _ in range(3 - len(spatial))), *(int(value) for value in values))

    lows = [low for low, _ in window.padding]
    reach = [d * (k - 1) for d, k in zip(window.dilation, kernel, strict=True)]
    margin = [max(0, far - low) for far, low in zip(reach, lows, strict=True)]
    shift = [before + low for before, low in zip(margin, lows, strict=True)]
    padded = [
        max(before + out, begin + size) for before, out, begin, size in zip(margin, space, shift, spatial, strict=True)
    ]
    sides = triple(kernel, 1), triple(window.dilation, 1), triple(margin, 0), triple(shift, 0)
    return triple(spatial, 1), triple(space, 1), sides, triple(padded, 1)


def _work(places: int, channels: int, padded: tuple[int, ...], columns: int, dtype: Any) -> tuple[Array, ...]:
    """Buffers of one thread."""
    sites = places * channels + 1
    gradient = memory.empty((math.prod(padded), columns), dtype)
    gradient[:] = 0
    return (
        memory.empty((places + 1,), np.int32),
        memory.empty((sites,), np.int32),
        memory.empty((sites,), dtype),
        memory.empty((channels + 2,), np.int32),
        memory.empty((sites,), np.int32),
        memory.empty((sites,), dtype),
        np.zeros((1, 2), np.int64),
        gradient,
    )


@cache
def _loops() -> Any:
    """The loops, or None."""
    return aside(_import)


def _import() -> Any:
    try:
        from . import weighing
    except Exception:  # noqa: BLE001 (as of `neurons`)
        return None
    return weighing
