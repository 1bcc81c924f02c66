"""A small array library that tacops knows nothing about: immutable arrays in lists of its own type.

It stands for a library that somebody writes an adapter for. Its arrays refuse to mix with others, to be written to and
to be converted without being asked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as _np

__version__ = "0.1"


class Array:
    """An immutable array."""

    __slots__ = ("_data",)

    def __init__(self, data: Any) -> None:
        self._data = _np.array(data)
        self._data.flags.writeable = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._data.ndim

    @property
    def dtype(self) -> Any:
        """Element type."""
        return self._data.dtype

    def tolist(self) -> Any:
        """Values as Python numbers."""
        return self._data.tolist()

    def to_host(self) -> Any:
        """A NumPy copy."""
        return self._data.copy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("tally arrays are not converted silently; use to_host()")

    def __getitem__(self, key: Any) -> Array:
        return Array(self._data[key])


def _binary(name: str) -> Callable[[Array, Any], Any]:
    function = getattr(operator, name)

    def forward(self: Array, other: Any) -> Any:
        return Array(function(self._data, _plain(other))) if isinstance(other, Array | float | int) else NotImplemented

    return forward


def _reflected(name: str) -> Callable[[Array, Any], Any]:
    function = getattr(operator, name)

    def backward(self: Array, other: Any) -> Any:
        return Array(function(other, self._data)) if isinstance(other, float | int) else NotImplemented

    return backward


def _unary(name: str) -> Callable[[Array], Array]:
    function = getattr(operator, name)
    return lambda self: Array(function(self._data))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "ge", "gt", "le", "lt", "eq", "ne"):
    setattr(Array, f"__{_name}__", _binary(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod"):
    setattr(Array, f"__r{_name}__", _reflected(_name))
for _name in ("neg", "abs"):
    setattr(Array, f"__{_name}__", _unary(_name))


def _plain(value: Any) -> Any:
    if isinstance(value, _np.ndarray):
        raise TypeError("a NumPy array is no tally array")
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value._data if isinstance(value, Array) else value


def _function(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Array:
        return Array(getattr(_np, name)(*map(_plain, args), **kwargs))

    return call


_NAMES = (
    "abs all any astype broadcast_to concat cumulative_sum exp floor log logical_and logical_not logical_or matmul max maximum min minimum ones_like permute_dims "
    "reshape round stack sum take where zeros zeros_like asarray matrix_transpose"
)
for _name in _NAMES.split():
    globals()[_name] = _function(_name)
isdtype, finfo, float32, float64, int8, int32 = _np.isdtype, _np.finfo, _np.float32, _np.float64, _np.int8, _np.int32
