"""Frames that are loaded when their turn comes.

Dask begins whatever can begin. The tasks that load a recording need nothing, so idle threads would load all of it while a
chain through time is still at its beginning, and a recording larger than memory would fill it. Here such tasks are put into
one that also waits for the chain: a block is loaded when the block two before it is done.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from dask._task_spec import DataNode, GraphNode, Task, TaskRef, convert_legacy_graph
from dask.core import flatten
from dask.highlevelgraph import MaterializedLayer
from dask.utils import ensure_dict

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = ["AHEAD", "Chain", "Sources"]

AHEAD = 2
"""Blocks of a chain that may be in memory: the one at work, and the next."""
MOST_TASKS = 64
"""Tasks that make one block; frames that are made of more are left as they are."""
MOST_BLOCKS = 2
"""Blocks that a task may be repeated for; what more of them need, such as a mean of all, is computed once, as ever."""


class Chain(MaterializedLayer):  # type: ignore[misc]
    """A layer whose tasks wait for each other; no block of it can be made alone."""


class Sources:
    """What makes each block of some frames, apart from what blocks share."""

    def __init__(self, frames: Array):
        self.tasks: dict[Any, GraphNode] = {}
        self.uses: Counter[Any] = Counter()
        self.known: set[Any] = set()
        graph = frames.__dask_graph__()
        if any(isinstance(layer, Chain) for layer in graph.layers.values()):
            return
        keys = list(flatten(frames.__dask_keys__()))
        self.known.update(graph.keys())
        self.tasks = convert_legacy_graph(ensure_dict(frames.__dask_optimize__(graph, keys)))
        for key in keys:
            self.uses.update(self._needed(key))

    def gated(self, block: Any, key: Any, gate: Any) -> GraphNode | None:
        """A task `key` that makes a block once `gate` is done; None where it can't be made alone."""
        needed = [name for name in self._needed(block) if self.uses[name] <= MOST_BLOCKS]
        if block not in needed or len(needed) > MOST_TASKS:
            return None
        last = Task(key, first, TaskRef(block), TaskRef(gate))
        task = GraphNode.fuse(*(self.tasks[name] for name in needed), last, key=key)
        # what Dask has fused under a name of its own is in no other graph
        return task if task.dependencies - {gate} <= self.known else None

    def _needed(self, block: Any) -> set[Any]:
        """Keys of the tasks, one of which is the block's own; not of data that are there already."""
        found: set[Any] = set()
        ahead = [block]
        while ahead and len(found) <= MOST_TASKS:
            key = ahead.pop()
            task = self.tasks.get(key)
            if task is None or isinstance(task, DataNode) or key in found:
                continue
            found.add(key)
            ahead.extend(task.dependencies)
        return found


def first(block: Any, gate: Any) -> Any:
    """The block, which has waited for the other."""
    return block
