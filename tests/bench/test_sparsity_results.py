"""bench sparsity: crossovers, the conclusion, stored results, tables, the command."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.shared.files import write_whole
from bench.shared.machine import machine
from bench.shared.page import markers
from bench.shared.results import ResultError, read_content
from bench.sparsity.cases import DENSE, LAYERS, STRATEGIES
from bench.sparsity.command import add_arguments, choose, make_plan
from bench.sparsity.conclusion import conclusion
from bench.sparsity.result import (
    Crossover,
    SparsityResult,
    SparsityRow,
    as_dict,
    as_json,
    crossover,
    from_dict,
    percent,
)
from bench.sparsity.run import SparsityPlan, choose_contenders
from bench.timing.cases import CASES, describe_case
from bench.timing.times import Times
from tests.support.sparsity_cases import SMALL

BEGIN, END = markers("sparsity")

# results


def synthetic(
    times: Callable[[str, str, float], float], densities: tuple[float, ...] = (0.001, 0.01, 0.1)
) -> SparsityResult:
    """A result whose medians are given by (backend, contender, density), on S3 with independent spikes."""
    result = SparsityResult({"environment": {}, "hopeless": 4.0}, machine() | {"processor": "P", "cores": 2})
    result.subjects = {name: {"backend": name, "version": f"{name} 1"} for name in ("numpy", "jax")}
    result.cases = {"S3": describe_case(CASES["S3"])}
    for backend in ("numpy", "jax"):
        for name in ("dense", "collapse8", "scatter", "table"):
            for density in densities:
                seconds = times(backend, name, density)
                times_of = Times.of([[seconds, seconds], [seconds, 9.0]])
                result.rows.append(SparsityRow("S3", "iid", density, backend, name, "only", times_of))
    return result


def losing(backend: str, name: str, density: float) -> float:
    return {"dense": 0.01, "collapse8": 0.002}.get(name, 0.02) * (2 if backend == "jax" else 1)


def winning_below(backend: str, name: str, density: float) -> float:
    """NumPy's scatter takes 1 s times density: as long as dense at 1 %."""
    return density * 0.999 if (backend, name) == ("numpy", "scatter") else losing(backend, name, density)


def winning_always(backend: str, name: str, density: float) -> float:
    return 0.005 if (backend, name) == ("numpy", "table") else losing(backend, name, density)


def test_crossovers() -> None:
    flat = {0.001: 2.0, 0.01: 2.0, 0.1: 2.0}
    assert crossover({0.001: 3.0, 0.01: 3.0, 0.1: 3.0}, flat) == Crossover(False)
    assert crossover(flat, flat) == Crossover(False)
    assert crossover({0.001: 1.0, 0.01: 1.0, 0.1: 1.9}, flat) == Crossover(True)
    below = crossover({0.001: 0.5, 0.01: 1.0, 0.1: 4.0}, flat)
    assert (below.wins, below.low) == (True, None)
    assert below.high == pytest.approx(10**-1.5)
    between = crossover({0.001: 4.0, 0.01: 1.0, 0.1: 4.0}, flat)
    assert (between.low, between.high) == pytest.approx((10**-2.5, 10**-1.5), abs=1e-9)
    assert crossover({0.001: 1.0, 0.01: 8.0}, flat).high == pytest.approx(10 ** (-3 + 1 / 3))  # given up later
    assert crossover({}, flat) == Crossover(False)
    texts = [c.text((0.001, 0.1)) for c in (Crossover(False), Crossover(True), Crossover(True, None, 0.0316))]
    assert texts == ["none", "all (0.1 % to 10 %)", "3.2 %"]
    assert Crossover(True, 0.01).text((0.001, 0.1)) == "1 % to 10 %"
    assert percent(0.5) == "50 %"


def test_conclusion_where_nothing_wins() -> None:
    text = " ".join(conclusion(synthetic(losing)))
    assert text.startswith(
        "On this machine (P, 2 cores) no sparse strategy on any backend beats the fastest dense conv"
    )
    assert "0.1 % to 10 %, on S3" in text
    assert "numpy 0 of 1, jax 0 of 1" in text
    assert "TAC (collapse K=8) beats all of them at every density measured." in text
    assert "FINDING" not in text


def test_conclusion_where_one_wins_below_a_density_and_beats_aggregation_where_spikes_are_rare() -> None:
    text = " ".join(conclusion(synthetic(winning_below)))
    assert text.startswith("FINDING: sparse computation does beat dense convolution on this machine (P, 2 cores).")
    assert "S3 below 1 % (at most 10.0 x: numpy, event-driven scatter, at 0.1 %)" in text
    assert "No strategy beats dense above 1 %." in text
    assert "numpy 1 of 1, jax 0 of 1" in text
    beaten = "is beaten at some density in 1 of 1 pairs, at most 2.0 x: numpy, event-driven scatter, at 0.1 % (S3, "
    assert f"Even TAC (collapse K=8, an eighth of the convolutions) {beaten}independent spikes)." in text
    assert "TAC beats all strategies above 0.2 %." in text


def test_conclusion_where_one_wins_everywhere() -> None:
    text = " ".join(conclusion(synthetic(winning_always)))
    assert "S3 at every density up to 10 % (at most 2.0 x: numpy, packed bits and tables" in text
    assert "In 1 of 1 pairs of layer and structure (S3) a strategy still wins at the highest density measured." in text
    assert "TAC (collapse K=8) beats all of them" in text


def test_conclusion_where_one_beats_aggregation_everywhere() -> None:
    fast = synthetic(lambda *row: 1e-3 if row[:2] == ("jax", "scatter") else losing(*row))
    text = " ".join(conclusion(fast))
    assert "in 1 of 1 pairs, at most 2.0 x: jax, event-driven scatter, at 0.1 %" in text
    assert "; in 1 of them at the highest density, too." in text
    assert "TAC beats all" not in text


def test_conclusion_without_strategies() -> None:
    result = synthetic(losing)
    result.rows = [row for row in result.rows if row.contender == "dense"]
    assert conclusion(result) == ["No sparse strategy was measured against a dense convolution."]


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = synthetic(winning_below)
    content = as_dict(result, conclusion(result))
    write_whole(tmp_path / "r.json", as_json(content).encode())
    again = from_dict(read_content(tmp_path / "r.json"), "it")
    assert as_json(as_dict(again, conclusion(again))) == as_json(content)
    own = [c for c in content["crossovers"] if (c["backend"], c["strategy"]) == ("numpy", "scatter")]
    assert {c["against"]: c["wins"] for c in own}["dense, same backend"]
    assert from_dict(content, "it").rows == result.rows


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: "[]", "is no result of python -m bench sparsity"),
        (lambda text: text.replace('"schema": 2', '"schema": 3'), "has schema 3; this version reads 1, 2"),
        (lambda text: text.replace('"rows"', '"raws"'), "is damaged: 'rows'"),
        (lambda text: text.replace('"median": 0.02', '"median": "nine"'), "is damaged"),
        (lambda text: text.replace('"contender": "scatter"', '"contender": "hope"'), "is damaged: row S3, iid"),
    ],
)
def test_a_damaged_file_is_one_sentence(
    damage: Callable[[str], str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    path.write_text(damage(as_json(as_dict(synthetic(losing), []))))
    with pytest.raises(ResultError, match=message):
        from_dict(read_content(path), "it")
    assert main(["table", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"python -m bench table: {path}")
    assert said.count("\n") == 1


def test_tables_go_between_the_markers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, page = synthetic(winning_below), tmp_path / "page.md"
    (tmp_path / "r.json").write_text(as_json(as_dict(result, [])))
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    command = ["table", str(tmp_path / "r.json"), str(page)]
    assert main([*command, "--check"]) == 1
    assert main(command) == 0
    assert main([*command, "--check"]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| independent spikes | below 1 %; 10.0 x at 0.1 % (numpy, event-driven scatter) |" in text
    assert main([*command, "--full"]) == 0
    assert "FINDING: " in page.read_text()
    assert "| event-driven scatter | numpy | 1 % | 1 % | 0.2 % |" in page.read_text()
    page.write_text("no markers")
    assert main(command) == 2
    assert page.read_text() == "no markers"
    assert "must have one line" in capsys.readouterr().err


# the command


def test_sizes_and_time_of_the_plans() -> None:
    names = {contender.name for contender in choose_contenders(["table"], ["collapse8"])}
    assert names == {"dense", "collapse8", "table", *LAYERS}
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    quick = make_plan(parser.parse_args(["--quick"]))
    assert {contender.name for contender in quick.contenders} == {
        "dense",
        "collapse8",
        "preserve4",
        *STRATEGIES,
        *LAYERS,
    }
    plan = SparsityPlan(
        cases=list(CASES.values()),
        structures=["iid", "channels"],
        densities=(0.01, 0.1),
        contenders=[DENSE],
        seconds=60.0,
        rounds=(1, 1),
    )
    assert [workload.name for workload in plan.workloads(CASES["S1"])] == ["S1/iid/0.01", "S1/iid/0.1"]
    assert [workload.structure for workload in plan.workloads(CASES["S3"])] == ["iid", "iid", "channels", "channels"]


def test_backends_are_chosen() -> None:
    entries, missing = choose(["numpy"], None)
    assert ([entry.name for entry in entries], missing) == (["numpy"], {})
    with pytest.raises(ValueError, match="no sparse strategies are written for 'array_api'"):
        choose(["array_api"], None)
    assert main(["sparsity", "--backend", "abacus"]) == 2


@pytest.mark.parametrize(
    "option", [["--densities", "0"], ["--densities", "60%"], ["--minutes", "-1"], ["--size", "S9"]]
)
def test_bad_options_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sparsity", *option])
    assert option[0] in capsys.readouterr().err


def test_the_command_measures_a_small_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(CASES, "S1", SMALL["S1"])
    options = ["--backend", "numpy", "--size", "S1", "--densities", "1%", "0.5", "--strategies", "table", "frames"]
    assert main(["sparsity", "--quick", *options, "--structures", "events", "--json", str(tmp_path / "r.json")]) == 0
    out = capsys.readouterr().out
    assert "packed bits and tables" in out
    assert "compared with NumPy's dense one, bit for bit" in out
    result = from_dict(read_content(tmp_path / "r.json"), "it")
    assert result.failed == {}
    ways = set(LAYERS) if importlib.util.find_spec("numba") else {"rule", "by dense", "neurons"}
    assert {row.contender for row in result.rows} == {"dense", "collapse8", "preserve4", "table", "frames", *ways}
    assert "beats what the operator on NumPy does by its rule" in out or "would be beaten by more than" in out
    assert result.curve("S1", "events", "numpy", "table").keys() == {0.01, 0.5}
    assert json.loads((tmp_path / "r.json").read_text())["conclusion"] == conclusion(result)
    assert (tmp_path / "r.svg").read_text().count("event-camera-like frames") == 1
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
