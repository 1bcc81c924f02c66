"""Pictures of ``python -m bench advise`` and ``python -m bench flips``: one message per panel, named where it lies."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.shared.files import write_figure
from bench.shared.plots import COLOURS, STYLE, save_figure
from bench.shared.results import ResultError

MARKS = ("o", "s", "^", "D", "v", "P", "X")
SLOW = 2
"""Pixels per frame up to which `advise` looks for a motion in two dimensions."""
Rows = Sequence[Mapping[str, Any]]


def save_advise(found: Mapping[str, Rows], path: Path) -> None:
    """Draw `draw_advise` into a file."""
    with mpl.rc_context(STYLE):
        write_figure(path, draw_advise(found))


def save_flips(rows: Rows, stem: Path) -> list[Path]:
    """Draw `draw_flips` into ``stem.svg`` and ``stem.png``."""
    with mpl.rc_context(STYLE):
        return save_figure(draw_flips(rows), stem, 150)


def draw_advise(found: Mapping[str, Rows]) -> Figure:
    """False alarms, drifts and motions, one below the other; `found` as in the JSON file of the command."""
    panels = {"false_alarms": draw_alarms, "power": draw_power, "motion": draw_motion}
    chosen = [name for name in panels if found.get(name)] if isinstance(found, Mapping) else []
    if not chosen:
        raise ResultError(f"there is nothing to draw: no {', '.join(panels)}")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 3.2 * len(chosen)), layout="constrained")
        for name, axes in zip(chosen, figure.subplots(len(chosen), squeeze=False)[:, 0], strict=True):
            panels[name](axes, found[name])
            axes.grid(axis="y", alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_alarms(axes: Axes, rows: Rows) -> None:
    """The share of alarms of each stationary code, in order of size, beside what chance allows."""
    for n, level in enumerate(sorted({level for row in rows for level in row["alarms"]}, key=float)):
        shares = sorted(100 * row["alarms"][level] / row["draws"] for row in rows)
        share, draws = float(level), rows[0]["draws"]
        band = 300 * math.sqrt(share * (1 - share) / draws)
        colour = _colour(n)
        axes.axhspan(100 * share - band, 100 * share + band, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(100 * share, color=colour, linewidth=0.8)
        axes.plot(range(1, len(shares) + 1), shares, MARKS[n % 7], color=colour, markersize=4)
        _name(axes, len(shares) + 1, 100 * share, f"p ≤ {share:g}", colour, "bottom")
    axes.set_xlim(0, 1.16 * (len(rows) + 1))
    axes.set_ylim(bottom=0)
    axes.set(xlabel=f"{len(rows)} codes of a constant rate, by their share", ylabel="false alarms, %")
    axes.set_title("False alarms are as rare as promised (bands: 3 binomial errors)", loc="left")


def draw_power(axes: Axes, rows: Rows) -> None:
    """The share of drifts that are found, by their size."""
    sizes = dict.fromkeys((row["T"], row["batch"], row["side"]) for row in rows)
    for n, (T, batch, side) in enumerate(sizes):
        line = [row for row in rows if (row["T"], row["batch"], row["side"]) == (T, batch, side)]
        samples = f"{batch} sample{'s' * (batch != 1)}"
        style = "-" if max(size[0] for size in sizes) == T else "--"
        axes.plot(*_shares(line, "change"), MARKS[n % 7] + style, markersize=4, color=_colour(n))
        axes.lines[-1].set_label(f"T = {T}, {samples} of {side} x {side}")
    axes.set(xscale="log", xlabel="share of the signal that changes, %", ylabel="found, %")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set_title("The larger the input, the smaller the drift that is found", loc="left")


def draw_motion(axes: Axes, rows: Rows) -> None:
    """The share of motions that are found in the largest input, by speed."""
    batch, side = max((row["batch"], row["side"]) for row in rows)
    speeds = sorted({row["speed"] for row in rows})
    for n, speed in enumerate(speeds):
        line = [row for row in rows if (row["batch"], row["side"], row["speed"]) == (batch, side, speed)]
        style = "-" if speed <= SLOW else "--"
        axes.plot(*_shares(line, "density"), MARKS[n % 7] + style, markersize=4, color=_colour(n))
        axes.lines[-1].set_label(f"{speed:g} pixels per frame")
    densities = sorted({100 * row["density"] for row in rows})
    axes.set(xscale="log", xlabel="pixels that spike, %", ylabel="found, %")
    axes.set_xticks(densities, [f"{density:g}" for density in densities])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set_title(
        f"Single dots that move by up to {SLOW} pixels per frame are found\n"
        f"({batch} samples of {side} x {side}; a tenth of the spikes moves)",
        loc="left",
    )


def draw_flips(rows: Rows) -> Figure:
    """The share of differing spikes by layer, on an axis that has a zero; each line is named at its end."""
    decisions = rows[0]["decisions"]
    groups: dict[tuple[int, ...], list[str]] = {}  # one line for rows that coincide
    for row in rows:
        if not row["reproducible"]:
            groups.setdefault(tuple(row["differing"]), []).append(row["name"])
    layers = range(1, len(rows[0]["differing"]) + 1)
    kept = [row["differing"] for row in rows if row["reproducible"]]  # none of NumPy alone
    worst = tuple(max(row) for row in zip(*kept, strict=True))
    same = groups.pop(worst, [])
    name = "every library, reproducible=True" + f"; by default {', '.join(same)}" * bool(same)
    claim = "; in reproducible mode there are " + ("some, too" if any(worst) else "none")
    least = 10.0 ** math.floor(math.log10(1 / decisions))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.subplots()
        lines = {", ".join(names): differing for differing, names in groups.items()} | ({name: worst} if worst else {})
        for n, (label, differing) in enumerate(lines.items()):
            colour = "black" if label == name else COLOURS[n % len(COLOURS)]
            shares = [count / decisions for count in differing]
            axes.plot(layers, shares, f"{MARKS[n % 7]}-", color=colour, clip_on=False, zorder=5)
            where = "bottom" if label == name else "center"  # above the axis
            _name(axes, len(differing) + 0.12, shares[-1], _wrapped(label), colour, where)
        axes.set_yscale("symlog", linthresh=least, linscale=0.6)
        axes.set(ylabel="share of spikes that differ from NumPy's", ylim=(0, 1), xlim=(0.9, 1.55 * len(layers)))
        axes.set_xticks(layers, [f"layer {n}" for n in layers])
        axes.set_title(
            f"Differences grow from layer to layer{claim * bool(worst)}\n"
            f"({decisions:,} decisions to fire in each layer)",
            loc="left",
            fontsize=10,
        )
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _shares(rows: Rows, of: str) -> tuple[list[float], list[float]]:
    return [100 * row[of] for row in rows], [100 * row["found"] / row["draws"] for row in rows]


def _colour(n: int) -> str:
    return [*COLOURS, "black"][n % 7]


def _name(axes: Axes, x: float, y: float, text: str, colour: str, where: str = "center") -> None:
    axes.annotate(text, (x, y), va=where, color=colour, annotation_clip=False)


def _wrapped(text: str) -> str:
    """At most about 28 letters in a line."""
    return "\n".join(textwrap.wrap(text, 28))
