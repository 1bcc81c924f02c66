"""Values that no argument, or hardly one, is meant to have."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from tacops.backends import Backend, get_backend

__all__ = ["hostile"]


class Liar:
    """Has what arrays have, and none of it is true."""

    shape = "(4, 2)"
    dtype = "float32"
    ndim = None
    __array_namespace__ = None


class Raises:
    """Raises whatever is done with it."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __index__(self) -> int:
        raise RuntimeError("no index")

    def __float__(self) -> float:
        raise RuntimeError("no float")

    def __len__(self) -> int:
        raise RuntimeError("no length")


class Words(str):
    """A subclass of str."""


class Table(dict[str, Any]):
    """A subclass of dict."""


def _own_list() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


def _deep_list() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


PLAIN: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "''": lambda: "",
    "'x'": lambda: "x",
    "'x:y'": lambda: "x:y",
    "'..:'": lambda: "..:",
    "'nul'": lambda: "a\0b",
    "Words": lambda: Words("decay"),
    "b'x'": lambda: b"x",
    "huge str": lambda: "ab\n" * 400_000,
    "[]": list,
    "()": tuple,
    "{}": dict,
    "set()": set,
    "Table": lambda: Table(x=1),
    "{1: 2}": lambda: {1: 2},
    "[None]": lambda: [None],
    "['a', 'b']": lambda: ["a", "b"],
    "[10**400] * 2": lambda: [10**400, 10**400],
    "[nan, nan]": lambda: [math.nan, math.nan],
    "[1, 2, 3, 4, 5]": lambda: [1, 2, 3, 4, 5],
    "long list": lambda: [0] * 100_000,
    "own list": _own_list,
    "deep list": _deep_list,
    "object": object,
    "True": lambda: True,
    "-1": lambda: -1,
    "0": lambda: 0,
    "1.5": lambda: 1.5,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "1e-320": lambda: 1e-320,
    "1e308": lambda: 1e308,
    "10**400": lambda: 10**400,
    "-10**400": lambda: -(10**400),
    "10**5000": lambda: 10**5000,
    "Fraction(10**400)": lambda: Fraction(10**400, 3),
    "Fraction(1, 10**400)": lambda: Fraction(1, 10**400),
    "Decimal": lambda: Decimal("0.5"),
    "Decimal NaN": lambda: Decimal("sNaN"),
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "maxsize": lambda: sys.maxsize,
    "1j": lambda: 1j,
    "lambda": lambda: lambda *args, **options: None,
    "class": lambda: dict,
    "array class": lambda: np.ndarray,
    "builtin": lambda: repr,
    "generator": lambda: (n for n in [1]),
    "module": lambda: math,
    "Liar": Liar,
    "Raises": Raises,
    "slice": lambda: slice(None),
    "...": lambda: ...,
    "np.float64": lambda: np.float64(0.5),
    "np.int64": lambda: np.int64(-3),
    "np.uint8": lambda: np.uint8(0),
    "np.bool": lambda: np.bool_(True),
    "np.str": lambda: np.str_("x"),
    "np.complex": lambda: np.complex64(1),
    "np.datetime": lambda: np.datetime64("2020-01-01"),
    "np.void": lambda: np.void(b"abc"),
    "np.ma": lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
    "np 0-d object": lambda: np.array(None),
    "np objects": lambda: np.array([None, 10**400], dtype=object),
    "np strings": lambda: np.array(["a", "b"]),
    "np structured": lambda: np.zeros(2, [("a", "f4")]),
    "np dates": lambda: np.zeros(2, "M8[s]"),
    "np complex": lambda: np.ones(2, np.complex64),
    "np matrix": lambda: np.ones((4, 2, 3)).tolist(),
    "list of arrays": lambda: [np.ones((50, 50)), np.ones((50, 50))],
}

ARRAYS: dict[str, Callable[[], Any]] = {
    "0-d": lambda: np.array(0.5, np.float32),
    "0-d int": lambda: np.array(2, np.int32),
    "0-d nan": lambda: np.array(np.nan, np.float32),
    "1-d": lambda: np.ones(3, np.float32),
    "1-d ints": lambda: np.array([1, 2], np.int32),
    "1-d nan": lambda: np.full(8, np.nan, np.float32),
    "1-d half": lambda: np.full(8, 6e4, np.float16),
    "2-d": lambda: np.zeros((2, 2), np.float32),
    "2-d ints": lambda: -np.ones((2, 2), np.int32),
    "bools": lambda: np.array([True, False]),
    "empty": lambda: np.zeros(0, np.float32),
    "(4, 0, 3)": lambda: np.zeros((4, 0, 3), np.float32),
    "(4, 2, 3) infs": lambda: np.full((4, 2, 3), np.inf, np.float32),
    "large": lambda: np.zeros((300, 300), np.float32),
    "7-d": lambda: np.zeros((1,) * 7, np.float32),
}


def hostile(backend: Backend) -> dict[str, Callable[[], Any]]:
    """Makers of hostile values by name; arrays of `backend`, of NumPy and of array-api-strict."""
    strict = get_backend("array_api")
    values = dict(PLAIN)
    for name, make in ARRAYS.items():
        if backend is strict and make().dtype == np.float16:  # which the standard does not have
            continue
        values[f"own {name}"] = lambda make=make: backend.from_numpy(make())  # type: ignore[misc]
        if backend.name != "numpy":
            values[f"np {name}"] = make
        if backend is not strict and name in ("0-d", "0-d int", "1-d", "1-d ints", "large"):
            values[f"strict {name}"] = lambda make=make: strict.from_numpy(make())  # type: ignore[misc]
    return values
