"""bench accuracy --map: the network under every condition, the stages, and a whole run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bench.__main__ import main
from bench.accuracy.map import command, network, stages, train
from bench.accuracy.map.conditions import FACTORS, MAPS, MOTION, Condition, Map, modes_of
from bench.accuracy.map.result import as_json, from_dict, gain
from bench.accuracy.map.stages import Point, confirm, screen, together
from bench.accuracy.modes import EXACT, VARIANTS
from bench.shared import model
from bench.shared.results import ResultError, read_content
from tests.support import ROOT

FRAME = (12, 12, 1)
STORED = ROOT / "bench" / "results"


def weights_of(condition: Condition, seed: int = 0) -> dict[str, Any]:
    return {name: jnp.asarray(array) for name, array in network.initial(condition, FRAME, 4, seed).items()}


def spikes(time_steps: int = 16, batch: int = 3) -> Any:
    return jnp.asarray(np.random.default_rng(0).random((time_steps, batch, *FRAME)) < 0.4)


@pytest.mark.parametrize("part", MAPS)
def test_every_condition_has_scores(part: str) -> None:
    for _, condition in MAPS[part].conditions():
        frames = jax.ShapeDtypeStruct((condition.time_steps, 2, *FRAME), bool)
        for name in ("exact", *modes_of(MAPS[part], condition)):
            found = jax.eval_shape(
                lambda weights, frames, condition=condition, name=name: network.logits(
                    weights, frames, condition, VARIANTS[name].mode, derivative=network.surrogate(condition)
                )[0],
                weights_of(condition),
                frames,
            )
            assert found.shape == (2, 4)


def test_the_middle_is_the_network_of_the_demonstration() -> None:
    frames = jnp.asarray(np.random.default_rng(0).random((16, 2, 28, 28, 1)) < 0.2)
    trained = model.load_trained()
    for name in ("exact", "collapse4", "preserve4"):
        theirs = {key: jnp.asarray(array) for key, array in trained.parameters[name].items()}
        names = {"conv1": "conv0", "bias1": "bias0", "conv2": "conv1", "bias2": "bias1", "bias3": "bias"}
        ours = {names.get(key, key): array for key, array in theirs.items()}
        expected = model.forward(theirs, frames, model.MODES[name], jnp).logits
        found, _ = network.logits(ours, frames, Condition(), VARIANTS[name].mode)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["exact", "collapse4", "preserve4"])
def test_a_norm_that_changes_nothing(name: str) -> None:
    """With mean 0 and variance 1 it multiplies by one, whatever the mode."""
    plain, norm = Condition(), Condition(norm=True)
    weights = {**weights_of(norm), **weights_of(plain)}
    statistics = {str(n): (jnp.zeros(size), jnp.full(size, 1 - network.EPSILON)) for n, size in enumerate((16, 32))}
    weights["bias0"] = jnp.linspace(-0.1, 0.1, 16)
    expected, _ = network.logits(weights, spikes(), plain, VARIANTS[name].mode)
    found, _ = network.logits(weights, spikes(), norm, VARIANTS[name].mode, statistics)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_norm_uses_what_it_is_given() -> None:
    condition = Condition(norm=True)
    weights, frames = weights_of(condition), spikes()
    own, found = network.logits(weights, frames, condition, EXACT)
    again, _ = network.logits(weights, frames, condition, EXACT, found)
    np.testing.assert_array_equal(own, again)
    other, _ = network.logits(weights, frames[:, :1], condition, EXACT, found)
    np.testing.assert_allclose(other, own[:1], rtol=1e-5, atol=1e-5)


def test_read_outs() -> None:
    rng = np.random.default_rng(1)
    hidden = (rng.random((5, 2, 6)) < 0.5).astype(np.float32)
    weights = {"readout": rng.normal(size=(3, 6)).astype(np.float32), "bias": rng.normal(size=3).astype(np.float32)}
    current = hidden @ weights["readout"].T + weights["bias"]
    membrane, membranes, counted, count = np.zeros((2, 3)), [], np.zeros((2, 3)), np.zeros((2, 3))
    for frame in current:
        membrane = 0.9 * membrane + frame
        membranes.append(membrane)
        counted = 0.9 * counted + frame
        count, counted = count + (counted >= 1), counted - (counted >= 1)
    expected = {"rate": current.mean(0), "last": current[-1], "membrane": np.mean(membranes, 0), "count": count}
    for name, scores in expected.items():
        found = network._read_out(weights, jnp.asarray(hidden), Condition(readout=name), None)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-5)


def record(seed: int, **gains: float) -> dict[str, Any]:
    modes = {name: {"accuracy": 0.5 + g, "gain": g, "differs": 0.02, "loss": 1.0} for name, g in gains.items()}
    return {"seed": seed, "exact": {"accuracy": 0.5, "gain": 0.0, "differs": 0.0, "loss": 1.0}, **modes}


def test_factors_that_gain_are_combined_and_confirmed() -> None:
    part = Map(Condition(), {"decay beta": FACTORS["decay beta"][:2], "epochs": FACTORS["epochs"]}, ("collapse2",), "")
    gains = [0.0, 0.02, 0.03, 0.001, 0.01, 0.006]  # the middle, two betas, three numbers of epochs
    found = {point: [record(0, collapse2=g)] for point, g in zip(screen(part), gains, strict=True)}
    (both,) = together(part, found)
    assert both.condition == replace(Condition(), beta=0.75, epochs=2)
    confirmed = confirm(found)
    assert [point.condition.changes(part.middle) for point in confirmed] == [
        {"beta": 0.75},
        {"beta": 0.5},
        {"epochs": 2},
        {"epochs": 12},
    ]
    assert {point.modes for point in confirmed} == {("collapse2",)}
    assert not set(confirmed[0].seeds) & set(range(part.seeds))


def test_an_interval() -> None:
    gains = [0.01, 0.03, 0.02]
    found = gain([record(n, collapse2=g) for n, g in enumerate(gains)], "collapse2", tested=1000)
    seeds = stats.t.ppf(0.975, 2) * stats.sem(gains)
    sampling = 1.96 * math.sqrt((0.02 - 0.02**2) / 1000)
    assert found.mean == pytest.approx(0.02)
    assert found.half == pytest.approx(math.hypot(seeds, sampling), rel=1e-4)
    assert found.word == "no difference shown"
    assert gain([record(n, a=0.3 + n / 1e3) for n in range(3)], "a", tested=1000).word == "gain"
    assert gain([record(n, a=-0.3 + n / 1e3) for n in range(3)], "a", tested=1000).word == "loss"


def test_codes_have_the_rate_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.tile(np.array([0, 128, 255], np.uint8)[:, None, None], (1, 40, 40))
    samples = train.Samples.__new__(train.Samples)
    rates = samples.frames(images, Condition(brightest=0.5, time_steps=50), [0]).mean((0, 2, 3, 4))
    np.testing.assert_allclose(rates, [0, 0.25, 0.5], atol=0.01)


@pytest.mark.parametrize("name", ["exact", "collapse2", "preserve4"])
@pytest.mark.parametrize("norm", [False, True])
def test_both_libraries_train_alike(name: str, norm: bool) -> None:
    """Close, not equal: Adam's first steps are signs, and rounding flips the sign of a gradient near 0, or a spike."""
    pytest.importorskip("torch")
    rng, condition = np.random.default_rng(2), Condition(norm=norm, width=4, kernel=5)
    weights = network.initial(condition, FRAME, 4, seed=0)
    before = {key: array.copy() for key, array in weights.items()}
    batches = [(rng.random((16, 5, *FRAME)) < 0.4, rng.integers(0, 4, 5).astype(np.int32)) for _ in range(3)]
    starts = [import_module(f"bench.accuracy.map.with_{library}").start for library in ("jax", "torch")]
    theirs, ours = (start(condition, VARIANTS[name].mode, 3, weights) for start in starts)
    for batch, close in zip(batches, (1e-5, 1e-2, 1e-2), strict=True):
        assert float(theirs.step(*batch)) == pytest.approx(float(ours.step(*batch)), rel=close)
    for key, array in theirs.weights.items():
        assert np.abs(ours.weights[key].detach().numpy() - array).mean() < 2e-4
        assert key.startswith("bias") or np.abs(array - before[key]).mean() > 2e-3  # it has learned
        np.testing.assert_array_equal(weights[key], before[key])
    if norm:
        theirs.settle(batches[0][0])
        ours.settle(batches[0][0])
        for layer, statistics in theirs.statistics.items():
            for here, there in zip(statistics, ours.statistics[layer], strict=True):
                np.testing.assert_allclose(here, there.numpy(), rtol=1e-2)
    assert (theirs.classify(batches[1][0]) == ours.classify(batches[1][0])).sum() >= 4


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images of four classes, and a map of one factor."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 4
    images = rng.integers(0, 60, (60, 8, 8)).astype(np.uint8)
    for n, label in enumerate(labels):
        images[n, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 150

    def load(self: train.Samples, name: str, time_steps: int) -> None:
        self.train, self.test = images[:40], images[40:]
        self.labels, self.test_labels = labels[:40].astype(np.int32), labels[40:].astype(np.int32)

    monkeypatch.setattr(train.Samples, "__init__", load)
    monkeypatch.setattr(train, "TEST_BATCH", 10)
    monkeypatch.setattr(train, "BATCH", 20)
    monkeypatch.setitem(train.CLASSES, "fashion", 4)
    middle = Condition(training=40, tested=20, epochs=6, learning_rate=2e-2, width=4, time_steps=4)
    monkeypatch.setattr(stages, "PROMISING", -1.0)  # everything is confirmed
    monkeypatch.setattr(stages, "CONFIRMED", (100,))
    part = Map(middle, {"batch normalisation": ({"norm": True},)}, ("collapse2",), "tiny images")
    monkeypatch.setitem(MAPS, "codes", part)


@pytest.mark.usefixtures("tiny")
def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing replaced but data and sizes: train, screen, confirm, print, write, draw, and take up what is finished."""
    stem = tmp_path / "map"
    run = ["accuracy", "--map", "codes", "--json", f"{stem}.json", "--plot", str(stem)]
    assert main(run) == 0
    printed = capsys.readouterr().out
    assert "Gain over exact, points: tiny images" in printed
    result = from_dict(read_content(Path(f"{stem}.json")), "it")
    middle, norm, *confirmed = result.maps["codes"]
    assert [point.stage for point in confirmed] == ["confirm", "confirm"]
    assert result.exact("codes", middle) > 0.6  # chance is a quarter
    assert result.exact("codes", norm) > 0.6
    assert Path(f"{stem}-codes.svg").exists()
    assert as_json(result) == Path(f"{stem}.json").read_text()
    before = {path: path.read_bytes() for path in (tmp_path / "map-checkpoints").iterdir()}
    assert main(run) == 0
    assert before == {path: path.read_bytes() for path in (tmp_path / "map-checkpoints").iterdir()}
    assert main(["table", f"{stem}.json", "--full"]) == 0
    assert "| batch normalisation | batch normalisation |" in capsys.readouterr().out


@pytest.mark.usefixtures("tiny")
def test_an_interrupted_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def fake(samples: Any, condition: Condition, names: Any, seed: int, tell: Any) -> dict[str, Any]:
        calls.append(seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        about = {"accuracy": 0.5, "gain": 0.0, "differs": 0.1, "loss": 1.0}
        return dict.fromkeys(names, about)

    monkeypatch.setattr(command, "train", fake)
    run = ["accuracy", "--map", "codes", "--work", str(tmp_path), "--json", str(tmp_path / "a" / "map.json")]
    assert main(run) == 130
    assert "goes on from there" in capsys.readouterr().err.replace("\n", " ")
    assert main(run) == 0
    assert calls == [0, 1, 0, 0, 1, 100, 100]
    monkeypatch.setattr(command, "REVISION", command.REVISION + 1)
    assert main(run) == 2
    assert "made with other settings (revision" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_a_map_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What there was no time for is trained later, elsewhere, from the result alone."""
    calls: list[tuple[int, bool]] = []

    def fake(samples: Any, condition: Condition, names: Any, seed: int, tell: Any) -> dict[str, Any]:
        calls.append((seed, condition.norm))
        return {key: {"accuracy": 0.5, "gain": 0.0, "differs": 0.1, "loss": 1.0} for key in names}

    monkeypatch.setattr(command, "train", fake)
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert main(["accuracy", "--map", "codes", "--minutes", "1e-9", "--json", str(first)]) == 0
    assert calls == [(0, False)]
    assert "codes: 2 conditions of this stage were not trained" in capsys.readouterr().out.replace("\n", " ")
    calls.clear()
    assert main(["accuracy", "--map", "codes", "--from", str(first), "--json", str(second)]) == 0
    assert calls == [(1, False), (0, True), (1, True), (100, False), (100, True)]
    assert "not trained" not in capsys.readouterr().out
    whole = from_dict(read_content(second), "it")
    assert [point.stage for point in whole.maps["codes"]] == ["screen", "screen", "confirm", "confirm"]
    assert whole.settings["left"] == {"codes": 0}
    monkeypatch.setattr(command, "REVISION", command.REVISION + 1)
    assert main(["accuracy", "--map", "codes", "--from", str(first)]) == 2
    assert "first.json was made with other settings (revision" in capsys.readouterr().err
    assert main(["accuracy", "--from", str(first)]) == 2
    assert "go with --map" in capsys.readouterr().err


def test_a_damaged_result_is_refused() -> None:
    point = Point("screen", "epochs", Condition(), ("collapse2",), (0,))
    content = {"benchmark": "tacops accuracy map", "schema": 1, "settings": {"batch": 10}, "machine": {}}
    good = json.loads(
        json.dumps({**content, "maps": {"codes": [{**stages.stored(point), "runs": [record(0, collapse2=0.1)]}]}})
    )
    assert from_dict(good, "it").gain("codes", point, "collapse2").mean == pytest.approx(0.1)
    damages: list[dict[str, Any]] = [{"maps": {"codes": [{}]}}, {"maps": 3}, {"settings": None}]
    for damage in damages:
        with pytest.raises(ResultError, match="it is damaged"):
            from_dict({**good, **damage}, "it")


@pytest.mark.parametrize("option", [["--seeds", "1"], ["--modes", "exact"], ["--tasks", "dots"]])
def test_options_of_the_other_command_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accuracy", "--map", "codes", *option]) == 2
    assert "--map takes no --tasks, --modes or --seeds" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_seen_before_hours_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map-codes.svg").mkdir()
    monkeypatch.setattr(command, "train", lambda *_: pytest.fail("it trained"))
    stem = str(tmp_path / "map")
    assert main(["accuracy", "--map", "codes", "--work", str(tmp_path / "work"), "--plot", stem]) == 2
    assert "map-codes.svg" in capsys.readouterr().err
    earlier = STORED / "accuracy-map-epyc-zen5-2-cores.json.gz"
    monkeypatch.setattr(command, "read_earlier", lambda path, settings: from_dict(read_content(path), path.name))
    run = ["accuracy", "--map", "motion", "--from", str(earlier), "--work", str(tmp_path / "work"), "--plot", stem]
    assert main(run) == 2  # it draws the earlier result's other maps again
    assert "map-codes.svg" in capsys.readouterr().err


def test_a_library_that_trains_is_missed_before_hours_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(library: str) -> str:
        raise PackageNotFoundError(library)

    monkeypatch.setattr(train, "version", missing)
    monkeypatch.setattr(command, "train", lambda *_: pytest.fail("it trained"))
    assert main(["accuracy", "--map", "codes", "large", "--work", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert "python -m bench accuracy: needs torch" in printed
    assert "try: pip install -e '.[torch]'" in printed


@pytest.mark.usefixtures("tiny")
def test_trainings_of_another_library_version_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(samples: Any, condition: Condition, names: Any, seed: int, tell: Any) -> dict[str, Any]:
        return {key: {"accuracy": 0.5, "gain": 0.0, "differs": 0.1, "loss": 1.0} for key in names}

    monkeypatch.setattr(command, "train", fake)
    monkeypatch.setattr(train, "version", lambda library: "1.0")
    part = replace(MAPS["codes"], middle=replace(MAPS["codes"].middle, library="torch"))
    monkeypatch.setitem(MAPS, "codes", part)
    run = ["accuracy", "--map", "codes", "--json", str(tmp_path / "map.json")]
    assert main(run) == 0
    assert "PyTorch 1.0, tacops" in capsys.readouterr().out.replace("\n", " ")
    assert main([*run, "--from", str(tmp_path / "map.json")]) == 0
    monkeypatch.setattr(train, "version", lambda library: "1.1")
    assert main(run) == 2
    assert "made with other settings (torch: 1.0 there, 1.1 here)" in capsys.readouterr().err
    assert main([*run, "--from", str(tmp_path / "map.json")]) == 2
    assert "a training of codes was made by another version (torch: 1.0 there, 1.1 here)" in capsys.readouterr().err


def test_maps_name_real_options() -> None:
    assert all(level for factors in (FACTORS, MOTION) for levels in factors.values() for level in levels)
    assert set(stages.WORDS) == set(Condition.__dataclass_fields__)
