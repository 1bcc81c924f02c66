"""Plots of ``python -m bench accuracy``: accuracy against speed, and learning curves; colours, and shapes and dashes, tell modes apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from bench.accuracy.modes import VARIANTS, Variant
from bench.accuracy.report import span
from bench.accuracy.result import AccuracyResult
from bench.shared.plots import COLOURS, STYLE, save_figure

COLUMNS = 2
# marker, line, colour
KINDS = {
    "exact": ("*", "-", "black"),
    "collapse": ("o", "--", COLOURS[0]),
    "preserve": ("s", "-.", COLOURS[1]),
    "learned": ("^", ":", COLOURS[2]),
    "collapse, both layers": ("D", ":", COLOURS[3]),
    "control": ("x", "-", "0.5"),
}
OFFSETS = {"preserve": (-9, -10), "control": (5, -10), "learned": (5, -10), "collapse, both layers": (5, -10)}
"""Where numbers stand, in points from their marks; those of other kinds above and to the right."""
CURVES = ("exact", "collapse4", "collapse16", "preserve4", "learned4", "shuffled")


def kind_of(variant: Variant) -> str:
    """Which of ``KINDS`` a mode is drawn as."""
    if variant.shuffled or variant.plain:
        return "control"
    if variant.deep:
        return "collapse, both layers"
    return "learned" if variant.learned else variant.mode.kind


def save_plots(result: AccuracyResult, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``.png`` (accuracy against speed) and ``stem-curves.svg`` and ``.png``."""
    with mpl.rc_context(STYLE):
        speed, curves = draw_speed(result), draw_curves(result)
        return [*save_figure(speed, stem, 120), *save_figure(curves, stem, 120, "-curves")]


def draw_speed(result: AccuracyResult) -> Figure:
    """A panel per task: accuracy against the speed-up of training, K beside each point."""
    figure, panels = _panels(result)
    for axes, task in zip(panels, result.tasks, strict=True):
        for row in result.rows(task):
            variant = VARIANTS[row.mode]
            marker, _, colour = KINDS[kind_of(variant)]
            axes.errorbar(
                row.train,
                100 * row.accuracy.mean,
                100 * row.accuracy.deviation,
                fmt=marker,
                color=colour,
                markersize=6,
                capsize=2,
                linewidth=0.9,
            )
            text = "shuffled" if variant.shuffled else "sum" if variant.plain else str(variant.mode.chunk_size)
            offset, place = OFFSETS.get(kind_of(variant), (5, 4)), (row.train, 100 * row.accuracy.mean)
            axes.annotate(text, place, offset, textcoords="offset points", fontsize=8, color=colour)
        axes.set(xscale="log", xlabel="training: times as fast as exact", ylabel="accuracy, %")
        axes.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.12, y=0.18)
    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="", label=name)
        for name, (marker, _, colour) in KINDS.items()
        if any(kind_of(VARIANTS[mode]) == name for about in result.tasks.values() for mode in about["trained"])
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"{_cost(result)}\nnumbers are K, bars are standard deviations over seeds or folds")
    return figure


def _cost(result: AccuracyResult) -> str:
    """What the largest chunks that every task was trained with gain in time, and cost in accuracy."""
    sizes = [
        {VARIANTS[mode].mode.chunk_size for mode in about["trained"] if kind_of(VARIANTS[mode]) == "collapse"}
        for about in result.tasks.values()
    ]
    common = set.intersection(*sizes) if sizes else set()
    if not common:
        return "What faster training costs in accuracy"
    K = max(common)
    rows = [result.row(task, f"collapse{K}") for task in result.tasks]
    fast = span([row.train for row in rows])
    return f"Collapse K={K} trains {fast} times as fast, for {span([-100 * row.change.mean for row in rows])} points of accuracy"


def draw_curves(result: AccuracyResult) -> Figure:
    """A panel per task: test accuracy after each epoch, the mean over runs with its range.

    Where the test set is larger than the part of it that is asked after each epoch, the last point, which is of all,
    stands by itself.
    """
    figure, panels = _panels(result)
    shown: dict[str, Any] = {}
    moves = 0.0
    for axes, task in zip(panels, result.tasks, strict=True):
        trained = result.tasks[task]["trained"]
        for mode in [name for name in CURVES if name in trained]:
            curves = 100 * np.array([record["curve"] for record in trained[mode]])
            epochs = np.arange(1, curves.shape[1] + 1)
            marker, line, colour = KINDS[kind_of(VARIANTS[mode])]
            fill = "full" if mode == "collapse16" else "none"
            style = {"marker": marker, "color": colour, "fillstyle": fill, "markersize": 5, "linewidth": 1}
            alone = trained[mode][0]["tested"] > result.settings["curve"]
            same = slice(0, len(epochs) - alone)
            moves = max([moves, *abs(np.diff(curves.mean(axis=0)[same])[-1:])])
            (drawn,) = axes.plot(epochs[same], curves.mean(axis=0)[same], line, **style)
            low, high = curves.min(axis=0), curves.max(axis=0)
            axes.fill_between(epochs[same], low[same], high[same], color=colour, alpha=0.12, linewidth=0)
            if alone:
                axes.plot(epochs[-1:], curves.mean(axis=0)[-1:], **style)
            shown[result.label(mode)] = drawn
        axes.set(xlabel="epoch", ylabel="test accuracy, %")
        longest = max(len(record["curve"]) for records in trained.values() for record in records)
        axes.set_xticks(np.arange(1, longest + 1, max(1, longest // 5)))
    figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        f"In the last epoch accuracy still moves by up to {moves:.1f} points\n"
        f"mean and range over seeds or folds, {result.settings['curve']:,} test samples at most; last points by themselves: all"
    )
    return figure


def _panels(result: AccuracyResult) -> tuple[Figure, Sequence[Any]]:
    count = len(result.tasks)
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.7 * columns + 0.4, 2.7 * rows + 1.2), layout="constrained")
    panels = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes, about in zip(panels[:count], result.tasks.values(), strict=True):
        axes.set_title(about["title"], fontsize=9)
        axes.grid(True, color="0.92", linewidth=0.6)
    return figure, panels[:count]
