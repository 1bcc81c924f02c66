"""Named arrays in .npz files: no pickles, written whole or not at all, bounded when read; and arrays put beside another."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import array_api_compat
import numpy as np

from tacops._dispatch import backend_of
from tacops._protocol import Array

__all__ = ["place", "read_arrays", "write_arrays"]

LARGEST = 2**32
"""Bytes that the arrays of one file may take in memory."""
OPTIONS = "options"


def write_arrays(path: str | Path, arrays: Mapping[str, Any], options: Any) -> None:
    """Write arrays, and `options` as JSON, to one file in one step."""
    path, buffer = Path(path), io.BytesIO()
    text = np.frombuffer(json.dumps(options).encode(), np.uint8)
    np.savez_compressed(buffer, allow_pickle=False, **{OPTIONS: text}, **arrays)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def read_arrays(path: str | Path) -> tuple[dict[str, Any], Any]:
    """What `write_arrays` wrote; ValueError, saying what is wrong, for any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (total := sum(info.file_size for info in archive.infolist())) > LARGEST:
                raise ValueError(f"{total:,} bytes, more than {LARGEST:,}")
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if OPTIONS not in arrays:
            raise ValueError(f"no array {OPTIONS!r}")
        return arrays, json.loads(arrays.pop(OPTIONS).tobytes().decode())
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except Exception as error:  # a damaged file raises what zipfile, its decompressors, NumPy's parser and JSON's know
        raise ValueError(str(error) or type(error).__name__) from error


def place(array: Any, like: Array) -> Array:
    """Copy a NumPy array to the library, and to the device, of `like`; whole to each of several devices."""
    backend = backend_of(like)
    placed = backend.from_numpy(array)
    if backend.device_of(placed) == backend.device_of(like):
        return placed
    device = array_api_compat.device(like)
    return array_api_compat.to_device(placed, _replicated(like) if backend.name == "jax" else device)


def _replicated(like: Array) -> Any:
    """The sharding of JAX that has all of an array on every device of `like`."""
    from jax import sharding

    given = like.sharding
    if isinstance(given, sharding.NamedSharding):
        return sharding.NamedSharding(given.mesh, sharding.PartitionSpec())
    if len(given.device_set) == 1:
        return given
    devices = np.array(sorted(given.device_set, key=lambda device: device.id))
    return sharding.NamedSharding(sharding.Mesh(devices, ("all",)), sharding.PartitionSpec())
