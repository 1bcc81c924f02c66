"""The numbers of a graph's nodes, which anyone may have written: real, finite and whole where they count something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tacops._core.checks import fail, show
from tacops._files.damage import DAMAGE, reason

__all__ = ["FUNCTION", "ints", "naming", "per_channel", "reals", "refuse"]

FUNCTION = "from_nir"
MOST = 2**31 - 1
"""The largest size, stride or padding."""


def refuse(name: str, rule: str, got: object, error: type[Exception] = ValueError) -> Exception:
    """What is wrong with a node, by its name."""
    return fail(FUNCTION, "graph", f"one whose node {name!r} {rule}", got, error)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Errors of what a node is read with, said of the node."""
    try:
        yield
    except DAMAGE as error:
        if str(error).startswith(f"{FUNCTION}: "):
            raise
        raise refuse(name, "becomes a layer of tacops", reason(error)) from error


def reals(name: str, parameter: str, value: Any) -> Any:
    """Finite numbers in float64."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise refuse(name, f"has a {parameter} of real numbers", f"{array.dtype}", TypeError)
    wide = array.astype(np.float64)
    if not np.all(np.isfinite(wide)):
        raise refuse(name, f"has a finite {parameter}", "NaN or infinity")
    return wide


def ints(name: str, parameter: str, value: Any, count: int | None = None) -> tuple[int, ...]:
    """Whole numbers; with `count`, so many, or one for all."""
    array = np.asarray(value)
    whole = array.dtype.kind in "fiu" and bool(np.all((abs(array) <= MOST) & (array == np.floor(array))))
    if not whole or array.ndim > 1 or (count is not None and array.shape not in ((), (1,), (count,))):
        rule = "ints" if count is None else f"an int or {count} ints" if count > 1 else "an int"
        raise refuse(name, f"has {rule} as its {parameter}", show(array.tolist() if array.size < 9 else array))
    entries = tuple(int(n) for n in array.reshape(-1))
    return entries * count if count and len(entries) == 1 else entries


def per_channel(name: str, parameter: str, value: Any, channels: int) -> Any:
    """A parameter of neurons, one number for each channel."""
    value = reals(name, parameter, value)
    if value.size == 1:
        return np.full(channels, value.item())
    if len(value) != channels:
        raise refuse(name, f"has a {parameter} for {channels} channels", f"shape {value.shape}")
    rows = value.reshape(channels, -1)
    if not np.all(rows == rows[:, :1]):
        raise refuse(name, f"has one {parameter} for a channel", "several within one")
    return rows[:, 0]
