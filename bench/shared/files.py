"""Shipped files: read with one clear sentence if that fails; and what all files are written by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bench.shared.datasets import DatasetError
from tacops._files.damage import DAMAGE, parse_json, read_json, reason
from tacops._files.whole import OutputError, check_figure, check_output, write_figure, write_whole
from tacops.backends._io import npy
from tacops.backends._io.npz import npz_bytes

__all__ = [
    "DAMAGE",
    "OutputError",
    "check_figure",
    "check_output",
    "npz_bytes",
    "parse_json",
    "plot_files",
    "read_json",
    "read_npz",
    "reason",
    "save_figure",
    "write_figure",
    "write_whole",
]


def read_npz(path: Path, remedy: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz file; if it is missing or damaged, the error names the ``remedy``."""
    if not path.is_file():
        raise DatasetError(f"the shipped file {path} is missing ({remedy} makes it again)")
    try:
        return npy.read_npz(path)
    except DAMAGE as error:
        raise DatasetError(
            f"the shipped file {path} cannot be read ({reason(error)}); {remedy} makes it again"
        ) from error


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
