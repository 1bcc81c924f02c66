"""Validation of a trainable layer's own options, in the message style of ``_checks.py``."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from .._core.checks import as_float, as_list, check_count, fail, is_number, show

__all__ = ["PerChannel", "check_constant", "check_features", "check_kernel", "check_learn", "check_share", "plain"]

LEARNABLE = ("beta", "threshold", "aggregation")

PerChannel: TypeAlias = float | tuple[float, ...]


def plain(value: Any, depth: int = 2) -> Any:
    """NumPy's scalars and arrays of numbers as Python's numbers and lists, in tuples and lists too; anything else as it is.

    No option is nested deeper than a padding, ``((low, high), ...)``; a list may hold itself.
    """
    if type(value) in (tuple, list) and depth:
        return type(value)(plain(entry, depth - 1) for entry in value)
    if getattr(getattr(value, "dtype", None), "kind", "") not in "biuf":
        return value
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return value


def check_kernel(layer: str, kernel_size: Any) -> tuple[int, ...]:
    """An int is a square; one to three ints are as many dimensions."""
    sizes = tuple(kernel_size) if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
    if not 1 <= len(sizes) <= 3:
        raise fail(layer, "kernel_size", "an int or one to three ints", kernel_size)
    return tuple(check_count(layer, "kernel_size", size) for size in sizes)


def check_features(layer: str, features_in: Any, layout: Any) -> tuple[int, ...]:
    """The shape that is flattened, of one to four axes; () for an int, which says nothing about it."""
    if not isinstance(features_in, (tuple, list)):
        if isinstance(layout, str) and layout == "channels_first":
            rule = "the shape that is flattened, (C, *S), with layout='channels_first'"
            raise fail(layer, "features_in", rule, show(features_in))
        return ()
    if not 1 <= len(features_in) <= 4:
        raise fail(layer, "features_in", "an int, or one to four ints", show(features_in))
    return tuple(check_count(layer, "features_in", size) for size in features_in)


def check_learn(layer: str, learn: str | Collection[str], chunk_size: int) -> tuple[str, ...]:
    """Names of what is learned, in their own order; single frames have no aggregation to learn."""
    allowed = LEARNABLE if chunk_size > 1 else LEARNABLE[:2]
    if isinstance(learn, Mapping) or not isinstance(learn, Collection) or not getattr(learn, "ndim", 1):
        rule = (
            f"a name, or several, of {', '.join(map(repr, allowed))} (all of them: learn={allowed!r}; none: learn=())"
        )
        raise fail(layer, "learn", rule, show(learn), TypeError)
    names = (learn,) if isinstance(learn, str) else tuple(as_list(learn))
    for name in names:
        if not isinstance(name, str) or name not in allowed:
            rule = "among " + ", ".join(map(repr, allowed)) + (" with single frames" if chunk_size == 1 else "")
            raise fail(layer, "learn", rule, show(name))
    return tuple(name for name in LEARNABLE if name in names)


def check_constant(layer: str, name: str, value: Any, channels: int | None, low: float, high: float) -> PerChannel:
    """A float in [low, high]; with `channels`, where it is learned, in (low, high), or one for each of them."""
    entries = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if getattr(value, "ndim", 0):
        rule = f"a number, or with learn={name!r} a list of one per channel (of an array, {name}.tolist())"
        raise fail(layer, name, rule, show(value), TypeError)
    if isinstance(value, (tuple, list)) and len(entries) != channels:
        many = "" if channels is None else f", or {channels} of them"
        raise fail(
            layer, name, f"a number{many}" + ("" if channels else f" (with learn={name!r} one per channel)"), value
        )
    if not all(map(is_number, entries)):
        raise fail(layer, name, "a number", show(value), TypeError)
    strict = channels is not None or name == "threshold"
    rule = "positive and finite" if high == math.inf else "in (0, 1) to be learned" if strict else "in [0, 1]"
    numbers = tuple(map(as_float, entries))
    if not all(low < v < high if strict else low <= v <= high for v in numbers):
        raise fail(layer, name, rule, value)
    return numbers if isinstance(value, (tuple, list)) else numbers[0]


def check_share(layer: str, name: str, value: Any) -> float:
    """A number in (0, 1]."""
    if not is_number(value):
        raise fail(layer, name, "a number in (0, 1]", show(value), TypeError)
    number = as_float(value)
    if not 0.0 < number <= 1.0:
        raise fail(layer, name, "in (0, 1]", show(value))
    return number
