"""bench speed: the work, its workers, a run. NumPy only; times are not judged."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.shared.results import read_content
from bench.speed.extended import stream_table
from bench.speed.peers import PLAIN
from bench.speed.result import from_dict
from bench.speed.run import CEILINGS, run
from bench.speed.sweep import AXES, Axis, fit
from bench.timing.cases import CASES, EXACT, MEMORY, MODES, TINY, Case, Mode
from bench.timing.pool import SubjectError, Timer, Worker, WorkerDiedError, environment
from bench.timing.subject import Entry, Tacops, UnsupportedError, fires
from tests.support.speed_subjects import FAKE, PLAN, SMALL, stored_text

DEADLY = replace(FAKE, name="deadly", argument="deadly")

NUMPY = Entry("tacops numpy", "tacops", "bench.timing.subject:Tacops", "numpy")


@pytest.fixture
def worker() -> Iterator[Worker]:
    with closing(Worker(FAKE, {**environment(), "BENCH_SPEED_TEST": "1"})) as worker:
        assert worker.receive(60) == "fake 1"
        yield worker


# the work


@pytest.mark.parametrize("mode", [mode for mode in MODES.values() if not mode.reproducible], ids=lambda mode: mode.name)
@pytest.mark.parametrize("case", SMALL.values(), ids=lambda case: case.name)
def test_plain_numpy_fires_the_same_spikes(case: Case, mode: Mode) -> None:
    outputs = []
    for subject in (Tacops("numpy"), PLAIN["numpy"].make()):
        (variant,) = subject.variants(case, mode)
        assert variant.spikes is not None
        outputs.append(fires(variant.spikes(variant.call())))
    assert 0.01 < outputs[0].mean() < 0.6
    np.testing.assert_array_equal(outputs[0], outputs[1])


def test_sizes_count_work_and_traffic() -> None:
    case = CASES["S3"]
    assert case.flops == 2 * 16 * 8 * 28 * 28 * 64 * 32 * 9
    assert case.performed(MODES["collapse4"]) == case.flops / 4
    exact, collapsed = (case.traffic(MODES[name]) for name in ("exact", "collapse16"))
    assert exact - collapsed == 4 * 15 * 8 * 28 * 28 * 64
    assert case.traffic(MODES["preserve4"]) == exact
    x, w = CASES["LIN"].arrays()
    assert (x.shape, w.shape) == ((16, 128, 784), (512, 784))
    assert x.mean() == pytest.approx(0.1, abs=0.01)


def test_weights_are_those_of_the_operators() -> None:
    assert MODES["collapse4"].weights == pytest.approx([0.9**3, 0.9**2, 0.9, 1.0])
    assert sum(MODES["preserve4"].weights) == pytest.approx(1.0)


def test_ceilings_are_timed_for_dense_products_only() -> None:
    subject = CEILINGS.make()
    for variant in subject.variants(SMALL["S1"], EXACT):
        variant.call()
    with pytest.raises(UnsupportedError, match="depth-wise"):
        subject.variants(SMALL["DW"], EXACT)


def test_peak_memory_is_traced() -> None:
    peak = Timer(NUMPY).peak(SMALL["S3"], EXACT)
    assert peak > 4 * 17 * 16 * 64


def test_fit_finds_an_exponent() -> None:
    slope = fit("any", AXES[0], (2, 4, 8), [3 * n**1.5 for n in (2, 4, 8)])
    assert slope.slope == pytest.approx(1.5)


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: f"{axis.name} {axis.mode}")
def test_axes_vary_one_size(axis: Axis) -> None:
    points = axis.points()
    assert tuple(points) == axis.values
    for value, (case, mode) in points.items():
        assert (
            mode.chunk if axis.name == "K" else case.c_in if axis.name == "C" else getattr(case, axis.name)
        ) == value


# workers


def test_worker_answers_and_chooses_the_fastest_variant(worker: Worker) -> None:
    answer = worker.ask("prepare", TINY, EXACT)
    assert answer["variant"] == "fast"
    assert answer["tried"]["slow"] >= 0.02 > answer["seconds"]
    assert len(worker.ask("measure", TINY, EXACT, 4, 0.01)) == 4


def test_worker_survives_what_its_library_raises(worker: Worker) -> None:
    with pytest.raises(SubjectError, match="fake: RuntimeError: broken on purpose"):
        worker.ask("prepare", TINY, MODES["reproducible"])
    with pytest.raises(UnsupportedError, match="no such mode"):
        worker.ask("prepare", TINY, MODES["preserve2"])
    assert worker.ask("prepare", TINY, EXACT)["variant"] == "fast"


def test_a_dead_worker_is_an_error_that_tells_its_last_words() -> None:
    with closing(Worker(DEADLY, environment())) as worker:
        worker.receive(60)
        with pytest.raises(
            WorkerDiedError, match="deadly: its process ended with exit code 3; it said: the last words"
        ):
            worker.ask("prepare", TINY, MODES["collapse16"])
        with pytest.raises(WorkerDiedError, match="its process ended"):
            worker.ask("prepare", TINY, EXACT)


def test_a_silent_worker_is_stopped() -> None:
    with closing(Worker(Entry("mute", "peer", "tests.support.speed_subjects:silent"), {})) as worker:
        with pytest.raises(WorkerDiedError, match="no answer"):
            worker.receive(0.2)
        assert not worker.process.is_alive()
    assert not worker.log.exists()


def test_settings_are_set_for_workers_only(worker: Worker) -> None:
    assert "BENCH_SPEED_TEST" not in os.environ
    assert set(environment()) >= {"GLIBC_TUNABLES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}


# a run


def test_a_run_measures_what_works_and_names_what_fails(tmp_path: Path) -> None:
    told: list[str] = []
    broken = Entry("absent", "peer", "tests.no_such_module:Subject")
    entries = [NUMPY, PLAIN["numpy"], FAKE, DEADLY, broken]
    result = run(PLAN, entries, {"left out": "a reason"}, told.append)
    assert set(result.subjects) == {"tacops numpy", "plain numpy", "fake", "deadly"}
    # four frames make no chunk of 16 in plain code
    for name, modes in {
        "tacops numpy": MODES,
        "plain numpy": set(MODES) - {"reproducible", "collapse16"},
        "fake": ["exact"],
    }.items():
        for mode in modes:
            row = result.find("tiny", name, mode)
            assert row is not None
            assert 1 <= row.times.rounds <= 2
            low, high = row.quartiles
            assert 0 < low <= row.seconds <= high
    plain, fake = (result.find("tiny", name, "exact") for name in ("plain numpy", "fake"))
    assert plain is not None
    assert (plain.agree, plain.shared) == (1.0, 1.0)
    assert fake is not None
    assert fake.agree is not None
    assert fake.agree < 0.5
    assert "ModuleNotFoundError" in result.failed["absent"]
    assert "broken on purpose" in result.failed["fake, tiny"]
    assert "exit code 3" in result.failed["deadly"]
    assert not any(row.subject == "deadly" for row in result.rows)
    assert result.missing == {"left out": "a reason"}
    path = tmp_path / "result.json"
    path.write_text(stored_text(result))
    assert stored_text(from_dict(read_content(path), "it")) == path.read_text()
    assert any("preparing" in text for text in told)


def test_extras_and_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a smaller layer, with fewer calls, and an input of 20 MiB: still more than twice NumPy's work area."""
    monkeypatch.setitem(CASES, "S4", SMALL["S4"])
    monkeypatch.setattr("bench.speed.extras.MEMORY", replace(MEMORY, B=10))
    monkeypatch.setattr("bench.speed.extras.BATCHES", (10, 3))
    monkeypatch.setattr("bench.speed.extras.FED", (27, 107))
    short = Axis("K", "collapse", (1, 2, 4), "")
    plan = replace(PLAN, cases=[], axes=[short], seconds=3600.0, extras=True)
    result = run(plan, [NUMPY, PLAIN["numpy"]], {}, lambda _: None)
    assert not result.failed
    assert {backend: set(times) for backend, times in result.overhead.items()} == {
        "numpy": {"tacops", "plain", "threads"}
    }
    assert all(0 < seconds < 0.01 for seconds in result.overhead["numpy"].values())
    assert set(result.beside_blas) == {"alone", "after", "timeout"}
    assert all(seconds > 0 for seconds in result.beside_blas.values())
    assert not result.beside_openmp  # PyTorch was not asked
    assert 0 < result.memory["work"] < result.memory["input"]
    (row,) = result.streams
    for seconds in (row.inside, row.complete):
        assert 0 < seconds["median"] <= seconds["worst"]
    frames, membranes = 3 * 32 * 32 * 2, 4 * (32 * 32 * 32 + 10)
    assert row.kept == [frames + membranes] * 2
    ((_, head, cells),) = stream_table(result)
    assert "KiB kept after 27 / 107 frames" in head
    assert [len(line) for line in cells] == [len(head)]
    assert from_dict(json.loads(stored_text(result)), "it").streams == result.streams
    (slope,) = result.sweep
    assert (slope.subject, slope.values) == ("tacops numpy", [1, 2, 4])
