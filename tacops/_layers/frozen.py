"""Validation of frozen layers: what they are made of, and what a file may say that they are."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from .._backend.dispatch import backend_of
from .._backend.protocol import Array, Backend
from .._core.arguments import LAYOUTS, MODES, RESETS
from .._core.checks import (
    AGGREGATIONS,
    check_callable,
    check_choice,
    check_count,
    check_flag,
    check_groups,
    check_weight,
    fail,
    is_dtype,
    shape_of,
    show,
)
from .._core.grid import Grid
from .._core.window import check_window
from .._operators import tac_conv, tac_linear
from .checks import check_constant, plain

__all__ = ["ARRAYS", "check_frozen", "check_values", "frozen_options"]

ARRAYS = ("weight", "bias", "beta", "threshold", "aggregation")
FUNCTION = "FrozenLayer"
PER_CALL = ("membrane", "lengths", "trace")
"""Arguments of the operators that belong to a call, not to a layer."""
CHOICES = {"mode": MODES, "reset": RESETS, "layout": LAYOUTS, "aggregation": AGGREGATIONS}
RANGES = {"beta": 1.0, "threshold": math.inf, "synapse_decay": 1.0}


def frozen_options(options: Any) -> dict[str, Any]:
    """A copy of the options, with Python's numbers for NumPy's."""
    if not isinstance(options, Mapping):
        raise fail(FUNCTION, "options", "a mapping of the operator's arguments", type(options).__name__, TypeError)
    return {name: plain(value) for name, value in options.items()}


def check_frozen(arrays: Any, options: dict[str, Any]) -> None:
    """Names, dtypes and shapes of the arrays, which may be a trace's, and the values of all options."""
    backend, weight = _check_arrays(arrays)
    for name in CHOICES.keys() & arrays.keys() | RANGES.keys() & arrays.keys():
        if name in options:
            raise fail(FUNCTION, "options", f"without {name!r}, which is among the arrays", show(options[name]))
    size = _check_options(weight, options)
    channels = weight.shape[0]
    shapes = {key: [(channels,)] for key in ARRAYS[1:4]} | {"aggregation": [(size,), (size, size)]}
    for name, array in arrays.items():
        if not is_dtype(backend.namespace(array), array.dtype, "real floating"):
            raise fail(FUNCTION, f"arrays[{name!r}]", "of a real floating dtype", str(array.dtype), TypeError)
        if name != "weight" and shape_of(array) not in shapes[name]:
            allowed = " or ".join(map(str, shapes[name]))
            raise fail(FUNCTION, f"arrays[{name!r}]", f"of shape {allowed}", f"shape {shape_of(array)}")


def check_values(arrays: Mapping[str, Array]) -> None:
    """Finite numbers, decays in [0, 1] and positive thresholds."""
    for name, array in arrays.items():
        xp = backend_of(array).namespace(array)
        if not bool(xp.all(xp.abs(array) < math.inf)):
            raise fail(FUNCTION, f"arrays[{name!r}]", "finite", "NaN or infinity")
        if name == "beta" and not bool(xp.all(xp.logical_and(array >= 0.0, array <= 1.0))):
            raise fail(FUNCTION, "arrays['beta']", "in [0, 1]", "others")
        if name == "threshold" and not bool(xp.all(array > 0.0)):
            raise fail(FUNCTION, "arrays['threshold']", "positive", "others")


def _check_arrays(arrays: Any) -> tuple[Backend, Array]:
    if not isinstance(arrays, Mapping):
        raise fail(FUNCTION, "arrays", "a mapping of names to arrays", type(arrays).__name__, TypeError)
    if "weight" not in arrays:
        raise fail(FUNCTION, "arrays", "a mapping with the key 'weight'", "none")
    if unknown := [name for name in arrays if name not in ARRAYS]:
        raise fail(FUNCTION, "arrays", "among " + ", ".join(map(repr, ARRAYS)), show(unknown[0]))
    weight, names = arrays["weight"], tuple(f"arrays[{name!r}]" for name in arrays)
    if missing := [name for name, array in arrays.items() if array is None]:
        raise fail(FUNCTION, f"arrays[{missing[0]!r}]", "an array", None, TypeError)
    backend = backend_of(*arrays.values(), function=FUNCTION, names=names)
    check_weight(FUNCTION, backend.namespace(weight), weight, range(4))
    return backend, weight


def _check_options(weight: Array, options: dict[str, Any]) -> int:
    """The chunk size, where all options are the operator's and have values that it takes."""
    kernel = tuple(weight.shape[1:-1])
    known = inspect.signature(tac_conv if kernel else tac_linear).parameters.values()
    allowed = sorted(p.name for p in known if p.kind is p.KEYWORD_ONLY and p.name not in PER_CALL)
    if unknown := [name for name in options if name not in allowed]:
        raise fail(FUNCTION, "options", "among " + ", ".join(allowed), show(unknown[0]))
    if "chunk_size" not in options:
        raise fail(FUNCTION, "options", "a mapping with the key 'chunk_size'", "none")
    for name, value in options.items():
        if name in CHOICES:
            check_choice(FUNCTION, name, value, CHOICES[name])
        elif name in RANGES and not (name == "synapse_decay" and value is None):
            check_constant(FUNCTION, name, value, None, 0.0, RANGES[name])
        elif name in ("remat", "compact", "detach_reset"):
            check_flag(FUNCTION, name, value)
    check_callable(FUNCTION, options.get("surrogate"))
    if not isinstance(grid := options.get("reproducible", False), (bool, Grid)):
        raise fail(FUNCTION, "reproducible", "True, False or a tacops.Grid", show(grid), TypeError)
    window = {name: options.get(name, start) for name, start in (("stride", 1), ("padding", 0), ("dilation", 1))}
    groups = check_groups(FUNCTION, options.get("groups", 1), weight.shape[0])
    check_window(FUNCTION, (2**31,) * len(kernel), kernel, groups=groups, **window)
    return check_count(FUNCTION, "chunk_size", options["chunk_size"])
