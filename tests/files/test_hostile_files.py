"""Files that were made to harm: headers, nesting and numbers that no honest file has; one sentence that names the file."""

from __future__ import annotations

import argparse
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main as bench
from bench.shared.datasets import DatasetError
from bench.shared.files import read_npz
from bench.shared.model import load_trained
from bench.shared.store import CheckpointError, Store, fingerprint
from bench.spikes.digests import load_reference
from tacops._cli.advise import add_arguments
from tacops._cli.advise import main as advise_main
from tacops._files.damage import parse_json
from tacops.backends._io.spikes import read_spikes
from tacops.layers import load_frozen
from tests.files.test_damaged_files import TABLES, assert_sentence


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
    """Errors of bzip2 and lzma never come up, since neither is let near the file."""
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
    arrays: dict[str, Any] = {"options": np.frombuffer(options.encode(), np.uint8), "a.weight": np.ones((2, 3), "f4")}
    np.savez(path, **arrays)
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
    assert bench(["table", str(path)]) == 2
    page, result = tmp_path / "page.md", tmp_path / "result.json"
    page.write_bytes(b"\xff")
    result.write_text(TABLES["sparsity"]())
    assert bench(["table", str(result), str(page)]) == 2
    assert page.read_bytes() == b"\xff"


def test_digests_of_other_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = load_reference()
    path = tmp_path / "digests.json"
    path.write_text(json.dumps({**held, next(iter(held)): {"inputs": 1}}))
    assert bench(["digests", "--backend", "numpy", "--reference", str(path)]) == 2
    assert "digests.json is damaged at " in capsys.readouterr().err


def test_json_within_bounds() -> None:
    whole = [b'{"a": [1, -2, 2.5, 1e300, true, null]}', b"[" * 60 + b"]" * 60]
    for raw in [*whole, str(2**64 - 1).encode(), str(-(2**63)).encode()]:
        assert parse_json(raw) == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"1e400", "1e400 is beyond the range of numbers"),
        (b"-1e400", "-1e400 is beyond the range of numbers"),
        (str(2**64).encode(), "is an integer of more than 64 bits"),
        (b"1" * 5000, "is an integer of more than 64 bits"),
        (b"[" * 70 + b"]" * 70, "more than 64 levels"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' is there twice"),
        (b"\xff", r"no text \(UTF-8\) from byte 0 on"),
        (b"", "no JSON from line 1, column 1 on"),
    ],
)
def test_json_beyond_bounds(raw: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
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
