"""The rooms of the benchmark: imports run one way between them, and in no circle between modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support import ROOT

FLOORS = (
    {"shared"},
    {"timing"},
    {"demo", "speed", "sparsity", "accuracy", "spikes"},
    {"machine"},
    {"gpu"},
    {"compare"},
    {""},  # the modules that lie in no room: the commands themselves
)
"""A room imports from itself and from floors below, never from another room on its own floor."""

ROOMS = set().union(*FLOORS) - {""}

Modules = Mapping[str, str]
"""Source by dotted name."""


@cache
def modules() -> dict[str, str]:
    """Every module of the benchmark."""
    found = {}
    for path in sorted((ROOT / "bench").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


@cache
def named(source: str) -> frozenset[str]:
    """What a module imports, in functions and for type checkers, too; and the modules that it names in strings."""
    return frozenset(name for node in ast.walk(ast.parse(source)) for name in _named(node))


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield node.module or ""
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and re.fullmatch(r"bench(\.\w+)+(:\w+)?", str(node.value)):
        yield str(node.value).partition(":")[0]


def imports(of: Modules) -> dict[str, set[str]]:
    """For every module the modules of the benchmark that it imports."""
    return {name: {other for other in named(source) if other in of and other != name} for name, source in of.items()}


def room(module: str) -> str:
    """The folder right under ``bench``; "" for modules beside the folders."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


def wrong_way(of: Modules) -> list[str]:
    """Imports that run against the order."""
    floor = {name: n for n, names in enumerate(FLOORS) for name in names}
    return [
        f"{name} imports {other}"
        for name, others in imports(of).items()
        for other in others
        if other != "bench" and (here := room(name)) != (there := room(other)) and not floor[there] < floor[here]
    ]


def test_every_room_has_a_floor() -> None:
    folders = {path.parent.name for path in (ROOT / "bench").glob("*/*.py")}
    assert folders == ROOMS


def test_imports_run_one_way() -> None:
    assert not wrong_way(modules())


def test_no_module_is_in_a_circle() -> None:
    TopologicalSorter(imports(modules())).prepare()


@pytest.mark.parametrize(
    "line",
    [
        "from bench.demo import report",
        "import bench.speed.table",
        "x = 'bench.speed.run:Ceilings'",
        "import bench.table",
    ],
)
def test_an_import_of_another_benchmark_is_noticed(line: str) -> None:
    of = {**modules(), "bench.demo.report": "", "bench.speed.run": "", "bench.table": "", "bench.accuracy.new": line}
    assert {said.partition(" ")[0] for said in wrong_way(of)} == {"bench.accuracy.new"}


def test_a_circle_for_type_checkers_is_noticed() -> None:
    of = {
        "bench.speed.a": "from bench.speed.b import f",
        "bench.speed.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bench.speed import a",
    }
    with pytest.raises(CycleError):
        TopologicalSorter(imports(of)).prepare()


def test_modules_are_found() -> None:
    assert {"bench.__main__", "bench.speed.peers.torch_", "bench.machine.step", "bench.shared.files"} <= set(modules())
