"""The time that `tacops.advise` takes beside a layer: stored, on its page, and measured by a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.spikes.advise_cost import INPUTS, sentence, table
from tests.support import ROOT

DOCS = ROOT / "docs"


def test_the_page_holds_what_is_stored() -> None:
    page = (DOCS / "advise.md").read_text(encoding="utf-8")
    found = json.loads((DOCS / "advise_cost.json").read_text(encoding="utf-8"))
    assert found["rounds"] >= 15
    assert table(found) in page
    assert sentence(found) in page


def test_the_command_times_and_stores(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cost.json"
    assert main(["advise", "--cost", "1", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert [(tuple(one["spikes"]), one["channels"]) for one in found["cost"]] == list(INPUTS)
    assert all(one[name] > 0 for one in found["cost"] for name in ("advise", "exact", "dense"))
    assert table(found) in capfd.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ("0",),
        ("1", "--plot", "x.svg"),
        ("1", "--redraw", "docs/advise.json"),
        ("1", "--draws", "5"),
        ("1", "--seed", "1"),
    ],
)
def test_what_cost_refuses(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "--cost", *options]) == 2
    assert (
        capsys.readouterr().err == "python -m bench advise: --cost takes at least 1 round, and no option but --json\n"
    )
