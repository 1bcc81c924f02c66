"""Which way a layer takes: dense products, loops over events, or tables of partial sums. ``docs/engine.md`` states the rule.

The costs below are nanoseconds of one core of the machine on which they were fitted; only their ratios matter, and nothing
is timed while a layer runs. ``python -m bench.sparsity.calibrate`` measures them again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from tacops._backend.protocol import Window
from tacops._backend.steps import Due, Recipe, Reset

from .convolution import NARROW
from .frames import Frames
from .neurons import KNOWN, compiled
from .sparse import run_sparse
from .threads import aside
from .tiles import run_tiles

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = [
    "CROSSINGS",
    "PRICES",
    "WAYS",
    "Shape",
    "Way",
    "amounts",
    "can_tabulate",
    "costs",
    "count_steps",
    "find_way",
    "force",
    "forced",
    "is_large",
    "limits",
    "run_layer",
    "shape_of",
]

Way: TypeAlias = Literal["dense", "events", "tables"]
WAYS: tuple[Way, ...] = ("dense", "events", "tables")

LEAST = 1 << 25
"""Products of a layer from which it is looked at: smaller ones end before their spikes are counted."""
SAMPLE, LINE = 1 << 14, 64
"""Numbers of the input that are counted, about, and of them at least so many in a row."""
TABLE_BITS = 10
"""Inputs under a line of the kernel of which a table is made."""
MARGIN = 0.85
"""What another way may cost of the dense one's cost at most."""
MOST_SITES = 1 << 31
"""Numbers of one frame that can be listed."""
CROSSINGS = (
    *(((n, 4, 24, 24, 2), (32, 3, 3, 2), 1) for n in (25, 26)),
    *(((n, 3, 16, 16, 16), (64, 5, 5, 16), 1) for n in (2, 3)),
)
"""Layers just below and above `LEAST`, as `Backend.crossings` has them: with a third of spikes tables are taken, and events."""
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


def forced() -> Way | None:
    """The way that is forced, if one is."""
    return _forced


def run_layer(
    x: Array,
    aggregation: Array | None,
    weight: Array,
    bias: Array | None,
    window: Window,
    step: Recipe,
    membrane: Array | None,
    repeat: int,
    threads: int | None = None,
    due: Due | None = None,
) -> tuple[Array, Array]:
    """`Backend.schedule`, of frames (n * K, B, *S, C) of which chunks of K are summed by `aggregation` (K,), if given.

    On all cores, or on `threads` of them; events are checked as they are listed if that is `due`.
    """
    frames = Frames(x, aggregation)
    way, events = find_way(frames, weight, window)
    if way == "dense":
        if due is not None:
            due.look()
        return run_tiles(frames, weight, bias, window, step, membrane, repeat, threads)
    layer = frames, weight, bias, window, step, membrane, repeat
    return run_sparse(_loops(weight.dtype), *layer, events, way == "tables", threads, due)


def is_large(frames: tuple[int, ...], weight: tuple[int, ...], window: Window) -> bool:
    """Whether a layer is looked at, of the shapes of its aggregated frames and of its weight; or its way is forced."""
    return _forced is not None or _products(shape_of(frames, weight, window)) >= LEAST


def count_steps(frames: tuple[int, ...], weight: tuple[int, ...], window: Window) -> int:
    """Currents of a layer, of the same shapes."""
    shape = shape_of(frames, weight, window)
    return shape.places * shape.width


class Shape(NamedTuple):
    """The numbers of a layer that costs depend on."""

    inputs: int
    """Numbers of all aggregated frames."""
    sample: int
    """Of one sample's frame."""
    places: int
    """Of the output, without channels, in all frames."""
    channels: int
    width: int
    """Input and output channels."""
    depth: int
    """Products of one sum."""
    lines: int
    """Runs of neighbouring places under the kernel."""
    reach: float
    """Places of the output that an event of one input reaches, on average."""
    groups: int
    bits: int
    """Inputs under a line of the kernel; tables have 2 ** bits rows for each."""


PRICES: dict[Way, tuple[float, ...]] = {
    "dense": (0.0077, 0.53, 0.31, 0.32, 0.015),
    "events": (0.42, 10.0, 2.4, 7.0, 0.85, 0.008, 0.1, 0.57, 1.47),
    "tables": (0.4, 0.3, 0.095, 0.05),
}
"""Nanoseconds of one of `amounts`."""


def amounts(shape: Shape, density: float) -> dict[Way, tuple[float, ...]]:
    """What the synapses of a layer do by each way, as many numbers as it has `PRICES`; the neurons are the same.

    Dense: products; numbers unfolded tap by tap, and place by place; products of depth-wise layers, and of groups. Events: inputs
    looked at; sixteens of them with an event, each of which the processor guesses wrong; runs of events that are looked up, and
    those that are not empty, guessed wrong, too; runs of 64 output channels, and channels, that are added; of layers with groups,
    currents that are begun, events that are added, and their channels. Tables: inputs; rows that are added, and their channels;
    numbers of the table.
    """
    products = float(shape.places * shape.width * shape.depth)
    unfolded = float(shape.places * shape.depth * shape.groups)
    pairs = shape.inputs * density * shape.reach
    columns, runs = -(-shape.width // 16) * 16, float(shape.places * shape.lines)
    listed = float(shape.inputs), shape.inputs / 16 * (1.0 - (1.0 - density) ** 16)
    if shape.groups == 1:
        dense = (products, unfolded, 0.0, 0.0, 0.0) if shape.channels < NARROW else (products, 0.0, unfolded, 0.0, 0.0)
        live = runs * -math.expm1(-pairs / max(1.0, runs))
        events = (runs, live, pairs * -(-columns // 64), pairs * columns, 0.0, 0.0, 0.0)
    else:
        alone = shape.groups == shape.channels == shape.width
        dense = (0.0, 0.0, 0.0, products, 0.0) if alone else (0.0, 0.0, unfolded, 0.0, products)
        events = (0.0, 0.0, 0.0, 0.0, float(shape.places * shape.width), pairs, pairs * shape.width / shape.groups)
    made = shape.lines * 2.0 ** min(shape.bits, 64) * columns
    return {"dense": dense, "events": (*listed, *events), "tables": (float(shape.inputs), runs, runs * columns, made)}


def costs(shape: Shape, density: float) -> dict[Way, float]:
    """What the synapses of a layer cost by each way, in nanoseconds of one core."""
    done = amounts(shape, density)
    return {way: sum(price * some for price, some in zip(PRICES[way], done[way], strict=True)) for way in WAYS}


@lru_cache(maxsize=256)
def limits(shape: Shape) -> tuple[float, float]:
    """The density below which events cost less than products, and that above which tables cost less than events.

    They are 0 where it is so at no density, and infinite where it is so at any.
    """
    start = costs(shape, 0.0)
    most = MARGIN * start["dense"]
    below = _density_of(shape, most)
    if not can_tabulate(shape) or start["tables"] >= most:
        return below, math.inf
    return below, _density_of(shape, start["tables"])


def _density_of(shape: Shape, cost: float) -> float:
    """The density at which events cost so much, which grows with it."""
    low, high = 0.0, 1.0
    if costs(shape, high)["events"] < cost:
        return math.inf
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if costs(shape, middle)["events"] < cost else (low, middle)
    return low


def can_tabulate(shape: Shape) -> bool:
    """Whether a line of the kernel has few enough inputs, all of which every output channel reads."""
    return shape.groups == 1 and shape.bits <= TABLE_BITS


def find_way(frames: Frames, weight: Array, window: Window) -> tuple[Way, int]:
    """The way of a layer, and about how many events there are."""
    forced = _forced
    shape = shape_of(frames.shape, weight.shape, window)
    if forced == "dense" or (forced is None and _products(shape) < LEAST):
        return "dense", 0
    density, binary = _count(frames)
    below, above = limits(shape) if forced is None else (math.inf, 0.0 if forced == "tables" else math.inf)
    tables = binary and density >= above and can_tabulate(shape)
    if not (tables or density < below) or not _able(shape, weight) or _loops(weight.dtype) is None:
        return "dense", 0
    return "tables" if tables else "events", math.ceil(shape.inputs * density)


def _products(shape: Shape) -> int:
    return shape.places * shape.width * shape.depth


def _able(shape: Shape, weight: Array) -> bool:
    """Whether loops give what products give: 0 times an infinite weight is no silence."""
    known = weight.dtype.isnative and weight.dtype.char in KNOWN
    return known and shape.sample < MOST_SITES and bool(np.isfinite(weight).all())


@lru_cache(maxsize=256)
def shape_of(frames: tuple[int, ...], weight: tuple[int, ...], window: Window) -> Shape:
    """The numbers of a layer, of the shapes of its aggregated frames and of its weight."""
    spatial, kernel = frames[2:-1], weight[1:-1]
    n, space, taps = frames[0] * frames[1], math.prod(window.output_shape(spatial, kernel)), math.prod(kernel)
    return Shape(
        inputs=n * math.prod(frames[2:]),
        sample=math.prod(frames[2:]),
        places=n * space,
        channels=frames[-1],
        width=weight[0],
        depth=math.prod(weight[1:]),
        lines=math.prod(kernel if window.dilation[-1:] != (1,) else kernel[:-1]),
        reach=taps * space / max(1, math.prod(spatial)),
        groups=window.groups,
        bits=math.prod(kernel[-1:]) * frames[-1],
    )


def _count(frames: Frames) -> tuple[float, bool]:
    """The density of aggregated frames, and whether they are of 0 and 1, from a sample of the input's lines.

    Frames that are summed are taken for independent of each other.
    """
    x = frames.frames
    some = x[_sample(x.shape)]
    live = np.count_nonzero(some)
    if frames.weights is not None:
        return 1.0 - (1.0 - live / some.size) ** len(frames.weights), False
    return live / some.size, bool(x.dtype == bool or np.count_nonzero(some == 1) == live)


@lru_cache(maxsize=256)
def _sample(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Indices of about `SAMPLE` numbers, in lines that the golden ratio spreads: even steps could meet the same row of every frame."""
    first = len(shape) - 1
    while first > 2 and math.prod(shape[first:]) < LINE:
        first -= 1
    axes, total, line = shape[:first], math.prod(shape[:first]), math.prod(shape[first:])
    count = min(total, max(1, SAMPLE // line))
    lines = np.arange(count)
    if count < total:
        lines = (lines * 0.6180339887498949 % 1.0 * total).astype(np.int64)
    return np.unravel_index(lines, axes)


def _loops(dtype: Any) -> Any:
    """The loops, compiled for weights of a dtype; or None."""
    return _load(dtype) if compiled() is not None else None


@cache
def _load(dtype: Any) -> Any:
    return aside(_import, dtype)


def _import(dtype: Any) -> Any:
    """Compile where nothing is held up by it: threads that share a call wait for each other."""
    try:
        from . import events

        frames, weight = np.zeros((1, 1, 1), bool), np.zeros((1, 1), dtype)
        recipe = Recipe(0.5, 1.0, Reset.NONE, rounded=False, compact=False, poison=None)
        run_sparse(events, Frames(frames, None), weight, None, Window((), (), (), 1), recipe, None, 1, 0, False)
    except Exception:  # noqa: BLE001 (as of `neurons`)
        return None
    return events
