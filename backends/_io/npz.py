"""Named arrays with options in .npz files, written whole or not at all; and arrays put beside another."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import array_api_compat
import numpy as np

from tacops._backend.dispatch import backend_of
from tacops._backend.protocol import Array
from tacops._files.damage import DAMAGE, parse_json, reason
from tacops._files.whole import write_whole

from .npy import read_npz

__all__ = ["as_array", "npz_bytes", "place", "read_arrays", "write_arrays"]

OPTIONS = "options"


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """The bytes of a compressed .npz file; they depend on the arrays and zlib alone (members carry no time)."""
    buffer = io.BytesIO()
    # numpy.savez_compressed pickles before NumPy 2.2, and has names for itself ("file") that arrays can't have
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def write_arrays(path: str | Path, arrays: Mapping[str, Any], options: Any) -> None:
    """Write arrays, and `options` as JSON, to one file in one step."""
    text = np.frombuffer(json.dumps(options).encode(), np.uint8)
    write_whole(path, npz_bytes({OPTIONS: text, **arrays}))


def read_arrays(path: str | Path) -> tuple[dict[str, Any], Any]:
    """What `write_arrays` wrote; ValueError, saying what is wrong, for any other file."""
    try:
        arrays = read_npz(Path(path))
        if OPTIONS not in arrays:
            raise ValueError(f"no array {OPTIONS!r}")
        return arrays, parse_json(arrays.pop(OPTIONS).tobytes())
    except DAMAGE as error:
        raise ValueError(reason(error)) from error


def as_array(value: Any) -> Any:
    """Numbers as a NumPy array."""
    return np.asarray(value)


def place(array: Any, like: Array) -> Array:
    """Copy a NumPy array to the library, and to the device, of `like`; whole to each of several devices."""
    backend = backend_of(like)
    if backend.blockwise:
        return backend.beside(array, like)
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
