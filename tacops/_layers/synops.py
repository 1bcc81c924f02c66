"""What a spike costs: operations and bytes of exact, collapse and preserve, counted from the spikes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .._backend.dispatch import backend_of, get_backend, undisturbed
from .._backend.protocol import Array, Window
from .._core.aggregation import aggregate, segments
from .._core.checks import check_count, fail, shape_of, show
from .._core.rules import RULES
from .._core.window import check_window
from .._values import check_number
from ..layers import FrozenLayer
from .forward import spikes_of
from .memory import check_frames
from .operations import LayerOperations, OperationMode, Operations
from .stages import Stage, stages_of

__all__ = ["synops"]

PRICES = ("ac", "mac", "update", "byte")
INDEX = 4
"""Bytes of the place of an event."""


@undisturbed
def synops(
    layers: FrozenLayer | Iterable[Stage] | Mapping[str, Stage],
    spikes: Array,
    *,
    chunk_size: int | None = None,
    picojoules: Mapping[str, float] | None = None,
) -> Operations:
    r"""Count the synaptic operations, multiply-adds and bytes of exact, collapse and preserve, layer by layer.

    The network runs once as it is; of each layer's own input is counted what the layer costs in each mode. An input number that
    is not zero causes a *synaptic operation* with every weight that is not zero and that reaches a place of the output: borders,
    strides, dilation and groups are counted as they are, and padding is nothing. With e the events of a tap of the
    kernel k and an input channel c, and n the weights of this tap that are not zero,

    .. math:: \mathrm{effective} = \sum_{k, c} e_{k c} \, n_{k c} \qquad
              \mathrm{dense} = B \, F \sum_k \mathrm{places}_k \, C_\mathrm{out} \, C_\mathrm{in} / \mathrm{groups}

    for F frames that are convolved: T, or ceil(T / K) sums of K frames. Where every channel has a decay of its own and frames are
    weighted with it, they can't be summed before: all T are convolved, and the currents are summed. Synaptic operations are additions (ACs) if all inputs are -1, 0
    and 1, else multiply-adds (MACs): so those of summed frames mostly are MACs, and there are fewer of them. To sum frames
    takes one more multiply-add for every number, or every event, of the frames.

    Bytes, each number having the size of the weight's dtype, without any cache. Dense: frames read; sums written and read; the weight
    read once; currents written, and read by every step; membranes read and written by every step. Event-driven: of every event its
    place (4 bytes), of sums the value, too; for every event that is summed the sum read and written; for every synaptic
    operation the weight read, and the current read and written; currents and membranes as above. What a layer returns is
    counted where it is read.

    Parameters
    ----------
    layers : FrozenLayer, or sequence, or mapping of str to layer
        Each a `tacops.layers.FrozenLayer`, a `tacops.layers.Sequential` of such, or a function from spikes to spikes (flattening, pooling), which is run and not
        counted. A weight with its geometry is ``FrozenLayer({"weight": weight}, {"chunk_size": 4, "padding": 1})``.
    spikes : array, shape (T, B, ...)
        As the first layer takes them.
    chunk_size : int, optional
        K of collapse and preserve; else each layer's own.
    picojoules : mapping of str to float, optional
        Your hardware's energy of one ``"ac"`` and one ``"mac"``, and, 0 if left out, of a neuron's ``"update"`` and of a ``"byte"``.

    Returns
    -------
    Operations
        Iterable over `LayerOperations`; ``print`` shows a table.

    Raises
    ------
    TypeError, ValueError
        For arguments outside the rules above.

    References
    ----------
    Effective ACs and MACs, and dense operations: J. Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing
    algorithms and systems", Nature Communications 16, 1545 (2025), metric "synaptic operations". Operations of a spike as its fan-out:
    B. Rueckauer et al., "Conversion of continuous-valued deep networks to efficient event-driven networks for image
    classification", Frontiers in Neuroscience 11, 682 (2017). What comparisons must state beside them: M. Davies, "Benchmarks for
    progress in neuromorphic computing", Nature Machine Intelligence 1, 386 (2019).

    Examples
    --------
    >>> import numpy as np
    >>> from tacops import synops
    >>> from tacops.layers import FrozenLayer
    >>> weight = np.ones((2, 3, 1), np.float32)  # two channels, a kernel of three, one input channel
    >>> layer = FrozenLayer({"weight": weight}, {"chunk_size": 2, "padding": 1})
    >>> spikes = np.zeros((4, 1, 5, 1), np.float32)
    >>> spikes[0, 0, 0] = spikes[1, 0, 0] = spikes[2, 0, 3] = 1  # two at the border, which reaches two places
    >>> counted = synops(layer, spikes)
    >>> [(row.mode, row.accumulates, row.multiply_accumulates, row.dense) for row in counted]
    [('exact', 14, 0, 104), ('collapse', 0, 10, 52), ('preserve', 0, 10, 52)]
    """
    stages = stages_of("synops", layers)
    size = None if chunk_size is None else check_count("synops", "chunk_size", chunk_size)
    prices = _prices(picojoules)
    x, rows = spikes_of(spikes), list[LayerOperations]()
    last = max(n for n, (_, stage) in enumerate(stages) if isinstance(stage, FrozenLayer))
    for n, (name, stage) in enumerate(stages[: last + 1]):
        if isinstance(stage, FrozenLayer):
            check_frames("synops", stage, x)
            host = _frames(stage, backend_of(x).to_numpy(x))
            rows += [_counted(name, stage, host, mode, size or stage.options["chunk_size"], prices) for mode in MODES]
        if n < last:
            x = spikes_of(stage(x))
    return Operations(tuple(rows), shape_of(spikes_of(spikes))[1])


MODES: tuple[OperationMode, ...] = ("exact", "collapse", "preserve")


def _prices(picojoules: Any) -> dict[str, float] | None:
    if picojoules is None:
        return None
    if not isinstance(picojoules, Mapping):
        raise fail(
            "synops", "picojoules", "a mapping of operations to picojoules", type(picojoules).__name__, TypeError
        )
    if unknown := [name for name in picojoules if name not in PRICES]:
        raise fail("synops", "picojoules", "among " + ", ".join(map(repr, PRICES)), show(unknown[0]))
    if missing := [name for name in PRICES[:2] if name not in picojoules]:
        raise fail("synops", "picojoules", "a price of 'ac' and of 'mac'", f"none of {missing[0]!r}")
    prices = {name: check_number("synops", f"picojoules[{name!r}]", price) for name, price in picojoules.items()}
    for name, price in prices.items():
        if not 0 <= price < math.inf:
            raise fail("synops", f"picojoules[{name!r}]", "at least 0 and finite", price)
    return dict.fromkeys(PRICES, 0.0) | prices


def _frames(layer: FrozenLayer, x: Any) -> Any:
    """A NumPy array as (T, B, *S, C); without a kernel, what lies between B and the features counts as samples."""
    if layer.arrays["weight"].ndim == 2:
        return x.reshape(x.shape[0], -1, x.shape[-1])
    return x.transpose(0, 1, *range(3, x.ndim), 2) if layer.options.get("layout") == "channels_first" else x


def _counted(
    name: str, layer: FrozenLayer, x: Any, mode: OperationMode, size: int, prices: Mapping[str, float] | None
) -> LayerOperations:
    """One layer in one mode, of its frames (T, B, *S, C)."""
    np, size = get_backend("numpy").namespace(x), 1 if mode == "exact" else size
    if not bool(np.isfinite(x).all()):
        raise fail("synops", "spikes", "finite", "an array that holds NaN or infinity")
    weight = backend_of(layer.arrays["weight"]).to_numpy(layer.arrays["weight"])
    window = _window(layer, x.shape[2:-1], weight.shape[1:-1])
    late = size > 1 and _sums_currents(layer, mode, size)
    frames = x if size == 1 or late else _summed(np, layer, x, mode, size)
    (T, B), F, chunks = x.shape[:2], frames.shape[0], -(-x.shape[0] // size)
    live, item = frames != 0, weight.dtype.itemsize
    events = int(live.sum())
    effective = _pairs(np, live.sum(axis=(0, 1)), weight != 0, window)
    dense = B * F * _pairs(np, np.ones(x.shape[2:], np.int64), np.ones(weight.shape, bool), window)
    binary = bool((np.abs(frames[live]) == 1).all())
    outputs = B * math.prod(window.output_shape(x.shape[2:-1], weight.shape[1:-1])) * weight.shape[0]
    sums = size > 1 and not late
    aggregated, aggregated_events = (x.size, int((x != 0).sum())) if sums else (0, 0)
    steps = chunks if mode == "collapse" else T
    neurons = outputs * (steps + 2 * steps)  # a current, and a membrane read and written
    if late:
        aggregated = aggregated_events = outputs * T
        neurons += outputs * (T + chunks)  # currents read, and their sums written
    traffic = x.size + (2 * frames.size if sums else 0) + weight.size + outputs * F + neurons
    places = INDEX * (aggregated_events + events if sums else events)
    values = (2 * aggregated_events + events if sums else 0) + 3 * effective + neurons
    row = LayerOperations(
        name, mode, size, F, dense, *((effective, 0) if binary else (0, effective)), events, aggregated, aggregated_events,
        outputs * steps, item * traffic, places + item * values,
    )  # fmt: skip
    return row if prices is None else _priced(row, prices)


def _priced(row: LayerOperations, prices: Mapping[str, float]) -> LayerOperations:
    """With its energy: dense products and sums are multiply-adds, events' are what they are."""
    updates = prices["update"] * row.updates
    dense = prices["mac"] * (row.dense + row.aggregated) + prices["byte"] * row.traffic + updates
    products = prices["ac"] * row.accumulates + prices["mac"] * (row.multiply_accumulates + row.aggregated_events)
    return replace(row, energy=dense, energy_events=products + prices["byte"] * row.traffic_events + updates)


def _window(layer: FrozenLayer, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    moves = {name: layer.options.get(name, start) for name, start in (("stride", 1), ("padding", 0), ("dilation", 1))}
    return check_window("synops", spatial, kernel, groups=layer.options.get("groups", 1), **moves)


def _rule(layer: FrozenLayer, mode: OperationMode, size: int) -> str | Array:
    """How chunks of `size` frames are weighted: by the layer's weights, or by the mode's if the layer's are of another size."""
    table = layer.arrays.get("aggregation")
    if table is not None and table.shape[-1] == size:
        return table
    return str(layer.options.get("aggregation") or ("decay" if mode == "collapse" else "normalized_decay"))


def _sums_currents(layer: FrozenLayer, mode: OperationMode, size: int) -> bool:
    """Whether frames weigh differently in every channel, so that each of them is convolved, and currents are summed."""
    rule = _rule(layer, mode, size)
    return isinstance(rule, str) and RULES[rule].decays and "beta" in layer.arrays


def _summed(np: Any, layer: FrozenLayer, x: Any, mode: OperationMode, size: int) -> Any:
    """Chunks of `size` frames summed."""
    rule = _rule(layer, mode, size)
    table = None if isinstance(rule, str) else backend_of(rule).to_numpy(rule).astype(np.float64)
    beta = float(layer.options.get("beta", 0.9))  # one of each channel weights no frames here
    parts = []
    for start, stop, length in segments(x.shape[0], size):
        weights = rule if table is None else table[length - 1, -length:] if table.ndim == 2 else table[-length:]
        parts.append(aggregate(x[start:stop].astype(np.float64), length, aggregation=weights, beta=beta))
    return np.concatenate(parts)


def _pairs(np: Any, events: Any, weight: Any, window: Window) -> int:
    """Pairs of an event and a weight that is there, of numbers of events (*S, C_in) and of weights (C_out, *kernel, C_in // groups)."""
    spatial, kernel, groups = events.shape[:-1], weight.shape[1:-1], window.groups
    padded = np.pad(events.astype(np.int64), (*window.padding, (0, 0)))
    places = window.output_shape(spatial, kernel)
    fans = weight.reshape(groups, -1, *weight.shape[1:]).sum(
        axis=1, dtype=np.int64
    )  # (groups, *kernel, C_in // groups)
    total = 0
    for tap in np.ndindex(*kernel):
        reached = tuple(
            slice(d * k, d * k + s * (n - 1) + 1, s)
            for d, k, s, n in zip(window.dilation, tap, window.stride, places, strict=True)
        )
        found = padded[reached].sum(axis=tuple(range(len(kernel))), dtype=np.int64)  # (C_in,)
        total += int((found.reshape(groups, -1) * fans[(slice(None), *tap)]).sum())
    return total
