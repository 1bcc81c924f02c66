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
    figure = Figure(figsize=(3.7 * columns + 1.6, 2.9 * rows + 1.0), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    crossed = False
    for n, (axes, case) in enumerate(zip_longest(grid.flat, cases)):
        if case is None:
            axes.set_axis_off()
            continue
        crossed |= _panel(axes, result, case, structure, named=n == columns - 1)
        axes.set_title(f"{case}: {result.cases[case]['text']}", fontsize=9, loc="left")
    for axes in grid[:, 0]:
        axes.set_ylabel("ms for all frames")
    for axes in grid[-1]:
        axes.set_xlabel("share of spikes")
    about = f"{STRUCTURES.get(structure, 'nothing measured')}; {result.machine['processor']}, {result.machine['cores']} cores"
    said = "Where spikes are rare, following them beats dense convolution (rings)"
    figure.suptitle(f"{said if crossed else 'Following spikes against dense convolution'}\n{about}", fontsize=10)
    return figure


def _panel(axes: Any, result: SparsityResult, case: str, structure: str, *, named: bool) -> bool:
    """Draw one layer, with names on its lines or without; whether a strategy crosses the dense path."""
    names: list[tuple[float, float, str, str]] = []
    ends: list[float] = []
    dense = result.curve(case, structure, None, "dense")
    for name, style in LINES.items():
        curve = result.curve(case, structure, None, name)
        if not curve:
            continue
        heights = [1e3 * value for value in curve.values()]
        axes.plot(list(curve), heights, **{"markersize": 4.5, "linewidth": 1.4, **style})
        names.append((heights[-1], max(curve), CONTENDERS[name].label, style["color"]))
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
    if named:
        _name(axes, names)
    return bool(ends)


def _name(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Each line's name beside its end, none over another."""
    low, high = axes.get_ylim()
    apart, floor = (high / low) ** 0.06, 0.0
    beside: dict[str, Any] = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
    for height, density, label, colour in sorted(ends):
        floor = max(height, floor * apart)
        axes.annotate(label, (density, floor), color=colour, annotation_clip=False, **beside)


def _mark(axes: Any, density: float, dense: Curve, *, named: bool) -> None:
    """A ring where a strategy crosses the dense path, and its density."""
    height = 1e3 * np.exp(np.interp(np.log(density), np.log(list(dense)), np.log(list(dense.values()))))
    axes.plot(density, height, "o", markersize=11, color="black", fillstyle="none", zorder=5)
    beside = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 7}
    if named:
        axes.annotate(percent(density), (density, height), **beside)
