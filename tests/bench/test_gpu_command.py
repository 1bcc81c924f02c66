"""bench gpu, as far as a machine without a GPU can tell: a rehearsal on the CPU, what it says of itself, and what fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main
from bench.compare.data import load
from bench.compare.gpu import grouped, inexact, is_gpu_run
from bench.compare.html import sections
from bench.gpu import command, jobs, sums
from bench.gpu.launches import check_device
from bench.gpu.layers import BACKENDS, entries, work
from bench.gpu.report import layers
from bench.machine import result as files
from bench.machine.parts import Job
from bench.shared.results import ResultError
from bench.shared.store import Store
from tacops.backends import BackendUnavailable, get_backend

PARTS = ("exactness", "peaks", "speed", "launches")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished rehearsal with PyTorch."""
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    options = ["--backend", "torch", "--parts", *PARTS, "-o", str(path)]
    assert main(["gpu", "--rehearse", *options]) == 0
    return path


def test_a_rehearsal_writes_what_the_schema_says(rehearsed: Path) -> None:
    content = files.read(rehearsed)
    assert content["rehearsal"] is True
    assert content["name"].startswith("REHEARSAL on a CPU")
    assert content["machine"]["devices"] == []
    assert list(content["parts"]) == list(PARTS)
    assert {step["status"] for steps in content["parts"].values() for step in steps.values()} == {"done"}
    assert all(about["device"].startswith("cpu") for about in content["backends"].values())
    rows = [row for _, result in files.done(content, "launches") for row in result["rows"]]
    assert all(row["device"].startswith("cpu") for row in rows)
    assert {row["counted"] for row in rows} == {"PyTorch's operations on a CPU"}
    assert all(row["launches"] > 0 for row in rows)
    assert not [path for path in rehearsed.parent.iterdir() if path != rehearsed]  # the folder of parts is gone


def test_every_pair_of_layer_and_mode_is_timed_and_counted(rehearsed: Path) -> None:
    found = {(row.case, row.mode) for row in layers(files.read(rehearsed)) if row.subject == "tacops torch"}
    assert found == {(case.name, mode.name) for case, mode in work(rehearsal=True)}
    for row in layers(files.read(rehearsed)):
        assert row.seconds is not None
        assert row.launches
        assert (row.device_seconds, row.bandwidth, row.tensor) == (None, None, None), "a CPU says nothing of a GPU"


def test_compare_shows_it_as_a_rehearsal(rehearsed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machines, problems = load([rehearsed])
    assert not problems
    assert is_gpu_run(machines[0])
    titles = {section["title"] for section in sections(machines)}
    assert titles >= {"On a GPU: time of a layer", "On a GPU: launches of a layer", "On a GPU: inexact sums"}
    assert "tacops torch" in grouped(machines, lambda row: row.launches)["S1, exact"]
    assert inexact(machines)
    assert main(["compare", str(rehearsed), "--no-html"]) == 0
    assert "which says nothing about any GPU" in " ".join(capsys.readouterr().out.split())


def test_fractions_are_of_what_the_device_did_best(rehearsed: Path) -> None:
    content: dict[str, Any] = json.loads(rehearsed.read_text())
    [row] = [row for row in content["parts"]["launches"]["tacops torch"]["result"]["rows"] if row["mode"] == "exact"]
    row |= {"device_seconds": 2.0, "least_bytes": 100, "operations": 30.0}
    best = content["parts"]["peaks"]["torch"]["result"]
    best |= {"copy_bytes_per_second": 200.0, "product_flops": {"float32": 10.0, "TF32": 60.0}}
    layer = next(one for one in layers(content) if (one.subject, one.mode) == ("tacops torch", "exact"))
    assert (layer.bandwidth, layer.tensor) == (0.25, 0.25)


@pytest.mark.parametrize("part", ["exactness", "peaks", "launches"])
def test_the_schema_refuses_what_is_incomplete(part: str, rehearsed: Path) -> None:
    content = json.loads(rehearsed.read_text())
    step = next(iter(content["parts"][part].values()))
    step["result"].pop(next(iter(step["result"])))
    with pytest.raises(ResultError, match="damaged or incomplete"):
        files.check(files.sealed(content), "it")


def test_without_a_gpu_it_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "available_backends", lambda: ())
    assert main(["gpu", "-o", str(tmp_path / "gpu.json")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m bench gpu: no GPU was found by torch, jax, cupy")
    assert not list(tmp_path.iterdir())


def test_a_backend_on_a_cpu_is_no_gpu() -> None:
    pytest.importorskip("torch")
    if not get_backend("torch").devices()[0].startswith("cpu"):
        pytest.skip("there is a GPU")
    placed, missing = command.find(["torch"], None, rehearsal=False)
    assert not placed
    assert missing["torch"].startswith("its arrays are on cpu")
    assert list(command.find(["torch"], None, rehearsal=True)[0]) == ["torch"]
    with pytest.raises(RuntimeError, match="in a run on a GPU"):
        check_device("any", "cpu", rehearsal=False)
    with pytest.raises(RuntimeError, match="in a rehearsal on a CPU"):
        check_device("any", "NVIDIA (cuda:0)", rehearsal=True)


def test_a_part_that_dies_is_recorded_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import sys; sys.stdin.readline(); print('the last words'); sys.exit(7)"
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, "-c", code))
    monkeypatch.setattr(jobs, "run_speed", lambda *_: 1 / 0)
    todo = [Job("peaks", "torch"), Job("speed", ""), Job("launches", "snnTorch")]
    done = jobs.run_jobs(todo, Store(tmp_path), {"on": {}, "quick": True, "backends": {}}, lambda _: None)
    assert list(done) == todo
    assert {step["status"] for step in done.values()} == {"failed"}
    assert "exit code 7; it said: the last words" in done[todo[0]]["reason"]
    assert "ZeroDivisionError" in done[todo[1]]["reason"]


def test_finished_parts_are_not_done_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same command takes up what is there."""
    pytest.importorskip("torch")
    path, seen = tmp_path / "gpu.json", []

    def interrupted(todo: list[Job], store: Store, settings: Any, tell: Any) -> Any:
        del tell
        seen.append([job.part for job in todo])
        if len(seen) == 1:
            store.save(todo[0].key, settings, {"status": "done", "seconds": 1.0, "result": {"sums": {}}})
            raise KeyboardInterrupt
        return {job: {"status": "failed", "seconds": 0.0, "reason": "none"} for job in todo}

    monkeypatch.setattr(command, "run_jobs", interrupted)
    words = ["gpu", "--rehearse", "--backend", "torch", "--parts", "exactness", "peaks", "-o", str(path)]
    assert main(words) == 130
    assert main(words) == 1
    assert seen == [["exactness", "peaks"], ["peaks"]]
    assert files.read(path)["parts"]["peaks"]["torch"]["status"] == "failed"


def test_what_is_timed() -> None:
    on = {}
    for name in BACKENDS:
        try:
            on[name] = get_backend(name).on("cpu").device or ""
        except (BackendUnavailable, ValueError):
            continue
    names = [entry.name for entry in entries(on, rehearsal=False)[0]]
    assert len(names) == len(set(names))
    assert {f"tacops {name}" for name in on} <= set(names)
    assert ("plain torch, compiled" in names) == ("torch" in on)
    assert {case.base or case.name for case, _ in work(rehearsal=False)} == {"S1", "S2", "S3", "S4"}


# sums of integers


def test_sums_stay_where_float32_is_exact() -> None:
    for x, w in sums.products(3).values():
        assert set(np.unique(x)) <= {0.0, 1.0}
        assert np.abs(w).max() <= sums.LARGEST
        assert np.abs(w).sum(0).max() < 2**24
        assert np.array_equal(np.float32(np.float16(w)), w)


def test_the_exact_convolution_is_numpys() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (1, 2, 4, 3)).astype(np.float32)
    w = rng.integers(-5, 6, (3, 2, 3, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    np.testing.assert_array_equal(sums.convolved(x, w), np.einsum("nchwij,fcij->nfhw", windows, w))


def test_wrong_sums_are_counted_and_refusals_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        @staticmethod
        def routes(device: str) -> tuple[dict[str, Any], dict[str, Any]]:
            def off_by_one(x: Any, w: Any) -> Any:
                out = x.astype(np.float64) @ w
                out[0, 0] += 1
                return out

            def broken(x: Any, w: Any) -> Any:
                raise RuntimeError(f"not on\n{device}")

            return {"right": lambda x, w: x @ w.astype(np.float64), "wrong": off_by_one, "broken": broken}, {}

    monkeypatch.setattr("bench.gpu.sums.importlib.import_module", lambda name: Library)
    for name, about in sums.exactness("torch", "mars", rehearsal=True)["sums"].items():
        if name.startswith("product"):
            assert about["differing"] == {"right": 0, "wrong": 1}
            assert about["refused"] == {"broken": "RuntimeError: not on mars"}
