"""The graph of a whole call: a task for each block of the result, and a chain of them through time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from operator import getitem
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from tacops._core.train import SpikeTrain, TracedSpikeTrain

from .cuts import Cut, cuts_of
from .sources import AHEAD, Chain, Sources
from .tasks import Call, gather, run_call, run_train

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, State
    from tacops._backend.whole import Whole

__all__ = ["blocks_of"]


class Graph(NamedTuple):
    """Tasks under one name, and the arrays that they read."""

    name: str
    tasks: dict[Any, Any]
    reads: list[Array]
    sources: Sources | None

    def array(self, kind: str, chunks: tuple[tuple[int, ...], ...], meta: Any, keys: dict[Any, Any]) -> Array:
        """An array of the results, `keys` by its own places."""
        whole = HighLevelGraph.from_collections(self.name, Chain(self.tasks), dependencies=self.reads)
        name = f"{kind}-{self.name}"
        layers = {**whole.layers, name: {(name, *place): task for place, task in keys.items()}}
        graph = HighLevelGraph(layers, {**whole.dependencies, name: {self.name}})
        return da.Array(graph, name, chunks, meta=meta)


def blocks_of(whole: Whole, frames: Array, state: State | None, lengths: Any) -> Any:
    """`Backend.run_blocks` of Dask: nothing is computed."""
    cuts = cuts_of(whole, frames)
    chunks = tuple(tuple(cut.size for cut in axis) for axis in cuts)
    state = None if state is None else tuple(x.rechunk(chunks[1:]) for x in state)
    if isinstance(lengths, da.Array):
        lengths = lengths.rechunk((chunks[1],))
    graph, described = _begun(whole, frames, state, lengths)
    meta = meta_from_array(frames, dtype=np.dtype(bool) if whole.dtype is None else whole.dtype)
    places = list(_places(cuts))
    for place, axes in places:
        padding = tuple(axes[n].padding for n in sorted(whole.moves)) or None
        call = Call(whole.run, described, whole.function, whole.argument, padding, axes[0].start, frames.shape[0])
        block = _block(graph, frames, place, axes)
        if not whole.stateful:
            graph.tasks[graph.name, *place] = (run_call, call, (f"{graph.name}-values",), block)
            continue
        before = _before(graph, place, state)
        given = _lengths(lengths, place, axes[1] if len(axes) > 1 else None)
        graph.tasks[graph.name, *place] = (run_train, call, (f"{graph.name}-values",), block, before, given)
    if not whole.stateful:
        high = HighLevelGraph.from_collections(graph.name, graph.tasks, dependencies=graph.reads)
        return da.Array(high, graph.name, chunks, meta=meta)
    return _train(whole, graph, chunks, meta, [place for place, _ in places])


def _begun(whole: Whole, frames: Array, state: State | None, lengths: Any) -> tuple[Graph, Any]:
    """A graph with what all blocks share, and what the call does, without its arrays."""
    values = [value.rechunk(-1) if isinstance(value, da.Array) else value for value in whole.described.values]
    arrays = [value for value in values if isinstance(value, da.Array)]
    plain = tuple(None if isinstance(value, da.Array) else value for value in values)
    described = whole.described.at(None, plain, None)
    named = [value.name if isinstance(value, da.Array) else value for value in values]
    states = [x.name for x in state or ()]
    own = lengths.name if isinstance(lengths, da.Array) else lengths
    token = tokenize(whole.run, described, frames.name, named, states, own)
    name = f"{whole.function}-{token}"
    keys = [(value.name, *(0,) * value.ndim) if isinstance(value, da.Array) else value for value in values]
    reads = [frames, *arrays, *(state or ()), *([lengths] if isinstance(lengths, da.Array) else [])]
    sources = Sources(frames) if whole.stateful and len(frames.chunks[0]) > AHEAD else None
    return Graph(name, {(f"{name}-values",): (gather, *keys)}, reads, sources), described


def _places(cuts: tuple[tuple[Cut, ...], ...]) -> Iterator[tuple[tuple[int, ...], tuple[Cut, ...]]]:
    """Every block of the result, by numbers and by cuts."""
    for place in product(*(range(len(axis)) for axis in cuts)):
        yield place, tuple(axis[n] for axis, n in zip(cuts, place, strict=True))


def _block(graph: Graph, frames: Array, place: tuple[int, ...], axes: tuple[Cut, ...]) -> Any:
    """The key of a block, or lists of keys, a level for each axis, of a block and its neighbours' borders."""
    if all(cut.parts[0][1] is None and len(cut.parts) == 1 for cut in axes):
        return _frames(graph, (frames.name, *(cut.parts[0][0] for cut in axes)), place)

    def along(chosen: tuple[tuple[int, slice | None], ...]) -> Any:
        if len(chosen) < len(axes):
            return [along((*chosen, part)) for part in axes[len(chosen)].parts]
        key = _frames(graph, (frames.name, *(n for n, _ in chosen)), place)
        if all(part is None for _, part in chosen):
            return key
        slices = tuple(part or slice(None) for _, part in chosen)
        border = (f"{graph.name}-border", *key[1:], *((s.start, s.stop) for s in slices))
        graph.tasks[border] = (getitem, key, slices)
        return border

    return along(())


def _frames(graph: Graph, block: Any, place: tuple[int, ...]) -> Any:
    """The key under which a block of frames is read: its own, or that of a task that loads it in its turn."""
    if graph.sources is None or place[0] < AHEAD:
        return block
    key = (f"{graph.name}-frames", *block[1:])
    if key not in graph.tasks:
        task = graph.sources.gated(block, key, (graph.name, place[0] - AHEAD, *place[1:]))
        if task is None:
            return block
        graph.tasks[key] = task
    return key


def _before(graph: Graph, place: tuple[int, ...], state: State | None) -> Any:
    """What hands on the membrane."""
    if place[0]:
        return (graph.name, place[0] - 1, *place[1:])
    return None if state is None else [None, [(x.name, *place[1:]) for x in state]]


def _lengths(lengths: Any, place: tuple[int, ...], batch: Cut | None) -> Any:
    if lengths is None or batch is None:
        return None
    if isinstance(lengths, tuple):
        return (tuple, list(lengths[batch.start : batch.start + batch.size]))
    return (lengths.name, place[1])


def _train(whole: Whole, graph: Graph, chunks: Any, meta: Any, places: list[tuple[int, ...]]) -> Any:
    """The arrays that a call of neurons returns."""
    last = len(chunks[0]) - 1
    state_meta = meta_from_array(meta, ndim=meta.ndim - 1, dtype=whole.state_dtype)
    spikes = graph.array("spikes", chunks, meta, {place: (getitem, (graph.name, *place), 0) for place in places})
    ends = [place[1:] for place in places if place[0] == last]
    states = []
    for n in range(whole.states):
        keys = {end: (getitem, (getitem, (graph.name, last, *end), 1), n) for end in ends}
        states.append(graph.array(("membrane", "current")[n], chunks[1:], state_meta, keys))
    membrane = states[0] if whole.states == 1 else tuple(states)
    if not whole.trace:
        return SpikeTrain(spikes, membrane)
    kept = {place: (getitem, (graph.name, *place), 2) for place in places}
    trace = graph.array("trace", chunks, meta_from_array(meta, dtype=whole.state_dtype), kept)
    return TracedSpikeTrain(spikes, membrane, trace)
