"""bench accuracy: statistics, verdicts, stored results and tables."""

from __future__ import annotations

import copy
import doctest
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main
from bench.accuracy.result import AccuracyResult, Spread, as_json, from_dict
from bench.shared.results import ResultError, read_content
from tests.support import ROOT

# statistics


def stored(advice: tuple[str | None, int | None], **right: list[float]) -> AccuracyResult:
    """A result of one task with these accuracies."""
    about = {"training": 80, "tested": 40, "parameters": 10, "epoch_seconds": [1.0], "load": 1.0, "seconds": 60.0}
    trained = {
        mode: [{"run": run, "accuracy": value, "curve": [value], **about} for run, value in enumerate(values)]
        for mode, values in right.items()
    }
    times = {kind: {mode: [3.0, 1.0, 2.0] for mode in right} for kind in ("train", "infer", "layer")}
    times["train"] = {mode: [0.5] if mode != "exact" else [3.0, 1.0, 200.0] for mode in right}
    found = {"mode": advice[0], "chunk_size": advice[1], "p_value": 0.005, "effect_size": 0.44, "load": 1.0}
    task = {
        "title": "Tiny | small",
        "classes": 4,
        "settings": {"time_steps": 16, "folds": 0, "epochs": 1},
        "advice": {**found, "seconds": 1.0},
        "times": {**times, "load": 3.0, "seconds": 1.0},
        "trained": trained,
    }
    settings = {
        "versions": {"jax": "1", "tacops": "2"},
        "curve": 1000,
        "rounds": 7,
        "calls": 2,
        "channels": [1, 16, 32],
    }
    settings |= {"layer": {"beta": 0.9, "threshold": 1.0}, "allocator": "any"}
    return AccuracyResult(settings, {"processor": "P", "cores": 2, "platform": "L"}, {"mnist": task})


def test_differences_are_taken_run_by_run() -> None:
    result = stored(("collapse", 16), exact=[0.90, 0.80, 0.70], collapse4=[0.89, 0.79, 0.69])
    found = result.difference("mnist", "collapse4", "exact")
    assert found.mean == pytest.approx(-0.01)
    assert found.deviation == pytest.approx(0, abs=1e-12)
    assert Spread.of(list(result.accuracies("mnist", "exact").values())).deviation == pytest.approx(0.1)


def test_speed_is_a_ratio_of_medians() -> None:
    result = stored(("collapse", 16), exact=[0.9], collapse4=[0.9])
    assert result.speedup("mnist", "collapse4", "train") == 3.0 / 0.5
    assert result.speedup("mnist", "collapse4", "infer") == 1.0


EXACT = [0.90, 0.91, 0.92]

LOW, HIGH, MIXED, BEST = [0.70, 0.71, 0.72], [0.80, 0.81, 0.82], [0.75, 0.81, 0.69], [0.98, 0.99, 1.00]


@pytest.mark.parametrize(
    ("advice", "right", "expected"),
    [
        (("preserve", 3), {"preserve2": HIGH, "collapse2": LOW}, ("preserve2", "preserve2", "confirmed")),
        (("preserve", 2), {"preserve2": LOW, "collapse2": HIGH}, ("preserve2", "preserve2", "contradicted")),
        (("preserve", 4), {"preserve4": LOW, "collapse4": MIXED}, ("preserve4", "preserve4", "no difference")),
        # K = 16 has no preserve of its own: modes are compared at the next K that has
        (
            ("collapse", 16),
            {"collapse16": LOW, "collapse4": HIGH, "preserve4": LOW},
            ("collapse16", "collapse4", "confirmed"),
        ),
        (
            ("collapse", 16),
            {"collapse16": HIGH, "collapse2": LOW, "preserve2": HIGH},
            ("collapse16", "collapse2", "contradicted"),
        ),
        # K = 1 is the exact simulation, which stands against the best of the others
        (("preserve", 1), {"collapse2": LOW, "preserve2": LOW}, ("exact", "exact", "confirmed")),
        (("preserve", 1), {"collapse2": LOW, "preserve2": BEST}, ("exact", "exact", "contradicted")),
        (("preserve", 1), {"shuffled": LOW}, (None, None, "not trained")),
        (("collapse", 16), {"collapse16": LOW}, ("collapse16", None, "not trained")),
        ((None, None), {"collapse16": LOW}, (None, None, "not trained")),
    ],
)
def test_verdicts(advice: Any, right: dict[str, list[float]], expected: tuple[str | None, str | None, str]) -> None:
    result = stored(advice, exact=EXACT, **right)
    verdict = result.verdict("mnist")
    assert (verdict.nearest, verdict.pair and verdict.pair[0], verdict.word) == expected
    if verdict.nearest:
        assert verdict.cost == result.difference("mnist", verdict.nearest, "exact")


# stored results and tables


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A stored result."""
    path = tmp_path / "result.json"
    right = {"exact": EXACT, "collapse2": [0.8, 0.85, 0.9], "preserve2": [0.8, 0.8, 0.8]}
    path.write_text(as_json(stored(("preserve", 2), **right)))
    return path


def test_table_of_a_stored_result(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- accuracy:begin -->\nold\n<!-- accuracy:end -->\nafter\n")
    command = ["table", str(file), str(page), "--full"]
    assert main([*command, "--check"]) == 1
    assert main(command) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- accuracy:begin -->\n### All tasks\n")
    assert "\n<summary>Tiny | small: 4 classes, T = 16" in text
    assert text.endswith("<!-- accuracy:end -->\nafter\n")
    assert "| collapse K=2 | 85.0 ± 5.0 | -6.0 ± 4.0 | 1 | 6.0 x | 1.0 x | 1.0 x | 16 |" in text
    assert "| preserve K=2 | 80.0 ± 0.0 | -11.0 ± 1.0 | 1 | 6.0 x | 1.0 x | 1.0 x | 16 |" in text
    assert "| preserve K=2: -11.0 ± 1.0 | preserve K=2 over collapse K=2: -5.0 ± 5.0 | no difference |" in text
    assert "| +1.6 | K=2: -6.0 ± 4.0 |" in text
    assert main([*command, "--check"]) == 0
    assert main([*command[:-1], "--check"]) == 1
    capsys.readouterr()
    assert main(["table", str(file)]) == 0
    assert "| Tiny / small | 91.0 ± 1.0 | 85.0 ± 5.0 | 80.0 ± 0.0 | preserve K=2 |" in capsys.readouterr().out


def without(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The content without one of its parts."""
    changed = copy.deepcopy(content)
    inner = changed
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: {**content, "benchmark": "tacops run"}, "is no result of python -m bench accuracy"),
        (lambda content: {**content, "schema": 99}, "has schema 99"),
        (lambda content: without(content, "machine"), "is incomplete"),
        (lambda content: without(content, "tasks", "mnist", "trained", "exact"), "is incomplete"),
        (lambda content: without(content, "tasks", "mnist", "times", "train"), "is incomplete"),
        (lambda content: [], "is no result"),
    ],
)
def test_a_foreign_or_damaged_result(
    file: Path, change: Callable[[Any], Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(ResultError, match=message):
        from_dict(read_content(file), "it")
    assert main(["table", str(file)]) == 2
    assert message.removesuffix(" accuracy") in capsys.readouterr().err


def test_a_page_without_markers(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    assert main(["table", str(file), str(page)]) == 2
    assert "must have one line" in capsys.readouterr().err
    assert page.read_text() == "nothing\n"


WITH_EXAMPLES = [path for path in sorted((ROOT / "bench").rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found = doctest.testmod(module, extraglobs={"np": np}, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0
