"""Pages of the site: tutorials and how-to run from top to bottom; every option and public name is in the reference."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tacops._layers.explain import MEANINGS
from tacops._layers.spec import DEFAULTS, ConvLIFOptions, TACConvOptions, TACLinearOptions
from tacops.backends import Backend
from tests.support import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("tutorials/*.md"), *DOCS.glob("howto/*.md")])
REFERENCE = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "site" / "reference").glob("*.md")}
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def _runner() -> Any:
    spec = importlib.util.spec_from_file_location("tutorials", DOCS / "site_tools" / "tutorials.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUNNER = _runner()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, need: Callable[[str], Backend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks are one program; the pictures that it shows are those that it makes."""
    text = page.read_text(encoding="utf-8")
    monkeypatch.delenv("TACOPS_DATA", raising=False)
    if RUNNER.PICTURE.search(text):
        pytest.importorskip("matplotlib")
    for name, sign in (("torch", "import torch"), ("jax", "import jax"), ("mlx", "import mlx")):
        if sign in text:
            need(name)
    for name in ("flax", "optax", "snntorch", "spikingjelly", "norse", "spyx"):
        if re.search(rf"^(import|from) {name}\b", text, re.MULTILINE):
            found = importlib.util.find_spec(name)
            if found is None:
                pytest.skip(f"{name} is not installed")
    if "import dask" in text:
        need("dask")
        pytest.importorskip("zarr", reason="the extra dask brings it")
    RUNNER.run(page, tmp_path)
    shown = set(RUNNER.PICTURE.findall(text))
    assert {path.name for path in tmp_path.iterdir()} == shown
    assert all((page.parent / name).is_file() for name in shown)


def test_pages_were_found() -> None:
    assert {page.stem for page in PAGES} >= {
        "fashion_mnist",
        "events",
        "streaming",
        "snntorch",
        "spikingjelly",
        "norse",
        "spyx",
        "fashion_mnist_flax",
        "fashion_mnist_mlx",
        "choose_k",
        "conformance",
        "dask",
        "neuron",
    }


def test_ray_example(need: Callable[[str], Backend], tmp_path: Path) -> None:
    """What the page about Dask shows of Ray, after its other blocks."""
    pytest.importorskip("ray", reason="Ray is large, and in no extra")
    need("dask")
    page = DOCS / "howto" / "dask.md"
    [block] = re.findall(r"^```py\n(import ray\n.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    _run_with(page, block, tmp_path)


def _run_with(page: Path, block: str, folder: Path) -> None:
    """A page, and a block of it that takes more than the page needs."""
    (folder / "page.py").write_text(f"{RUNNER.code(page)}\n{block}", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "page.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_onnx_example(need: Callable[[str], Backend], tmp_path: Path) -> None:
    """What the page about deployment shows of ONNX, after its other blocks: the same spikes, bit for bit."""
    for name in ("onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx brings it")
    need("torch")
    page = DOCS / "howto" / "deploy.md"
    [block] = re.findall(r"^```py\n(import numpy.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert "onnxruntime" in block
    _run_with(page, block, tmp_path)


@pytest.mark.parametrize("page", RUNNER.pages(), ids=lambda page: page.stem)
def test_tutorials_are_notebooks_too(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same blocks, in their order, after a cell that finds the clone; no picture or link of it leads nowhere."""
    found = json.loads(RUNNER.notebook(page))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in found["cells"]}) == len(found["cells"])
    first, *cells = ["".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == "code"]
    monkeypatch.chdir(DOCS)  # which is left again
    exec(first, {})  # noqa: S102
    assert Path.cwd() == ROOT
    blocks = RUNNER.BLOCK.findall(page.read_text(encoding="utf-8"))
    assert cells == [block.strip() for block in blocks]
    text = "".join(cell["source"] for cell in found["cells"] if cell["cell_type"] == "markdown")
    assert re.findall(r"^# (.*)", text) == re.findall(r"^# (.*)", page.read_text(encoding="utf-8"))
    assert all(link.startswith("https://") for link, _ in LINK.findall(text))


def test_a_mistake_in_a_page_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"line 8[\s\S]*AssertionError"):
        RUNNER.run(page, tmp_path)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_links_between_pages(page: Path) -> None:
    """On the forge; the site has every page at the same place, but for the reference, which is in the site alone."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    home = DOCS.parent / "reference" if "site" in page.relative_to(DOCS).parts[:1] else page.parent
    for link, _ in LINK.findall(text):
        assert link.startswith("https://") or (home / link).resolve().exists(), link


def test_options_of_layers_are_told_with_their_defaults() -> None:
    page = (DOCS / "layers.md").read_text(encoding="utf-8").partition("## Options")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| (.*) \|$", page, re.MULTILINE)
    told = {name: default for name, default, _ in rows}
    options = {name for kind in (ConvLIFOptions, TACConvOptions, TACLinearOptions) for name in kind.__annotations__}
    assert set(told) == options
    for name, default in DEFAULTS.items():
        if name != "surrogate":
            assert told[name].strip("`").replace('"', "'") == repr(default), name
    assert {name: meaning for name, _, meaning in rows} == MEANINGS


@pytest.mark.parametrize("framework", ["torch", "flax", "mlx"])
def test_help_names_every_option(need: Callable[[str], Backend], framework: str) -> None:
    """With its default and meaning, in the signature and in the docstring, which has no `**options`."""
    need({"flax": "jax"}.get(framework, framework))
    if framework == "flax":
        pytest.importorskip("flax")
    module = import_module(f"tacops.backends.{framework}_layers")
    for kind, allowed in (("ConvLIF", ConvLIFOptions), ("TACConv", TACConvOptions), ("TACLinear", TACLinearOptions)):
        layer = getattr(module, kind)
        known, text = inspect.signature(layer.__init__).parameters, " ".join(layer.__doc__.split())
        assert "**options" not in text
        for name in allowed.__annotations__:
            assert known[name].default == DEFAULTS.get(name, inspect.Parameter.empty)
            assert f" {name} : " in text
            assert MEANINGS[name][1:16] in text
        assert not any(x.kind is x.VAR_KEYWORD for x in known.values())

        class Own(layer):  # type: ignore[misc, valid-type]
            def __init__(self, size: int) -> None:
                raise NotImplementedError

        assert list(inspect.signature(Own.__init__).parameters) == ["self", "size"]


@pytest.mark.parametrize(
    "module",
    ["", "layers", "encode", "readout", "plot", "surrogate", "testing", "backends"],
    ids=lambda name: name or "tacops",
)
def test_reference_has_every_public_name(module: str) -> None:
    place, everything = f"tacops.{module}".rstrip("."), "\n".join(REFERENCE.values())
    home = import_module(place)
    for name in home.__all__:
        if not isinstance(getattr(home, name), ModuleType):
            assert re.search(rf"^::: {place}\.{name}$", everything, re.MULTILINE), f"{place}.{name}"


@pytest.mark.parametrize("framework", ["torch", "flax", "mlx", "nir"])
def test_reference_has_every_layer(framework: str) -> None:
    text = (ROOT / "backends" / f"{framework}_layers.py").read_text(encoding="utf-8")
    found = re.search(r"^__all__ = \[(.*?)\]", text, re.MULTILINE)
    assert found
    for name in re.findall(r'"(\w+)"', found[1]):
        assert f"::: tacops.backends.{framework}_layers.{name}\n" in REFERENCE["layers"] + "\n"
