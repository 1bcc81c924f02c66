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
    "read_json",
    "read_npz",
    "reason",
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
