"""What is installed works without the checkout: wheel and sdist, built and run in an environment of their own."""

from __future__ import annotations

import email
import email.policy
import importlib.util
import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacops
from tests.support import ROOT

REPOSITORY = "https://example.org/somebody/tacops"
README = (ROOT / "README.md").read_text(encoding="utf-8")
CALL = """
import numpy as np, tacops, tacops.backends
print(tacops.__file__)
x, w = np.ones((4, 1, 6, 6, 2), np.float32), np.ones((3, 3, 3, 2), np.float32)
print(tacops.tac_conv(x, w, chunk_size=2).spikes.shape)
"""


def _run(command: list[str], where: Path) -> str:
    """Run outside the checkout, with nothing of this process's environment that could lead back into it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "COVERAGE"))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=where, env=clean, timeout=300, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _build(project: Path, out: Path, *kinds: str) -> list[Path]:
    """Build in this environment where it has the build backend, in a fresh one elsewhere."""
    try:
        import hatchling  # noqa: F401

        isolation = ["--no-isolation"]
    except ImportError:
        isolation = []
    _run([sys.executable, "-m", "build", *kinds, *isolation, "--outdir", str(out), str(project)], out.parent)
    return sorted(out.iterdir())


def _environment(place: Path) -> Path:
    """Create an empty virtual environment; return its Python."""
    venv.create(place, symlinks=os.name != "nt", with_pip=False)
    return place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _install(python: Path, wheel: Path, *, dependencies: bool) -> None:
    """Install a wheel, and link to this environment's copies of the packages that it says it needs: nothing is downloaded."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "-q"]
    _run([*pip, str(wheel)], wheel.parent)
    if not dependencies:
        return
    site = Path(
        _run([str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], wheel.parent).strip()
    )
    [info] = site.glob("tacops-*.dist-info")
    needs = [need for need in metadata.Distribution.at(info).requires or () if "extra ==" not in need]
    assert any(need.startswith("numpy") for need in needs)
    for need in needs:
        name = re.split(r"[^\w.-]", need, maxsplit=1)[0]
        dist = metadata.distribution(name)
        for top in {file.parts[0] for file in dist.files or () if file.parts[0] not in ("..", "__pycache__")}:
            (site / top).symlink_to(Path(str(dist.locate_file(top))))


@pytest.fixture(scope="module")
def addresses() -> Any:
    """What makes the long description and the addresses."""
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("metadata", ROOT / ".github" / "metadata.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build the sdist, and the wheel from it."""
    out = tmp_path_factory.mktemp("dist") / "out"
    out.mkdir()
    wheel, sdist = sorted(
        _build(ROOT, out), key=lambda path: path.suffix != ".whl"
    )  # the wheel is built from the sdist
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def installed(dist: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a clean environment with what it depends on; return its Python."""
    python = _environment(tmp_path_factory.mktemp("clean") / "env")
    _install(python, dist["wheel"], dependencies=True)
    return python


def test_wheel_contents(dist: dict[str, Path]) -> None:
    """The adapters lie in tacops/backends, py.typed is there, and nothing but tacops is installed."""
    names = zipfile.ZipFile(dist["wheel"]).namelist()
    assert len(names) == len(set(names))
    for folder, place in (("tacops", "tacops"), ("tacops/testing", "tacops/testing"), ("backends", "tacops/backends")):
        for path in (ROOT / folder).iterdir():
            if path.is_file() and not path.name.startswith("."):
                assert f"{place}/{path.name}" in names
    assert "tacops/py.typed" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"tacops"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_package_index_shows_what_is_stated_once(dist: dict[str, Path], addresses: Any) -> None:
    """One version everywhere, the console script, and the addresses that follow from the line of CITATION.cff, if it is there."""
    with zipfile.ZipFile(dist["wheel"]) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        fields = email.message_from_bytes(wheel.read(name), policy=email.policy.default)
        [scripts] = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
        assert "tacops = tacops.__main__:main" in wheel.read(scripts).decode()
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert fields["Version"] == tacops.__version__
    assert f"version: {tacops.__version__}" in citation
    assert f"## {tacops.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    text, urls = addresses.addressed(README, addresses.repository(citation), tacops.__version__)
    payload = fields.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode().strip() == text.strip()
    assert sorted(fields.get_all("Project-URL") or ()) == sorted(f"{label}, {url}" for label, url in urls.items())


def test_links_lead_to_the_files_of_a_version(addresses: Any) -> None:
    """Every link of the README leads to a file of the tagged commit, images to their bytes."""
    text, urls = addresses.addressed(README, REPOSITORY, tacops.__version__)
    assert urls["Repository"] == REPOSITORY
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]*)\)", text)
    ours = [(image, target) for image, target in links if target.startswith(REPOSITORY)]
    assert len(ours) > 10
    for image, target in ours:
        place = f"{REPOSITORY}/{'raw' if image else 'blob'}/v{tacops.__version__}/"
        assert target.startswith(place)
        assert (ROOT / target.removeprefix(place)).is_file(), target
    assert all(target.startswith(("https://", "http://", "#")) for _, target in links)


def test_the_line_that_states_the_address(addresses: Any) -> None:
    """It is there, as a comment until somebody knows the address; quotes and a last slash change nothing."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    [line] = re.findall(r"^(?:# )?repository-code: .*$", citation, re.MULTILINE)
    assert addresses.repository("# repository-code: https://github.com/OWNER/tacops\n") == ""
    for form in (REPOSITORY, f'"{REPOSITORY}"', f"{REPOSITORY}/", f"'{REPOSITORY}/'"):
        assert addresses.repository(citation.replace(line, f"repository-code: {form}")) == REPOSITORY


def test_wheel_straight_from_the_checkout_is_the_same(dist: dict[str, Path], tmp_path: Path) -> None:
    """Built from the checkout, where backends is a link, or from the sdist, where it isn't: the same files."""
    out = tmp_path / "out"
    out.mkdir()
    [wheel] = _build(ROOT, out, "--wheel")
    ours, theirs = (zipfile.ZipFile(w) for w in (wheel, dist["wheel"]))
    assert sorted(ours.namelist()) == sorted(theirs.namelist())
    for name in ours.namelist():
        if not name.endswith("RECORD"):
            assert ours.read(name) == theirs.read(name), name


def test_installed_package_computes(installed: Path, tmp_path: Path) -> None:
    """The operators run in the clean environment, from the installed files."""
    where, shape = _run([str(installed), "-c", CALL], tmp_path).splitlines()
    assert not Path(where).is_relative_to(ROOT)
    assert shape == "(2, 1, 4, 4, 3)"


def test_info_reports_backends(installed: Path, tmp_path: Path) -> None:
    """``python -m tacops info`` names the version, the backend that is there and each one that is missing, and why."""
    out = _run([str(installed), "-m", "tacops", "info"], tmp_path)
    assert np.__version__ in out
    for name in ("numpy", "jax", "mlx", "torch", "cupy"):
        assert name in out
    for name in ("jax", "mlx", "torch"):
        assert f"tacops[{name}]" in out


def test_package_without_any_array_library(dist: dict[str, Path], tmp_path: Path) -> None:
    """With no array library at all the package still imports and says what is missing."""
    python = _environment(tmp_path / "env")
    _install(python, dist["wheel"], dependencies=False)
    out = _run([str(python), "-m", "tacops", "info"], tmp_path)
    assert "numpy" in out
    assert "pip install" in out
