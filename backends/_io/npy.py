"""Arrays from .npy and .npz files that anyone may have written: no pickles, bounded sizes, nothing allocated on a header's word."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["LARGEST", "map_npy", "read_npz"]

LARGEST = 2**32
"""Bytes that the arrays of one file may take in memory."""
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
"""What NumPy writes; another method means damage, and its unpacker is not let near the file."""
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

Array = NDArray[Any]
Choice = Callable[[dict[str, int]], Iterable[str]]


def map_npy(path: Path) -> Array:
    """The array of a .npy file, mapped, not read; anything of `tacops._files.damage.DAMAGE` if there is none."""
    with path.open("rb") as file:
        dtype, shape, order, start = _header(file)
    _check_size(dtype, shape, path.stat().st_size - start)
    return np.memmap(path, dtype, "r", start, shape, order)


def read_npz(path: Path, choose: Choice = list) -> dict[str, Array]:
    """Arrays of a .npz file.

    Parameters
    ----------
    path : path
    choose : callable
        From the sizes in bytes by name to the names that are read.

    Raises
    ------
    DAMAGE
        Anything of `tacops._files.damage.DAMAGE` if the file is not whole, holds more than `LARGEST` bytes, or pickles.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        names = list(choose({name: info.file_size for name, info in members.items()}))
        if (total := sum(members[name].file_size for name in names)) > LARGEST:
            raise ValueError(f"{total:,} bytes, more than {LARGEST:,}")
        _check_members(path, archive)
        return {name: _member(archive, members[name]) for name in names}


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """What `zipfile` lets pass: a damaged directory looks like one in which an array has another name or isn't there."""
    found = archive.infolist()
    for info in found:
        archive.open(info).close()  # compares the name with the one that is beside the content
    with path.open("rb") as file:
        file.seek(-22, io.SEEK_END)  # the record at the end, if no comment follows it
        signature, count = struct.unpack("<4s6xH10x", file.read(22))
    if signature == b"PK\x05\x06" and count not in (len(found), 0xFFFF):
        raise ValueError(f"{len(found)} members of {count}")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    if info.compress_type not in METHODS:
        raise ValueError(
            f"{info.filename} is compressed by method {info.compress_type}, not {' or '.join(METHODS.values())}"
        )
    content = archive.read(info)
    dtype, shape, order, start = _header(io.BytesIO(content))
    _check_size(dtype, shape, len(content) - start)
    return np.ndarray(shape, dtype, content, start, order=order).copy("K")  # writable, and aligned


def _header(file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...], Any, int]:
    """Type, shape, order and where the values begin."""
    version = npy.read_magic(file)
    if version not in READERS:
        raise ValueError(f"format version {version}, which is not 1.0 or 2.0")
    shape, fortran, dtype = READERS[version](file)
    if dtype.hasobject:
        raise ValueError("pickled objects")
    return dtype, shape, "F" if fortran else "C", file.tell()


def _check_size(dtype: np.dtype[Any], shape: tuple[int, ...], held: int) -> None:
    """NumPy allocates what the header says, and multiplies it in 64 bits."""
    if (
        min(shape, default=0) < 0
        or len(shape) > 64
        or max(shape, default=0) > LARGEST
        or math.prod(shape) * max(dtype.itemsize, 1) > held
    ):
        raise ValueError(f"a header of shape {shape} and {dtype} before {max(held, 0):,} bytes")
