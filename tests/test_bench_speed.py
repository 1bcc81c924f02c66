"""The speed benchmark's machinery: workers, schedule, results, targets, tables. NumPy only; times are not judged."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import COMMANDS, main
from bench.peers import PEERS, PLAIN
from bench.speed import choose
from bench.speed_cases import CASES, EXACT, MODES, TINY, Case, Mode
from bench.speed_pool import Session, SubjectError, Worker, WorkerDiedError, environment
from bench.speed_report import case_rows, conditions, print_result
from bench.speed_result import Result, ResultError, Row, as_json, describe_case, machine, read_json
from bench.speed_run import CEILINGS, Plan, run, settings
from bench.speed_subject import Entry, Subject, Tacops, UnsupportedError, Variant, fires
from bench.speed_table import BEGIN, END
from bench.speed_targets import targets
from bench.sweep import AXES, Axis, fit

SMALL = {case.name: replace(case, B=1, space=(4,) * len(case.space)) for case in CASES.values()}
PLAN = Plan([TINY], (), 1.0, rounds=(2, 2), visit=0.001, calls=3, pause=0.0, extras=False)


class Fake(Subject):
    """A library with two ways of which the second is faster, whose neurons fire always."""

    def __init__(self, deadly: str = "") -> None:
        self.deadly = deadly

    def version(self) -> str:
        """Of no library."""
        return "fake 1"

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """Fail in every way, by mode."""
        if mode.preserve:
            raise UnsupportedError("fake has no such mode")
        if mode.reproducible:
            raise RuntimeError("broken on purpose")
        if mode.chunk == 16 and self.deadly:
            print("the last words", flush=True)
            os._exit(3)
        out = np.ones((case.convolutions(mode), case.B, *case.space, case.c_out))

        def slow() -> Any:
            time.sleep(0.02)
            return out

        return [Variant("slow", slow, fires), Variant("fast", lambda: out, fires)]


def silent() -> Subject:
    """A library that takes too long to load."""
    time.sleep(60)
    return Fake()


FAKE = Entry("fake", "peer", "tests.test_bench_speed:Fake", note="It fires always.")
DEADLY = replace(FAKE, name="deadly", argument="deadly")
NUMPY = Entry("tacops numpy", "tacops", "bench.speed_subject:Tacops", "numpy")


@pytest.fixture
def worker() -> Iterator[Worker]:
    with closing(Worker(FAKE, {**environment(), "BENCH_SPEED_TEST": "1"})) as worker:
        assert worker.receive(60) == "fake 1"
        yield worker


@pytest.fixture(scope="module")
def result() -> Result:
    """A result with round numbers: 10 ms for all of S3, unless said otherwise."""
    result = Result(settings(PLAN), machine())
    milliseconds: dict[tuple[str, str], float] = {
        ("tacops numpy", "exact"): 10.0,
        ("tacops numpy", "collapse16"): 0.5,
        ("tacops numpy", "preserve4"): 8.0,
        ("tacops numpy", "reproducible"): 11.0,
        ("plain numpy", "exact"): 20.0,
        ("plain numpy", "preserve4"): 4.0,
        ("other", "exact"): 15.0,
        ("slower", "exact"): 30.0,
    }
    kinds = {"tacops numpy": "tacops", "plain numpy": "plain", "other": "peer", "slower": "peer"}
    result.subjects = {
        name: {"kind": kind, "version": f"{name} 1", "note": "As | it is."} for name, kind in kinds.items()
    }
    result.cases = {"S3": describe_case(CASES["S3"])}
    result.rows = [
        Row("S3", name, kinds[name], mode, "only", [[value / 1e3], [value / 1e3, 1.0, 0.0]], agree=0.999, shared=0.75)
        for (name, mode), value in milliseconds.items()
    ]
    gemm = Row("S3", "ceilings", "ceiling", "exact", "BLAS", [[0.008]])
    result.ceilings = [gemm, replace(gemm, mode="copy", rounds=[[0.02]]), replace(gemm, mode="sgemm", rounds=[[0.05]])]
    result.overhead = {"tacops": 90e-6, "plain": 50e-6}
    result.memory = {"input": 100, "unfolded": 900, "work": 10, "work_2T": 10, "work_2B": 20}
    result.sweep = [fit("tacops numpy", AXES[0], (4, 8, 16), (1.0, 2.0, 4.0))]
    return result


def stored_text(result: Result) -> str:
    """The text of a result's file."""
    return as_json(result, (target.as_dict() for target in targets(result)))


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
    peak = Session(NUMPY).peak(SMALL["S3"], EXACT)
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
    assert len(worker.ask("measure", TINY, EXACT, 4, True)) == 4


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
    with closing(Worker(Entry("mute", "peer", "tests.test_bench_speed:silent"), {})) as worker:
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
            assert 1 <= len(row.rounds) <= 2
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
    assert stored_text(read_json(path)) == path.read_text()
    assert any("preparing" in text for text in told)


def test_extras_and_sweep() -> None:
    short = Axis("K", "collapse", (1, 2, 4), "")
    plan = replace(PLAN, cases=[], axes=[short], seconds=60.0, extras=True)
    result = run(plan, [NUMPY, PLAIN["numpy"]], {}, lambda _: None)
    assert not result.failed
    assert set(result.overhead) == {"tacops", "plain"}
    assert 0 < result.memory["work"] < result.memory["input"]
    (slope,) = result.sweep
    assert (slope.subject, slope.values) == ("tacops numpy", [1, 2, 4])


# what is stored


def test_results_survive_a_file(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(stored_text(result))
    assert stored_text(read_json(path)) == path.read_text()
    content = json.loads(path.read_text())
    assert set(content) >= {
        "benchmark",
        "schema",
        "machine",
        "settings",
        "subjects",
        "rows",
        "ceilings",
        "derived",
        "targets",
    }
    derived = next(row for row in content["derived"] if (row["subject"], row["mode"]) == ("tacops numpy", "exact"))
    assert derived["effective_gflops"] == pytest.approx(CASES["S3"].flops / 0.01 / 1e9)
    assert derived["fraction_of_ceiling"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is no result"),
        ('{"benchmark": "tacops speed", "schema": 0}', "has schema 0"),
        ('{"benchmark": "tacops speed", "schema": 1}', "is incomplete"),
    ],
)
def test_files_that_are_no_results(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(ResultError, match=message):
        read_json(path)


# what is derived


def test_targets_are_computed_from_the_numbers(result: Result) -> None:
    found = {target.text: target for target in targets(result)}
    values: dict[str, tuple[dict[str, float], bool | None]] = {
        "exact on NumPy over the fastest SNN library": ({"S3": 1.5}, True),
        "exact on NumPy, share of the matrix products alone": ({"S3": 0.8}, True),
        "exact on the fastest backend over the fastest SNN library": ({"S3 numpy": 1.5}, False),
        "collapse K = T = 16 over exact, same backend": ({"numpy S3": 20.0}, True),
        "collapse K = T = 16 over the fastest SNN library's exact": ({"numpy S3": 30.0}, True),
        "preserve K = 4 over exact, same backend": ({"numpy S3": 1.25}, False),
        "time over plain code in the same library, its worst mode": ({"numpy S3 preserve4": 2.0}, False),
        "reproducible over default": ({"numpy S3": 1.1}, True),
        "overhead of a call on NumPy": ({"numpy": 40.0}, True),
        "peak memory beside the result over the input, on NumPy": ({"numpy": 0.1}, True),
        "growth of that memory when T or B doubles": ({"T": 1.0, "B": 2.0}, False),
    }
    assert set(found) == set(values)
    for text, (measured, met) in values.items():
        assert found[text].values == pytest.approx(measured), text
        assert found[text].met is met, text
    assert found["exact on NumPy over the fastest SNN library"].limits == pytest.approx({"S3": 1.5 / 0.8})


def test_targets_without_numbers_are_not_met_and_not_missed() -> None:
    assert {target.met for target in targets(Result(settings(PLAN), machine()))} == {None}


def test_rows_compare_with_ceiling_peer_and_exact(result: Result) -> None:
    rows = {row[:2]: row for row in case_rows(result, "S3")}
    row = rows["collapse K=16", "tacops numpy"]
    assert row[6:] == ("30.00 x", "20.00 x", "75.00%")
    assert [name for mode, name in rows if mode == "exact"] == ["tacops numpy", "other", "plain numpy", "slower"]


def test_report_is_printed(result: Result) -> None:
    from rich.console import Console

    console = Console(record=True, width=160, file=io.StringIO())
    print_result(console, result)
    text = console.export_text()
    for part in ("S3: T 16", "Targets", "NOT MET", "Growth", "Peak memory", conditions(result)[0][:40]):
        assert part in text


def test_roofline_is_drawn(result: Result, tmp_path: Path) -> None:
    roofline = pytest.importorskip("bench.roofline", reason="needs matplotlib")
    svg, png = roofline.save_plots(result, tmp_path / "speed")
    assert "products alone" in svg.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")


# the commands


@pytest.fixture
def stored(result: Result, tmp_path: Path) -> str:
    path = tmp_path / "result.json"
    path.write_text(stored_text(result))
    return str(path)


@pytest.mark.parametrize("full", [False, True])
def test_table_goes_between_the_markers(full: bool, stored: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nwhat was there\n{END}\nafter\n")
    arguments = ["speed-table", stored, "--into", str(page), *(["--full"] if full else [])]
    assert main([*arguments, "--check"]) == 1
    assert main(arguments) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "what was there" not in text
    assert "| 10 |" in text
    assert ("### Targets" in text) == full
    assert main([*arguments, "--check"]) == 0
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| tacops numpy")}
    assert len(widths) <= 1


def test_plot_is_drawn_again(stored: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["speed-table", stored, "--plot", str(tmp_path / "again")]) == 0
    assert {path.name for path in tmp_path.glob("again.*")} == {"again.svg", "again.png"}


def test_table_refuses_what_it_cannot_use(stored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("no markers")
    assert main(["speed-table", stored, "--into", str(page)]) == 2
    assert "must have one line" in capsys.readouterr().err
    assert main(["speed-table", str(tmp_path / "absent.json")]) == 2
    assert page.read_text() == "no markers"


def test_unknown_backend_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "--backend", "nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


def test_what_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    entries, missing = choose(["numpy"], peers=False)
    assert [entry.name for entry in entries] == ["tacops numpy", "tacops numpy, no Numba", "plain numpy", "ceilings"]
    monkeypatch.setattr("bench.speed.find_spec", lambda name: None)
    entries, missing = choose(["numpy"], peers=False)
    assert [entry.name for entry in entries] == ["tacops numpy", "plain numpy", "ceilings"]
    assert not missing
    entries, missing = choose(["numpy"], peers=True)
    assert {entry.name for entry in entries} | set(missing) >= set(PEERS)


def test_commands_are_listed() -> None:
    assert {"speed", "speed-table"} <= set(COMMANDS)


@pytest.mark.parametrize("entry", [*PLAIN.values(), *PEERS.values()], ids=lambda entry: entry.name)
def test_every_other_library_is_described(entry: Entry) -> None:
    assert entry.note
    assert (entry.kind == "plain") or entry.install


NO_NUMBA = Entry("tacops numpy, no Numba", "tacops", "bench.speed_subject:WithoutNumba")


@pytest.mark.parametrize("entry", [*PLAIN.values(), *PEERS.values(), NO_NUMBA], ids=lambda entry: entry.name)
def test_installed_libraries_run(entry: Entry) -> None:
    """Each in a process of its own, as in the benchmark: the same neuron, or one that is known to differ."""
    if not entry.found:
        pytest.skip(f"{entry.name} is not installed")
    case = SMALL["S1"]
    (mine,) = Tacops("numpy").variants(case, EXACT)
    expected = fires(mine.call()[0])
    with closing(Worker(entry, environment())) as worker:
        worker.receive(300)
        answer: dict[str, Any] = worker.ask("prepare", case, EXACT)
    spikes = np.unpackbits(np.frombuffer(answer["spikes"], np.uint8), count=expected.size).reshape(expected.shape)
    lag = 1 if entry.name == "spyx" else 0
    different = np.mean(spikes[lag:] != expected[: len(expected) - lag])
    assert different < (0.05 if entry.name in ("spyx", "snnTorch") else 1e-3)
