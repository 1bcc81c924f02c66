"""Shipped files: written whole or not at all, read with one clear sentence if that fails."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.datasets import DatasetError


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to a temporary file beside ``path`` and move it into place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the bytes of a compressed npz file; they depend on the arrays and zlib alone (members carry no time)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_npz(path: Path, remedy: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz file; if it is missing or damaged, the error names the ``remedy``."""
    if not path.is_file():
        raise DatasetError(f"the shipped file {path} is missing ({remedy} makes it again)")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"the shipped file {path} cannot be read ({error}); {remedy} makes it again") from error
