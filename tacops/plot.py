"""Pictures of spikes and membranes, of arrays of any library; matplotlib is imported when one is drawn.

``pip install matplotlib``. A figure is returned; nothing is shown and no setting of matplotlib is changed. Notebooks show what a
cell returns, once ``matplotlib.pyplot`` has been imported, and ``figure.savefig("spikes.png")`` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ._backend.dispatch import backend_of
from ._backend.protocol import Array
from ._core.pool import frames_of
from ._core.train import SpikeTrain, TracedSpikeTrain
from ._values import as_int, as_list, check_number, fail, show

__all__ = ["membranes", "raster"]

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's, which colour-blind people tell apart."""
DASHES = ("-", "--", "-.", ":")
MOST = 6
"""Membranes in one picture."""


def raster(spikes: Array | SpikeTrain, *, sample: int = 0, axes: Any = None) -> Any:
    """A dot for every spike: time to the right, neurons upwards.

    Parameters
    ----------
    spikes : array, shape (T, B, ...), or SpikeTrain
        What is not 0 is a spike.
    sample : int
        Which of the B.
    axes : matplotlib.axes.Axes, optional
        To draw into, instead of a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    TypeError, ValueError
        For what are no spikes, and a sample that there isn't.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops import encode, plot
    >>> figure = plot.raster(encode.rate(np.full((1, 20), 0.2), 50, seed=0))
    >>> figure.axes[0].get_xlabel()
    'time step'
    """
    values = _of_sample("raster", "spikes", spikes, sample)
    steps, neurons = values.nonzero()
    axes = _axes("raster", axes, 3.2)
    axes.scatter(steps, neurons, s=max(1.0, min(12.0, 600.0 / max(values.shape[1], 1))), c=COLORS[0], linewidths=0)
    axes.set(xlabel="time step", ylabel="neuron", xlim=(-0.5, values.shape[0] - 0.5))
    axes.set_ylim(-0.5, values.shape[1] - 0.5)
    axes.set_title(f"{len(steps)} spikes of {values.shape[1]} neurons")
    return axes.figure


def membranes(
    trace: Array | TracedSpikeTrain,
    *,
    sample: int = 0,
    neurons: Sequence[int] = (0, 1, 2),
    threshold: float | None = None,
    axes: Any = None,
) -> Any:
    """The membranes of a few neurons over time, with a mark at each spike.

    Parameters
    ----------
    trace : array, shape (T, B, ...), or TracedSpikeTrain
        Of a layer called with ``trace=True``: its train, or its trace alone, which has no marks.
    sample : int
        Which of the B.
    neurons : sequence of int
        At most six, counted as if flattened; those that there aren't are left out.
    threshold : float, optional
        A line.
    axes : matplotlib.axes.Axes, optional
        To draw into, instead of a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    TypeError, ValueError
        For what is no trace, and a sample that there isn't.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> train = tacops.lif(np.full((20, 1, 2), 0.3), trace=True)
    >>> figure = tacops.plot.membranes(train, threshold=1.0)
    >>> len(figure.axes[0].lines)  # two membranes, the marks of their spikes, and the threshold
    5
    """
    function = "membranes"
    if isinstance(trace, SpikeTrain):
        rule = "the train of a layer called with trace=True, or its trace"
        raise fail(function, "trace", rule, "a SpikeTrain without a trace", TypeError)
    traced = isinstance(trace, TracedSpikeTrain)
    values = _of_sample(function, "trace", trace.trace if traced else trace, sample)
    fired = _of_sample(function, "trace", trace.spikes, sample) if traced else None
    chosen = _neurons(function, neurons, values.shape[1])
    level = None if threshold is None else check_number(function, "threshold", threshold)
    if level is not None and not 0.0 < level < math.inf:
        raise fail(function, "threshold", "positive and finite", show(threshold))
    axes = _axes(function, axes, 2.6)
    for place, n in enumerate(chosen):
        color, dash = COLORS[place], DASHES[place % len(DASHES)]
        axes.plot(range(values.shape[0]), values[:, n], dash, color=color, label=f"neuron {n}")
        if fired is not None:
            [steps] = fired[:, n].nonzero()
            axes.plot(steps, values[steps, n], "v", color=color)
    if level is not None:
        axes.axhline(level, color="0.4", linewidth=0.8, label="threshold")
    axes.set(xlabel="time step", ylabel="membrane after the reset", xlim=(-0.5, values.shape[0] - 0.5))
    axes.set_title("membranes; a mark where the neuron fires" if traced else "membranes")
    axes.legend(fontsize="small")
    return axes.figure


def _of_sample(function: str, argument: str, given: Any, sample: Any) -> Any:
    """One sample's values on the host, (T, neurons)."""
    x, xp, shape = frames_of(function, given, 3, argument)
    if not xp.isdtype(x.dtype, ("bool", "integral", "real floating")):
        raise fail(function, argument, "of a bool, integer or real floating dtype", str(x.dtype), TypeError)
    if 0 in shape:
        raise fail(function, argument, "a nonempty array (T, B, ...)", f"shape {shape}")
    number = as_int(sample)
    if number is None or not 0 <= number < shape[1]:
        kind = TypeError if number is None else ValueError
        raise fail(function, "sample", f"an int from 0 to {shape[1] - 1}", show(sample), kind)
    return backend_of(x).to_numpy(x[:, number, ...]).reshape(shape[0], -1)


def _neurons(function: str, neurons: Any, count: int) -> list[int]:
    given = tuple(neurons) if isinstance(neurons, range) and len(neurons) <= MOST else as_list(neurons)
    numbers = [as_int(n) for n in given] if isinstance(given, (tuple, list)) and len(given) <= MOST else [None]
    if any(n is None or n < 0 for n in numbers):
        raise fail(function, "neurons", f"a sequence of at most {MOST} ints of at least 0", show(neurons), TypeError)
    chosen = [n for n in numbers if n is not None and n < count]
    if not chosen:
        raise fail(function, "neurons", f"ints below {count}", show(neurons))
    return chosen


def _axes(function: str, axes: Any, height: float) -> Any:
    if axes is not None:
        if not hasattr(axes, "scatter") or not hasattr(axes, "axhline"):
            raise fail(function, "axes", "a matplotlib Axes", show(axes), TypeError)
        return axes
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        msg = f"{function}: matplotlib must be installed (pip install matplotlib)"
        raise ModuleNotFoundError(msg) from error
    return Figure(figsize=(6.4, height), layout="constrained").subplots()
