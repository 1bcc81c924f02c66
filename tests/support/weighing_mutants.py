"""Planted mistakes of the loops of weights' gradients: texts of their sources with one change, run without Numba."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np

from tacops.backends._cpu import events, loops, weights

__all__ = ["MUTANTS", "planted"]

MUTANTS: dict[str, tuple[str, str]] = {
    "pad-without-margin": ("+ y + margin[1]) * padded_shape[2] + margin[2]", "+ y) * padded_shape[2] + margin[2]"),
    "pad-without-last-margin": (
        "* padded_shape[2] + margin[2]\n            begin",
        "* padded_shape[2]\n            begin",
    ),
    "pad-first-line": ("begin = (z * out[1] + y)", "begin = (z * out[1])"),
    "pad-first-plane": ("first = ((z + margin[0])", "first = ((margin[0])"),
    "pad-short": ("for x in range(out[2]):", "for x in range(out[2] - 1):"),
    "not-summed-up": ("begins[c] += begins[c - 1]", "pass"),
    "event-without-shift": ("* padded_shape[2] + shift[2]\n            for", "* padded_shape[2]\n            for"),
    "event-without-row-shift": ("+ y + shift[1])", "+ y)"),
    "event-at-line-start": ("sites[begins[c]] = row + x", "sites[begins[c]] = row"),
    "values-as-listed": ("values[begins[c]] = numbers[e]", "values[e] = numbers[e]"),
    "overwritten": ("                    begins[c] += 1\n", ""),
    "place-stays": ("                place += 1\n", ""),
    "taps-forwards": ("lines[0, 1] = -(", "lines[0, 1] = ("),
    "no-dilation": ("c * dilation[2]", "c"),
    "no-row-dilation": ("b * dilation[1]", "b"),
    "one-tap": ("                    tap += 1\n", ""),
    "first-frame": ("_pad(gradients[f]", "_pad(gradients[0]"),
    "first-frame-s-events": ("_list_events(frames[f]", "_list_events(frames[0]"),
    "infinite-gradients": ("not _is_finite(gradients[f]) or ", ""),
    "infinite-inputs": (" or not _is_finite(numbers[:count])", ""),
    "missing-numbers": ("numbers[j] - numbers[j] != 0", "abs(numbers[j]) == 1e400"),
}
"""Name, text, and what is put in its place."""

PACKAGE = "tacops.backends._cpu"


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The loops with one mistake, or without any, in Python."""
    text = (Path(str(loops.__file__)).parent / "weighing.py").read_text(encoding="utf-8")
    if name:
        old, new = MUTANTS[name]
        assert text.count(old) == 1, f"{name}: its text is not once in weighing.py"
        text = text.replace(old, new)
    module = ModuleType(f"{PACKAGE}.weighing")
    module.__package__ = PACKAGE
    with patch.object(loops, "_compile", lambda function, **options: function):
        exec(compile(text, "weighing.py", "exec"), vars(module))  # noqa: S102 (our own source)
    vars(module)["_add"] = _add
    with patch.object(weights, "_loops", lambda: module), np.errstate(all="ignore"):
        yield


def _add(rows: Any, kind: int, listed: Any, lines: Any, *rest: Any) -> None:
    """The compiled one; what would have it read beyond its arrays, which can end the process, is an IndexError."""
    begins, sites, _ = listed
    ends = begins[:-1]
    if ends[0] < 0 or ends[-1] > sites.size or np.any(np.diff(ends) < 0):
        raise IndexError("events that are not there")
    met = sites[ends[0] : ends[-1]] + lines[0, 1]
    if met.size and not 0 <= met.min() <= met.max() < len(rows):
        raise IndexError("rows that are not there")
    events._add(rows, kind, listed, lines, *rest)
