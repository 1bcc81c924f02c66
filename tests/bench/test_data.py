"""The benchmarks' data sets, shipped images and rate code."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from bench.shared import datasets, subset
from bench.shared import encoding as encode
from bench.shared.datasets import FASHION_MNIST, MNIST, Dataset, DatasetError
from bench.shared.files import write_whole

HAS_DATA = bool(os.environ.get(datasets.DATA_VARIABLE)) or any(f.is_dir() for f in datasets.SYSTEM_FOLDERS)
RATE_CODE_DIGEST = "470b37b98e2d5ffc72aabba05855eb7a7750ce005815e9ee1a78f6b67cdf8107"


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Write a tiny data set in MNIST's format and make it the only one that is found."""
    images = np.arange(5 * 28 * 28).reshape(5, 28, 28) % 251
    contents = {"t10k-images-idx3-ubyte.gz": idx(images), "t10k-labels-idx1-ubyte.gz": idx(np.arange(5))}
    (tmp_path / "tiny").mkdir()
    for name, content in contents.items():
        (tmp_path / "tiny" / name).write_bytes(gzip.compress(content))
    monkeypatch.setenv(datasets.DATA_VARIABLE, os.pathsep.join([str(tmp_path / "nowhere"), str(tmp_path)]))
    monkeypatch.setattr(datasets, "SYSTEM_FOLDERS", ())
    return Dataset("Tiny", ("tiny",), {name: hashlib.md5(content).hexdigest() for name, content in contents.items()})


# data sets


def test_images_are_read_from_a_sub_folder(digits: Dataset) -> None:
    images, labels = datasets.load_images(digits, "test")
    assert images.shape == (5, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert images[1, 0, 3] == (28 * 28 + 3) % 251
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_images_are_read_from_the_folder_itself(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "tiny"))
    assert len(datasets.load_images(digits, "test")[0]) == 5


def test_a_file_with_another_checksum_is_passed_over(digits: Dataset, tmp_path: Path) -> None:
    """MNIST and Fashion-MNIST have the same file names."""
    name = "t10k-labels-idx1-ubyte.gz"
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / name).write_bytes(gzip.compress(idx(np.arange(6))))
    assert len(datasets.read_idx(digits, name)) == 5


def test_system_folder(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(datasets.DATA_VARIABLE)
    monkeypatch.setattr(datasets, "SYSTEM_FOLDERS", (tmp_path,))
    assert len(datasets.load_images(digits, "test")[0]) == 5


def test_missing_data_set_names_what_and_where(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"^Tiny: train-images-idx3-ubyte.gz is in none of .* TACOPS_DATA") as caught:
        datasets.load_images(digits, "train")
    assert str(tmp_path / "tiny") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_checksum(digits: Dataset, tmp_path: Path) -> None:
    name = "t10k-images-idx3-ubyte.gz"
    (tmp_path / "tiny" / name).write_bytes(gzip.compress(idx(np.zeros((5, 28, 28)))))
    with pytest.raises(DatasetError, match=f"no usable {name}: .*wrong checksum"):
        datasets.load_images(digits, "test")


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"no gzip", lambda data: b""])
def test_truncated_or_foreign_gzip(digits: Dataset, tmp_path: Path, damage: object) -> None:
    path = tmp_path / "tiny" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DatasetError, match="no usable"):
        datasets.load_images(digits, "test")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:6]])
def test_idx_length_must_fit_its_header(change: object) -> None:
    content = change(idx(np.zeros((3, 2, 2))))  # type: ignore[operator]
    with pytest.raises(DatasetError, match="truncated or too long"):
        datasets.parse_idx(content, "some file")


def test_idx_of_another_type() -> None:
    with pytest.raises(DatasetError, match="not an IDX file of unsigned bytes"):
        datasets.parse_idx(b"\0\0\x0d\x01" + bytes(8), "some file")


def test_labels_and_images_must_be_as_many(digits: Dataset, tmp_path: Path) -> None:
    name, content = "t10k-labels-idx1-ubyte.gz", idx(np.arange(4))
    (tmp_path / "tiny" / name).write_bytes(gzip.compress(content))
    digits.files[name] = hashlib.md5(content).hexdigest()
    with pytest.raises(DatasetError, match="5 images but 4 labels"):
        datasets.load_images(digits, "test")


@pytest.mark.skipif(not HAS_DATA, reason=f"{datasets.DATA_VARIABLE} is not set")
@pytest.mark.parametrize("dataset", [MNIST, FASHION_MNIST])
def test_real_data_sets(dataset: Dataset) -> None:
    try:
        images, labels = datasets.load_images(dataset, "test")
    except DatasetError as error:
        pytest.skip(str(error))
    assert images.shape == (10_000, 28, 28)
    assert sorted(set(labels.tolist())) == list(range(10))


@pytest.mark.skipif(not HAS_DATA, reason=f"{datasets.DATA_VARIABLE} is not set")
def test_real_recordings() -> None:
    try:
        recordings = datasets.load_recordings()
    except DatasetError as error:
        pytest.skip(str(error))
    assert recordings["offsets"].shape == (1101,)
    assert recordings["x"].shape == recordings["t"].shape == (4_518_827,)


# shipped images


def test_subset_is_intact_and_balanced() -> None:
    shipped = subset.load_subset()
    assert shipped.images.shape == (subset.SUBSET_SIZE, 28, 28)
    assert shipped.images.dtype == np.uint8
    assert shipped.labels.tolist() == list(range(10)) * subset.PER_CLASS
    assert (subset.DATA / "LICENSE.fashion-mnist").read_text().count("Permission is hereby granted") == 1


@pytest.mark.skipif(not HAS_DATA, reason=f"{datasets.DATA_VARIABLE} is not set")
def test_subset_equals_the_data_set() -> None:
    shipped = subset.load_subset()
    try:
        images, labels = datasets.load_images(FASHION_MNIST, "test")
    except DatasetError as error:
        pytest.skip(str(error))
    np.testing.assert_array_equal(shipped.images, images[shipped.indices])
    np.testing.assert_array_equal(shipped.labels, labels[shipped.indices])
    assert len(set(shipped.indices.tolist())) == subset.SUBSET_SIZE
    assert subset.make_subset().digest == subset.SUBSET_DIGEST


def test_damaged_subset(tmp_path: Path) -> None:
    shipped = subset.load_subset()
    shipped.images[3, 4, 5] ^= 1
    changed = tmp_path / "changed.npz"
    changed.write_bytes(subset.subset_bytes(shipped))
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(subset.SUBSET_FILE.read_bytes()[:5000])
    with pytest.raises(DatasetError, match="wrong checksum"):
        subset.load_subset(changed)
    with pytest.raises(DatasetError, match="cannot be read"):
        subset.load_subset(truncated)
    with pytest.raises(DatasetError, match="is missing"):
        subset.load_subset(tmp_path / "absent.npz")


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"old"]


# rate code


def test_rate_code_is_the_same_everywhere() -> None:
    spikes = encode.rate_code(subset.load_subset().images[:20], seed=7)
    assert spikes.shape == (16, 20, 28, 28, 1)
    assert spikes.dtype == np.bool_
    assert hashlib.sha256(np.packbits(spikes).tobytes()).hexdigest() == RATE_CODE_DIGEST


def test_rate_code_has_the_right_rates() -> None:
    levels = np.array([0, 1, 64, 128, 255], np.uint8)
    spikes = encode.rate_code(np.broadcast_to(levels[:, None, None], (5, 60, 60)), time_steps=32)
    np.testing.assert_allclose(spikes.mean(axis=(0, 2, 3, 4)), levels / 256, atol=0.006)
    assert not spikes[:, 0].any()


def test_rate_code_of_an_image_does_not_depend_on_how_many_there_are() -> None:
    images = subset.load_subset().images
    np.testing.assert_array_equal(encode.rate_code(images[:3]), encode.rate_code(images[:10])[:, :3])
    assert (encode.rate_code(images[:3], seed=1) != encode.rate_code(images[:3], seed=2)).any()
