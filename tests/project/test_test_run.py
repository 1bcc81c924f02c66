"""How the suite runs: workers that memory can hold, and a missing PyTorch that nobody overlooks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.workers import GIB, cores, memory, workers


@pytest.mark.parametrize(
    ("cores", "gib", "expected"),
    [(2, 24, 2), (64, 16, 6), (8, 20, 8), (8, 19.9, 7), (4, 1, 1), (4, None, 4)],
)
def test_workers_are_bounded_by_cores_and_memory(cores: int, gib: float | None, expected: int) -> None:
    assert workers(cores, None if gib is None else int(gib * GIB)) == expected


def test_memory_of_a_container(tmp_path: Path) -> None:
    """Its limit, if it is below the machine's; no limit is the word "max", or no file."""
    limit, nothing = tmp_path / "limit", tmp_path / "nothing"
    machine = memory((str(nothing),))
    limit.write_text("max\n")
    assert memory((str(limit),)) == machine
    limit.write_text("1048576\n")
    assert memory((str(nothing), str(limit))) == 1048576


def test_xdist_asks_for_that_number(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``-n auto`` is looked up, in processes that have the plugin."""
    if not pytestconfig.pluginmanager.has_plugin("xdist"):
        pytest.skip("pytest-xdist is not loaded here")
    ask = pytestconfig.hook.pytest_xdist_auto_num_workers
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    monkeypatch.setattr("tests.support.workers.memory", lambda: int(2.5 * GIB))
    monkeypatch.setattr("tests.support.workers.cores", lambda: 64)
    assert ask(config=pytestconfig) == 1
    monkeypatch.setattr("tests.support.workers.memory", lambda: 100 * GIB)
    assert ask(config=pytestconfig) == 40
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "3")
    assert ask(config=pytestconfig) == 3
    assert cores() >= 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], True), (["--backend", "numpy"], False)],
    ids=["every backend", "another was asked for"],
)
def test_a_missing_pytorch_is_named_at_the_end(tmp_path: Path, arguments: list[str], told: bool) -> None:
    (tmp_path / "test_two.py").write_text("def test_a(need): need('numpy')\n\n\ndef test_b(need): need('torch')\n")
    script = "import sys, pytest; sys.modules['torch'] = None; raise SystemExit(pytest.main(sys.argv[1:]))"
    options = ["--no-header", "-p", "tests.conftest", "-p", "no:cacheprovider", *arguments, "test_two.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script, *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    end = done.stdout.partition("PyTorch was not tested")[2]
    assert bool(end) == told
    if told:
        assert "Skipped tests of PyTorch: 1." in end
        assert "pip install 'tacops[torch]'" in end
        assert end.index("Skipped") < end.rindex("1 passed, 1 skipped")
