"""The real images that are shipped: a class-balanced part of Fashion-MNIST's test set, made and read here."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.shared.datasets import FASHION_MNIST, DatasetError, Images, Labels, load_images
from bench.shared.files import check_output, npz_bytes, read_npz, write_whole

DATA = Path(__file__).parents[1] / "data"
SUBSET_FILE = DATA / "fashion_mnist_test_1000.npz"
# SHA-256 over the bytes of images, labels and indices, in this order
SUBSET_DIGEST = "7b8596557a36104ae4fb0e2964f8dbdcaad61eb918a52563f7130acb60555970"
PER_CLASS = 100
SUBSET_SIZE = 1000
REMEDY = "python -m bench subset"
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataclass(frozen=True)
class Subset:
    """Images (N, 28, 28) uint8, labels (N,) uint8, and each image's place in the test set, (N,) uint16."""

    images: Images
    labels: Labels
    indices: NDArray[np.uint16]

    @property
    def digest(self) -> str:
        """SHA-256 over the three arrays' bytes."""
        arrays = (self.images, self.labels, self.indices.astype("<u2"))
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def make_subset() -> Subset:
    """Take the first ``PER_CLASS`` images of each class from Fashion-MNIST's test set, class after class in turn.

    The order is 0, 1, ... 9, 0, 1, ..., so that the first 10 n images are balanced, too.
    """
    images, labels = load_images(FASHION_MNIST, "test")
    places = np.stack([np.flatnonzero(labels == label)[:PER_CLASS] for label in range(len(CLASSES))], axis=1).ravel()
    return Subset(images[places], labels[places], places.astype(np.uint16))


def subset_bytes(subset: Subset) -> bytes:
    """Return the bytes of the npz file with these images."""
    return npz_bytes({"images": subset.images, "labels": subset.labels, "indices": subset.indices})


def load_subset(path: Path = SUBSET_FILE) -> Subset:
    """Read the shipped images and check them."""
    arrays = read_npz(path, REMEDY)
    if set(arrays) != {"images", "labels", "indices"}:
        raise DatasetError(f"the shipped file {path} has other arrays than expected; {REMEDY} makes it again")
    subset = Subset(**arrays)
    if subset.digest != SUBSET_DIGEST:
        raise DatasetError(f"the shipped file {path} has the wrong checksum; {REMEDY} makes it again")
    return subset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``python -m bench subset``."""
    parser.add_argument(
        "--output", type=Path, default=SUBSET_FILE, metavar="FILE", help="where to write (default: in place)"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; say whether the file is what would be written"
    )


def main(args: argparse.Namespace) -> int:
    """Write the subset, or compare it with the file that is there; 0 if all is well."""
    check_output(None if args.check else args.output)
    subset = make_subset()
    content = subset_bytes(subset)
    if args.check:
        same_bytes = args.output.is_file() and args.output.read_bytes() == content
        print(f"{args.output}: {'equal byte for byte' if same_bytes else 'DIFFERENT'}")
        return 0 if same_bytes else 1
    write_whole(args.output, content)
    print(f"{args.output}: {len(subset.labels)} images, {len(content):,} bytes, digest {subset.digest}")
    return 0
