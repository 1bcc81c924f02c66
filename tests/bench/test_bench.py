"""The demonstration: shipped weights, command line, and a run from end to end."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import COMMANDS, main, unset_slowing_variables
from bench.demo import measure
from bench.shared import encoding as encode
from bench.shared import model, subset
from bench.shared.datasets import DatasetError
from tacops.backends import get_backend
from tests.support import ROOT

SPIKES = {"exact": 14669578, "collapse4": 4376873, "collapse16": 1282412, "preserve4": 14506918}


@pytest.fixture(scope="module")
def trained() -> model.Trained:
    return model.load_trained()


@pytest.fixture(scope="module")
def answers(trained: model.Trained) -> dict[str, measure.Answers]:
    """All modes on all shipped images with NumPy."""
    frames = encode.rate_code(subset.load_subset().images)
    batches = [frames[:, n : n + 100] for n in range(0, 1000, 100)]
    return measure.reference(measure.Network(get_backend("numpy"), trained, batches), lambda _: None)


# shipped weights


@pytest.mark.parametrize("mode", model.MODES)
def test_shipped_weights_reach_their_stated_accuracy(
    mode: str, trained: model.Trained, answers: dict[str, measure.Answers]
) -> None:
    """1,000 of the 10,000 test images: four standard errors are about four percent."""
    labels = subset.load_subset().labels
    accuracy = np.mean(answers[mode].classes == labels)
    stated = trained.metadata[mode]["test_accuracy"]
    assert stated >= 0.85
    assert accuracy == pytest.approx(stated, abs=0.03)
    assert trained.metadata[mode]["settings"]["images"] == 60_000


@pytest.mark.parametrize("mode", model.MODES)
def test_spike_counts_are_stable(mode: str, answers: dict[str, measure.Answers]) -> None:
    """Rounding may move single spikes on another processor, not many."""
    assert answers[mode].fired == pytest.approx(SPIKES[mode], rel=1e-4)


def test_weights_survive_saving(trained: model.Trained, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    model.save_trained(trained, path)
    again = model.load_trained(path)
    assert again.metadata == trained.metadata
    np.testing.assert_array_equal(again.parameters["exact"]["conv2"], trained.parameters["exact"]["conv2"])
    with pytest.raises(DatasetError, match="is missing"):
        model.load_trained(tmp_path / "absent.npz")


def test_initial_parameters_are_reproducible() -> None:
    first, again, other = (model.initial_parameters(seed) for seed in (0, 0, 1))
    assert {name: array.shape for name, array in first.items()} == model.SHAPES
    np.testing.assert_array_equal(first["readout"], again["readout"])
    assert np.abs(first["readout"]).max() == pytest.approx((6 / 1568) ** 0.5, rel=1e-3)
    assert (first["conv1"] != other["conv1"]).any()


def test_training_learns() -> None:
    pytest.importorskip("jax")
    pytest.importorskip("optax")
    from bench.demo import train

    shipped = subset.load_subset()
    settings = argparse.Namespace(seed=0, epochs=3, batch=50, rate=3e-3)
    losses: list[float] = []
    mode = model.MODES["collapse16"]
    weights = train.train(mode, shipped.images[:300], shipped.labels[:300], settings, losses.append)
    assert len(losses) == 18
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    assert train.test(mode, weights, encode.rate_code(shipped.images[:300]), shipped.labels[:300]) > 0.4


# the demonstration


def bench(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_demo_end_to_end(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    done = bench("--backend", "numpy", "--images", "40", "--json", str(path), OPENBLAS_L2_SIZE="1048576")
    assert done.returncode == 0, done.stderr
    assert "collapse K=16" in done.stdout
    assert "none differs" in done.stdout
    assert "Unset for this run" in done.stdout
    found = json.loads(path.read_text())
    # the machine may have set the other one
    assert "OPENBLAS_L2_SIZE=1048576" in found["unset_variables"]
    assert [row["mode"] for row in found["results"]] == list(model.MODES)
    for row in found["results"]:
        assert row["backend"] == "numpy"
        assert 0.5 < row["accuracy"] <= 1
        assert row["images_per_second"] > 0
        assert row["differing"] == 0
        assert 0 < row["spikes"] < row["decisions"]
    assert found["results"][0]["speedup"] == 1
    assert found["images"] == row["timed_images"] == 40


def test_demo_writes_json_alone_to_standard_output() -> None:
    done = bench("--backend", "numpy", "--images", "3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 3


def test_demo_reports_a_backend_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(measure.Network, "timings", lambda *_: 1 / 0)
    assert main(["--backend", "numpy", "--images", "2"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "fortran"], "fortran"),
        (["--images", "0"], "must be from 1 to 1000; got 0"),
        (["dance"], "no command 'dance'"),
        (["--dance"], "unrecognized arguments"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(arguments)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_help_lists_options_and_commands() -> None:
    done = bench("--help")
    assert done.returncode == 0
    for word in ("--backend", "--images", "--json", "--seed", *COMMANDS):
        assert word in done.stdout
    assert "--check" in bench("subset", "--help").stdout


def test_slowing_variables_are_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    assert unset_slowing_variables() == ["OPENBLAS_CORETYPE=Haswell"]
    assert unset_slowing_variables() == []
