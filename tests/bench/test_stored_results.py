"""The results that are stored: small files, from which the pages' tables are made."""

from __future__ import annotations

import pytest

from bench.__main__ import main
from tests.support import ROOT

RESULTS = ROOT / "bench" / "results"
PAGES = {
    "xeon-emerald-rapids-2-cores": "docs/speed.md",
    "sparsity-epyc-zen5-2-cores": "docs/sparsity.md",
    "accuracy-epyc-zen5-2-cores": "docs/accuracy.md",
}
SHORT = ("xeon-emerald-rapids-2-cores.json.gz", "demo-epyc-zen5-2-cores.json")


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
