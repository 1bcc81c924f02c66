"""Modules put in the place of others, and taken away again."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

__all__ = ["MODULES", "forget", "is_mine", "module"]

MODULES = (
    "cupy",
    "cupyx",
    "cuda.pathfinder",
    "array_api_compat.cupy",
    "tacops.backends.cupy_",
    "tacops.backends._cuda.building",
    "tacops.backends._cuda.launching",
    "tacops.backends._cuda.products",
)
"""The stand-in for CuPy, and what imports it."""


def module(name: str, **contents: Any) -> ModuleType:
    """One that has `contents`, imported by its name from now on."""
    new = ModuleType(name)
    new.__dict__.update(contents, __all__=[key for key in contents if not key.startswith("_")])
    sys.modules[name] = new
    return new


def is_mine(name: str) -> bool:
    """Whether a module is one of `MODULES`, or in one."""
    return any(name == module or name.startswith(f"{module}.") for module in MODULES)


def forget() -> None:
    """Un-import: a package would go on to hand out a submodule that it has as an attribute."""
    for name in filter(is_mine, list(sys.modules)):
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        if not is_mine(parent):
            vars(sys.modules.get(parent, SimpleNamespace())).pop(child, None)
