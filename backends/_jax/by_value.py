"""Functions as keys: two are equal where they would do the same.

A compiler keeps programs by the functions they were made from. A lambda written in a training loop is a new function at
every step, and by its identity it would be compiled, and kept, at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from numbers import Number
from types import CodeType, FunctionType
from typing import Any

__all__ = ["ByValue"]

_PLAIN = (Number, str, bytes, type(None))


class ByValue:
    """``ByValue(f)(*args)`` is ``f(*args)``; equal to another if both have the same code and read the same values.

    Those are default arguments, variables of enclosing functions and global variables: numbers, strings and tuples of them
    count by value, inner functions and frozen dataclasses as here, everything else (arrays, modules, objects with
    attributes) by identity. So no program is ever used for a function that differs in one of them. What goes unseen, as
    under `jax.jit`, is an attribute of an object, or a global variable that only another global function reads, when it is
    changed later.

    Parameters
    ----------
    function : callable
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._key = _key(function, ())
        self._hash = hash(self._key)

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self.function(*args)

    def __eq__(self, other: object) -> bool:
        """Whether the other would do the same."""
        return isinstance(other, ByValue) and self._key == other._key

    def __hash__(self) -> int:
        """Of the key."""
        return self._hash


class _Same:
    """An object by identity, kept alive so that no other takes its place."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _key(value: Any, outer: tuple[int, ...]) -> Any:
    """A hashable stand-in for `value`; `outer` are the containers and functions that are being looked into."""
    if isinstance(value, _PLAIN):
        return type(value), repr(value)  # by their text 0.0 is not -0.0, 1 is not True, and NaN is NaN
    if id(value) in outer:  # a function that calls itself
        return "outer", outer.index(id(value))
    inner = (*outer, id(value))
    if type(value) in (tuple, list):
        return type(value), tuple(_key(v, inner) for v in value)
    if type(value) is FunctionType:
        return _function_key(value, inner)
    if type(value) is partial:
        keywords = tuple((name, _key(v, inner)) for name, v in value.keywords.items())
        return partial, _key(value.func, inner), _key(value.args, inner), keywords
    if _is_record(value):
        return type(value), tuple((name, _key(v, inner)) for name, v in vars(value).items())
    return _Same(value)


def _is_record(value: Any) -> bool:
    """Whether it is a frozen dataclass that is nothing beside its fields."""
    if isinstance(value, type) or not is_dataclass(value) or not hasattr(value, "__dict__"):
        return False
    parameters: Any = type(value).__dict__.get("__dataclass_params__")
    return bool(parameters and parameters.frozen) and list(vars(value)) == [f.name for f in fields(value)]


def _function_key(function: FunctionType, inner: tuple[int, ...]) -> Any:
    """Its code and all that it reads."""
    cells = [_contents(cell, inner) for cell in function.__closure__ or ()]
    known = function.__globals__
    read = [(name, _global_key(known[name])) for name in _names(function) if name in known]
    defaults = _key(function.__defaults__, inner)
    keywords = tuple((name, _key(v, inner)) for name, v in (function.__kwdefaults__ or {}).items())
    return function.__code__, _Same(known), tuple(cells), tuple(read), defaults, keywords


def _global_key(value: Any) -> Any:
    """A number or text by value, a function of the module by identity: what it reads in turn could be the whole program."""
    return (type(value), repr(value)) if isinstance(value, _PLAIN) else _Same(value)


def _contents(cell: Any, inner: tuple[int, ...]) -> Any:
    try:
        return _key(cell.cell_contents, inner)
    except ValueError:  # not assigned yet
        return "empty"


def _names(function: FunctionType) -> list[str]:
    """Names of globals and attributes in its code and in that of functions inside it."""
    found: dict[str, None] = {}
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        found.update(dict.fromkeys(code.co_names))
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]
    return list(found)
