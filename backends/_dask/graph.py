"""The graph of a whole call: a task for each block of the result, and a chain of them through time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from tacops._core.train import SpikeTrain, TracedSpikeTrain

from .cuts import Cut, cuts_of
from .sources import AHEAD, Chain, Sources
from .tasks import Call, gather, part_of, run_call, run_train

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

    def array(self, kind: str, chunks: tuple[tuple[int, ...], ...], meta: Any, parts: dict[Any, Any]) -> Array:
        """An array of the results: by its own places, a result and which part of it."""
        whole = HighLevelGraph.from_collections(self.name, Chain(self.tasks), dependencies=self.reads)
        name = f"{kind}-{self.name}"
        tasks = {(name, *place): _task((name, *place), part_of, *part) for place, part in parts.items()}
        layers = {**whole.layers, name: tasks}
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
    places, values = list(_places(cuts)), TaskRef((f"{graph.name}-values",))
    for place, axes in places:
        padding = tuple(axes[n].padding for n in sorted(whole.moves)) or None
        shape = tuple(cut.frames(chunks) for cut, chunks in zip(axes, frames.chunks, strict=True))
        place_of = axes[0].start, frames.shape[0], shape
        call = Call(whole.run, described, whole.function, whole.argument, padding, *place_of)
        block = _block(graph, frames, place, axes)
        if not whole.stateful:
            _add(graph, (graph.name, *place), run_call, call, values, block)
            continue
        before = _before(graph, place, state)
        given = _lengths(lengths, place, axes[1] if len(axes) > 1 else None)
        _add(graph, (graph.name, *place), run_train, call, values, block, before, given)
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
    refs = [TaskRef((value.name, *(0,) * value.ndim)) if isinstance(value, da.Array) else value for value in values]
    reads = [frames, *arrays, *(state or ()), *([lengths] if isinstance(lengths, da.Array) else [])]
    sources = Sources(frames) if whole.stateful and len(frames.chunks[0]) > AHEAD else None
    graph = Graph(name, {}, reads, sources)
    _add(graph, (f"{name}-values",), gather, *refs)
    return graph, described


def _add(graph: Graph, key: Any, function: Any, *args: Any) -> None:
    """A task; lists among its arguments, and lists in these, may hold references to others."""
    graph.tasks[key] = _task(key, function, *args)


def _task(key: Any, function: Any, *args: Any) -> Task:
    return Task(key, function, *map(_nested, args))


def _nested(value: Any) -> Any:
    return List(*map(_nested, value)) if isinstance(value, list) else value


def _places(cuts: tuple[tuple[Cut, ...], ...]) -> Iterator[tuple[tuple[int, ...], tuple[Cut, ...]]]:
    """Every block of the result, by numbers and by cuts."""
    for place in product(*(range(len(axis)) for axis in cuts)):
        yield place, tuple(axis[n] for axis, n in zip(cuts, place, strict=True))


def _block(graph: Graph, frames: Array, place: tuple[int, ...], axes: tuple[Cut, ...]) -> Any:
    """The key of a block, or lists of keys, a level for each axis, of a block and its neighbours' borders."""
    if all(cut.parts[0][1] is None and len(cut.parts) == 1 for cut in axes):
        return TaskRef(_frames(graph, (frames.name, *(cut.parts[0][0] for cut in axes)), place))

    def along(chosen: tuple[tuple[int, slice | None], ...]) -> Any:
        if len(chosen) < len(axes):
            return [along((*chosen, part)) for part in axes[len(chosen)].parts]
        key = _frames(graph, (frames.name, *(n for n, _ in chosen)), place)
        if all(part is None for _, part in chosen):
            return TaskRef(key)
        slices = tuple(part or slice(None) for _, part in chosen)
        border = (f"{graph.name}-border", *key[1:], *((s.start, s.stop) for s in slices))
        _add(graph, border, part_of, TaskRef(key), slices)
        return TaskRef(border)

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
        return TaskRef((graph.name, place[0] - 1, *place[1:]))
    return None if state is None else [None, [TaskRef((x.name, *place[1:])) for x in state]]


def _lengths(lengths: Any, place: tuple[int, ...], batch: Cut | None) -> Any:
    if lengths is None or batch is None:
        return None
    if isinstance(lengths, tuple):
        return lengths[batch.start : batch.start + batch.size]
    return TaskRef((lengths.name, place[1]))


def _train(whole: Whole, graph: Graph, chunks: Any, meta: Any, places: list[tuple[int, ...]]) -> Any:
    """The arrays that a call of neurons returns."""
    last = len(chunks[0]) - 1
    state_meta = meta_from_array(meta, ndim=meta.ndim - 1, dtype=whole.state_dtype)
    results = {place: TaskRef((graph.name, *place)) for place in places}
    spikes = graph.array("spikes", chunks, meta, {place: (result, 0) for place, result in results.items()})
    ends = {place[1:]: result for place, result in results.items() if place[0] == last}
    states = []
    for n in range(whole.states):
        kept = {end: (result, 1, n) for end, result in ends.items()}
        states.append(graph.array(("membrane", "current")[n], chunks[1:], state_meta, kept))
    membrane = states[0] if whole.states == 1 else tuple(states)
    if not whole.trace:
        return SpikeTrain(spikes, membrane)
    trace_meta = meta_from_array(meta, dtype=whole.state_dtype)
    trace = graph.array("trace", chunks, trace_meta, {place: (result, 2) for place, result in results.items()})
    return TracedSpikeTrain(spikes, membrane, trace)
