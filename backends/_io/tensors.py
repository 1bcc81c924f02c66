"""Named arrays with options in .safetensors files: no pickles, bounded sizes, written whole or not at all."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tacops._files.damage import DAMAGE, parse_json, reason
from tacops._files.whole import write_whole

from .npy import LARGEST

__all__ = ["read_tensors", "write_tensors"]

OPTIONS = "tacops"
"""The entry of a file's metadata that holds the options."""
LONGEST = 2**26
"""Bytes of a header, which is JSON."""


def write_tensors(path: str | Path, arrays: Mapping[str, Any], options: Any) -> None:
    """Write arrays, and `options` as JSON, to one file in one step."""
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(path, save(plain, {OPTIONS: json.dumps(options)}))


def read_tensors(path: str | Path) -> tuple[dict[str, Any], Any]:
    """What `write_tensors` wrote; ValueError, saying what is wrong, for any other file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        with Path(path).open("rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        (length,) = struct.unpack("<Q", raw[:8])
        if length > min(LONGEST, len(raw) - 8):
            raise ValueError(f"a header of {length:,} bytes in a file of {len(raw):,}")
        header = parse_json(raw[8 : 8 + length])
        text = header.get("__metadata__", {}).get(OPTIONS)
        if not isinstance(text, str):
            raise TypeError(f"no metadata {OPTIONS!r}")
        arrays = {name: array.copy() for name, array in load(raw).items()}
        return arrays, parse_json(text.encode())
    except (*DAMAGE, SafetensorError) as error:
        raise ValueError(reason(error)) from error
