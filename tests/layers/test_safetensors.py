"""Frozen layers in .safetensors files: what is read is what was written, and no other file is."""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacops.layers
from tacops import Grid
from tacops.layers import FORMAT, FrozenLayer, load_frozen, save_frozen
from tests.support.cases import assert_same

WEIGHT = np.random.default_rng(0).normal(0, 0.5, (4, 3, 3, 2)).astype(np.float32)
LAYERS = {
    "conv": FrozenLayer(
        {"weight": WEIGHT, "beta": np.full(4, 0.5, np.float32)}, {"chunk_size": 2, "aggregation": "sum"}
    ),
    "counts": FrozenLayer({"weight": WEIGHT[..., 0, 0, :]}, {"chunk_size": 1, "reproducible": Grid(input_max=3)}),
}


@pytest.fixture
def numpy_tensors() -> Any:
    """The package itself, to write what `save_frozen` would not."""
    return pytest.importorskip("safetensors.numpy", reason="safetensors is not installed (it is part of the extra dev)")


def test_file(numpy_tensors: Any, tmp_path: Path) -> None:
    """Equal arrays and options; the package reads it alone; nothing else is left in the folder."""
    path = tmp_path / "net.safetensors"
    save_frozen(path, LAYERS)
    save_frozen(path, LAYERS)
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]
    again = load_frozen(path)
    assert again.keys() == LAYERS.keys()
    for name, layer in LAYERS.items():
        assert again[name].options == {"reproducible": False, **layer.options}
        assert again[name].arrays.keys() == layer.arrays.keys()
        for key, array in layer.arrays.items():
            assert_same(key, again[name].arrays[key], array)
            assert again[name].arrays[key].flags.writeable
    assert_same("alone", numpy_tensors.load_file(path)["conv.weight"], WEIGHT)


def write(path: Path, header: Any, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_other_files(numpy_tensors: Any, tmp_path: Path) -> None:
    """Missing, cut short, of another kind, or made to harm: one sentence that names the file."""
    path = tmp_path / "net.safetensors"
    refusal = r"^load_frozen: path .*net\.safetensors must be a whole file of save_frozen; got ."
    with pytest.raises(ValueError, match=refusal):
        load_frozen(path)
    save_frozen(path, LAYERS)
    whole = path.read_bytes()
    options = {"tacops": json.dumps({"format": FORMAT, "layers": {"a": {"chunk_size": 1}}})}
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    for content in (b"", b"hello", whole[:100], whole[:-1], whole + b"x", b"\xff" * 8 + whole[8:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=refusal):
            load_frozen(path)
    for header, data in (
        (b"[" * 100_000, b""),
        ([1], b""),
        ({"__metadata__": 3, "a.weight": entry}, bytes(16)),
        ({"a.weight": entry}, bytes(16)),
        ({"__metadata__": {"tacops": "{"}, "a.weight": entry}, bytes(16)),
        ({"__metadata__": options, "a.weight": {**entry, "shape": [2**40, 2]}}, bytes(16)),
        ({"__metadata__": options, "a.weight": {**entry, "dtype": "BF16", "data_offsets": [0, 8]}}, bytes(8)),
        ({"__metadata__": options, "a.weight": {**entry, "data_offsets": [0, 2**60]}}, bytes(16)),
        ({"__metadata__": options, "a.weight": entry}, np.full(4, np.nan, np.float32).tobytes()),
    ):
        write(path, header, data)
        with pytest.raises(ValueError, match=refusal):
            load_frozen(path)
    write(path, {"__metadata__": options, "a.weight": entry}, bytes(16))
    assert load_frozen(path)["a"].arrays["weight"].shape == (2, 2)


def test_flipped_bits(numpy_tensors: Any, tmp_path: Path) -> None:
    """In the header: a layer that is whole, or the one sentence; nothing else is raised."""
    path = tmp_path / "net.safetensors"
    save_frozen(path, LAYERS)
    whole, refused = path.read_bytes(), 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole) // 2, 300).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            load_frozen(path)
        except ValueError as error:
            assert str(error).startswith(f"load_frozen: path {path} must be a whole file of save_frozen; got ")  # noqa: PT017
            refused += 1
    assert refused > 150


def test_failed_writes_leave_the_old_file(numpy_tensors: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_frozen(path, LAYERS)
    whole = path.read_bytes()
    with pytest.raises(ValueError, match=r"arrays\['weight'\] must be finite"):
        save_frozen(path, {"a": FrozenLayer({"weight": WEIGHT * np.nan}, {"chunk_size": 2})})
    assert path.read_bytes() == whole
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    with pytest.raises(OSError, match=r"folder\.safetensors cannot be written: it is a folder"):
        save_frozen(folder, LAYERS)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One sentence that says what to install, and no file."""
    found = importlib.util.find_spec
    monkeypatch.setattr(tacops.layers, "find_spec", lambda name: None if name == "safetensors" else found(name))
    for call in (lambda path: save_frozen(path, LAYERS), load_frozen):
        with pytest.raises(ImportError, match=r"_frozen: net\.safetensors needs safetensors.*'tacops\[safetensors\]'"):
            call(tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []
