"""``python -m bench accuracy``: tasks, training, checkpoints, statistics and tables; all on synthetic data."""

from __future__ import annotations

import copy
import doctest
import importlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from bench import accuracy, accuracy_run, model
from bench.__main__ import main
from bench.accuracy_model import aggregation, initial, logits, shapes
from bench.accuracy_modes import VARIANTS
from bench.accuracy_result import Result, Spread, as_json, read_json
from bench.accuracy_run import Bench
from bench.accuracy_store import CheckpointError, Store
from bench.accuracy_tasks import (
    RECORDING,
    SACCADE,
    SENSOR,
    TASKS,
    Data,
    Settings,
    Task,
    digits_of,
    saccades_of,
    shuffled,
)
from bench.encode import moving_dots, rate_code
from bench.speed_result import ResultError

FOLDS = Settings(0, 0, 1, folds=3, time_steps=4)


@pytest.fixture
def recordings() -> dict[str, Any]:
    """Seven recordings of 60 events, all of them different."""
    rng = np.random.default_rng(0)
    count, events = 7, 60
    t = np.sort(rng.integers(0, RECORDING + 2000, (count, events)), axis=1)
    return {
        "t": t.ravel().astype(np.uint32),
        "x": rng.integers(0, SENSOR, count * events).astype(np.uint8),
        "y": rng.integers(0, SENSOR, count * events).astype(np.uint8),
        "p": rng.integers(0, 2, count * events).astype(np.uint8),
        "offsets": np.arange(count + 1) * events,
        "labels": np.arange(count).astype(np.uint8),
    }


def quadrants(settings: Settings) -> Data:
    """Bright quadrants of small images: four classes that a network learns in seconds."""
    rng = np.random.default_rng(0)
    labels = np.arange(settings.training + settings.test) % 4
    images = rng.integers(0, 60, (len(labels), 8, 8))
    for n, label in enumerate(labels):
        images[n, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 150
    return Data(images.astype(np.uint8), labels.astype(np.uint8), settings.training)


TINY = Task("tiny", "Tiny", 4, ("exact", "collapse4", "preserve4"), 2, Settings(80, 40, 3, batch=20), quadrants, 1.0)


# tasks


def test_digits_are_cut_into_frames_of_equal_time(recordings: dict[str, Any]) -> None:
    data = digits_of(recordings, FOLDS)
    assert data.samples.shape == (7, 4, SENSOR, SENSOR, 2)
    assert data.labels.tolist() == list(range(7))
    expected = np.zeros_like(data.samples)
    for e in range(7 * 60):
        t = int(recordings["t"][e])
        if t < RECORDING:
            expected[e // 60, 4 * t // RECORDING, recordings["y"][e], recordings["x"][e], recordings["p"][e]] = True
    np.testing.assert_array_equal(data.samples, expected)


def test_saccades_have_merged_polarities_and_equal_counts(recordings: dict[str, Any]) -> None:
    data = saccades_of(recordings, FOLDS)
    assert data.samples.shape == (21, 4, SENSOR, SENSOR, 1)
    assert data.labels.tolist() == [0, 1, 2] * 7
    flipped = saccades_of({**recordings, "p": 1 - recordings["p"]}, FOLDS)
    np.testing.assert_array_equal(data.samples, flipped.samples)
    t, x, y = (recordings[name][:60] for name in "txy")
    for saccade in range(3):
        inside = np.flatnonzero(t // SACCADE == saccade)
        expected = np.zeros_like(data.samples[0])
        for place, e in enumerate(inside):
            expected[4 * place // len(inside), y[e], x[e], 0] = True
        np.testing.assert_array_equal(data.samples[saccade], expected)
        counts = data.samples[saccade].sum(axis=(1, 2, 3))
        assert counts.max() - counts.min() <= 2  # one by rounding, one where two events fell on one pixel


def test_a_saccade_without_events_is_silent(recordings: dict[str, Any]) -> None:
    early = {**recordings, "t": recordings["t"] // 4}
    assert not saccades_of(early, FOLDS).samples[2].any()


def test_reversals_have_the_same_sum_over_time(recordings: dict[str, Any]) -> None:
    data = saccades_of(recordings, FOLDS, reverse=True)
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 5] * 7
    forward, backward = data.samples[data.labels < 3], data.samples[data.labels >= 3]
    np.testing.assert_array_equal(forward[:, ::-1], backward)
    assert (forward != backward).any()


@pytest.mark.parametrize("reverse", [False, True])
def test_folds_are_split_by_recording(recordings: dict[str, Any], reverse: bool) -> None:
    data = saccades_of(recordings, FOLDS, reverse)
    assert data.groups is not None
    tested = []
    for run in range(3):
        chosen, test = data.split(run, FOLDS)
        assert not set(data.groups[chosen]) & set(data.groups[test])
        assert sorted([*chosen, *test]) == list(range(len(data.labels)))
        tested += test.tolist()
    assert sorted(tested) == list(range(len(data.labels)))
    windows = 6 if reverse else 3
    for group in range(7):
        of_one = data.samples[data.groups == group]
        assert len(of_one) == windows
        np.testing.assert_array_equal(of_one[:3], saccades_of(recordings, FOLDS).samples[3 * group : 3 * group + 3])


def test_a_quick_task_is_cut_down_and_still_split() -> None:
    task = TASKS["saccade"].quick()
    assert task.settings.training == 500
    data = Data(np.zeros((1200, 1, 1, 1, 1), np.bool_), np.zeros(1200, np.uint8), groups=np.arange(1200) // 3)
    chosen, tested = data.split(0, task.settings)
    assert (len(chosen), len(tested)) == (500, 240)
    assert set(task.modes) <= set(TASKS["saccade"].modes)
    assert TASKS["mnist"].quick().settings.epochs == 1


def test_a_given_test_set_is_the_same_for_all_seeds() -> None:
    data = quadrants(TINY.settings)
    for run in range(2):
        chosen, tested = data.split(run, TINY.settings)
        assert (chosen.tolist(), tested.tolist()) == (list(range(80)), list(range(80, 120)))


def test_grey_levels_are_rate_coded() -> None:
    data = quadrants(TINY.settings)
    chosen = np.array([3, 7])
    assert data.shape == (8, 8, 1)
    np.testing.assert_array_equal(data.frames(chosen, 5), rate_code(data.samples[chosen], seed=5))


def test_training_spikes_are_never_those_of_the_test() -> None:
    data = quadrants(TINY.settings)
    chosen, _ = data.split(0, TINY.settings)
    seen = [
        frames.tobytes()
        for run in range(2)
        for epoch in range(2)
        for frames, _ in accuracy_run.batches(data, chosen, TINY.settings, run, epoch)
    ]
    assert len(set(seen)) == len(seen) == 16


def test_shuffled_frames_are_the_same_frames(recordings: dict[str, Any]) -> None:
    data = digits_of(recordings, FOLDS)
    other = shuffled(data)
    assert (other.samples != data.samples).any()
    for before, after in zip(data.samples, other.samples, strict=True):
        assert sorted(frame.tobytes() for frame in before) == sorted(frame.tobytes() for frame in after)


def test_jitter_shifts_each_sample_by_itself() -> None:
    frames = np.zeros((2, 50, 9, 9, 1), np.bool_)
    frames[:, :, 4, 4] = True
    moved = accuracy_run.jittered(frames, 2, np.random.default_rng(0))
    places = np.argwhere(moved[0, :, :, :, 0])[:, 1:]
    assert moved.sum() == frames.sum()
    np.testing.assert_array_equal(moved[0], moved[1])
    assert set(np.unique(places)) == {2, 3, 4, 5, 6}
    assert len({tuple(place) for place in places}) > 15


@pytest.mark.parametrize("size", [1, 2])
def test_dots_move_where_their_label_says(size: int) -> None:
    spikes, labels = moving_dots(80, size)
    steps = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
    assert spikes.shape == (80, 16, 16, 16, 1)
    assert 0.03 < spikes.mean() < 0.12
    for sample, label in zip(spikes[..., 0], labels, strict=True):
        matches = [(np.roll(sample[:-1], step, axis=(1, 2)) & sample[1:]).sum() for step in steps]
        assert np.argmax(matches) == label


# network


@pytest.mark.parametrize("name", VARIANTS)
def test_every_mode_answers(name: str) -> None:
    variant = VARIANTS[name]
    weights = initial(shapes((10, 7, 2), 3, 5), variant, 0)
    frames = np.random.default_rng(0).random((16, 4, 10, 7, 2)) < 0.3
    assert logits({key: jnp.asarray(a) for key, a in weights.items()}, jnp.asarray(frames), variant).shape == (4, 3)


def test_the_network_is_that_of_the_demonstration() -> None:
    frames = jnp.asarray(np.random.default_rng(0).random((16, 3, 28, 28, 1)) < 0.2)
    trained = model.load_trained()
    for name, mode in model.MODES.items():
        weights = {key: jnp.asarray(array) for key, array in trained.parameters[name].items()}
        assert {key: array.shape for key, array in weights.items()} == shapes((28, 28, 1), 10, 3)
        expected = model.forward(weights, frames, mode, jnp).logits
        np.testing.assert_array_equal(logits(weights, frames, VARIANTS[name]), expected)


@pytest.mark.parametrize(
    ("name", "count"), [("exact", 32), ("collapse4", 8), ("preserve2", 16), ("deep2", 12), ("deep4", 5)]
)
def test_convolutions_are_counted(name: str, count: int) -> None:
    assert VARIANTS[name].convolutions(16) == count


def test_learned_aggregation_starts_as_decay() -> None:
    sizes = shapes((8, 8, 1), 4, 3)
    weights = {key: jnp.asarray(a) for key, a in initial(sizes, VARIANTS["learned4"], 1).items()}
    np.testing.assert_allclose(aggregation(weights, VARIANTS["learned4"]), 0.9 ** np.arange(3, -1, -1), rtol=1e-6)
    weights["aggregation"] = jnp.asarray([5.0, 0.0, -3.0, 1.0])
    np.testing.assert_allclose(aggregation(weights, VARIANTS["learned4"]).sum(), 1 + 0.9 + 0.81 + 0.729, rtol=1e-6)


def test_only_the_plain_sum_forgets_the_order() -> None:
    rng = np.random.default_rng(0)
    frames = jnp.asarray(rng.random((16, 8, 8, 8, 1)) < 0.3)
    weights = {key: jnp.asarray(a) for key, a in initial(shapes((8, 8, 1), 4, 3), VARIANTS["exact"], 1).items()}
    weights = {key: jnp.asarray(rng.normal(0, 0.3, a.shape), jnp.float32) for key, a in weights.items()}
    changed = {
        name: bool((logits(weights, frames, VARIANTS[name]) != logits(weights, frames[::-1], VARIANTS[name])).any())
        for name in ("sum16", "collapse16", "exact")
    }
    assert changed == {"sum16": False, "collapse16": True, "exact": True}


# training


@pytest.mark.parametrize("name", ["exact", "learned4", "preserve4"])
def test_training_learns(name: str) -> None:
    task = replace(TINY, settings=replace(TINY.settings, epochs=6, rate=2e-2))
    record = Bench(task).train(name, 0, lambda word, share: None)
    assert record["losses"][-1] < 0.6 * record["losses"][0]
    assert record["accuracy"] >= 0.8
    assert (record["training"], record["tested"], len(record["curve"])) == (80, 40, 6)
    assert ("aggregation" in record) == (name == "learned4")
    if name == "learned4":
        assert not np.allclose(record["aggregation"], 0.9 ** np.arange(3, -1, -1), atol=1e-3)


def test_training_repeats() -> None:
    records = [Bench(TINY).train("collapse4", 1, lambda word, share: None) for _ in range(2)]
    assert records[0]["losses"] == records[1]["losses"]
    assert records[0]["accuracy"] == records[1]["accuracy"]


# checkpoints


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

    def train(self: Bench, name: str, run: int, tick: Any) -> dict[str, Any]:
        calls.append((name, run))
        about = {"training": 80, "tested": 40, "parameters": 10, "step_seconds": 1.0}
        right = {"exact": 0.9, "collapse4": 0.8, "preserve4": 0.85}[name] + 0.01 * run
        return {"accuracy": right, "curve": [0.5, right], "losses": [2.0, 1.0], "epoch_seconds": [1.0, 2.0], **about}

    def times(self: Bench, names: list[str], rounds: int, tick: Any) -> dict[str, Any]:
        return {kind: {name: [2.0 / (1 + n)] for n, name in enumerate(names)} for kind in ("train", "infer", "layer")}

    monkeypatch.setattr(accuracy, "TASKS", {"tiny": TINY})
    monkeypatch.setattr(Bench, "train", train)
    monkeypatch.setattr(Bench, "times", times)
    return calls


def test_an_interrupted_run_goes_on(
    tiny: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["accuracy", "--work", str(tmp_path / "work"), "--json", str(tmp_path / "result.json")]
    train = Bench.train

    def interrupted(self: Bench, name: str, run: int, tick: Any) -> dict[str, Any]:
        if (name, run) == ("collapse4", 1):
            raise KeyboardInterrupt
        return train(self, name, run, tick)

    monkeypatch.setattr(Bench, "train", interrupted)
    assert main(command) == 130
    assert "goes on from there" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "result.json").exists()
    monkeypatch.setattr(Bench, "train", train)
    assert main(command) == 0
    assert tiny == [("exact", 0), ("exact", 1), ("collapse4", 0), ("collapse4", 1), ("preserve4", 0), ("preserve4", 1)]
    result = read_json(tmp_path / "result.json")
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
    assert "other settings (rate: 0.005 there, 0.001 here)" in capsys.readouterr().err
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
    assert "Tiny: 4 classes, T = 16, 80 training and 40 test samples, 1 seed, 3 epochs" in printed
    result = read_json(Path(f"{stem}.json"))
    row = result.row("tiny", "preserve4")
    assert row.convolutions == 8
    assert 0 < row.train < 100
    assert result.verdict("tiny").advised == "collapse K=16"
    names = {path.name for path in stem.parent.iterdir() if path.is_file()}
    assert names == {"result.json", "result.svg", "result.png", "result-curves.svg", "result-curves.png"}
    first = stem.with_suffix(".svg").read_bytes()
    assert main(["accuracy-table", f"{stem}.json", "--plot", str(stem)]) == 0
    assert stem.with_suffix(".svg").read_bytes() == first


# statistics


def stored(advice: tuple[str | None, int | None], **right: list[float]) -> Result:
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
    return Result(settings, {"processor": "P", "cores": 2, "platform": "L"}, {"mnist": task})


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


LOW, HIGH, MIXED = [0.70, 0.71, 0.72], [0.80, 0.81, 0.82], [0.75, 0.81, 0.69]


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
        (("preserve", 1), {"collapse2": LOW, "preserve2": LOW}, (None, None, "not trained")),
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
    command = ["accuracy-table", str(file), "--into", str(page)]
    assert main([*command, "--check"]) == 1
    assert main(command) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- accuracy:begin -->\n### Tiny | small: 4 classes, T = 16")
    assert text.endswith("<!-- accuracy:end -->\nafter\n")
    assert "| collapse K=2 | 85.0 ± 5.0 | -6.0 ± 4.0 | 1 | 6.0 x | 1.0 x | 1.0 x | 16 |" in text
    assert "| preserve K=2 | 80.0 ± 0.0 | -11.0 ± 1.0 | 1 | 6.0 x | 1.0 x | 1.0 x | 16 |" in text
    assert "| preserve K=2: -11.0 ± 1.0 | preserve K=2 over collapse K=2: -5.0 ± 5.0 | no difference |" in text
    assert "| +1.6 | K=2: -6.0 ± 4.0 |" in text
    assert main([*command, "--check"]) == 0
    assert main([*command, "--check", "--short"]) == 1
    capsys.readouterr()
    assert main(["accuracy-table", str(file), "--short"]) == 0
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
        (lambda content: {**content, "benchmark": "tacops speed"}, "is no result of python -m bench accuracy"),
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
        read_json(file)
    assert main(["accuracy-table", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_a_page_without_markers(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    assert main(["accuracy-table", str(file), "--into", str(page)]) == 2
    assert "must have one line" in capsys.readouterr().err
    assert page.read_text() == "nothing\n"


@pytest.mark.parametrize("name", ["accuracy_report", "accuracy_result", "accuracy_store", "encode"])
def test_examples(name: str) -> None:
    module = importlib.import_module(f"bench.{name}")
    found = doctest.testmod(module, extraglobs={"np": np})
    assert found.attempted > 0
    assert found.failed == 0
