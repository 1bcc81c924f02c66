"""The picture of ``python -m bench accuracy --map``: the gain over exact, condition by condition."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.accuracy.map.conditions import MAPS
from bench.accuracy.map.result import MapResult
from bench.accuracy.map.stages import Point
from bench.accuracy.modes import VARIANTS
from bench.shared.plots import COLOURS, STYLE, save_figure

MARKS = ("o", "^", "D", "s", "v")
ROW, MARGIN = 0.17, 1.5
"""Inches of a condition, and of all the rest."""


def save_map(result: MapResult, stem: Path) -> list[Path]:
    """Write ``stem-NAME.svg`` and ``.png`` for each map."""
    with mpl.rc_context(STYLE):
        return [path for name in result.maps for path in save_figure(draw_map(result, name), stem, 120, f"-{name}")]


def draw_map(result: MapResult, name: str) -> Figure:
    """One line per condition, a mark per mode; black bars are fresh seeds' intervals."""
    found = result.maps[name]
    shown = [point for point in found if point.stage != "confirm"]
    figure = Figure(figsize=(7.6, MARGIN + ROW * len(shown)), layout="constrained")
    axes = figure.subplots()
    modes = shown[0].modes
    for mode, mark, colour in zip(modes, MARKS, COLOURS, strict=False):
        at = [
            (row, 100 * result.gain(name, point, mode).mean) for row, point in enumerate(shown) if mode in point.modes
        ]
        rows, gains = zip(*at, strict=True)
        axes.plot(gains, rows, mark, label=VARIANTS[mode].label, markersize=4, color=colour, alpha=0.9)
    _confirmed(axes, result, name, shown)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [point.label(result.middle(name)) for point in shown], fontsize=7)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xscale("symlog", linthresh=2, linscale=1.2)
    ticks = [-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50]
    axes.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks], fontsize=7)
    axes.minorticks_off()
    axes.set_xlabel("accuracy over the exact simulation's, points")
    axes.grid(True, axis="x", color="0.92", linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"Where aggregation gains, and where it costs: {MAPS[name].title}")
    return figure


def _confirmed(axes: Axes, result: MapResult, name: str, shown: list[Point]) -> None:
    rows = {point.condition: row for row, point in enumerate(shown)}
    label: str | None = "fresh seeds, 95 %"
    for point in result.maps[name]:
        if point.stage == "confirm":
            gain = result.gain(name, point, point.modes[0])
            at, bar = (100 * gain.mean, rows[point.condition]), 100 * gain.half
            axes.errorbar(*at, xerr=bar, fmt="|", color="black", capsize=2, linewidth=1, markersize=6, label=label)
            label = None
