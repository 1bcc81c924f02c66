"""Files with flipped bits, cut short, or made to harm: one sentence that names the file, or what was written; nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main as bench
from bench.accuracy.result import as_json as accuracy_json
from bench.machine.result import read
from bench.shared import datasets
from bench.shared.datasets import Dataset, DatasetError
from bench.shared.files import read_npz
from bench.shared.results import ResultError, read_content
from bench.shared.store import CheckpointError, Store, fingerprint
from bench.sparsity.result import as_dict, as_json
from tacops import Grid
from tacops.backends._io.spikes import read_spikes
from tacops.layers import FrozenLayer, load_frozen, save_frozen
from tests.bench.test_accuracy_results import stored
from tests.bench.test_sparsity_results import losing, synthetic
from tests.support import ROOT
from tests.support.compare_results import content, store

RESULTS = ROOT / "bench" / "results"
FRAMES = (np.random.default_rng(0).random((4, 2, 3, 3, 1)) < 0.4).astype(np.float32)
EVENTS = np.array([(3, 1, 2, 0), (5, 0, 1, 1)], [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")])
LAYER = FrozenLayer({"weight": np.ones((2, 3), np.float32)}, {"chunk_size": 2, "reproducible": Grid(input_max=3)})


def damaged(whole: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Flips of single bits, half of them in the first 200 bytes, where headers are; bytes set at random; and cuts."""
    draw = random.Random(seed)
    for n in range(count):
        place = draw.randrange(min(200, len(whole)) if n % 2 else len(whole))
        changed = bytearray(whole)
        changed[place] ^= 1 << draw.randrange(8)
        if n % 3 == 0:
            changed[draw.randrange(len(whole))] = draw.randrange(256)
        yield bytes(changed[:place] if n % 5 == 4 else changed)


def same(got: Any, want: Any) -> bool:
    """Whether arrays and layers hold the same."""
    if isinstance(want, dict):
        return got.keys() == want.keys() and all(same(got[key], value) for key, value in want.items())
    if isinstance(want, FrozenLayer):
        return same(dict(got.arrays), dict(want.arrays)) and got.options == want.options
    return bool(np.array_equal(got, want))


def save_npz(path: Path) -> None:
    np.savez_compressed(path, frames=FRAMES)


def save_stored(path: Path) -> None:
    np.savez(path, frames=FRAMES, offsets=np.arange(3))


def save_events(path: Path) -> None:
    arrays: dict[str, Any] = {name: EVENTS[name] for name in EVENTS.dtype.names or ()}
    np.savez(path, offsets=np.array([0, 1, 2]), **arrays)


SEALED: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any], type[Exception]]] = {
    "deflated.npz": (save_npz, lambda path: read_spikes(path), ValueError),
    "stored.npz": (save_stored, lambda path: read_spikes(path, name="frames"), ValueError),
    "events.npz": (save_events, lambda path: read_spikes(path, frames=3), ValueError),
    "shipped.npz": (save_npz, lambda path: read_npz(path, "this"), DatasetError),
    "layers.npz": (lambda path: save_frozen(path, {"a": LAYER}), load_frozen, ValueError),
    "run.json": (lambda path: store(path, content()), read, ResultError),
    "checkpoint.json": (
        lambda path: Store(path.parent).save("checkpoint", {"epochs": 3}, {"accuracy": 0.5, "p": float("nan")}),
        lambda path: {"rows": fingerprint(Store(path.parent).load("checkpoint", {"epochs": 3}) or {})},
        CheckpointError,
    ),
}
"""How a file is written and read whose content is sealed by a checksum, and what is raised if it is damaged."""


@pytest.mark.parametrize("name", SEALED)
def test_damage_is_found_or_harmless(tmp_path: Path, name: str) -> None:
    """Checksums are there: what is read is what was written, or it is refused by one sentence that names the file."""
    save, load, kind = SEALED[name]
    path = tmp_path / name
    save(path)
    whole, want, refused = path.read_bytes(), load(path), 0
    count = 150 if len(whole) < 5000 else 40
    for raw in damaged(whole, count, seed=len(name)):
        path.write_bytes(raw)
        try:
            assert same(load(path), want)
        except kind as error:
            assert_sentence(str(error), path)
            refused += 1
    assert refused > count / 4


def assert_sentence(text: str, path: Path) -> None:
    assert str(path) in text
    assert text.isprintable(), text
    assert len(text) < 700, text


def test_a_member_that_vanished(tmp_path: Path) -> None:
    """Its entry in the directory is made the comment of the one before: `zipfile` does not see that offsets are missing."""
    path = tmp_path / "events.npz"
    arrays: dict[str, Any] = {name: EVENTS[name] for name in EVENTS.dtype.names or ()}
    np.savez(path, **arrays, offsets=np.array([0, 1, 2]))
    raw = bytearray(path.read_bytes())
    last, end = raw.rindex(b"PK\x01\x02"), raw.rindex(b"PK\x05\x06")
    before = raw.rindex(b"PK\x01\x02", 0, last)
    raw[before + 32 : before + 34] = (end - last).to_bytes(2, "little")
    path.write_bytes(raw)
    assert "offsets" not in np.load(path).files
    with pytest.raises(ValueError, match=r"got 4 members of 5 \(.*events\.npz\)$"):
        read_spikes(path)


PLAIN: dict[str, Callable[[Path], Any]] = {
    "frames.npy": lambda path: np.save(path, FRAMES),
    "events.npy": lambda path: np.save(path, EVENTS),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(FRAMES)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_npy_files_have_no_checksum(tmp_path: Path, name: str) -> None:
    """So other values are no fault, but anything else than an array of numbers or one sentence is."""
    path = tmp_path / name
    PLAIN[name](path)
    for raw in damaged(path.read_bytes(), 400, seed=1):
        path.write_bytes(raw)
        try:
            assert read_spikes(path).dtype.kind in "biuf"
        except ValueError as error:
            assert_sentence(str(error), path)


def speed_text() -> str:
    """A measured result, reduced to one layer."""
    held = read_content(RESULTS / "epyc-zen5-2-cores.json.gz")
    for name in ("rows", "ceilings"):
        held[name] = [row for row in held[name] if row["case"] == "S1"]
    return json.dumps({**held, "cases": {"S1": held["cases"]["S1"]}, "sweep": [], "derived": [], "targets": []})


TABLES: dict[str, Callable[[], str]] = {
    "accuracy": lambda: accuracy_json(stored(("collapse", 16), exact=[0.9, 0.8], collapse4=[0.8, 0.7])),
    "sparsity": lambda: as_json(as_dict(synthetic(losing, (0.01, 0.1)), [])),
    "speed": speed_text,
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_damaged_results(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A table of other numbers, or one sentence that names the file and exit status 2."""
    path, whole = tmp_path / "result.json", TABLES[name]().encode()
    path.write_bytes(whole)
    assert bench(["table", str(path)]) == 0
    capsys.readouterr()
    statuses = set()
    for raw in damaged(whole, 150, seed=2):
        path.write_bytes(raw)
        statuses.add(status := bench(["table", str(path)]))
        err = capsys.readouterr().err
        if status:
            assert status == 2
            assert err.count("\n") == 1
            assert_sentence(err.rstrip("\n"), path)
    assert 2 in statuses


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Dataset, Path]:
    raw = bytes([0, 0, 8, 1, 0, 0, 0, 5, *range(5)])
    path = tmp_path / "tiny" / "labels.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(raw))
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    monkeypatch.setattr(datasets, "SYSTEM_FOLDERS", ())
    return Dataset("Tiny", ("tiny",), {"labels.gz": hashlib.md5(raw).hexdigest()}), path


def test_damaged_data_sets(labels: tuple[Dataset, Path]) -> None:
    dataset, path = labels
    for raw in damaged(path.read_bytes(), 200, seed=3):
        path.write_bytes(raw)
        try:
            assert datasets.read_idx(dataset, "labels.gz").tolist() == [0, 1, 2, 3, 4]
        except DatasetError as error:
            assert_sentence(str(error), path)


def test_data_sets_that_unfold_without_end(labels: tuple[Dataset, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, path = labels
    monkeypatch.setattr(datasets, "LARGEST", 10**5)
    path.write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(DatasetError, match=r"labels\.gz cannot be read .it holds more than 100,000 bytes"):
        datasets.read_idx(dataset, "labels.gz")
