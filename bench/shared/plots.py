"""How plots look, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.shared.files import OutputError, write_figure

__all__ = ["COLOURS", "STYLE", "plot_files", "save_figure"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which colour-blind people tell apart; marks or dashes go with them."""

STYLE = {"svg.hashsalt": "tacops", "svg.fonttype": "none", "font.size": 9}
"""Matplotlib's settings for plots of results: text stays text, and the same plot is the same file."""


def plot_files(stem: Path, *suffixes: str) -> list[Path]:
    """The files of a plot: ``stem.svg`` and ``stem.png``, and the same with each suffix after the stem."""
    if not stem.name:
        raise OutputError(f"{stem} cannot be written: a plot must have a name")
    return [stem.with_name(f"{stem.name}{suffix}.{kind}") for suffix in suffixes or ("",) for kind in ("svg", "png")]


def save_figure(figure: Any, stem: Path, dpi: int, suffix: str = "") -> list[Path]:
    """Draw a Matplotlib figure into its ``.svg`` and ``.png``; returns the two paths."""
    paths = plot_files(stem, suffix)
    for path in paths:
        write_figure(path, figure, dpi=dpi)
    return paths
