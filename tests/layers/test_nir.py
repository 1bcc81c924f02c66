"""NIR: graphs that are written come back as they were, and fire the same spikes."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops import Stream, aggregate
from tacops.layers import Flatten, FrozenLayer, Pool2d, Scale
from tests.support import ROOT
from tests.support.layer_frameworks import EACH, Array, Need, made
from tests.support.nir_networks import FRAMES, KINDS, RANDOM, SHAPE, TIES, network, run

nir = pytest.importorskip("nir", reason="nir is not installed (it is part of the extra dev)")
from tacops.backends import nir_layers
from tacops.backends.nir_layers import from_nir, to_nir


def test_examples_in_docstrings() -> None:
    outcome = doctest.testmod(nir_layers)
    assert outcome.attempted > 5
    assert outcome.failed == 0


def test_documentation_runs(tmp_path: Path) -> None:
    """The block of docs/nir.md, in a process of its own."""
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "nir.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == "(16, 1, 10)\n", done.stderr


@pytest.mark.parametrize("beta", [0.0, 2.5e-8, 1e-7, 3e-4, 0.1, 0.7, 0.9, 0.999999])
def test_decays_come_back_as_they_were(beta: float) -> None:
    """Through time constants of float64, in which small ones have few digits left: as the float32 that layers compute with."""
    layer = FrozenLayer({"weight": np.ones((1, 2), np.float32)}, {"chunk_size": 1, "beta": beta, "reset": "zero"})
    again: Any = from_nir(to_nir({"dense": layer}, (2,)))["dense"]
    assert np.float32(again.options["beta"]) == np.float32(beta)


@pytest.mark.parametrize("weights", [RANDOM, TIES], ids=["random", "ties"])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_through_a_file(kind: str, weights: list[Array], tmp_path: Path) -> None:
    """Equal weights, thresholds and decays, so equal spikes, in reproducible mode as well."""
    layers = network(weights, **KINDS[kind])
    nir.write(tmp_path / "net.nir", to_nir(layers, SHAPE))
    for source in (tmp_path / "net.nir", str(tmp_path / "net.nir"), nir.read(tmp_path / "net.nir")):
        again: Any = from_nir(source)
        assert list(again) == list(layers)
        for name, layer in layers.items():
            np.testing.assert_array_equal(again[name].arrays["weight"], layer.arrays["weight"])
            for option, value in {**KINDS[kind], "threshold": 0.75}.items():
                assert np.float32(again[name].options[option]) == np.float32(value)
    want = run(layers, FRAMES)
    assert 0.05 < want.mean() < 0.98
    np.testing.assert_array_equal(run(again, FRAMES), want)


def mixed(layout: Any) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Bias, stride, pools, factors, flattening, one decay and threshold per channel."""
    rng = np.random.default_rng(1)
    arrays = {"bias": rng.normal(0.1, 0.2, 4), "beta": rng.uniform(0.3, 0.9, 4), "threshold": rng.uniform(0.3, 0.9, 4)}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    options: dict[str, Any] = {"chunk_size": 1, "reset": "zero"}
    conv = {**options, "layout": layout, "stride": (1, 2), "padding": ((1, 1), (0, 0))}
    factors = rng.uniform(0.5, 1.5, (4, 5, 2)).astype(np.float32)
    layers = {
        "conv": FrozenLayer({"weight": RANDOM[0], **arrays}, conv),
        "pool": Pool2d("sum", 2, layout=layout),
        "scale": Scale(factors if layout == "channels_first" else np.moveaxis(factors, 0, -1).copy()),
        "dense": FrozenLayer({"weight": rng.normal(0.1, 0.3, (7, 40)).astype(np.float32)}, options),
        "readout": FrozenLayer({"weight": rng.normal(0.2, 0.3, (3, 7)).astype(np.float32)}, {**options, "beta": 1.0}),
    }
    return layers, SHAPE if layout == "channels_first" else (10, 10, 2)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_all_that_can_be_said(layout: Any) -> None:
    """Every node, in both layouts; what comes back is channels first and fires the same spikes, streamed too."""
    layers, shape = mixed(layout)
    frames = FRAMES if layout == "channels_first" else np.moveaxis(FRAMES, 2, -1)
    with_flatten = {**layers, "readout": layers["readout"]}
    steps = list(layers.items())
    steps.insert(3, ("flatten", Flatten(layout)))
    want = run(dict(steps), frames)
    assert 0.05 < want.mean() < 0.95
    for given in (with_flatten, dict(steps)):
        graph = to_nir(given, shape)
        kinds = [type(node).__name__ for node in graph.nodes.values()]
        assert kinds == [
            "Input",
            "Conv2d",
            "LIF",
            "SumPool2d",
            "Scale",
            "Flatten",
            "Affine",
            "LIF",
            "Affine",
            "IF",
            "Output",
        ]
        again = from_nir(graph)
        np.testing.assert_array_equal(run(again, FRAMES), want)
        stream = Stream(again)
        parts = [stream.feed(FRAMES[:7]), stream.feed(FRAMES[7:])]
        np.testing.assert_array_equal(np.concatenate([part.spikes for part in parts if part is not None]), want)
    mean = to_nir(
        [Pool2d("mean", 2, layout=layout), layers["dense"]], (2, 8, 10) if layout == "channels_first" else (8, 10, 2)
    )
    assert isinstance(mean.nodes["layer0"], nir.AvgPool2d)


@EACH
def test_layers_of_every_framework(need: Need, name: str) -> None:
    """As `freeze` returns them, batch normalisation folded; of one dimension."""
    framework = made(need, name)
    options = {"reset": "zero", "threshold": 0.3, "layout": "channels_first"}
    net = framework.network({
        "conv": framework.layer("ConvLIF", 2, 4, (3,), batch_norm=True, **options),
        "dense": framework.layer("TACLinear", (4, 8), 3, chunk_size=1, **options),
    })  # fmt: skip
    frozen = framework.layers.freeze(framework.evaluate(net))
    graph = to_nir(frozen, (2, 10))
    assert isinstance(graph.nodes["conv"], nir.Conv1d)
    frames = FRAMES[..., 0]
    want = frozen["dense"](Flatten()(frozen["conv"](frames))).spikes
    assert 0.02 < want.mean() < 0.98
    np.testing.assert_array_equal(run(from_nir(graph), frames), want)


def test_time_is_collapsed_by_the_input() -> None:
    """The first layer may sum K frames: the graph takes their sums, at K dt."""
    layers = network(RANDOM, aggregation="sum", beta=0.9, threshold=2.0)
    first = FrozenLayer(
        {"weight": RANDOM[0], "bias": np.full(4, 0.1, np.float32)}, {**layers["conv0"].options, "chunk_size": 4}
    )
    layers["conv0"] = first
    graph = to_nir(layers, SHAPE, dt=1e-3)
    assert (graph.metadata["dt"], graph.metadata["frames_per_step"]) == (4e-3, 4)
    sums = aggregate(FRAMES.astype(np.float32), 4, aggregation="sum")
    want = run(layers, FRAMES)
    assert 0.05 < want.mean() < 0.95
    np.testing.assert_array_equal(run(from_nir(graph), sums), want)
