"""The public surface is what it says it is, documented, and the core keeps to the array API."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import tacops
from tacops._backend import dispatch
from tacops.backends import Backend
from tests.support import ROOT

CORE = Path(tacops.__file__).parent
FILES = sorted(path for path in CORE.rglob("*.py") if path.relative_to(CORE).parts[0] != "backends")
"""All of the package but the adapters; tacops/backends may be a link to them."""
PUBLIC = [
    "tacops",
    "tacops.backends",
    "tacops.encode",
    "tacops.layers",
    "tacops.plot",
    "tacops.readout",
    "tacops.surrogate",
    "tacops.testing",
]
LIBRARIES = {
    "numpy",
    "jax",
    "mlx",
    "torch",
    "cupy",
    "array_api_compat",
    "array_api_strict",
    "scipy",
    "tensorflow",
    "dask",
    "distributed",
}
XP = {
    "abs", "all", "any", "astype", "broadcast_to", "concat", "cumulative_sum", "exp", "finfo", "floor", "iinfo", "int8", "isdtype", "log", "logical_and",
    "logical_not", "logical_or", "max", "maximum", "min", "minimum", "ones_like", "permute_dims", "reshape", "round", "stack", "sum", "take", "tanh",
    "where", "zeros", "zeros_like", "float32", "float64", "int32", "int64",
}  # fmt: skip
"""Every array API function that the core may call: each has been seen to behave alike on all libraries."""


def test_public_names() -> None:
    """What a user may rely on."""
    names = {"tac_conv", "tac_linear", "conv_lif", "aggregate", "lif", "membrane_error_bound", "SpikeTrain"}
    assert names <= set(tacops.__all__)
    surrogates = {"fast_sigmoid", "arctan", "sigmoid", "triangular", "straight_through"}
    assert surrogates <= set(tacops.surrogate.__all__)
    registry = {"register_backend", "available_backends", "backend_of", "get_backend"}
    assert registry <= set(import_module("tacops.backends").__all__)


def _public(module: ModuleType) -> set[str]:
    """Names without an underscore that are neither modules, nor imported from a library, nor type-checking helpers."""
    found = set()
    for name, value in vars(module).items():
        home = getattr(value, "__module__", module.__name__)
        if name.startswith("_") or isinstance(value, ModuleType) or not str(home).startswith("tacops"):
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            found.add(name)
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_all_is_the_public_members(name: str) -> None:
    """``__all__`` lists every function and class that the module shows, sorted, each with a docstring."""
    module = import_module(name)
    listed = list(module.__all__)
    assert len(listed) == len(set(listed))
    functions = {n for n in listed if callable(getattr(module, n))}
    shown = _public(module)
    if name in ("tacops", "tacops.backends"):  # these two only gather; the others also import what they use
        assert functions == shown
    assert functions <= shown
    own = {n for n in shown if getattr(module, n).__module__ == name}
    assert own <= functions
    for public in functions:
        assert inspect.getdoc(getattr(module, public)), f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", ["tac_conv", "tac_linear", "conv", "conv_lif", "lif"])
def test_options_are_keywords(name: str) -> None:
    """Arrays may be positional, options never; everything is annotated."""
    signature = inspect.signature(getattr(tacops, name))
    positional = [p.name for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert positional in (["spikes", "weight", "bias"], ["current"])
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    assert signature.return_annotation == ("Array" if name == "conv" else "SpikeTrain")


def _modules() -> list[str]:
    names = [".".join(("tacops", *file.relative_to(CORE).with_suffix("").parts)) for file in FILES]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", [*_modules(), "tacops.backends"])
def test_examples_in_docstrings(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every example is what Python prints."""
    monkeypatch.setattr(dispatch, "_registered", {})  # an example registers a backend
    monkeypatch.setattr(dispatch, "_by_type", {})
    outcome = doctest.testmod(import_module(name))
    assert outcome.failed == 0


@pytest.mark.parametrize("name", ["tac_conv", "tac_linear", "conv_lif", "aggregate", "lif", "membrane_error_bound"])
def test_operators_have_examples(name: str) -> None:
    """Each operator's docstring holds an example, the parameters and what is returned."""
    function = getattr(tacops, name)
    text = inspect.getdoc(function) or ""
    assert ">>> " in text
    assert re.search(r"^Returns\n-------", text, re.MULTILINE)
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^(\w+, )*\**{parameter}\b", text, re.MULTILINE), f"{name}: {parameter} is not documented"


def test_all_files_are_looked_at() -> None:
    """Those in folders, too, and each once."""
    names = {path.relative_to(CORE).as_posix() for path in FILES}
    assert {"_core/neurons.py", "testing/_float.py", "testing/mutants.py"} <= names
    assert not any(name.startswith("backends/") for name in names)
    assert len({path.resolve() for path in FILES}) == len(FILES)
    assert len(_modules()) == len(set(_modules())) == len(FILES) - 1  # __main__ is a command


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CORE)))
def test_core_imports_no_array_library(path: Path) -> None:
    """Neither at the top nor inside functions; only for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        assert not {n.split(".")[0] for n in names} & LIBRARIES, f"{path.name}:{getattr(node, 'lineno', 0)}"


def _xp_calls(tree: ast.AST) -> set[str]:
    """Names looked up on ``xp``, or directly on what ``.namespace(...)`` returns."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            direct = isinstance(owner, ast.Call) and getattr(owner.func, "attr", "") == "namespace"
            if direct or (isinstance(owner, ast.Name) and owner.id == "xp"):
                found.add(node.attr)
    return found


def test_core_calls_a_closed_list_of_functions() -> None:
    """New functions are added to the list here after a look at how each library treats them."""
    used = {str(f.relative_to(CORE)): _xp_calls(ast.parse(f.read_text(encoding="utf-8"))) for f in FILES}
    everything = set().union(*used.values())
    assert "reshape" in everything, "the search finds nothing"
    assert everything <= XP, {name: calls - XP for name, calls in used.items() if calls - XP}


FORBIDDEN = {"device", "to_device", "at", "numpy", "item", "tolist", "__array_namespace__", "__setitem__"}


HOST = (
    "testing/",
    "_layers/checks.py",
    "_layers/mapping.py",
    "_values.py",
    "_advise/gram.py",
    "_advise/orders.py",
    "_advise/rule.py",
    "_advise/statistics.py",
)
"""Where numbers are on the host, options among them."""
CONTAINERS = (ast.Dict, ast.DictComp, ast.List, ast.ListComp)


def _containers(tree: ast.AST) -> set[str]:
    """Names that are only ever bound to a dictionary or a list that is written there, and names of arguments that say so."""
    found: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = node.value.left if isinstance(node.value, ast.BinOp) else node.value
            made = isinstance(value, CONTAINERS)
            if isinstance(value, ast.Call):
                made = ast.unparse(value.func) in ("dict", "dict.fromkeys", "list")
                made |= ast.unparse(value.func).endswith(".setdefault") and isinstance(value.args[-1], CONTAINERS)
            (found if made else others).update(ast.unparse(target) for target in targets)
        if isinstance(node, ast.arg) and node.annotation:
            plain = ast.unparse(node.annotation).startswith(("dict", "list"))
            (found if plain else others).add(node.arg)
    return found - others


def _stores(tree: ast.AST) -> list[ast.Subscript]:
    """Assignments to an item of what may be an array; an index that is a text is none of an array's."""
    found: dict[ast.Subscript, bool] = {}
    for scope in (node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)):
        known = _containers(scope)
        for node in ast.walk(scope):
            several = node.targets if isinstance(node, ast.Assign) else []
            for target in [*several, *([node.target] if isinstance(node, ast.AugAssign) else [])]:
                if isinstance(target, ast.Subscript):
                    text = isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str)
                    name = ast.unparse(target.value)
                    found[target] = found.get(target, False) or text or name in known or name.startswith("_")
    return [target for target, plain in found.items() if not plain]


def test_the_search_for_stores_finds_them() -> None:
    code = "def f(x, n):\n    found = {}\n    found[n] = 1\n    x[n] = 2\n    x[n, 0] += 3\n    found['a'] = 4"
    assert [ast.unparse(store) for store in _stores(ast.parse(code))] == ["x[n]", "x[n, 0]"]


def test_core_never_writes_to_arrays_or_asks_for_devices() -> None:
    """No item assignment (NumPy would obey), no attribute that only some libraries' arrays have."""
    for path in FILES:
        name = path.relative_to(CORE).as_posix()
        if name.startswith(HOST):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            # options of the command line, and where a backend was put
            if isinstance(node, ast.Attribute) and ast.unparse(node) not in ("args.device", "placed.device"):
                assert node.attr not in FORBIDDEN, f"{name}:{node.lineno}: .{node.attr}"
        stores = [f"{name}:{store.lineno}: assignment to {ast.unparse(store)}" for store in _stores(tree)]
        assert stores == []


def test_backend_functions_exist(backend: Backend) -> None:
    """The core's whole list is there in every library's namespace."""
    import numpy as np

    xp = backend.namespace(backend.from_numpy(np.zeros(1, np.float32)))
    used = set().union(*(_xp_calls(ast.parse(f.read_text(encoding="utf-8"))) for f in FILES))
    assert [name for name in sorted(used) if not hasattr(xp, name)] == []


def _members() -> set[str]:
    """What an adapter may define: the public methods and attributes of the class."""
    return {
        name
        for kind in (Backend, *Backend.__bases__)
        for name in (*vars(kind), *kind.__annotations__)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("text", ["docs/backend.md", "tacops/_backend/protocol.py"])
def test_every_member_of_a_backend_is_explained(text: str) -> None:
    """In the page for authors and in the header of the class's file; neither names what isn't there."""
    page = (ROOT / text).read_text(encoding="utf-8")
    if text.endswith(".py"):
        page = ast.get_docstring(ast.parse(page)) or ""
        page = page.partition("**Required:**")[2]
    else:
        page = page.partition("## What a backend says")[2].partition("Rules for all")[0]
    if text.endswith(".md"):
        page = "".join(re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE))  # the first column
    named = set(re.findall(r"`(\w+)(?: = True)?(?:\([\w, ]*\))?`", page))
    assert _members() - named == set()
    assert named - _members() == set()
