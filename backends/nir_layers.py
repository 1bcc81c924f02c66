"""Frozen layers to and from the Neuromorphic Intermediate Representation (NIR), which other libraries and chips read.

``pip install 'tacops[nir]'``. docs/nir.md has what can be said, and the conventions of each reader.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypeAlias

from tacops._layers.need import lacking

try:
    import nir
except ImportError as error:
    raise lacking(__name__, "nir", error) from error

from tacops._core.arguments import RESETS
from tacops._core.checks import as_float, check_choice, check_count, check_flag, fail, is_number, show
from tacops._core.grid import Grid
from tacops._files.damage import DAMAGE, reason
from tacops.layers import Flatten, FrozenLayer, Pool2d, Scale

from ._nir.read import Reading, read_graph
from ._nir.write import write_graph

__all__ = ["from_nir", "to_nir"]

Stage: TypeAlias = FrozenLayer | Flatten | Pool2d | Scale
STEP = 1e-4
"""Seconds; what snnTorch always takes."""


def to_nir(
    layers: Sequence[Stage] | Mapping[str, Stage], input_shape: Sequence[int], *, dt: float = STEP
) -> nir.NIRGraph:
    """A graph of NIR, which ``nir.write`` writes to a file.

    Parameters
    ----------
    layers : sequence, or mapping of str to layer
        Frozen layers, as ``freeze`` returns them, and `tacops.layers.Flatten`, `Pool2d` and `Scale` between them. A dense
        layer behind a convolution needs no Flatten.
    input_shape : sequence of int
        Of one frame of one sample, in the layout of the layers.
    dt : float
        Seconds of a frame.

    Returns
    -------
    nir.NIRGraph
        Channels first. Its metadata has ``dt``, the seconds of a step, and ``frames_per_step``: K where the first layer
        collapses time (its input is then the sum of K frames), else 1.

    Raises
    ------
    TypeError, ValueError
        For what NIR can't say, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops.backends.nir_layers import to_nir
    >>> from tacops.layers import FrozenLayer
    >>> layer = FrozenLayer({"weight": np.full((4, 3), 0.5, np.float32)}, {"chunk_size": 1, "reset": "zero"})
    >>> [type(node).__name__ for node in to_nir([layer], (3,)).nodes.values()]
    ['Input', 'Affine', 'LIF', 'Output']
    """
    if not isinstance(input_shape, (tuple, list)) or not 1 <= len(input_shape) <= 3:
        raise fail("to_nir", "input_shape", "one to three ints, a frame's shape", show(input_shape))
    shape = [check_count("to_nir", "input_shape", size) for size in input_shape]
    return write_graph(layers, shape, _step("to_nir", dt))


def from_nir(
    graph: nir.NIRGraph | str | PathLike[str],
    *,
    dt: float | None = None,
    reset: str = "zero",
    ties: bool = False,
    reproducible: bool | Grid = False,
) -> dict[str, Stage]:
    """The layers of a graph of NIR, or of a file, in their order; channels first.

    Parameters
    ----------
    graph : nir.NIRGraph or path
    dt : float, optional
        Seconds of a frame; None is what the graph's metadata say, or 1e-4.
    reset : {"zero", "subtract", "none", "late"}
        NIR knows "zero" alone; another is that of the simulator which the graph comes from.
    ties : bool
        Whether the graph's simulator fires at the threshold, too, as SpikingJelly does and NIR does not.
    reproducible : bool or Grid
        As of `tacops.tac_conv`.

    Returns
    -------
    dict of str to layer
        Frozen layers by the names of their weights, and `Flatten`, `Pool2d` and `Scale`; as `tacops.Stream` takes them.

    Raises
    ------
    TypeError, ValueError
        For nodes and parameters that are no layer of tacops: the message names the node.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops.backends.nir_layers import from_nir, to_nir
    >>> from tacops.layers import FrozenLayer
    >>> layer = FrozenLayer({"weight": np.full((4, 3), 0.5, np.float32)}, {"chunk_size": 1, "reset": "zero"})
    >>> from_nir(to_nir({"dense": layer}, (3,)))
    {'dense': FrozenLayer(weight (4, 3), beta=0.9, threshold=1.0, chunk_size=1, reset='zero')}
    """
    check_choice("from_nir", "reset", reset, RESETS)
    check_flag("from_nir", "ties", ties)
    if not isinstance(reproducible, (bool, Grid)):
        raise fail("from_nir", "reproducible", "True, False or a tacops.Grid", show(reproducible), TypeError)
    if isinstance(graph, (str, PathLike)):
        graph = _read(graph)
    if not isinstance(graph, nir.NIRGraph):
        raise fail("from_nir", "graph", "a nir.NIRGraph, or the path of a file", type(graph).__name__, TypeError)
    given = graph.metadata.get("dt", STEP) if dt is None else dt
    return read_graph(graph, Reading(_step("from_nir", given), reset, ties, reproducible))


def _read(path: str | PathLike[str]) -> nir.NIRGraph:
    try:
        return nir.read(path)
    except (*DAMAGE, AssertionError) as error:
        raise fail("from_nir", f"graph {path}", "a file that the nir package reads", reason(error)) from error


def _step(function: str, dt: Any) -> float:
    if not is_number(dt):
        raise fail(function, "dt", "a number of seconds", show(dt), TypeError)
    step = as_float(dt)
    if not 0.0 < step < math.inf:
        raise fail(function, "dt", "positive and finite", show(dt))
    return step
