"""A backend that somebody else wrote, registered by an entry point, and the page that shows how."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tacops.backends import get_backend
from tacops.testing.mutants import mutants
from tests.backends.test_mutants import FOUND_BY
from tests.support import ROOT

SOURCE = ROOT / "tests" / "support" / "third_party"
PAGE = ROOT / "docs" / "backend.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as pip leaves it: the modules, and metadata with the entry point of the package's pyproject.toml."""
    site = tmp_path_factory.mktemp("site")
    for name in ("tally.py", "tacops_tally.py"):
        (site / name).write_text((SOURCE / name).read_text(encoding="utf-8"), encoding="utf-8")
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups)
    )
    return site


def _run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}
    return subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_it_passes_every_check(site: Path) -> None:
    """By its registered name, as its author would ask."""
    done = _run(site, "-m", "tacops", "check", "tally")
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"^tally: (\d+) passed, 0 failed", done.stdout, re.MULTILINE)[0]) > 90


def test_it_passes_before_it_is_registered(site: Path) -> None:
    done = _run(site, "-m", "tacops", "check", "tacops_tally:BACKEND", "--tier", "4", "--quiet")
    assert done.returncode == 0, done.stdout


def test_operators_find_it(site: Path) -> None:
    """By the arrays alone, without its name being spoken; its own errors are not swallowed."""
    code = (
        "import tally, tacops; from tacops.backends import available_backends, backend_of;"
        "x = tally.Array([[[1.0, 0.0]]] * 4); w = tally.Array([[0.5, 0.25]]);"
        "train = tacops.tac_linear(x, w, chunk_size=2, beta=0.5);"
        "print(type(train.spikes).__name__, backend_of(x).name, 'tally' in available_backends())"
    )
    done = _run(site, "-c", code)
    assert done.stdout == "Array tally True\n", done.stderr


def test_arrays_do_not_mix(site: Path) -> None:
    code = (
        "import numpy, tally, tacops\n"
        "try:\n    tacops.tac_linear(tally.Array([[[1.0]]]), numpy.ones((1, 1)), chunk_size=1)\n"
        "except TypeError as error:\n    print(error)"
    )
    assert "weight must be an array of the same library as spikes (tally)" in _run(site, "-c", code).stdout


def test_the_page_shows_this_backend() -> None:
    """The listing is the file that the tests above check."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert ("python", (SOURCE / "tacops_tally.py").read_text(encoding="utf-8")) in blocks
    assert ("toml", (SOURCE / "pyproject.toml").read_text(encoding="utf-8")) in blocks


def test_the_page_lists_all_mutants() -> None:
    """With the tiers that find each."""
    page = PAGE.read_text(encoding="utf-8")
    for mutant in mutants(get_backend("numpy")):
        tiers = ", ".join(map(str, sorted(FOUND_BY[mutant.name])))
        assert f"| `{mutant.name}` | {mutant.mistake} | {tiers} |" in page
