"""bench run: what it writes, the schema, and a run that was interrupted."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from bench.__main__ import main
from bench.machine import result as run_result
from bench.machine.description import source_digest
from bench.shared.store import Store
from bench.spikes import digests as digest
from tests.support import ROOT


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A finished run of NumPy alone, without the two parts that time for minutes."""
    path = tmp_path_factory.mktemp("run") / "result.json"
    parts = ("digests", "conformance", "accuracy")
    return path, bench("--quick", "--backend", "numpy", "--parts", *parts, "--name", "a <machine>", "-o", str(path))


def test_run_writes_what_the_schema_says(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    path, done = whole
    assert done.returncode == 0, done.stderr
    assert "numpy fired the stored spikes in all 26 cases" in done.stdout
    content = run_result.read(path)
    assert content["name"] == "a <machine>"
    assert content["quick"] is True
    assert content["backends"]["numpy"]["precision"] == "full float32"
    assert content["libraries"]["numpy"] == np.__version__
    assert content["settings"]["source"] == source_digest()
    assert list(content["parts"]) == ["digests", "conformance", "accuracy"]
    assert os.listdir(path.parent) == ["result.json"]  # the folder of parts is gone
    assert str(ROOT) not in path.read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "bench" / "results").glob("run-*.json")), ids=lambda path: path.name)
def test_stored_results_can_be_compared(path: Path) -> None:
    found = run_result.digests(run_result.read(path))
    assert found
    assert not any(digest.differing(mine, digest.load_reference()) for mine in found.values())


def test_medians_are_those_of_the_raw_times(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    [(_, result)] = run_result.done(run_result.read(whole[0]), "accuracy")
    for about in result["modes"].values():
        assert about["median_seconds"] == statistics.median(about["seconds"])
        assert about["accuracy"] > 0.8
        assert about["differing"] == 0
    [(_, checks)] = run_result.done(run_result.read(whole[0]), "conformance")
    assert checks["counts"]["passed"] > 15
    assert sum(checks["counts"].values()) == -(-checks["of"] // 3)
    assert checks["counts"]["failed"] == 0


def test_the_schema_is_one_and_refuses(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    schema = json.loads(run_result.SCHEMA_FILE.read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == run_result.SCHEMA
    validator = Draft202012Validator(schema)
    content = json.loads(whole[0].read_text())
    assert validator.is_valid(content)
    for key in schema["required"]:
        assert not validator.is_valid({name: value for name, value in content.items() if name != key}), key
    digests = content["parts"]["digests"]["numpy"]
    for wrong in (
        {**digests, "status": "great"},
        {"status": "done", "seconds": 1.0},
        {"status": "failed", "seconds": 1.0},
        {**digests, "seconds": -1.0},
        {**digests, "seconds": "1"},
        {**digests, "result": {"cases": {"exact": {}}}},
    ):
        assert not validator.is_valid({**content, "parts": {"digests": {"numpy": wrong}}}), wrong


def start(path: Path, options: list[str]) -> subprocess.Popen[str]:
    """Start a run that is going to be interrupted, and wait until its first part is finished."""
    command = [sys.executable, "-m", "bench", "run", *options, "-o", str(path)]
    # a shell's background jobs, and what they start, ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    signal.signal(signal.SIGINT, before)
    first = path.with_name("result.json.parts") / "digests-numpy.json"
    deadline = time.monotonic() + 120
    while not first.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def ends(search: list[str]) -> bool:
    """Wait until a search for processes finds none."""
    for _ in range(100):
        if subprocess.run(search, capture_output=True, check=False).returncode == 1:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("number", "words", "last"),
    [
        (signal.SIGKILL, "--backend numpy --parts digests accuracy", ("accuracy", "numpy")),
        (signal.SIGINT, "--backend numpy array_api --parts digests", ("digests", "array_api")),
    ],
)
def test_an_interrupted_run_goes_on(number: signal.Signals, words: str, last: tuple[str, str], tmp_path: Path) -> None:
    """With the next part, and with the next backend."""
    pytest.importorskip("array_api_strict")
    path, options = tmp_path / "result.json", ["--quick", *words.split()]
    process = start(path, options)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert ends(["pgrep", "-f", f"bench.machine.step {path}.parts"])  # its worker doesn't outlive it
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert not path.exists()
    if number == signal.SIGINT:
        assert "the same command goes on from there" in " ".join(said.split())
    first = tmp_path / "result.json.parts" / "digests-numpy.json"
    kept = first.read_bytes()
    again = bench(*options, "-o", str(path))
    assert again.returncode == 0, again.stderr
    assert "taken up from" in again.stderr
    content = run_result.read(path)
    assert content["parts"]["digests"]["numpy"] == json.loads(kept)["record"]
    done = {(part, backend) for part, steps in content["parts"].items() for backend in steps}
    assert done == {("digests", "numpy"), last}


def test_parts_of_other_settings_are_never_taken_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "result.json"
    Store(tmp_path / "result.json.parts").save("digests-numpy", {"quick": False}, {"status": "done"})
    assert main(["run", "--quick", "--backend", "numpy", "--parts", "digests", "-o", str(path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "was made with other settings (quick: False there, True here" in said
    assert not path.exists()
