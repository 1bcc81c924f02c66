"""Which way a layer takes: dense products, loops over events, or tables of partial sums. ``docs/engine.md`` states the rule.

The costs below are nanoseconds of one core of the machine on which they were fitted; only their ratios matter, and nothing
is timed while a layer runs. ``python -m bench.sparsity.calibrate`` measures them again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .frames import Frames
from .neurons import KNOWN, compiled
from .sparse import run_sparse
from .threads import aside
from .tiles import run_tiles

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window
    from tacops._core.neurons import Recipe

__all__ = ["WAYS", "Shape", "Way", "costs", "force", "run_layer"]

Way: TypeAlias = Literal["dense", "events", "tables"]
WAYS: tuple[Way, ...] = ("dense", "events", "tables")

LEAST = 1 << 23
"""Products of a layer from which it is looked at: smaller ones end before their spikes are counted."""
SAMPLE = 1 << 16
"""Numbers of the input that are counted."""
TABLE_BITS = 10
"""Inputs under a line of the kernel of which a table is made."""
MARGIN = 0.9
"""What another way may cost of the dense one's cost at most."""
_SITES = 1 << 31
_forced: Way | None = None


@contextmanager
def force(way: Way | None) -> Iterator[None]:
    """Make every layer of this process take one way, as far as it can, for tests and benchmarks.

    Parameters
    ----------
    way : {"dense", "events", "tables"} or None
        A layer that no table fits goes by events. None: by the rule, again.
    """
    global _forced
    before, _forced = _forced, way
    try:
        yield
    finally:
        _forced = before


def run_layer(
    x: Array,
    aggregation: Array | None,
    weight: Array,
    bias: Array | None,
    window: Window,
    step: Recipe,
    membrane: Array | None,
    repeat: int,
) -> tuple[Array, Array]:
    """`Backend.schedule`, of frames (n * K, B, *S, C) of which chunks of K are summed by `aggregation` (K,), if given."""
    frames = Frames(x, aggregation)
    way, events = _choose(frames, weight, window)
    if way == "dense":
        return run_tiles(frames, weight, bias, window, step, membrane, repeat)
    tables = way == "tables"
    return run_sparse(_loops(), frames, weight, bias, window, step, membrane, repeat, events, tables)


class Shape(NamedTuple):
    """The numbers of a layer that costs depend on."""

    inputs: int
    """Numbers of all aggregated frames."""
    places: int
    """Of the output, without channels, in all frames."""
    width: int
    """Output channels."""
    depth: int
    """Products of one sum."""
    lines: int
    """Of the kernel."""
    reach: float
    """Places of the output that an event of one input reaches, on average."""
    groups: int
    bits: int
    """Inputs under a line of the kernel; tables have 2 ** bits rows for each."""


def costs(shape: Shape, density: float) -> dict[Way, float]:
    """What the synapses of a layer cost by each way, of which the neurons cost the same."""
    products = shape.places * shape.width * shape.depth
    unfolded = shape.places * shape.depth * shape.groups
    events = shape.inputs * density
    columns = -(-shape.width // 16) * 16
    narrow = shape.depth // max(1, shape.bits) * 0 + (shape.bits < 24)
    dense = 0.027 * products + (1.0 if narrow else 0.2) * unfolded
    by_events = 0.5 * shape.inputs + (2.0 + 2.5 * shape.lines) * shape.places
    by_events += events * shape.reach * (1.0 * -(-columns // 64) + 0.06 * columns)
    tables = 2.0 * shape.inputs + shape.places * (3.0 + shape.lines * (0.5 + 0.03 * columns))
    tables += 0.1 * shape.lines * 2.0**shape.bits * columns
    return {"dense": dense, "events": by_events, "tables": tables}


def _choose(frames: Frames, weight: Array, window: Window) -> tuple[Way, int]:
    """The way, and about how many events there are."""
    shape = _shape(frames, weight, window)
    if _forced == "dense" or (_forced is None and shape.places * shape.width * shape.depth < LEAST):
        return "dense", 0
    if not _able(frames, weight) or _loops() is None:
        return "dense", 0
    density, binary = _count(frames)
    events = math.ceil(shape.inputs * density)
    tabled = binary and shape.groups == 1 and shape.bits <= TABLE_BITS
    if _forced is not None:
        return ("tables" if tabled and _forced == "tables" else "events"), events
    cost = costs(shape, density)
    best: Way = "tables" if tabled and cost["tables"] < cost["events"] else "events"
    return (best if cost[best] < MARGIN * cost["dense"] else "dense"), events


def _able(frames: Frames, weight: Array) -> bool:
    """Whether loops give what products give: 0 times an infinite weight is no silence."""
    known = weight.dtype.isnative and weight.dtype.char in KNOWN
    return known and math.prod(frames.shape[2:]) < _SITES and bool(np.isfinite(weight).all())


def _shape(frames: Frames, weight: Array, window: Window) -> Shape:
    spatial, kernel = frames.shape[2:-1], weight.shape[1:-1]
    n = len(frames) * frames.shape[1]
    space = math.prod(window.output_shape(spatial, kernel))
    taps = math.prod(kernel)
    return Shape(
        inputs=n * math.prod(frames.shape[2:]),
        places=n * space,
        width=weight.shape[0],
        depth=math.prod(weight.shape[1:]),
        lines=math.prod(kernel[:-1]),
        reach=taps * space / max(1, math.prod(spatial)),
        groups=window.groups,
        bits=math.prod(kernel[-1:]) * frames.shape[-1],
    )


def _count(frames: Frames) -> tuple[float, bool]:
    """The density of aggregated frames, and whether they are of 0 and 1, from a sample of the input's lines.

    The lines are spread by the golden ratio: even steps could meet the same row of every frame.
    """
    x = frames.frames
    axes = x.shape[:-2] if x.ndim > 3 else x.shape[:-1]
    total, line = math.prod(axes), math.prod(x.shape[len(axes) :])
    if total * line == 0:
        return 0.0, True
    count = min(total, max(1, SAMPLE // line))
    chosen = (
        np.arange(total) if count == total else (np.arange(count) * 0.6180339887498949 % 1.0 * total).astype(np.int64)
    )
    some = x[np.unravel_index(chosen, axes)]
    live = np.count_nonzero(some)
    binary = frames.weights is None and (x.dtype == bool or np.count_nonzero(some == 1) == live)
    size = 1 if frames.weights is None else len(frames.weights)
    return 1.0 - (1.0 - live / some.size) ** size, bool(binary)


def _loops() -> Any:
    """The compiled loops, or None."""
    return _load() if compiled() is not None else None


@cache
def _load() -> Any:
    return aside(_import)


def _import() -> Any:
    try:
        from . import events
    except Exception:  # noqa: BLE001 (as of `neurons`)
        return None
    return events
