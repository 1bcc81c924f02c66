"""Files with flipped bits, cut short, or made to harm: one sentence that names the file, or what was written; nothing else."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import datasets
from bench.__main__ import main as bench
from bench.accuracy_result import as_json as accuracy_json
from bench.accuracy_store import CheckpointError, Store, fingerprint
from bench.datasets import Dataset, DatasetError
from bench.digest import load_reference
from bench.files import read_npz
from bench.model import load_trained
from bench.run_result import ResultError, read
from bench.sparsity_result import as_dict, as_json
from tacops import Grid
from tacops._advise_cli import add_arguments
from tacops._advise_cli import main as advise_main
from tacops._damage import parse_json
from tacops.backends._files import read_spikes
from tacops.layers import FrozenLayer, load_frozen, save_frozen
from tests.compare_results import content, store
from tests.test_bench_accuracy_results import stored
from tests.test_bench_sparsity_results import losing, synthetic

RESULTS = Path(__file__).parents[1] / "bench" / "results"
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
    np.savez(path, **{name: EVENTS[name] for name in EVENTS.dtype.names or ()}, offsets=np.array([0, 1, 2]))


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
            assert str(error).startswith("advise: FILE must ")


def speed_text() -> str:
    """A measured result, reduced to one layer."""
    held = json.loads((RESULTS / "epyc-zen5-2-cores.json").read_text())
    for name in ("rows", "ceilings"):
        held[name] = [{**row, "rounds": [row["rounds"][0][:2]]} for row in held[name] if row["case"] == "S1"]
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
    assert bench([f"{name}-table", str(path)]) == 0
    capsys.readouterr()
    statuses = set()
    for raw in damaged(whole, 150, seed=2):
        path.write_bytes(raw)
        statuses.add(status := bench([f"{name}-table", str(path)]))
        err = capsys.readouterr().err
        if status:
            assert status == 2
            assert err.count("\n") == 1
            assert_sentence(err.rstrip("\n"), path)
    assert 2 in statuses


# files that were made to harm


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def shaped(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


HEADERS = {
    "nothing": "",
    "no literal": "{'descr': '<f4', 'fortran_order': False, 'shape': (",  # tokenize.TokenError in NumPy
    "a call": "__import__('os').system('true')",
    "deep": "(" * 5000,
    "deep minus": "-" * 5000 + "1",
    "huge shape": shaped(f"({2**62}, {2**62})"),
    "shape of 400 digits": shaped(f"({10**400},)"),
    "negative shape": shaped("(-1, 4)"),
    "true shape": shaped("(True, 4)"),
    "many axes": shaped("(" + "1, " * 100 + ")"),
    "gigabytes": shaped(f"({2**31},)"),
    "no type": shaped("(1,)", "'<q9'"),
    "type of 400 digits": shaped("(1,)", f"'<V{10**400}'"),
    "a list": shaped("(1,)", "[]"),
    "a number": shaped("(1,)", "7"),
    "nested type": shaped("(1,)", "[('a', " * 100 + "'<f4'" + ")]" * 100),
    "objects": shaped("(1,)", "'|O'"),
    "objects within": shaped("(1,)", "[('x', '|O'), ('y', '<i4'), ('t', '<i4')]"),
    "text": shaped("(1,)", "'<U1'"),
    "long": shaped("(1,)") + " " * 20000,
    "zero bytes": shaped(f"({2**40},)", "'|V0'"),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("form", ["npy", "npz"])
def test_headers_made_to_harm(tmp_path: Path, name: str, form: str) -> None:
    """Nothing is allocated, unpickled or run on a header's word."""
    raw = npy(HEADERS[name], bytes(64))
    path = tmp_path / f"a.{form}"
    if form == "npy":
        path.write_bytes(raw)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", raw)
    with pytest.raises(ValueError, match=r"^advise: FILE must ") as caught:
        read_spikes(path)
    assert_sentence(str(caught.value), path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 93, 99])
def test_members_are_unpacked_by_numpy_s_methods_only(tmp_path: Path, method: int) -> None:
    """lzma's and bzip2's own errors never come up, since they are not let near the file."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", method if method < 93 else zipfile.ZIP_STORED) as archive:
        archive.writestr("a.npy", npy(shaped("(4,)"), bytes(16)))
    raw = bytearray(path.read_bytes())
    for mark, at in (
        (b"PK\x01\x02", 10),
        (b"PK\x03\x04", 8),
    ):  # where the two headers of the member say how it is packed
        raw[raw.index(mark) + at] = method
    path.write_bytes(raw)
    for load, kind in (
        (read_spikes, ValueError),
        (load_frozen, ValueError),
        (lambda p: read_npz(p, "this"), DatasetError),
    ):
        with pytest.raises(kind, match=rf"compress\w+ (by )?(method|type) ({method}|(\(type {method})?\w*)"):
            load(path)


def frozen(tmp_path: Path, options: str) -> Path:
    path = tmp_path / "net.npz"
    np.savez(path, **{"options": np.frombuffer(options.encode(), np.uint8), "a.weight": np.ones((2, 3), np.float32)})
    return path


@pytest.mark.parametrize(
    "options",
    [
        '{"reproducible": {"input_step": 1%s, "input_max": 1}}' % ("0" * 400),
        '{"reproducible": {"input_step": 1e400, "input_max": 1}}',
        '{"reproducible": {"input_step": [], "input_max": 1}}',
        '{"reproducible": {"step": 1}}',
        "[" * 200 + "]" * 200,
        "[" * 100_000,
        '{"chunk_size": 1, "chunk_size": 2}',
        '"options"',
    ],
)  # fmt: skip
def test_options_of_frozen_layers_made_to_harm(tmp_path: Path, options: str) -> None:
    path = frozen(tmp_path, f'{{"format": "tacops frozen layers 1", "layers": {{"a": {options}}}}}')
    with pytest.raises(
        ValueError, match=r"^load_frozen: .*net\.npz must be a whole file of save_frozen; got ."
    ) as caught:
        load_frozen(path)
    assert_sentence(str(caught.value), path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 200 + "]" * 200,
        '{"settings": 1' + "0" * 5000 + "}",
        "\ud800",
        "\0",
        '{"settings": {}, "record": []}',
    ],
)
def test_checkpoints_made_to_harm(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    raw = text.encode(errors="surrogatepass")
    if "record" in text:  # sealed, but no record
        content = {"settings": {}, "record": [1]}
        raw = json.dumps({"fingerprint": fingerprint(content), **content}).encode()
    store.path("a").write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"^the checkpoint .*a\.json is damaged \(.+\); delete it or") as caught:
        store.load("a", {})
    assert_sentence(str(caught.value), store.path("a"))


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "\xff", "7"])
def test_other_files_of_ours_made_to_harm(tmp_path: Path, text: str) -> None:
    """Digests, shipped weights and stored results."""
    path = tmp_path / "file"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DatasetError, match=r"file (cannot be read|has other cases)"):
        load_reference(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        load_trained(path)
    for name in ("speed", "sparsity", "accuracy"):
        assert bench([f"{name}-table", str(path)]) == 2
    page, result = tmp_path / "page.md", tmp_path / "result.json"
    page.write_bytes(b"\xff")
    result.write_text(TABLES["sparsity"]())
    assert bench(["sparsity-table", str(result), "--into", str(page)]) == 2
    assert page.read_bytes() == b"\xff"


def test_digests_of_other_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = load_reference()
    path = tmp_path / "digests.json"
    path.write_text(json.dumps({**held, next(iter(held)): {"inputs": 1}}))
    assert bench(["digests", "--backend", "numpy", "--reference", str(path)]) == 2
    assert "digests.json is damaged at " in capsys.readouterr().err


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
    with pytest.raises(DatasetError, match="labels.gz cannot be read .it holds more than 100,000 bytes"):
        datasets.read_idx(dataset, "labels.gz")


def test_json_within_bounds() -> None:
    for raw in (
        b'{"a": [1, -2, 2.5, 1e300, true, null]}',
        b"[" * 60 + b"]" * 60,
        str(2**64 - 1).encode(),
        str(-(2**63)).encode(),
    ):
        assert parse_json(raw) == json.loads(raw)
    for raw in (
        b"1e400",
        b"-1e400",
        str(2**64).encode(),
        b"1" * 5000,
        b"[" * 70 + b"]" * 70,
        b'{"a": {"b": 1, "b": 2}}',
        b"\xff",
        b"",
    ):
        with pytest.raises(ValueError, match="."):
            parse_json(raw)


def test_one_sentence_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    (tmp_path / "a.npy").write_bytes(npy(HEADERS["no literal"]))
    assert advise_main(parser.parse_args([str(tmp_path / "a.npy")])) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        "python -m tacops advise: FILE must be a whole .npy or .npz file without pickled objects; got "
    )
    assert err.endswith(f"({tmp_path}/a.npy)\n")
    assert asdict(Grid(input_max=3))["input_max"] == 3
