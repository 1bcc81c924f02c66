"""The plot of ``python -m bench sparsity``: time against density, a panel for each layer."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from bench.shared.plots import COLOURS, STYLE, save_figure
from bench.sparsity.cases import CONTENDERS
from bench.sparsity.conclusion import STRUCTURES
from bench.sparsity.result import Curve, SparsityResult, crossover, percent

LINES: dict[str, dict[str, Any]] = {
    "dense": {"color": "black", "marker": "", "linewidth": 2.4},
    "collapse16": {"color": COLOURS[3], "marker": "", "linewidth": 1.8, "linestyle": "--"},
    "scatter": {"color": COLOURS[0], "marker": "o"},
    "table": {"color": COLOURS[1], "marker": "s"},
    "matrix": {"color": COLOURS[2], "marker": "^"},
}
"""What is drawn of each contender: colours that colour-blind people tell apart, and marks."""


def save_plots(result: SparsityResult, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``."""
    with mpl.rc_context(STYLE):
        return save_figure(draw(result), stem, 130)


def draw(result: SparsityResult) -> Figure:
    """A panel for each layer; every curve is of the fastest backend at each density."""
    # of one structure of spikes, independent ones where they were measured; the tables have the others
    structure = next((name for name in STRUCTURES if any(name == found for _, found in result.panels())), "")
    cases = [case for case, found in result.panels() if found == structure]
    columns = min(2, max(1, len(cases)))
    rows = -(-len(cases) // columns) or 1
    figure = Figure(figsize=(3.7 * columns + 0.4, 2.9 * rows + 1.0), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    lines: dict[str, Any] = {}
    for axes, case in zip_longest(grid.flat, cases):
        if case is None:
            axes.set_axis_off()
            continue
        lines |= _panel(axes, result, case, structure)
        axes.set_title(f"{case}: {result.cases[case]['text']}", fontsize=9, loc="left")
    for axes in grid[:, 0]:
        axes.set_ylabel("ms for all frames")
    for axes in grid[-1]:
        axes.set_xlabel("share of spikes")
    figure.legend([*lines.values()], [*lines], loc="outside lower center", ncols=3, frameon=False)
    about = f"{STRUCTURES.get(structure, 'nothing measured')}; {result.machine['processor']}, {result.machine['cores']} cores"
    figure.suptitle(f"Where spikes are rare, following them beats dense convolution (rings)\n{about}", fontsize=10)
    return figure


def _panel(axes: Any, result: SparsityResult, case: str, structure: str) -> dict[str, Any]:
    """Draw one layer; lines by label."""
    lines: dict[str, Any] = {}
    ends: list[float] = []
    dense = result.curve(case, structure, None, "dense")
    for name, style in LINES.items():
        curve = result.curve(case, structure, None, name)
        if not curve:
            continue
        heights = [1e3 * value for value in curve.values()]
        (line,) = axes.plot(list(curve), heights, **{"markersize": 4.5, "linewidth": 1.4, **style})
        lines[CONTENDERS[name].label] = line
        crossing = crossover(curve, dense) if dense and CONTENDERS[name].kind == "sparse" else None
        if crossing and crossing.high is not None:
            ends.append(crossing.high)
    for end in ends:
        _mark(axes, end, dense, named=end == max(ends))
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return lines


def _mark(axes: Any, density: float, dense: Curve, *, named: bool) -> None:
    """A ring where a strategy crosses the dense path, and its density."""
    height = 1e3 * np.exp(np.interp(np.log(density), np.log(list(dense)), np.log(list(dense.values()))))
    axes.plot(density, height, "o", markersize=11, color="black", fillstyle="none", zorder=5)
    beside = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 7}
    if named:
        axes.annotate(percent(density), (density, height), **beside)
