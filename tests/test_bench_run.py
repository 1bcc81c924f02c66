"""The standard set of ``python -m bench run``: digests, parts that fail or are interrupted, and the file."""

from __future__ import annotations

import doctest
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from bench import digest, run_parts, run_result, speed
from bench.__main__ import main
from bench.accuracy_store import Store
from bench.run_machine import describe_machine, source_digest
from tacops.backends import Backend, get_backend
from tacops.testing.mutants import mutants

ROOT = Path(__file__).parents[1]
QUICK_CASES = (
    "exact",
    "collapse4-counts",
    "preserve4-zero",
    "exact-strided",
    "linear-collapse16",
    "network-collapse16",
)
UNSEEN = {"weights-tf32"}
"""Mistakes that reproducible mode is made to bear: its weights have no more bits than TF32."""


# digests


def test_numpy_fires_the_stored_spikes() -> None:
    """Every case; among them each mode, each reset, and the shipped network."""
    found = digest.records(get_backend("numpy"))
    assert found == digest.load_reference()
    assert all(record["fired"] > 100 for record in found.values())
    assert len({record["spikes"] for record in found.values()}) == len(found) >= 20


@pytest.mark.parametrize("case", QUICK_CASES)
def test_every_backend_fires_the_stored_spikes(case: str, backend: Backend) -> None:
    assert digest.record(digest.CASES[case], backend) == digest.load_reference()[case]


def test_no_weight_is_a_short_binary_fraction() -> None:
    weights = digest.CASES["exact"].arrays()["weight"].ravel()
    bits = [int(np.float32(w).view(np.uint32)) & 0xFFF for w in weights]
    assert np.mean([low != 0 for low in bits]) > 0.95


def test_examples_in_docstrings() -> None:
    outcome = doctest.testmod(digest)
    assert outcome.attempted == 2
    assert outcome.failed == 0


def test_digest_sees_one_flipped_spike_and_one_last_bit() -> None:
    spikes = np.zeros((16, 4, 12, 12, 16), np.bool_)
    flipped = spikes.copy()
    flipped[7, 3, 0, 11, 5] = True
    membrane = np.full((4, 5), 0.3, np.float32)
    nudged = membrane.copy()
    nudged[3, 4] = np.nextafter(nudged[3, 4], np.float32(1))
    arrays = [spikes, flipped, spikes.reshape(16, -1), membrane, nudged]
    assert len({digest.digest(array) for array in arrays}) == len(arrays)


def test_digest_knows_no_byte_order_no_memory_layout_and_no_minus_zero() -> None:
    values = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    assert digest.digest(values) == digest.digest(values.astype(">f4")) == digest.digest(np.asfortranarray(values))
    assert digest.digest(-0.0 * np.ones(3, np.float32)) == digest.digest(np.zeros(3, np.float32))
    bits = values > 0
    assert digest.digest(bits) == digest.digest(np.asfortranarray(bits))


@pytest.mark.parametrize("mutant", list(mutants(get_backend("numpy"))), ids=lambda mutant: mutant.name)
def test_mistakes_change_a_digest(mutant: Any) -> None:
    want = digest.load_reference()
    with mutant.use() as backend:
        found = {}
        for name, case in digest.CASES.items():
            with _dispatched(backend):
                try:
                    found[name] = digest.record(case, backend)
                except ValueError:  # numbers that leave the grid are noticed at once
                    found[name] = {**want[name], "spikes": "none"}
    assert bool(digest.differing(found, want)) == (mutant.name not in UNSEEN)


def _dispatched(backend: Backend) -> Any:
    from tacops.testing._host import dispatched_to

    return dispatched_to(backend)


def test_a_backend_that_flips_one_spike_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numpy = get_backend("numpy")
    honest = type(numpy).to_numpy

    def flips(self: Any, array: Any) -> Any:
        found = honest(self, array).copy()
        if found.shape == (16, 4, 64, 16):  # the spikes of one case
            found[9, 2, 33, 4] = 1 - found[9, 2, 33, 4]
        return found

    assert main(["digests", "--backend", "numpy"]) == 0
    monkeypatch.setattr(type(numpy), "to_numpy", flips)
    assert main(["digests", "--backend", "numpy"]) == 1
    out = capsys.readouterr().out
    assert "numpy: 25 of 26 cases equal\n  exact-1d: other spikes (" in out


def test_digests_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = tmp_path / "digests.json"
    assert main(["digests", "--backend", "numpy", "--reference", str(stored)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    stored.write_text('{"exact": {}}')
    assert main(["digests", "--backend", "numpy", "--reference", str(stored)]) == 2
    assert "other cases than expected" in capsys.readouterr().err
    assert main(["digests", "--backend", "fortran"]) == 2
    assert main(["digests", "--backend", "numpy", "--reference", str(stored), "--write"]) == 2
    assert "only one backend" in capsys.readouterr().err
    assert stored.read_text() == '{"exact": {}}'


# a run


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


def start(path: Path, *more: str) -> subprocess.Popen[str]:
    """Start a run that is going to be interrupted, and wait until its first part is finished."""
    command = [
        sys.executable,
        "-m",
        "bench",
        "run",
        "--quick",
        "--backend",
        "numpy",
        "array_api",
        "-o",
        str(path),
        *more,
    ]
    # a shell's background jobs, and what they start, ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*command, "--parts", "digests", "accuracy"],
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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("array_api_strict")
    path = tmp_path / "result.json"
    process = start(path)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert ends(["pgrep", "-f", f"run_step {path}.parts"])  # its worker doesn't outlive it
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert not path.exists()
    if number == signal.SIGINT:
        assert "the same command goes on from there" in " ".join(said.split())
    first = tmp_path / "result.json.parts" / "digests-numpy.json"
    kept = first.read_bytes()
    again = bench("--quick", "--backend", "numpy", "array_api", "-o", str(path), "--parts", "digests", "accuracy")
    assert again.returncode == 0, again.stderr
    assert "taken up from" in again.stderr
    content = run_result.read(path)
    assert content["parts"]["digests"]["numpy"] == json.loads(kept)["record"]
    assert set(content["parts"]["accuracy"]) == {"numpy", "array_api"}


def test_parts_of_other_settings_are_never_taken_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "result.json"
    Store(tmp_path / "result.json.parts").save("digests-numpy", {"quick": False}, {"status": "done"})
    assert main(["run", "--quick", "--backend", "numpy", "--parts", "digests", "-o", str(path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "was made with other settings (quick: False there, True here" in said
    assert not path.exists()


# parts that fail


def orders(tmp_path: Path) -> tuple[list[run_parts.Job], Store, dict[str, Any]]:
    jobs = [run_parts.Job("digests", "numpy"), run_parts.Job("conformance", "numpy")]
    return jobs, Store(tmp_path), {"quick": True, "backends": {"numpy": {}}}


def test_a_process_that_dies_is_blamed_part_by_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import os; print('last words', flush=True); os.kill(os.getpid(), 11)"
    monkeypatch.setattr(run_parts, "COMMAND", (sys.executable, "-c", code))
    jobs, store, settings = orders(tmp_path)
    done = run_parts.run_jobs(jobs, store, settings, lambda text: None)
    assert [step["status"] for step in done.values()] == ["failed", "failed"]
    assert done[jobs[0]]["reason"] == "its process was ended by signal 11; it said: last words"


def test_a_process_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_parts, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(run_parts, "SILENCE", 0.3)
    jobs, store, settings = orders(tmp_path)
    began = time.monotonic()
    done = run_parts.run_jobs(jobs[:1], store, settings, lambda text: None)
    assert time.monotonic() - began < 30
    assert done[jobs[0]]["reason"].startswith("it took too long and was stopped")


def test_a_part_that_failed_is_tried_again(tmp_path: Path) -> None:
    jobs, store, settings = orders(tmp_path)
    store.save(jobs[0].key, settings, {"status": "failed", "seconds": 1.0, "reason": "no luck"})
    done = run_parts.run_jobs(jobs[:1], store, settings, lambda text: None)
    assert done[jobs[0]]["status"] == "done"


def test_parts_that_cannot_run_do_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(backends: list[str], quick: bool, tell: Callable[[str], None]) -> dict[str, Any]:
        raise RuntimeError("no\nluck")

    def lacking(backends: list[str], quick: bool, tell: Callable[[str], None]) -> dict[str, Any]:
        raise ModuleNotFoundError("No module named 'scipy'")

    monkeypatch.setattr(run_parts, "measure_speed", broken)
    monkeypatch.setattr(run_parts, "measure_sparsity", lacking)
    _, store, settings = orders(tmp_path)
    jobs = [run_parts.Job("speed", ""), run_parts.Job("sparsity", "")]
    done = run_parts.run_jobs(jobs, store, settings, lambda text: None)
    assert done[jobs[0]]["reason"] == "RuntimeError: no\nluck"
    assert done[jobs[1]]["status"] == "not run"
    assert "No module named 'scipy'" in done[jobs[1]]["reason"]
    assert not any(tmp_path.iterdir())
    content = assembled(done)
    run_result.check(content, "it")
    assert run_result.failures(content) == ["speed: RuntimeError: no luck"]


def assembled(steps: dict[run_parts.Job, run_parts.Step]) -> run_result.Content:
    """A whole file's content with these steps."""
    backends = {"numpy": {"version": "2", "device": "cpu", "precision": "full"}}
    settings = {"quick": True, "backends": backends, "libraries": {"tacops": "0"}, "source": "0" * 64}
    return run_result.assemble(steps, name="here", machine=describe_machine(backends), missing={}, settings=settings)


def test_speed_is_what_the_schema_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """On NumPy, for as short as it goes."""
    monkeypatch.setitem(run_parts.MINUTES, "speed", (0.01, 0.01))
    monkeypatch.setattr(speed, "QUICK", ("S1",))
    step = run_parts.run_here("speed", ["numpy"], True, lambda text: None)
    assert step["status"] == "done", step
    run_result.check(assembled({run_parts.Job("speed", ""): step}), "it")
    medians = {
        (row["case"], row["subject"], row["mode"]): statistics.median(chain.from_iterable(row["rounds"]))
        for row in step["result"]["rows"]
    }
    assert {subject for _, subject, _ in medians} == {"tacops numpy"}
    for row in step["result"]["derived"]:
        assert row["median_seconds"] == medians[row["case"], row["subject"], row["mode"]]
        assert row["fraction_of_ceiling"] > 0


def test_a_differing_digest_fails_the_run(tmp_path: Path) -> None:
    cases = digest.load_reference()
    step = {"status": "done", "seconds": 1.0, "result": {"cases": cases}}
    right = assembled({run_parts.Job("digests", "numpy"): step})
    assert run_result.failures(right) == []
    flipped = {**cases, "collapse4": {**cases["collapse4"], "spikes": "0" * 64, "fired": 7}}
    wrong = assembled({run_parts.Job("digests", "numpy"): {**step, "result": {"cases": flipped}}})
    expected = f"{cases['collapse4']['fired']:,}"
    assert run_result.failures(wrong) == [f"digests, numpy, collapse4: other spikes (7 fired, {expected} expected)"]
    assert "NOT the stored spikes, first in case collapse4 on numpy" in run_result.spike_sentence(wrong)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "."], "is a folder"),
        (["-o", "README.md/result.json"], "is no folder that can be written to"),
        (["-o", "x.json", "--backend", "fortran"], "fortran"),
        (["-o", "x.json", "--parts", "dance"], "invalid choice: 'dance'"),
        (["-o", "x.json", "--name", "a\x1b[31m"], "printable"),
        ([], "-o"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    try:
        code: object = main(["run", *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (ROOT / "x.json").exists()


def test_devices_are_named() -> None:
    about = describe_machine(
        {"numpy": {"device": "cpu"}, "cupy": {"device": "NVIDIA H200"}, "jax": {"device": "cpu:0"}}
    )
    assert about["devices"] == ["NVIDIA H200"]
    assert about["name"].endswith("cores, NVIDIA H200")
