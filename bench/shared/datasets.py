"""Real data sets, read from this machine and checked; nothing is ever downloaded.

A data set is looked up in the folders that the environment variable ``TACOPS_DATA`` names (several are separated as
in ``PATH``), in a sub-folder with the data set's name or directly, and then in the system's data set folders, where
Debian's package ``dataset-fashion-mnist`` puts its files. A file counts only if its checksum is right.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacops._files.damage import DAMAGE, reason

SYSTEM_FOLDERS = (Path("/usr/share/datasets"), Path("/usr/local/share/datasets"))
DATA_VARIABLE = "TACOPS_DATA"
LARGEST = 2**28
"""Bytes that one file may unfold to."""

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Split = Literal["train", "test"]


class DatasetError(RuntimeError):
    """A data set is missing or damaged; the message is one sentence."""


@dataclass(frozen=True)
class Dataset:
    """Where a data set's files lie and what they must contain.

    ``folders`` are the sub-folder names to try; ``files`` maps a file's name to its checksum: of an IDX file the MD5 of
    its uncompressed content (its ``.gz`` wrapper differs between sources), of any other file its SHA-256.
    """

    title: str
    folders: tuple[str, ...]
    files: dict[str, str]


MNIST = Dataset(
    "MNIST",
    ("mnist",),
    {
        "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
    },
)
FASHION_MNIST = Dataset(
    "Fashion-MNIST",
    ("fashion_mnist", "fashion-mnist"),
    {
        "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
    },
)
NMNIST_SMALL = Dataset(
    "N-MNIST (1,100 recordings)",
    ("nmnist_small",),
    {"nmnist_small.npz": "3074ae0c3500087beb30edfa6edebaf9888870e34de75cb7dbee1b0987cfa6c2"},
)


def load_images(dataset: Dataset, split: Split) -> tuple[Images, Labels]:
    """Read images, (N, 28, 28) uint8, and labels, (N,) uint8, of one split of ``MNIST`` or ``FASHION_MNIST``."""
    prefix = {"train": "train", "test": "t10k"}[split]
    images = read_idx(dataset, f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(dataset, f"{prefix}-labels-idx1-ubyte.gz")
    if images.shape[0] != labels.shape[0]:
        raise DatasetError(f"{dataset.title}: {images.shape[0]} images but {labels.shape[0]} labels in split {split}")
    return images, labels


def load_recordings(dataset: Dataset = NMNIST_SMALL) -> dict[str, NDArray[np.generic]]:
    """Read event-camera recordings: the arrays of the data set's one npz file by name (see its own README)."""
    (name,) = dataset.files
    with np.load(BytesIO(find_content(dataset, name)), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def read_idx(dataset: Dataset, name: str) -> NDArray[np.uint8]:
    """Find, check and parse one gzipped IDX file of unsigned bytes."""
    return parse_idx(find_content(dataset, name), name)


def parse_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """Parse an IDX file: two zero bytes, type 8 (unsigned byte), number of axes, big-endian sizes, then the values."""
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] > 8:
        raise DatasetError(f"{name} is not an IDX file of unsigned bytes")
    axes = content[3]
    start = 4 + 4 * axes
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4")) if len(content) >= start else ()
    if len(shape) != axes or len(content) - start != math.prod(shape):
        raise DatasetError(
            f"{name} is truncated or too long: its header says shape {shape}, it has {len(content)} bytes"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def find_content(dataset: Dataset, name: str) -> bytes:
    """Return the checked (and for ``.gz`` uncompressed) content of one of the data set's files."""
    decode, checksum = _decoder(name)
    damaged: list[str] = []
    for path in candidates(dataset, name):
        if not path.is_file():
            continue
        try:
            content = decode(path)
        except DAMAGE as error:
            damaged.append(f"{path} cannot be read ({reason(error)})")
            continue
        if checksum(content) == dataset.files[name]:
            return content
        damaged.append(f"{path} has the wrong checksum")
    if damaged:
        raise DatasetError(f"{dataset.title}: no usable {name}: {'; '.join(damaged)}")
    folders = ", ".join(str(path.parent) for path in candidates(dataset, name))
    raise DatasetError(
        f"{dataset.title}: {name} is in none of {folders} (set {DATA_VARIABLE} to the folder that has it)"
    )


def candidates(dataset: Dataset, name: str) -> Iterator[Path]:
    """Yield the paths where a file may lie, in the order in which they are tried."""
    for root in filter(None, os.environ.get(DATA_VARIABLE, "").split(os.pathsep)):
        for folder in dataset.folders:
            yield Path(root, folder, name)
        yield Path(root, name)
    for system in SYSTEM_FOLDERS:
        for folder in dataset.folders:
            yield system / folder / name


def _decoder(name: str) -> tuple[Callable[[Path], bytes], Callable[[bytes], str]]:
    """Say how a file is read and how its content is summed."""
    if name.endswith(".gz"):
        return _unpacked, lambda content: hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Path.read_bytes, lambda content: hashlib.sha256(content).hexdigest()


def _unpacked(path: Path) -> bytes:
    """A gzipped file's content, if it isn't many times as long as any of these files is."""
    with gzip.open(path) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it holds more than {LARGEST:,} bytes")
    return content
