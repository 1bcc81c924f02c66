"""Imports run one way between rooms, and in no circle, those for type checkers included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

FLOORS: tuple[tuple[str, ...], ...] = (
    ("tacops._backend.window", "tacops._values", "tacops._files", "tacops.backends._step", "tacops.backends._switches"),
    ("tacops._backend",),
    ("tacops._core",),
    ("tacops.surrogate", "tacops._operators"),
    ("tacops.backends._cpu", "tacops.backends._cuda", "tacops.backends._dask", "tacops.backends._jax", "tacops.backends._metal", "tacops.backends._mlx", "tacops.backends._torch", "tacops.backends._triton", "tacops.backends._unfold"),
    tuple(f"tacops.backends.{name}" for name in ("numpy_", "jax_", "mlx_", "torch_", "cupy_", "dask_", "array_api")),
    ("tacops.backends._io", "tacops._advise"),
    ("tacops._layers", "tacops.layers"),
    ("tacops._currents", "tacops._events", "tacops.encode", "tacops.plot", "tacops.readout"),
    ("tacops.backends._modules", "tacops.backends._nir", *(f"tacops.backends.{name}_layers" for name in ("torch", "flax", "mlx", "nir"))),
    ("tacops", "tacops.backends"),
    ("tacops.testing",),
    ("tacops._cli", "tacops.__main__"),
)  # fmt: skip
"""Rooms, the lowest first: a module imports from its own floor and from lower ones."""


def _files() -> dict[str, Path]:
    """Every module by name."""
    found = {}
    for folder, prefix in (("tacops", "tacops"), ("backends", "tacops.backends")):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "tacops" and parts[0] == "backends":  # a link to the other folder
                continue
            found[".".join((prefix, *parts)).removesuffix(".__init__")] = path
    return found


FILES = _files()


def _imports(name: str) -> Iterator[str]:
    """Modules of this project that a module imports, at its top, inside functions, or for type checkers."""
    path = FILES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in FILES:
                    yield inner
                elif base in FILES:
                    yield base


def _floor(name: str) -> int:
    """The floor of the longest entry that the module lies in."""
    fits = [(len(room), n) for n, floor in enumerate(FLOORS) for room in floor if f"{name}.".startswith(f"{room}.")]
    return max(fits)[1]


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_run_downwards(name: str) -> None:
    above = {other for other in _imports(name) if _floor(other) > _floor(name)}
    assert above == set()


def test_there_is_no_circle() -> None:
    """Between modules, whatever their floor; a package counts as its ``__init__``."""
    edges = {name: set(_imports(name)) - {name} for name in FILES}
    while leaves := [name for name, others in edges.items() if not others]:
        for leaf in leaves:
            del edges[leaf]
        for others in edges.values():
            others.difference_update(leaves)
    assert edges == {}


def test_the_search_finds_something() -> None:
    assert "tacops._core.neurons" in set(_imports("tacops._core.run"))
    assert "tacops._backend.steps" in set(_imports("tacops._backend.protocol"))
    assert "tacops.backends._cpu.tiles" in set(_imports("tacops.backends.numpy_"))
    assert len(FILES) > 80
