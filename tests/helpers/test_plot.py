"""Pictures: what is drawn is what was fired; and a sentence where matplotlib is missing."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import plot
from tacops.backends import Backend

RNG = np.random.default_rng(0)
SPIKES = RNG.random((12, 3, 4, 2)) < 0.3


def test_raster(backend: Backend) -> None:
    """A point for every spike of the sample, at its step and its neuron."""
    pytest.importorskip("matplotlib")
    figure = plot.raster(tacops.SpikeTrain(backend.from_numpy(SPIKES), None), sample=1)
    [axes] = figure.axes
    points = np.asarray(axes.collections[0].get_offsets())
    want = np.argwhere(SPIKES[:, 1].reshape(12, 8))
    assert sorted(points.tolist()) == sorted(want.astype(float).tolist())
    assert axes.get_title() == f"{len(want)} spikes of 8 neurons"
    assert axes.get_xlim() == (-0.5, 11.5)


def test_membranes(backend: Backend) -> None:
    """A line for each of the neurons, the membrane itself, with a mark at each spike; neurons there aren't are left out."""
    pytest.importorskip("matplotlib")
    current = RNG.normal(0.3, 0.3, (12, 2, 2)).astype(np.float32)
    train = tacops.lif(backend.from_numpy(current), trace=True)
    figure = plot.membranes(train, sample=1, threshold=1.0)
    [axes] = figure.axes
    trace, spikes = backend.to_numpy(train.trace)[:, 1], backend.to_numpy(train.spikes)[:, 1]
    lines = axes.lines
    assert len(lines) == 5
    for n in (0, 1):
        np.testing.assert_array_equal(lines[2 * n].get_ydata(), trace[:, n])
        np.testing.assert_array_equal(lines[2 * n + 1].get_xdata(), spikes[:, n].nonzero()[0])
    again = plot.membranes(train.trace, neurons=[1], axes=axes)
    assert again is figure
    assert len(plot.membranes(train.trace, neurons=range(2)).axes[0].lines) == 2


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw, name in ((plot.raster, "raster"), (plot.membranes, "membranes")):
        with pytest.raises(
            ModuleNotFoundError, match=rf"^{name}: matplotlib must be installed \(pip install matplotlib\)"
        ):
            draw(SPIKES)


BAD: list[tuple[Any, str]] = [
    (lambda: plot.raster(SPIKES, sample=3), "raster: sample must be an int from 0 to 2; got 3"),
    (lambda: plot.raster(SPIKES[:, 0, 0]), r"raster: spikes must be an array \(T, B, ...\) of 3 axes or more"),
    (lambda: plot.raster(SPIKES, axes=3), "raster: axes must be a matplotlib Axes; got 3"),
    (lambda: plot.membranes(SPIKES[:, 0, 0]), "membranes: trace must be an array"),
    (lambda: plot.membranes(SPIKES, neurons=range(9)), "membranes: neurons must be a sequence of at most 6 ints"),
    (lambda: plot.membranes(SPIKES, neurons=[8]), "membranes: neurons must be ints below 8"),
    (lambda: plot.membranes(tacops.lif(np.ones((2, 1, 1)))), "membranes: trace must be the train of a layer .* trace=True"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_refusals(number: int) -> None:
    pytest.importorskip("matplotlib")
    call, words = BAD[number]
    with pytest.raises((TypeError, ValueError), match=words):
        call()
