"""Whether to aggregate at all: how long exact, collapse and preserve take, layer by layer, on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .._backend.dispatch import backend_of
from .._backend.protocol import Array
from .._core.checks import check_choice, check_count, fail
from ..layers import FrozenLayer
from .forward import spikes_of
from .memory import check_frames
from .operations import OperationMode
from .stages import Stage, stages_of

__all__ = ["LayerTime", "ModeTimes", "mode_times"]

MODES: tuple[OperationMode, ...] = ("exact", "collapse", "preserve")
SLACK = 1.1
"""A mode that is not faster than exact by more than this gains nothing."""


@dataclass(frozen=True)
class LayerTime:
    """One layer in one mode.

    Attributes
    ----------
    layer : str
    mode : {"exact", "collapse", "preserve"}
    chunk_size : int
        K; 1 if exact.
    seconds : float
        Median of one call, all samples and frames.
    density : float
        Share of the layer's inputs that are not zero.
    """

    layer: str
    mode: OperationMode
    chunk_size: int
    seconds: float
    density: float


@dataclass(frozen=True)
class ModeTimes:
    """All layers in all three modes; `print` shows the table and what follows from it.

    Attributes
    ----------
    rows : tuple of LayerTime
        Layer by layer; exact, collapse and preserve.
    backend : str
        Which library computed.
    """

    rows: tuple[LayerTime, ...]
    backend: str

    def __iter__(self) -> Iterator[LayerTime]:
        return iter(self.rows)

    def total(self, mode: OperationMode) -> float:
        """Seconds of all layers in one mode.

        Parameters
        ----------
        mode : {"exact", "collapse", "preserve"}
        """
        check_choice("ModeTimes", "mode", mode, MODES)
        return sum(row.seconds for row in self.rows if row.mode == mode)

    def gains(self, mode: OperationMode) -> bool:
        """Whether a mode is faster than exact, by more than a tenth.

        Parameters
        ----------
        mode : {"collapse", "preserve"}
        """
        return SLACK * self.total(mode) < self.total("exact")

    @property
    def reason(self) -> str:
        """One sentence: whether aggregating saves time."""
        exact = f"exact takes {1e3 * self.total('exact'):.3g} ms"
        ways = [f"{mode} {1e3 * self.total(mode):.3g} ms" for mode in MODES[1:]]
        faster = [mode for mode in MODES[1:] if self.gains(mode)]
        if not faster:
            return f"{exact}, {ways[0]}, {ways[1]}: to aggregate saves no time here, so exact is the better choice."
        shares = " and ".join(f"{mode} is {self.total('exact') / self.total(mode):.1f} x as fast" for mode in faster)
        return f"{exact}: {shares}."

    def __str__(self) -> str:
        """A table, and the sentence."""
        width = max(12, *(len(row.layer) for row in self.rows))
        lines = [f"{'layer':>{width}}  {'inputs not 0':>12}  " + "  ".join(f"{mode:>14}" for mode in MODES)]
        for first in range(0, len(self.rows), len(MODES)):  # two layers may have one name
            rows = self.rows[first : first + len(MODES)]
            cells = (f"{1e3 * row.seconds:.3g} ms" + f" K={row.chunk_size}" * (row.mode != "exact") for row in rows)
            lines.append(
                f"{rows[0].layer:>{width}}  {rows[0].density:>12.1%}  " + "  ".join(f"{cell:>14}" for cell in cells)
            )
        return "\n".join([*lines, f"({self.backend}) {self.reason}"])


def mode_times(
    layers: FrozenLayer | Iterable[Stage] | Mapping[str, Stage],
    spikes: Array,
    *,
    chunk_size: int | None = None,
    repeats: int = 5,
) -> ModeTimes:
    """Measure whether temporal aggregation saves time: exact, collapse and preserve of each layer, on these spikes.

    Where spikes are rare the exact simulation costs little, on a processor that follows them, and aggregating gains nothing. The
    network runs once as it is; each layer is then timed on its own input in every mode, the modes in turn, once without
    the clock and `repeats` times with it. Times are medians, and of this machine in its present state.

    Parameters
    ----------
    layers : FrozenLayer, or sequence, or mapping of str to layer
        As of `tacops.synops`: frozen layers, and functions from spikes to spikes, which are run and not timed. A weight with
        its geometry is ``FrozenLayer({"weight": weight}, {"chunk_size": 4, "padding": 1})``.
    spikes : array, shape (T, B, ...)
        As the first layer takes them, of the library and on the device that are to be timed; as many samples as your batches have. Of a recording in
        Dask's blocks, a block that has been computed.
    chunk_size : int, optional
        K of collapse and preserve, such as `tacops.advise` advises; else each layer's own.
    repeats : int
        Calls of every layer in every mode.

    Returns
    -------
    ModeTimes
        Iterable over `LayerTime`; ``print`` shows a table and a sentence.

    Raises
    ------
    TypeError, ValueError
        For arguments outside the rules above.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops import mode_times
    >>> from tacops.layers import FrozenLayer
    >>> layer = FrozenLayer({"weight": np.ones((8, 3, 3, 1), np.float32)}, {"chunk_size": 4, "padding": 1})
    >>> times = mode_times(layer, np.zeros((8, 2, 12, 12, 1), np.float32), repeats=1)
    >>> [(row.mode, row.chunk_size, row.density) for row in times]
    [('exact', 1, 0.0), ('collapse', 4, 0.0), ('preserve', 4, 0.0)]
    """
    stages = stages_of("mode_times", layers)
    size = None if chunk_size is None else check_count("mode_times", "chunk_size", chunk_size)
    rounds = check_count("mode_times", "repeats", repeats)
    x, rows = spikes_of(spikes), list[LayerTime]()
    backend = backend_of(x, function="mode_times", names=("spikes",))
    if backend.blockwise:
        rule = "frames that are at hand, such as one block of a recording"
        raise fail("mode_times", "spikes", rule, f"a {backend.name} array", TypeError)
    last = max(n for n, (_, stage) in enumerate(stages) if isinstance(stage, FrozenLayer))
    for n, (name, stage) in enumerate(stages[: last + 1]):
        if isinstance(stage, FrozenLayer):
            check_frames("mode_times", stage, x)
            rows += _timed(name, stage.on(x), x, size or stage.options["chunk_size"], rounds)
        if n < last:
            x = spikes_of(stage(x))
    return ModeTimes(tuple(rows), backend.name)


def _timed(name: str, layer: FrozenLayer, x: Array, size: int, rounds: int) -> list[LayerTime]:
    """One layer in all modes."""
    backend = backend_of(x)
    host = backend.to_numpy(x)
    density = float((host != 0).mean()) if host.size else 0.0
    sizes = {mode: 1 if mode == "exact" else size for mode in MODES}
    calls = {mode: _in_mode(layer, mode, size) for mode, size in sizes.items()}
    seconds: dict[OperationMode, list[float]] = {mode: [] for mode in MODES}
    for each in range(rounds + 1):
        for mode, call in calls.items():
            began = time.perf_counter()
            _finish(call(x))
            if each:  # the first one compiles
                seconds[mode].append(time.perf_counter() - began)
    return [LayerTime(name, mode, sizes[mode], statistics.median(seconds[mode]), density) for mode in MODES]


def _in_mode(layer: FrozenLayer, mode: OperationMode, size: int) -> FrozenLayer:
    """The layer in another mode; aggregation weights of its own stay where they are for chunks of this size."""
    arrays, options = dict(layer.arrays), {**layer.options, "chunk_size": size}
    options["mode"] = "collapse" if mode == "exact" else mode
    table = arrays.get("aggregation")
    if mode == "exact" or (table is not None and table.shape[-1] != size):
        arrays.pop("aggregation", None)
    if mode == "exact":
        options.pop("aggregation", None)
    return FrozenLayer(arrays, options)


def _finish(train: Any) -> None:
    """Wait for what a device still computes: both results are read at one place."""
    for array in (train.spikes, train.membrane):
        if isinstance(array, tuple):
            array = array[0]
        if 0 not in array.shape:
            backend_of(array).to_numpy(array[(slice(0, 1),) * array.ndim])
