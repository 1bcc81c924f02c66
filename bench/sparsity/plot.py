"""The plot of ``python -m bench sparsity``: time against density; shapes and dashes tell strategies apart, not colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from bench.shared.plots import STYLE, save_figure
from bench.sparsity.cases import CONTENDERS, STRATEGIES
from bench.sparsity.conclusion import STRUCTURES
from bench.sparsity.result import Curve, SparsityResult, crossover, percent

SHAPES = dict(zip(STRATEGIES, "o^sDPXv", strict=True))
BASELINES: dict[str, dict[str, Any]] = {
    "dense": {"color": "black", "linewidth": 2.4},
    "collapse4": {"color": "0.35", "linewidth": 1.2, "linestyle": "--"},
    "collapse8": {"color": "0.35", "linewidth": 1.6, "linestyle": (0, (5, 1))},
    "collapse16": {"color": "0.35", "linewidth": 1.2, "linestyle": ":"},
}


def save_plots(result: SparsityResult, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``."""
    with mpl.rc_context(STYLE):
        return save_figure(draw(result), stem, 130)


def draw(result: SparsityResult) -> Figure:
    """A row per layer, a column per structure; every curve is of the fastest backend at each density."""
    cases = list(dict.fromkeys(case for case, _ in result.panels()))
    structures = [name for name in STRUCTURES if any(name == structure for _, structure in result.panels())]
    size = (3.1 * max(2, len(structures)) + 0.6, 2.5 * max(1, len(cases)) + 1.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(max(1, len(cases)), max(1, len(structures)), sharex=True, sharey="row", squeeze=False)
    lines: dict[str, Any] = {}
    for case, axes_row in zip(cases, grid, strict=False):
        for structure, axes in zip(structures, axes_row, strict=True):
            if (case, structure) not in result.panels():
                axes.set_axis_off()
                continue
            lines |= _panel(axes, result, case, structure)
            axes.set_title(f"{case}, {STRUCTURES[structure]}", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("ms for all frames")
    for axes in grid[-1]:
        axes.set_xlabel("share of spikes")
    order = [label for name in CONTENDERS if (label := CONTENDERS[name].label) in lines]
    figure.legend(
        [lines[label] for label in order], order, loc="outside lower center", ncols=int(size[0] / 2.1), frameon=False
    )
    about = f"{result.machine['processor']}, {result.machine['cores']} cores"
    figure.suptitle(
        f"Convolution of spikes, each way on its fastest library; rings: crosses dense\n{about}", fontsize=10
    )
    return figure


def _panel(axes: Any, result: SparsityResult, case: str, structure: str) -> dict[str, Any]:
    """Draw one layer and structure; lines by label."""
    lines: dict[str, Any] = {}
    ends: list[float] = []
    dense = result.curve(case, structure, None, "dense")
    for name, style in BASELINES.items():
        curve = result.curve(case, structure, None, name)
        if curve:
            (line,) = axes.plot(list(curve), [1e3 * value for value in curve.values()], zorder=1, **style)
            lines[CONTENDERS[name].label] = line
    for n, (name, shape) in enumerate(SHAPES.items()):
        curve = result.curve(case, structure, None, name)
        if not curve:
            continue
        heights = [1e3 * value for value in curve.values()]
        style = {"color": ("0.15", "0.5")[n % 2], "fillstyle": ("none", "full")[n % 2]}
        (line,) = axes.plot(list(curve), heights, marker=shape, markersize=4.5, linewidth=0.8, **style)
        lines[CONTENDERS[name].label] = line
        crossing = crossover(curve, dense) if dense else None
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
    return lines


def _mark(axes: Any, density: float, dense: Curve, *, named: bool) -> None:
    """A ring where a strategy crosses the dense path, and its density."""
    height = 1e3 * np.exp(np.interp(np.log(density), np.log(list(dense)), np.log(list(dense.values()))))
    axes.plot(density, height, "o", markersize=11, color="black", fillstyle="none", zorder=5)
    beside = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 7}
    if named:
        axes.annotate(percent(density), (density, height), **beside)
