"""The README: every block of Python in it runs, every file it names is there, every command it gives exists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tacops.backends import Backend

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def _backends(block: str) -> list[str]:
    """Backends whose library a block imports, or names as a string."""
    names = re.findall(r"^import (jax|torch|cupy|mlx)\b", block, re.MULTILINE)
    return sorted({*names, *re.findall(r'"(jax|mlx|torch|cupy)"', block)})


def test_there_are_blocks_for_every_library() -> None:
    named = {name for block in BLOCKS for name in _backends(block)}
    assert named == {"jax", "mlx", "torch", "cupy"}
    assert len(BLOCKS) >= 6


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number: int, need: Callable[[str], Backend]) -> None:
    """In a process of its own, as a user would run it."""
    for name in _backends(BLOCKS[number]):
        need(name)
    done = subprocess.run([sys.executable, "-c", BLOCKS[number]], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]
    assert not missing


def test_files_in_the_map_exist() -> None:
    rows = re.findall(r"^\| (`.*?) \|", README.split("## Where things are")[1], re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) >= 8
    for name in names:
        assert any((ROOT / folder / name).exists() for folder in ("", "tacops")), name
