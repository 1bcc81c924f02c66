"""bench accuracy: checkpoints, and a run that was interrupted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.accuracy import command as accuracy
from bench.accuracy.result import from_dict
from bench.accuracy.run import LoadedTask
from bench.shared.results import read_content
from bench.shared.store import CheckpointError, Store
from tests.support.accuracy_tasks import TINY


def test_a_checkpoint_is_taken_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "folder")
    assert store.load("a", {"epochs": 3}) is None
    store.save("a", {"epochs": 3, "layer": {"beta": 0.9}, "pair": (1, 2)}, {"accuracy": 0.1 + 0.2})
    assert store.load("a", {"pair": (1, 2), "epochs": 3, "layer": {"beta": 0.9}}) == {"accuracy": 0.1 + 0.2}


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("a", {"epochs": 3, "layer": {"beta": 0.9}}, {})
    with pytest.raises(CheckpointError, match=r"other settings \(layer.beta: 0.9 there, 0.8 here\); delete it or"):
        store.load("a", {"epochs": 3, "layer": {"beta": 0.8}})
    with pytest.raises(CheckpointError, match=r"rate: None there, 0.1 here"):
        store.load("a", {"epochs": 3, "layer": {"beta": 0.9}, "rate": 0.1})


def edit(text: str) -> str:
    return text.replace('"accuracy": 0.5', '"accuracy": 0.9')


@pytest.mark.parametrize("damage", [lambda text: text[:-20], lambda text: "", lambda text: "[]", edit])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Callable[[str], str]) -> None:
    store = Store(tmp_path)
    store.save("a", {"epochs": 3}, {"accuracy": 0.5})
    store.path("a").write_text(damage(store.path("a").read_text()))
    with pytest.raises(CheckpointError, match=r"a\.json is damaged .* delete it"):
        store.load("a", {"epochs": 3})


def test_a_checkpoint_that_cannot_be_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).save("a", {}, {})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Offer the tiny task alone, with a training that only writes down what it was asked for."""
    calls: list[tuple[str, int]] = []

    def train(self: LoadedTask, name: str, run: int, tick: Any) -> dict[str, Any]:
        calls.append((name, run))
        about = {"training": 80, "tested": 40, "parameters": 10, "step_seconds": 1.0}
        right = {"exact": 0.9, "collapse4": 0.8, "preserve4": 0.85}[name] + 0.01 * run
        return {"accuracy": right, "curve": [0.5, right], "losses": [2.0, 1.0], "epoch_seconds": [1.0, 2.0], **about}

    def times(self: LoadedTask, names: list[str], rounds: int, tick: Any) -> dict[str, Any]:
        return {kind: {name: [2.0 / (1 + n)] for n, name in enumerate(names)} for kind in ("train", "infer", "layer")}

    monkeypatch.setattr(accuracy, "TASKS", {"tiny": TINY})
    monkeypatch.setattr(LoadedTask, "train", train)
    monkeypatch.setattr(LoadedTask, "times", times)
    return calls


def test_an_interrupted_run_goes_on(
    tiny: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["accuracy", "--work", str(tmp_path / "work"), "--json", str(tmp_path / "result.json")]
    train = LoadedTask.train

    def interrupted(self: LoadedTask, name: str, run: int, tick: Any) -> dict[str, Any]:
        if (name, run) == ("collapse4", 1):
            raise KeyboardInterrupt
        return train(self, name, run, tick)

    monkeypatch.setattr(LoadedTask, "train", interrupted)
    assert main(command) == 130
    assert "goes on from there" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "result.json").exists()
    monkeypatch.setattr(LoadedTask, "train", train)
    assert main(command) == 0
    assert tiny == [("exact", 0), ("exact", 1), ("collapse4", 0), ("collapse4", 1), ("preserve4", 0), ("preserve4", 1)]
    result = from_dict(read_content(tmp_path / "result.json"), "it")
    assert result.accuracies("tiny", "collapse4") == {0: 0.8, 1: 0.81}
    written = (tmp_path / "result.json").read_text()
    assert main(command) == 0
    assert len(tiny) == 6
    again = json.loads((tmp_path / "result.json").read_text())
    assert {**again, "machine": None} == {**json.loads(written), "machine": None}


def test_other_settings_stop_the_run(
    tiny: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["accuracy", "--work", str(tmp_path), "--seeds", "1", "--modes", "collapse4"]
    assert main(command) == 0
    assert tiny == [("exact", 0), ("collapse4", 0)]
    assert main([*command[:-1], "preserve4"]) == 0  # more of the same is no other setting
    assert tiny[2:] == [("preserve4", 0)]
    changed = replace(TINY, settings=replace(TINY.settings, rate=1e-3))
    monkeypatch.setattr(accuracy, "TASKS", {"tiny": changed})
    assert main(command) == 2
    assert "other settings (rate: 0.02 there, 0.001 here)" in capsys.readouterr().err
    assert len(tiny) == 3


def test_checkpoints_lie_beside_the_result(tiny: list[tuple[str, int]], tmp_path: Path) -> None:
    assert main(["accuracy", "--quick", "--json", str(tmp_path / "a.json")]) == 0
    assert (tmp_path / "a-quick-checkpoints" / "tiny-exact-0.json").exists()


@pytest.mark.parametrize("option", [["--seeds", "0"], ["--tasks", "none"], ["--modes", "collapse3"]])
def test_bad_options(option: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["accuracy", *option])


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing replaced but the data: train, time, advise, print, write and draw."""
    monkeypatch.setattr(accuracy, "TASKS", {"tiny": TINY})
    stem = tmp_path / "out" / "result"
    command = ["accuracy", "--modes", "preserve4", "--seeds", "1", "--json", f"{stem}.json", "--plot", str(stem)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Tiny: 4 classes, T = 16, 80 training and 40 test samples, 1 seed, 6 epochs" in printed
    result = from_dict(read_content(Path(f"{stem}.json")), "it")
    row = result.row("tiny", "preserve4")
    assert row.convolutions == 8
    assert 0 < row.train < 100
    assert result.verdict("tiny").advised == "collapse K=16"
    monkeypatch.setattr(LoadedTask, "advice", lambda _: {**result.tasks["tiny"]["advice"], "chunk_size": 4})
    assert main(["accuracy", "--advise", f"{stem}.json", "--json", str(tmp_path / "again.json")]) == 0
    again = from_dict(read_content(tmp_path / "again.json"), "it")
    assert again.verdict("tiny").advised == "collapse K=4"
    assert again.tasks["tiny"]["trained"] == result.tasks["tiny"]["trained"]
    names = {path.name for path in stem.parent.iterdir() if path.is_file()}
    assert names == {"result.json", "result.svg", "result.png", "result-curves.svg", "result-curves.png"}
    first = stem.with_suffix(".svg").read_bytes()
    assert main(["table", f"{stem}.json", "--plot", str(stem)]) == 0
    assert stem.with_suffix(".svg").read_bytes() == first
