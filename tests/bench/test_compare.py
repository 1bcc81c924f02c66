"""bench compare: numbers, spikes, and files that are no results."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.compare.data import ceilings, common_layers, speeds, speedups, spikes
from bench.machine.parts import Job
from bench.machine.result import as_json, read, sealed
from bench.shared.results import ResultError
from bench.spikes import digests as digest
from tacops._files.damage import LARGEST
from tests.support.compare_results import compared, content, flipped, steps, store

# numbers


def test_numbers(two: list[Path]) -> None:
    machines = compared(two)
    assert [machine.label for machine in machines] == ["1: one", "2: two"]
    assert common_layers(machines) == ["S1", "S4"]
    assert speeds(machines, "S1")["exact"] == {
        "numpy": {"1: one": 8.0, "2: two": 4.0},
        "mlx": {"1: one": 16.0, "2: two": 8.0},
    }
    faster = speedups(machines)
    assert faster["collapse K=16"]["numpy"]["1: one"] == pytest.approx(4.0)  # of 8 and 2
    assert faster["preserve K=4"]["mlx"]["2: two"] == pytest.approx(2.0)
    assert faster["shipped network, collapse K=16"]["mlx"]["1: one"] == 6.5
    assert "exact" not in faster
    assert ceilings(machines)["exact"]["numpy"]["1: one"] == pytest.approx(50.0)  # of 25 and 100


def test_means_are_over_layers_that_all_have(tmp_path: Path) -> None:
    machines = compared(
        [store(tmp_path / "a.json", content("one")), store(tmp_path / "b.json", content("two", steps(layers=("S1",))))]
    )
    assert common_layers(machines) == ["S1"]
    assert speedups(machines)["collapse K=16"]["numpy"] == {"1: one": pytest.approx(8), "2: two": pytest.approx(8)}


def test_names_that_are_equal_are_told_apart(tmp_path: Path) -> None:
    paths = [store(tmp_path / "a.json", content()), store(tmp_path / "b.json", content(of=steps(4.0)))]
    assert [machine.label for machine in compared(paths)] == ["1: one (a.json)", "2: one (b.json)"]


# spikes


def test_identical_spikes(two: list[Path]) -> None:
    fired = spikes(compared(two))
    assert fired.identical
    cases = len(digest.CASES)
    assert fired.sentence == (
        f"Identical: 2 machines, 4 backends in all, fired the same spikes and left the same membranes in all {cases} cases."
    )


@pytest.mark.parametrize("case", ["exact", "network-preserve4"])
def test_the_first_case_that_differs_is_named(case: str, two: list[Path], tmp_path: Path) -> None:
    fired = spikes(compared([*two, store(tmp_path / "c.json", flipped(case))]))
    assert not fired.identical
    usual = f"{digest.load_reference()[case]['fired']:,}"
    assert fired.sentence == (
        f"NOT identical. The first case that differs is {case}: mlx on 3: other: other spikes (5 fired, {usual} expected)."
    )
    assert fired.said["1: one", "numpy"] == {}


def test_membranes_inputs_and_gaps_are_told_apart(two: list[Path], tmp_path: Path) -> None:
    membrane = flipped("exact", membrane="f" * 64)
    inputs = flipped("collapse4", "numpy", inputs="f" * 64)
    gap = steps()
    del gap[Job("digests", "mlx")]["result"]["cases"]["linear-exact"]
    none = {job: step for job, step in steps().items() if job.part != "digests"}
    machines = compared(
        [
            *two,
            store(tmp_path / "c.json", membrane),
            store(tmp_path / "d.json", inputs),
            store(tmp_path / "e.json", content("gap", gap)),
            store(tmp_path / "f.json", content("none", none)),
        ]
    )
    fired = spikes(machines)
    assert fired.said["3: other (c.json)", "mlx"] == {"exact": "the same spikes, but another membrane"}
    assert fired.said["4: other (d.json)", "numpy"] == {"collapse4": "other inputs: the case itself is another one"}
    assert fired.said["5: gap", "mlx"] == {"linear-exact": "not run"}
    assert fired.sentence.endswith("Without digests, so not compared: 6: none.")
    assert spikes([machines[-1]]).sentence.startswith("No file holds digests of spikes.")


# files that are no results


def broken_files() -> dict[str, tuple[bytes, str]]:
    """Content and what is said of it."""
    whole = content()
    text = as_json(whole)
    newer = {**whole, "schema": 2, "parts": []}
    lacking = {key: value for key, value in whole.items() if key != "parts"}
    slower = copy.deepcopy(whole)
    slower["parts"]["speed"]["all"]["result"]["derived"][0]["median_seconds"] = 1.0
    negative = copy.deepcopy(slower)
    negative["parts"]["speed"]["all"]["result"]["derived"][0]["median_seconds"] = -1.0
    escape = sealed({**whole, "name": "a\x1b[31mb"})
    lone = sealed({**whole, "name": "a\ud800b"})
    return {
        "empty": (b"", "is empty"),
        "truncated": (text[: len(text) // 2].encode(), "is no JSON, or was cut off or damaged"),
        "binary": (b"\x00\xff\xfe" * 50, "is no JSON"),
        "not-a-number": (text.replace(": 8.0", ": NaN").replace(": 0.25", ": NaN", 1).encode(), "NaN is no JSON"),
        "infinite": (text.replace(": 0.25", ": 1e999", 1).encode(), "1e999 is beyond the range of numbers"),
        "long": (text.replace(": 8.0", ": 1" + "0" * 400, 1).encode(), "is an integer of more than 64 bits"),
        "nested": (text.replace(": 8.0", ": " + "[" * 300 + "]" * 300, 1).encode(), "more than 64 levels"),
        "twice": (text.replace("{", '{"schema": 1, ', 1).encode(), "the key 'schema' is there twice"),
        "deep": (b"[" * 200_000, "is no JSON"),
        "foreign": (
            b'{"benchmark": "tacops speed", "schema": 1}',
            "no result of python -m bench run; it says 'tacops speed'",
        ),
        "list": (b"[1, 2]", "is JSON, but no result of python -m bench run"),
        "newer": (json.dumps(newer).encode(), "has schema 2, this version of tacops reads 1"),
        "older": (json.dumps({**whole, "schema": 0}).encode(), "at schema: 1 was expected"),
        "lacking": (json.dumps(lacking).encode(), "'parts' is a required property"),
        "changed": (json.dumps(slower).encode(), "its checksum is wrong"),
        "negative": (json.dumps(sealed(negative)).encode(), "-1.0 is less than"),
        "escape": (json.dumps(escape).encode(), "at name: "),
        "surrogate": (json.dumps(lone).encode(), "at name: "),
        "large": (b" " * (LARGEST + 1), "is larger than 64 MiB"),
    }


BROKEN = broken_files()


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_with_a_file_is_one_sentence(
    kind: str, two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, message = BROKEN[kind]
    path = tmp_path / f"{kind}.json"
    path.write_bytes(raw)
    with pytest.raises(ResultError, match=re.escape(message)):
        read(path)
    assert main(["compare", str(two[0]), str(path), str(two[1]), "--no-html"]) == 1
    out, err = capsys.readouterr()
    assert "Identical: 2 machines" in out
    assert len(err.splitlines()) == 1
    assert len(err) < 500
    assert str(path) in err
    assert err.isprintable() or err.rstrip("\n").isprintable()


def test_missing_file_folder_and_same_file_twice(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "twin.json"
    twin.write_bytes(two[0].read_bytes())
    arguments = [str(two[0]), str(tmp_path / "absent.json"), str(tmp_path), str(twin), "--no-html"]
    assert main(["compare", *arguments]) == 1
    err = capsys.readouterr().err
    assert "absent.json cannot be read: No such file" in err
    assert "Is a directory" in err
    assert f"{twin} holds the same result as a.json" in err
    assert main(["compare", str(tmp_path / "absent.json")]) == 2
    assert not (tmp_path / "comparison.html").exists()


def test_exit_code_says_that_spikes_differ(two: list[Path], tmp_path: Path) -> None:
    assert main(["compare", *map(str, two), "--no-html"]) == 0
    other = store(tmp_path / "c.json", flipped("collapse16"))
    assert main(["compare", str(two[0]), str(other), "--no-html"]) == 1
