"""The demonstration's result as Markdown and as a picture, for ``python -m bench table``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.demo.report import SCHEMA
from bench.shared.model import MODES
from bench.shared.plots import STYLE, save_figure
from bench.shared.results import ResultError, check_kind
from bench.shared.tables import markdown

__all__ = ["from_dict", "full", "plot", "short"]

Result = Mapping[str, Any]
PLOTTED = "numpy"
"""The backend that everyone has."""
TEXT, BARS = "#757575", ("#8a8f98", "#56a0d3", "#0072b2", "#d55e00")
"""Colours that can be read on white and on dark, and told apart by those who see few colours."""


def from_dict(content: Any, name: str) -> Result:
    """The result in a file of this name; `ResultError` if it holds none."""
    result = check_kind(content, name, "demo", (SCHEMA,))
    if not result.get("results"):
        raise ResultError(f"{name} holds no row of any backend")
    return result


def short(result: Result) -> str:
    """One row for each backend: images per second in each mode, and how many spikes are not NumPy's."""
    names = list(dict.fromkeys(row["backend"] for row in result["results"]))
    head = (
        "images per second",
        *(mode.label for mode in MODES.values()),
        "spikes not as NumPy's",
        "with `reproducible=True`",
    )
    rows = []
    for name in names:
        own = [row for row in result["results"] if row["backend"] == name]
        fast = [f"{row['images_per_second']:,.0f} ({row['speedup']:.1f}\N{NO-BREAK SPACE}x)" for row in own]
        differing = f"{sum(row['differing'] for row in own):,}"
        rows.append((f"`{name}` {own[0]['version']}", *fast, differing, f"{result['reproducible'][name]:,}"))
    right = [f"**{share:.1%}**" for share in accuracies(result).values()]
    rows.append(("**right, of 10,000 images**", *right, "", ""))
    about, decisions = result["machine"], sum(row["decisions"] for row in result["results"]) // len(names)
    foot = (
        f"One run of `python -m bench` on {about['processor']}, {about['cores']} cores: {result['images']} test images of "
        f"Fashion-MNIST, {result['time_steps']} frames each, {decisions:,} spike decisions per library; "
        f"in brackets, times as fast as exact."
    )
    if result["load"] > about["cores"] / 2:
        foot += f" Other programs kept {result['load']:.0f} processes running meanwhile: an idle machine is faster."
    return f"{markdown(head, rows)}\n\n{foot}"


full = short


def accuracies(result: Result) -> dict[str, float]:
    """Of each mode's network, on all test images."""
    return {name: float(about["test_accuracy"]) for name, about in result["trained"].items()}


def plot(result: Result, stem: Path) -> list[Path]:
    """Bars of images per second on NumPy, with each network's accuracy beside them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [row for row in result["results"] if row["backend"] == PLOTTED]
    if not rows:
        raise ResultError(f"the picture shows {PLOTTED}, and the result has no row of it")
    right = accuracies(result)
    best = max(rows, key=lambda row: row["speedup"])
    lost = 100 * (right["exact"] - right[best["mode"]])
    with mpl.rc_context({**STYLE, "font.size": 11, "text.color": TEXT}):
        figure = Figure(figsize=(5.6, 2.5), layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.subplots()
        axes.set_axis_off()
        for y, (row, colour) in enumerate(zip(rows, BARS, strict=True)):
            speed, mode = row["images_per_second"], row["mode"]
            axes.barh(-y, speed, color=colour, height=0.62)
            fast = f"{row['speedup']:.1f} x as fast" if y else f"{speed:,.0f} images/s"
            beside: dict[str, Any] = {"va": "center", "textcoords": "offset points"}
            axes.annotate(f"{fast}, {right[mode]:.1%} right", (speed, -y), (5, 0), ha="left", **beside)
            axes.annotate(MODES[mode].label, (0, -y), (-6, 0), ha="right", fontweight="bold", **beside)
        longest = max(row["images_per_second"] for row in rows)
        axes.set_xlim(-0.42 * longest, 1.8 * longest)
        figure.suptitle(
            f"{best['speedup']:.0f} times as fast for {lost:.1f} points of accuracy\n(Fashion-MNIST, NumPy)"
        )
        return save_figure(figure, stem, dpi=160)
