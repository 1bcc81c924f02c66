"""The README: every block of Python in it runs, every file it names is there; and the commands of all pages exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable

import pytest

from bench.__main__ import main as bench
from tacops.__main__ import main as tacops
from tacops.backends import Backend
from tests.support import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "bench").glob("*/README.md"))]
WORDS = {
    (name, words.strip())
    for page in PAGES
    for name, words in re.findall(r"python -m (bench|tacops)\b([^`\n|&]*)", page.read_text())
}


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


@pytest.mark.parametrize(("program", "words"), sorted(WORDS), ids=" ".join)
def test_command_exists(program: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every page: the command answers ``--help``, and that names each option."""
    first = re.match(r"[a-z]+(-[a-z]+)*(?= |$)", words)
    options = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", words)
    with pytest.raises(SystemExit) as stop:
        (bench if program == "bench" else tacops)([*([first[0]] if first else []), "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for option in options:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", said), option


def test_commands_were_found() -> None:
    commands = {f"{program} {words}".split(" -")[0] for program, words in WORDS}
    assert {"tacops check", "tacops info", "bench", "bench speed"} <= commands


def test_shell_blocks_do_what_this_project_offers() -> None:
    """Each step of each block makes an environment, installs extras that exist, or runs the demonstration or the tests."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    steps = [step.strip() for block in SHELL for line in block.strip().splitlines() for step in line.split("&&")]
    assert len(SHELL) >= 2
    for step in steps:
        program, *rest = shlex.split(step, comments=True)
        if rest[:2] == ["-m", "venv"]:
            assert program == "python3"
        elif program == ".venv/bin/pip" and rest[:2] == ["install", "torch"]:
            assert rest[2:] == ["--index-url", "https://download.pytorch.org/whl/cpu"]
        elif program == ".venv/bin/pip":
            assert rest[0] == "install"
            assert rest[1:-1] in ([], ["-e"])
            assert rest[-1].startswith(".[")
            assert set(rest[-1].removeprefix(".[").removesuffix("]").split(",")) <= extras
        else:
            assert program == ".venv/bin/python"
            assert rest[:2] in (["-m", "bench"], ["-m", "pytest"])


def test_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {
        name
        for page in PAGES
        for extras in re.findall(r"(?:\btacops|install (?:-e )?'\.)\[([\w,-]+)\]", page.read_text())
        for name in extras.split(",")
    }
    assert {"jax", "mlx"} & named
    assert named <= set(project["optional-dependencies"])
