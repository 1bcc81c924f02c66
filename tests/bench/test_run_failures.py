"""bench run: parts that die, hang, fail or cannot run; wrong usage."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.machine import parts as run_parts
from bench.machine import result as run_result
from bench.machine.description import describe_machine
from bench.shared.store import Store
from bench.sparsity import command as sparsity
from bench.sparsity.cases import CONTENDERS
from bench.sparsity.result import from_dict
from bench.speed import command as speed
from bench.spikes import digests as digest
from bench.timing.cases import CASES
from tests.support import ROOT
from tests.support.sparsity_cases import SMALL


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
    def broken(*arguments: object) -> dict[str, Any]:
        raise RuntimeError("no\nluck")

    def lacking(*arguments: object) -> dict[str, Any]:
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
    medians = {(row["case"], row["subject"], row["mode"]): row["times"]["median"] for row in step["result"]["rows"]}
    assert {subject for _, subject, _ in medians} == {"tacops numpy"}
    for row in step["result"]["derived"]:
        assert row["median_seconds"] == medians[row["case"], row["subject"], row["mode"]]
        assert row["fraction_of_ceiling"] > 0


def test_sparsity_is_what_the_schema_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """On NumPy, a small layer and one strategy; as many rounds as there may be at most."""
    monkeypatch.setitem(run_parts.MINUTES, "sparsity", (60.0, 60.0))
    monkeypatch.setitem(CASES, "S1", SMALL["S1"])
    for name, value in {"SIZES": ("S1",), "STRUCTURES": ("patches",), "DENSITIES": (0.1,)}.items():
        monkeypatch.setattr(sparsity, f"QUICK_{name}", value)
    monkeypatch.setattr(sparsity, "choose_contenders", lambda *_: [CONTENDERS["dense"], CONTENDERS["rows"]])
    said: list[str] = []
    step = run_parts.run_here("sparsity", ["numpy"], True, said.append)
    assert step["status"] == "done", step
    assert "sparsity: S1/patches/0.1: round 5" in said
    run_result.check(assembled({run_parts.Job("sparsity", ""): step}), "it")
    result = from_dict(step["result"], "measured")
    assert [row.contender for row in result.rows] == ["dense", "rows"]
    assert result.failed == {}


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
        (["-o", "README.md/result.json"], "cannot be written: Not a directory"),
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
