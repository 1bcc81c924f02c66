"""bench speed: what is stored and derived, tables and plots, the commands."""

from __future__ import annotations

import gzip
import io
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import COMMANDS, main
from bench.shared.machine import machine
from bench.shared.page import markers
from bench.shared.results import ResultError, read_content, stem, write_content
from bench.speed.command import choose
from bench.speed.extended import tables
from bench.speed.peers import PEERS, PLAIN
from bench.speed.report import case_rows, conditions, of_ceiling, print_result
from bench.speed.result import SpeedResult, SpeedRow, from_dict
from bench.speed.run import settings
from bench.speed.sweep import AXES, fit
from bench.speed.targets import targets
from bench.timing.cases import CASES, EXACT, describe_case
from bench.timing.pool import Worker, environment
from bench.timing.subject import Entry, Tacops, fires
from bench.timing.times import Times
from tacops._files.damage import LARGEST
from tests.support.processes import run_script
from tests.support.speed_subjects import PLAN, SMALL, stored_text

BEGIN, END = markers("speed")


@pytest.fixture(scope="module")
def result() -> SpeedResult:
    """A result with round numbers: 10 ms for all of S3, unless said otherwise."""
    result = SpeedResult(settings(PLAN), machine())
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
        SpeedRow(
            "S3",
            name,
            kinds[name],
            mode,
            "only",
            Times.of([[value / 1e3], [value / 1e3, 1.0, 0.0]]),
            agree=0.999,
            shared=0.75,
        )
        for (name, mode), value in milliseconds.items()
    ]
    gemm = SpeedRow("S3", "ceilings", "ceiling", "exact", "BLAS", Times.of([[0.008]]))
    result.ceilings = [
        gemm,
        replace(gemm, mode="copy", times=Times.of([[0.02]])),
        replace(gemm, mode="sgemm", times=Times.of([[0.05]])),
    ]
    result.overhead = {"numpy": {"tacops": 90e-6, "plain": 50e-6, "threads": 160e-6}}
    result.beside_blas = {"alone": 0.007, "after": 0.015, "timeout": 0.008}
    result.beside_openmp = {"alone": 0.006, "after": 0.016, "timeout": 0.009}
    result.memory = {"input": 100, "unfolded": 900, "work": 10, "work_2T": 10, "work_2B": 20}
    result.sweep = [fit("tacops numpy", AXES[0], (4, 8, 16), (1.0, 2.0, 4.0))]
    return result


# what is stored


def test_results_survive_a_file(result: SpeedResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(stored_text(result))
    assert stored_text(from_dict(read_content(path), "it")) == path.read_text()
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


def test_older_results_are_read(result: SpeedResult) -> None:
    """Their rows hold every time, visit by visit."""
    content = json.loads(stored_text(result))
    for row in [*content["rows"], *content["ceilings"]]:
        row["rounds"] = [[row.pop("times")["median"]], [1.0, 0.0]]
    del content["streams"]
    again = from_dict({**content, "schema": 2}, "it")
    assert not again.streams
    assert not tables(again)
    assert [row.seconds for row in again.rows] == [row.seconds for row in result.rows]
    assert {row.times.calls for row in again.rows} == {3}


def test_results_may_be_compressed(result: SpeedResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json.gz"
    write_content(path, stored_text(result))
    assert stem(path) == stem(tmp_path / "result.json") == tmp_path / "result"
    assert path.stat().st_size < len(stored_text(result)) / 2
    assert read_content(path) == json.loads(stored_text(result))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ResultError, match=r"result\.json\.gz cannot be read"):
        read_content(path)
    path.write_bytes(gzip.compress(bytes(LARGEST + 1)))
    with pytest.raises(ResultError, match="larger than 64 MiB"):
        read_content(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is no result"),
        ('{"benchmark": "tacops speed", "schema": 0}', "has schema 0"),
        ('{"benchmark": "tacops speed", "schema": 3}', "is incomplete"),
    ],
)
def test_files_that_are_no_results(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(ResultError, match=message):
        from_dict(read_content(path), "it")


# what is derived


def test_targets_are_computed_from_the_numbers(result: SpeedResult) -> None:
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
    plain = found["time over plain code in the same library, its worst mode"]
    assert plain.limits == pytest.approx({"numpy S3 preserve4": 1.05}), "0.2 ms of call and threads to 4 ms"


def test_targets_without_numbers_are_not_met_and_not_missed() -> None:
    assert {target.met for target in targets(SpeedResult(settings(PLAN), machine()))} == {None}


def test_rows_compare_with_ceiling_peer_and_exact(result: SpeedResult) -> None:
    rows = {row[:2]: row for row in case_rows(result, "S3")}
    row = rows["collapse K=16", "tacops numpy"]
    assert row[6:] == ("30.00 x", "20.00 x", "75.00%")
    assert [name for mode, name in rows if mode == "exact"] == ["tacops numpy", "other", "plain numpy", "slower"]


def test_report_is_printed(result: SpeedResult) -> None:
    from rich.console import Console

    console = Console(record=True, width=160, file=io.StringIO())
    print_result(console, result)
    text = console.export_text()
    for part in ("S3: T 16", "Targets", "NOT MET", "Growth", "Peak memory", conditions(result)[0][:40]):
        assert part in text


def test_roofline_is_drawn(result: SpeedResult, tmp_path: Path) -> None:
    roofline = pytest.importorskip("bench.speed.roofline", reason="needs matplotlib")
    svg, png = roofline.save_plots(result, tmp_path / "speed")
    assert "products alone" in svg.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")


# the commands


@pytest.fixture
def stored(result: SpeedResult, tmp_path: Path) -> str:
    path = tmp_path / "result.json"
    path.write_text(stored_text(result))
    return str(path)


@pytest.mark.parametrize("full", [False, True])
def test_table_goes_between_the_markers(full: bool, stored: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nwhat was there\n{END}\nafter\n")
    arguments = ["table", stored, str(page), *(["--full"] if full else [])]
    assert main([*arguments, "--check"]) == 1
    assert main(arguments) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "what was there" not in text
    assert "| tacops, exact | 10 (numpy) |" in text or full
    assert ("| exact | tacops numpy | 10 |" in text) == full
    assert ("### Targets" in text) == full
    assert main([*arguments, "--check"]) == 0
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| tacops numpy")}
    assert len(widths) <= 1


def test_plot_is_drawn_again(stored: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["table", stored, "--plot", str(tmp_path / "again")]) == 0
    assert {path.name for path in tmp_path.glob("again.*")} == {"again.svg", "again.png"}


def test_table_refuses_what_it_cannot_use(stored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("no markers")
    assert main(["table", stored, str(page)]) == 2
    assert "must have one line" in capsys.readouterr().err
    assert main(["table", stored, "--check"]) == 2
    assert "a PAGE.md must be named" in capsys.readouterr().err
    assert main(["table", str(tmp_path / "absent.json")]) == 2
    assert page.read_text() == "no markers"


def test_unknown_backend_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "--backend", "nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


def test_what_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    entries, missing = choose(["numpy"], peers=False)
    assert [entry.name for entry in entries] == ["tacops numpy", "tacops numpy, no Numba", "plain numpy", "ceilings"]
    monkeypatch.setattr("bench.speed.command.find_spec", lambda name: None)
    entries, missing = choose(["numpy"], peers=False)
    assert [entry.name for entry in entries] == ["tacops numpy", "plain numpy", "ceilings"]
    assert not missing
    entries, missing = choose(["numpy"], peers=True)
    assert {entry.name for entry in entries} | set(missing) >= set(PEERS)


def test_commands_are_listed() -> None:
    assert {"speed", "table"} <= set(COMMANDS)


@pytest.mark.parametrize("entry", [*PLAIN.values(), *PEERS.values()], ids=lambda entry: entry.name)
def test_every_other_library_is_described(entry: Entry) -> None:
    assert entry.note
    assert (entry.kind == "plain") or entry.install


NO_NUMBA = Entry("tacops numpy, no Numba", "tacops", "bench.timing.subject:WithoutNumba")


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


def test_without_numba_no_loop_is_compiled() -> None:
    """Neither the neurons' loops nor those of layers that follow their spikes, though Numba is installed."""
    program = """
import sys
from bench.timing.cases import EXACT
from bench.timing.subject import WithoutNumba
from tacops.backends._cpu import choose
from tests.support.speed_subjects import SMALL

subject = WithoutNumba()
with choose.force("events"):
    for variant in subject.variants(SMALL["S1"], EXACT):
        variant.call()
print([name for name, module in sys.modules.items() if name.split(".")[0] == "numba" and module])
"""
    assert run_script(program, preamble="").split() == ["[]"]


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.5, "50%"), (1.04, "104%"), (18.49, "> 100%")])
def test_no_percentage_of_a_ceiling_that_was_none(value: float | None, text: str) -> None:
    assert of_ceiling(value) == text
