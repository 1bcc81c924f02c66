"""Plots of ``python -m bench compare`` as SVG that takes the page's text colour; shapes tell machines apart."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from bench.compare.data import Groups

SHAPES = "osD^vP*X<>dp"
INK = "#000000"
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a machine's name is text, whatever is in it
    "font.size": 10,
    "axes.edgecolor": INK,
    "hatch.color": INK,
}
WIDTH = 4.8
"""Inches: as wide as a phone, so that the text is never small."""
ROW = 0.24
MARK: dict[str, Any] = {"color": INK, "fillstyle": "none", "markersize": 6}


def dots(
    name: str,
    groups: Groups,
    machines: Sequence[str],
    xlabel: str,
    *,
    log: bool = True,
    lines: Mapping[str, float] | None = None,
) -> str:
    """Draw a row per heading and label, a point per machine, and labelled vertical lines.

    Parameters
    ----------
    name : str
        Of letters; sets this plot's identifiers apart from those of others on the page.
    groups : dict
        Values by heading, label and machine.
    machines : sequence of str
        Their order says which has which shape.
    xlabel : str
    log : bool
        Whether the values are drawn on a logarithmic scale.
    lines : mapping of str to float, optional

    Returns
    -------
    str
        An ``svg`` element.
    """
    shown = [
        machine for machine in machines if any(machine in row for labels in groups.values() for row in labels.values())
    ]
    legend = [textwrap.fill(machine, 52) for machine in shown]
    height = 0.95 + (ROW + 0.03 * (len(shown) - 1)) * sum(1 + len(labels) for labels in groups.values())
    height += ROW * sum(text.count("\n") + 1 for text in legend) + (0.35 if lines else 0.0)
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.set(facecolor="none", xlabel=xlabel, xscale="log" if log else "linear")
        axes.margins(x=0.06)
        _points(axes, groups, {machine: _shape(machines, machine) for machine in shown})
        _lines(axes, lines or {})
        _scale(axes, log)
        handles = [
            Line2D([], [], marker=_shape(machines, machine), linestyle="", label=text, **MARK)
            for machine, text in zip(shown, legend, strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower left", frameon=False, fontsize=9)
        return inline(figure, name)


def _points(axes: Any, groups: Groups, shapes: Mapping[str, str]) -> None:
    """Rows from top to bottom: each heading in bold, then its labels; equal values of machines stay visible."""
    y, ticks = 0, {}
    for heading, labels in groups.items():
        at = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points"}
        axes.annotate(heading, (0, y), weight="bold", va="center", **at)
        axes.axhline(y - 0.5, color=INK, linewidth=0.5, alpha=0.4)
        for label, values in labels.items():
            y += 1
            ticks[y] = label
            axes.axhline(y, color=INK, linewidth=0.4, alpha=0.25, linestyle=":")
            for n, (machine, shape) in enumerate(shapes.items()):
                if machine in values:
                    apart = 0.7 * ((n + 0.5) / len(shapes) - 0.5)
                    axes.plot(values[machine], y + apart, shape, clip_on=False, **MARK)
        y += 1
    axes.set_ylim(y - 0.5, -0.7)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="y", length=0)


def _lines(axes: Any, lines: Mapping[str, float]) -> None:
    """Dashed, each with its name above; the names lean away from each other."""
    for text, x in lines.items():
        axes.axvline(x, color=INK, linewidth=1, linestyle="--", alpha=0.7)
        left = x == min(lines.values())
        at = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(text, (x, 1), ha="right" if left else "left", xytext=(-2 if left else 2, 3), **at)


def _scale(axes: Any, log: bool) -> None:
    """Plain numbers and a light grid."""
    if log:
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,), numticks=8))
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(True, axis="x", color=INK, alpha=0.15, linewidth=0.6)


def _shape(machines: Sequence[str], machine: str) -> str:
    return SHAPES[list(machines).index(machine) % len(SHAPES)]


def inline(figure: Figure, name: str) -> str:
    """A figure as an ``svg`` element with identifiers of its own, in the colours of the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'(?<= id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", text)
    return text.replace(INK, "currentColor").replace("<svg ", f'<svg role="img" aria-labelledby="{name}" ', 1)
