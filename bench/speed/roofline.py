"""The roofline plot: work per byte against speed, with the measured ceilings; colours and shapes tell libraries apart."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from bench.shared.plots import COLOURS, STYLE, save_figure
from bench.speed.report import of_ceiling
from bench.speed.result import SpeedResult, SpeedRow
from bench.timing.cases import MODES, Case, Mode

PANELS = ("exact", "collapse16", "preserve4")
SHAPES = "osD^vP*X<>"


def save_plots(result: SpeedResult, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``."""
    with mpl.rc_context(STYLE):
        return save_figure(draw(result), stem, 150)


def draw(result: SpeedResult) -> Figure:
    """Draw a panel per mode."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharex=True, sharey=True)
    subjects = result.names("tacops")
    shapes = dict(zip(subjects, SHAPES, strict=False))
    limits = _limits(result)
    for axes, name in zip(panels, PANELS, strict=True):
        mode = MODES[name]
        _roof(axes, limits)
        layers = [result.layer(case) for case in result.layers()]
        layers.sort(key=lambda case: case.performed(mode) / case.traffic(mode))
        for n, case in enumerate(layers):
            _case(axes, result, case, mode, shapes, drop=9 if n % 2 else 20)
        axes.margins(y=0.12)
        axes.set(title=mode.label, xlabel="operations per byte of minimal traffic", xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.grid(True, which="major", color="0.9", linewidth=0.6)
    panels[0].set_ylim(bottom=panels[0].get_ylim()[0] / 1.5)  # shared; the lowest name stays above the axis
    panels[0].set_ylabel("GFLOP/s of the convolutions that are done")
    figure.legend(handles=_legend(shapes, limits), loc="outside lower center", ncols=3, frameon=False)
    processor = f"{result.machine['processor']}, {result.machine['cores']} cores"
    figure.suptitle(f"{_message(result)}\n{processor}")
    return figure


def _message(result: SpeedResult) -> str:
    """How near the fastest backend comes to the limits, over the layers of the first panel."""
    best: dict[str, float] = {}
    for row in result.rows:
        share = result.ceiling(row) if (row.mode, row.kind) == (PANELS[0], "tacops") else None
        if share and row.case in result.layers():
            best[row.case] = max(share, best.get(row.case, 0.0))
    if not best:
        return "How near layers come to the machine's limits (lines)"
    low, high = (of_ceiling(share).replace(">", "more than") for share in (min(best.values()), max(best.values())))
    return f"Exact layers reach {low} to {high} of what products and copies alone reach"


def _limits(result: SpeedResult) -> tuple[float, float] | None:
    """GFLOP/s of the larger matrix product and GB/s of the copy, medians over the layers."""
    peaks = [peak for case in result.layers() if (peak := result.sgemm(case))]
    copies = [result.bandwidth(case) / 1e9 for case in result.layers() if result.find(case, "ceilings", "copy")]
    return (statistics.median(peaks), statistics.median(copies)) if peaks and copies else None


def _roof(axes: Any, limits: tuple[float, float] | None) -> None:
    """The two limits."""
    if limits:
        intensity = np.geomspace(0.2, 500, 200)
        axes.plot(intensity, np.minimum(limits[0], limits[1] * intensity), color="black", linewidth=1.2)


def _case(axes: Any, result: SpeedResult, case: Case, mode: Mode, shapes: dict[str, str], drop: int) -> None:
    """Points of one layer; its name is written `drop` points below the lowest."""
    name = case.name
    intensity = case.performed(mode) / case.traffic(mode)

    def height(row: SpeedRow) -> float:
        return case.performed(mode) / row.seconds / 1e9

    rows = [row for subject in shapes if (row := result.find(name, subject, mode.name))]
    for row in rows:
        colour = COLOURS[list(shapes).index(row.subject) % len(COLOURS)]
        axes.plot(intensity, height(row), shapes[row.subject], markersize=6, color=colour)
    peer = result.fastest(name, "peer", mode.name)
    if peer:
        axes.plot(intensity, height(peer), "x", color="black", markersize=6)
    gemm = result.gemm(name, mode)
    if gemm:
        speed = case.performed(mode) / gemm / 1e9
        axes.plot([intensity / 1.25, intensity * 1.25], [speed, speed], color="black", linewidth=2)
    heights = [height(row) for row in rows]
    if heights:
        below = {"xytext": (0, -drop), "textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 8}
        axes.annotate(name, (intensity, min(heights)), **below, annotation_clip=False)


def _legend(shapes: dict[str, str], limits: tuple[float, float] | None) -> list[Line2D]:
    known = f"sgemm {limits[0]:.0f} GFLOP/s, copy {limits[1]:.0f} GB/s" if limits else "sgemm and copy"
    points = [
        Line2D([], [], marker=shape, color=COLOURS[n % len(COLOURS)], linestyle="", label=subject)
        for n, (subject, shape) in enumerate(shapes.items())
    ]
    return [
        *points,
        Line2D([], [], marker="x", color="black", linestyle="", label="fastest SNN library"),
        Line2D([], [], color="black", linewidth=2, label="matrix products alone, same shape"),
        Line2D([], [], color="black", linewidth=1.2, label=known),
    ]
