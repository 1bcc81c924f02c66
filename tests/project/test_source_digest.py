"""The digest of the code changes with every file that can change a result, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.machine.description import source_digest, source_files
from tests.support import ROOT

FOLDERS = ("tacops", "backends", "bench")


@pytest.fixture
def copies(tmp_path: Path) -> dict[str, Path]:
    """The three folders, without the stored results."""
    ignore = shutil.ignore_patterns("__pycache__", "results", "*.npz")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignore)
    return {name: tmp_path / name for name in FOLDERS}


@pytest.mark.parametrize(
    "path",
    [
        "tacops/_core/neurons.py",
        "tacops/testing/_float.py",
        "tacops/testing/golden.json",
        "backends/torch_.py",
        "backends/_cuda/lif.cu",
        "backends/_step/lif_step.h",
        "bench/speed/command.py",
        "bench/sparsity/strategies/loops.py",
        "bench/speed/peers/torch_.py",
        "bench/data/digests.json",
    ],
)
def test_a_changed_file_changes_the_digest(path: str, copies: dict[str, Path]) -> None:
    before = source_digest(copies)
    folder, _, rest = path.partition("/")
    file = copies[folder] / rest
    file.write_bytes(file.read_bytes() + b"\n")
    assert source_digest(copies) != before


@pytest.mark.parametrize(
    "folder", ["tacops/testing", "tacops/new/deep", "backends/new", "bench/speed/peers", "bench/new"]
)
def test_a_new_file_changes_the_digest(folder: str, copies: dict[str, Path], tmp_path: Path) -> None:
    before = source_digest(copies)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "new.cu").write_text("")
    added = source_digest(copies)
    assert added != before
    (tmp_path / folder / "new.cu").rename(tmp_path / folder / "newer.cu")
    assert source_digest(copies) not in (before, added)


def test_what_a_run_leaves_behind_changes_nothing(copies: dict[str, Path]) -> None:
    """Compiled code, stored results and other line ends."""
    before = source_digest(copies)
    for name in ("bench/results/mine.json", "tacops/testing/__pycache__/_float.cpython-311.pyc", "backends/.hidden"):
        folder, _, rest = name.partition("/")
        (copies[folder] / rest).parent.mkdir(exist_ok=True)
        (copies[folder] / rest).write_text("new")
    file = copies["tacops"] / "_core" / "neurons.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert source_digest(copies) == before


def test_every_file_is_counted_once() -> None:
    """The link to the backends is not followed."""
    found = [path.resolve() for name in FOLDERS for path in source_files(ROOT / name)]
    assert len(found) == len(set(found))
    assert {path.suffix for path in found} >= {".py", ".cu", ".json", ".npz", ".jinja"}
    assert set(found) >= {path for name in FOLDERS for path in (ROOT / name).resolve().rglob("*.py")}
