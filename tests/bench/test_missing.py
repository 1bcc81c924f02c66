"""python -m bench without one of the libraries that a command needs: one sentence that says which, and how to get it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import COMMANDS, EXTRAS, lacking
from tests.support import ROOT

NEEDS = {
    "rich": (["--images", "1"], ["digests"], ["run", "-o", "x.json"], ["speed"], ["sparsity"]),
    "jsonschema": (["run", "-o", "x.json"], ["compare", "x.json"]),
    "matplotlib": (
        ["speed", "--plot", "x"],
        ["speed", "--json", "x.json"],
        ["sparsity", "--json", "x.json"],
        ["accuracy", "--plot", "x"],
    ),
    "optax": (["train"],),
    "numpy": ([], ["speed"]),
}


@pytest.mark.parametrize(("module", "words"), [(module, words) for module in NEEDS for words in NEEDS[module]], ids=str)
def test_a_missing_library_is_a_sentence(module: str, words: list[str], tmp_path: Path) -> None:
    """Before any work: nothing is measured for hours and then lost."""
    code = f"import sys; sys.modules[{module!r}] = None\nfrom bench.__main__ import main\nsys.exit(main({words!r}))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    name = f" {words[0]}" if words and not words[0].startswith("-") else ""
    assert line.startswith(f"python -m bench{name}: needs {module}, which cannot be imported (")
    assert f"try: pip install -e '.[{EXTRAS.get(module, 'bench')}]'" in line
    assert not list(tmp_path.iterdir())


def test_our_own_mistakes_are_not_hidden() -> None:
    assert "speed" in COMMANDS
    with pytest.raises(ImportError, match="typo"):
        lacking(ImportError("typo", name="bench.speeed"), "speed")
