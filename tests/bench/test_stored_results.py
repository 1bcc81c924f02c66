"""The results that are stored: small files, from which the pages' tables are made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from tests.support import ROOT

RESULTS = ROOT / "bench" / "results"
PAGES = {
    "epyc-zen5-2-cores": "docs/speed.md",
    "sparsity-epyc-zen5-2-cores": "docs/sparsity.md",
    "accuracy-epyc-zen5-2-cores": "docs/accuracy.md",
    "accuracy-map-epyc-zen5-2-cores": "docs/accuracy.md",
}
SHORT = ("epyc-zen5-2-cores.json.gz", "demo-epyc-zen5-2-cores.json")


def test_stored_files_are_small() -> None:
    sizes = {path.name: path.stat().st_size / 1024 for path in RESULTS.iterdir()}
    assert sum(name.endswith(".json.gz") for name in sizes) >= len(PAGES)
    most = {name: 500 if name.endswith((".png", ".svg")) else 300 for name in sizes}
    assert not {name: size for name, size in sizes.items() if size > most[name]}


@pytest.mark.parametrize("name", PAGES)
def test_pages_hold_the_tables_of_the_stored_results(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    stored = str(RESULTS / f"{name}.json.gz")
    assert main(["table", stored, str(ROOT / PAGES[name]), "--full", "--check"]) == 0
    assert capsys.readouterr().out.count("up to date") == 1


@pytest.mark.parametrize("name", SHORT)
def test_readme_holds_the_short_tables(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(RESULTS / name), str(ROOT / "README.md"), "--check"]) == 0
    assert "up to date" in capsys.readouterr().out


DEMO = RESULTS / SHORT[1]


def test_the_demonstration_is_drawn(tmp_path: Path) -> None:
    """As it is stored in docs; every mode has a bar, and its accuracy beside it."""
    pytest.importorskip("matplotlib")
    assert main(["table", str(DEMO), "--plot", str(tmp_path / "demo")]) == 0
    text = (tmp_path / "demo.svg").read_text()
    for name in ("exact", "collapse K=4", "collapse K=16", "preserve K=4", "86.6% right", "points of accuracy"):
        assert name in text
    assert (ROOT / "docs" / "demo.svg").is_file()


def test_the_demonstrations_table_counts_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(DEMO.read_text())
    content["reproducible"]["jax"] = 1234
    content["results"][0]["differing"] += 5678
    path = tmp_path / "demo.json"
    path.write_text(json.dumps(content))
    assert main(["table", str(path)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^\| `numpy` .* \| 5,678 \| 0 \|$", said, re.MULTILINE)
    assert re.search(r"^\| `jax` .* \| 1,234 \|$", said, re.MULTILINE)


@pytest.mark.parametrize("spoil", [lambda content: content.pop("trained"), lambda content: content.update(results=[])])
def test_a_damaged_demonstration_is_one_sentence(
    spoil: Callable[[dict[str, Any]], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(DEMO.read_text())
    spoil(content)
    path = tmp_path / "demo.json"
    path.write_text(json.dumps(content))
    assert main(["table", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
