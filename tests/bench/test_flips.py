"""The count of differing spikes, its figure, and the page that shows both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main
from bench.shared.model import load_trained
from bench.spikes import flips
from tacops.backends import get_backend
from tests.support import ROOT

DOCS = ROOT / "docs"


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small run: both tables, three files, and no difference in reproducible mode."""
    assert main(["flips", "--quick", "--backend", "numpy", "array_api", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "array_api (reproducible)" in out
    assert "collapse16" in out
    assert {path.name for path in tmp_path.iterdir()} == {"flips.svg", "flips.png", "flips.json"}
    found = json.loads((tmp_path / "flips.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["array_api", "numpy, weights in TF32", "array_api"]


def test_missing_backend(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["flips", "--backend", "nowhere", "--out", str(tmp_path)]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_differences_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that disagrees is seen, in the layer where it does and in those after it."""
    honest = flips.run
    other = get_backend("array_api")

    def wrong(backend, spikes, weights, **options):  # type: ignore[no-untyped-def]
        if backend is other:
            weights = [weights[0], weights[1] * np.float32(1.01), weights[2]]
        return honest(backend, spikes, weights, **options)

    monkeypatch.setattr(flips, "run", wrong)
    rows = flips.count([get_backend("numpy"), other], flips.Size(2, 8, 8), 0, lambda text: None)
    for row in rows:
        if row.name == "array_api":
            assert row.differing[0] == 0
            assert row.differing[1] > 0
            assert row.differing[2] > 0
            assert row.decisions == 32 * 2 * 8 * 8 * 8


def test_tf32_rounding() -> None:
    """Eleven significant bits, to nearest."""
    weights = np.array([1 + 2.0**-10, 1 + 2.0**-11 + 2.0**-20, 1 + 2.0**-12, -3.25], np.float32)
    assert flips.tf32(weights).tolist() == [1 + 2.0**-10, 1 + 2.0**-10, 1.0, -3.25]


def test_the_page_shows_what_was_measured() -> None:
    """Its table is the stored measurement, in which no spike differs in reproducible mode; its example runs."""
    page = (DOCS / "reproducible.md").read_text(encoding="utf-8")
    found = json.loads((DOCS / "flips.json").read_text(encoding="utf-8"))
    assert all(row["differing"] == [0, 0, 0] for row in found["rows"] if row["reproducible"])
    for entry in found["accuracies"]:
        change = 100 * (entry["reproducible"] - entry["default"])
        right = load_trained().metadata[entry["mode"]]["test_accuracy"]
        numbers = f"{right:.1%}", f"{change:+.1f}"
        cells = [*numbers, str(entry["answers_changed"]), f"{entry['spikes_changed']:.2%}"]
        assert " | ".join(cells).replace("%", " %") + " |" in page, entry["mode"]
    [block] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)  # noqa: S102
    assert names["train"].spikes.shape == (4, 8, 28, 28, 32)  # type: ignore[attr-defined]


def test_pictures_name_what_they_show(tmp_path: Path) -> None:
    """Drawn again from the stored numbers: messages, and every library's line."""
    from bench.spikes.pictures import draw_advise, save_flips

    stored = json.loads((DOCS / "flips.json").read_text(encoding="utf-8"))
    save_flips(stored["rows"], tmp_path / "flips")
    drawn = (tmp_path / "flips.svg").read_text(encoding="utf-8")
    assert "jax, jax compiled" in drawn
    assert "in reproducible mode there are none" in drawn
    assert main(["advise", "--redraw", str(DOCS / "advise.json"), "--plot", str(tmp_path / "advise.svg")]) == 0
    drawn = (tmp_path / "advise.svg").read_text(encoding="utf-8")
    for words in ("False alarms are as rare", "T = 16, 32 samples of 28 x 28", "1.5 pixels per frame"):
        assert words in drawn
    assert main(["advise", "--redraw", str(DOCS / "flips.json")]) == 2
    assert main(["advise", "--redraw", str(DOCS / "advise.json"), "--json", str(tmp_path / "no.json")]) == 2
    with pytest.raises(ValueError, match=r"^there is nothing to draw: no false_alarms, power, motion$"):
        draw_advise({})
    assert main(["advise", "--redraw", str(DOCS / "advise.md"), "--plot", str(tmp_path / "x.svg")]) == 2
    assert not (tmp_path / "x.svg").exists()


def test_pictures_of_any_rows() -> None:
    """More lines than colours, NumPy alone, and a difference where there should be none, which no title denies."""
    from bench.spikes.pictures import draw_flips

    def row(name: str, reproducible: bool, *differing: int) -> dict[str, object]:
        return {"name": name, "reproducible": reproducible, "differing": differing, "decisions": 1000}

    many = [row(f"library {n}", False, n, n + 1, n + 2) for n in range(9)]
    for rows, lines, words in (
        ([*many, row("a", True, 0, 0, 0)], 10, "there are none"),
        ([*many, row("a", True, 0, 0, 0), row("b", True, 0, 5, 0)], 10, "there are some, too"),
        (many[:1], 1, "layer to layer\n"),
    ):
        axes = draw_flips(rows).axes[0]
        assert len(axes.lines) == lines
        assert words in axes.get_title(loc="left")


def test_no_draws_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = ["--draws", "0", "--power-draws", "0", "--motion-draws", "0"]
    assert main(["advise", *nothing, "--plot", str(tmp_path / "advise.svg")]) == 2
    assert capsys.readouterr().err == "python -m bench advise: --plot needs draws of something\n"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda found: found["power"][0].pop("T"), "'T' is missing"),
        (lambda found: found.update(motion=7), "something in it is of another kind than it must be"),
        (lambda found: found["false_alarms"][0].update(draws=0), "a number in it is 0 or too large"),
        (lambda found: found.clear(), "there is nothing to draw: no false_alarms, power, motion"),
    ],
    ids=["key", "kind", "zero", "nothing"],
)
def test_a_damaged_simulation_is_one_sentence(
    spoil: Callable[[dict[str, Any]], object], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words that are not Python's."""
    found = json.loads((DOCS / "advise.json").read_text(encoding="utf-8"))
    spoil(found)
    file, plot = tmp_path / "a.json", tmp_path / "a.svg"
    file.write_text(json.dumps(found))
    assert main(["advise", "--redraw", str(file), "--plot", str(plot)]) == 2
    assert capsys.readouterr().err == f"python -m bench advise: {file} can't be drawn: {words}\n"
    file.write_text('{"power": [')
    assert main(["advise", "--redraw", str(file), "--plot", str(plot)]) == 2
    assert capsys.readouterr().err == (
        f"python -m bench advise: {file} cannot be read: no JSON from line 1, column 12 on\n"
    )
    assert not plot.exists()
