"""advise: what it prints, plots and refuses."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops._advise.advice import Advice
from tacops._advise.advise import advise
from tests.support.advise_inputs import Floats, bernoulli, drawn, moving, rng


def test_print(images: Floats) -> None:
    advice = advise(drawn(moving(images)))
    text = str(advice)
    assert text.startswith(f"preserve, chunk_size={advice.chunk_size} ({advice.saving:.3g} x fewer convolutions)\n")
    assert advice.reason in text
    assert "p = 0.005" in text
    assert "seed 0" in text
    assert max(map(len, text.splitlines()[3:])) <= 80
    with pytest.raises(dataclasses.FrozenInstanceError):
        advice.mode = None  # type: ignore[misc]


def test_saving_counts_the_shorter_last_chunk() -> None:
    advice = Advice("preserve", 6, "", 0.01, 0.5, 16, 1)
    assert advice.saving == 16 / 3


def test_plot(images: Floats, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for spikes in (drawn(moving(images)), bernoulli(images), (rng().random((16, 1, 8)) < 0.02).astype(np.float32)):
        figure = advise(spikes).plot()
        assert len(figure.axes) == 4  # three scales, and the loss
        figure.savefig(tmp_path / "plot.svg")
    with pytest.raises(
        ValueError, match=r"^plot: the advice must hold statistics; got none, because there are no spikes"
    ):
        advise(np.zeros((4, 1, 5))).plot()


def test_plot_of_motion_in_many_frames() -> None:
    """No mark lies beneath a legend, and no label of a length on the next one."""
    agg = pytest.importorskip("matplotlib.backends.backend_agg")
    dots = rng().random((8, 20, 20, 1)) < 0.06
    advice = advise(np.stack([np.roll(dots, t, axis=1) for t in range(200)]))
    figure = advice.plot()
    canvas = agg.FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    (legend,) = [axes.get_legend().get_window_extent(renderer) for axes in figure.axes if axes.get_legend()]
    for axes in figure.axes:
        marks = [axes.transData.transform(line.get_xydata()) for line in axes.lines if line.get_marker() in ("o", "D")]
        assert marks
        assert not any(legend.contains(*place) for line in marks for place in line)
        labels = [label.get_window_extent(renderer) for label in axes.get_xticklabels()]
        assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(labels))
    lines = str(advice).splitlines()[3:]
    assert max(map(len, lines)) <= 80
    lengths = [int(word) for line in lines if "frames per block" in line for word in line.split()[3:]]
    assert lengths == sorted(lengths)
    assert len(lengths) > 12


def test_plot_without_matplotlib(images: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    advice = advise(bernoulli(images[:2]))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"^plot: matplotlib must be installed"):
        advice.plot()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "NHWC"}, "layout must be one of 'channels_last', 'channels_first'; got 'NHWC'"),
        ({"max_loss": 0.0}, r"max_loss must be in \(0, 1\); got 0.0"),
        ({"max_loss": math.nan}, r"max_loss must be in \(0, 1\); got nan"),
        ({"keep": 1.5}, r"keep must be in \(0, 1\); got 1.5"),
        ({"significance": 0.0001}, r"significance must be in \[0.0005, 0.5\]; got 0.0001"),
        ({"max_samples": 0}, "max_samples must be at least 1; got 0"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^advise: {message}$"):
        advise(np.ones((4, 1, 5), np.float32), **options)


@pytest.mark.parametrize("options", [{"max_loss": "1"}, {"max_samples": 1.5}, {"seed": 0.5}, {"seed": True}])
def test_options_of_a_wrong_type(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=rf"^advise: {next(iter(options))} must be "):
        advise(np.ones((4, 1, 5), np.float32), **options)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 0, 3), (0, 1, 3), (1, 1, 1, 1, 1, 1, 1)])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^advise: spikes must be a nonempty array \(T, B, \*S, C\)"):
        advise(np.ones(shape, np.float32))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_numbers_out_of_range(value: float) -> None:
    spikes = np.ones((4, 2, 3), np.float64)
    spikes[1, 0, 0] = value
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"^advise: spikes must be finite"):
        advise(spikes)


def test_no_array() -> None:
    with pytest.raises(TypeError, match=r"^advise: "):
        advise([[1, 0]])
    with pytest.raises(TypeError, match=r"^advise: spikes must be of a bool, integer or real floating dtype"):
        advise(np.ones((4, 1, 5), np.complex64))
