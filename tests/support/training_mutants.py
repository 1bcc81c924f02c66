"""Planted mistakes of the loops of gradients: texts of their sources with one change, run without Numba."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np

from tacops.backends._cpu import loops, training

__all__ = ["MUTANTS", "planted"]

MUTANTS: dict[str, tuple[str, str]] = {
    "excess-of-nothing": ("(v[j] - threshold[j]) * unit[j]\n        out[j] = x if", "v[j] * unit[j]\n        out[j] = x if"),
    "unit-once": ("out[j] * unit[j] if", "out[j] if"),
    "unit-not-inside": ("(v[j] - threshold[j]) * unit[j]\n        out[j] = x if", "(v[j] - threshold[j])\n        out[j] = x if"),
    "infinite-slopes": ("if x - x == zero else zero\n\n\n", "if x == x else zero\n\n\n"),
    "sigmoid-halved": ("((y + one) * (y + one))", "(y + one)"),
    "triangle-below": ("out[j] = max(y, zero)", "out[j] = y"),
    "arctan-outer": ("out[j] = outer / (y * y + one)", "out[j] = one / (y * y + one)"),
    "arctan-inner": ("0.5 * math.pi * slope", "math.pi * slope"),
    "fast-unsquared": ("one / (y * y)", "one / y"),
    "straight-one": ("out[:] = outer", "out[:] = one"),
    "membrane-not-reset": ("out[j] = one - one if v[j] >= threshold[j] else v[j]", "out[j] = v[j]"),
    "membrane-reset-by-one": ("else one - one) * threshold[j]\n    elif", "else one - one)\n    elif"),
    "tie-silent": ("(one if v[j] >= threshold[j]", "(one if v[j] > threshold[j] + one"),
    "unrounded": ("if rounded:", "if False:"),
    "late-forward-lost": ("out[j] = out[j] - (one", "out[j] = out[j] - 0 * (one"),
    "subtract-through-lost": ("to_spike[j] - g[j] * threshold[j]", "to_spike[j]"),
    "subtract-always-through": ("reset == SUBTRACT and not detached", "reset == SUBTRACT"),
    "zero-always-through": ("reset == ZERO and not detached", "reset == ZERO"),
    "zero-kept": ("g[j] = zero if v[j] >= threshold[j] else g[j]", "pass"),
    "late-not-added": ("to_spike[j] + late[j]", "to_spike[j]"),
    "late-by-g": ("late[j] = -to_v[j] * threshold[j]", "late[j] = -g[j] * threshold[j]"),
    "late-always-through": ("reset == LATE and not detached", "reset == LATE"),
    "no-decay-back": ("g[j] = to_v[j] * decay[j]", "g[j] = to_v[j]"),
    "decay-by-next": ("_membrane(work[t - 1, :size]", "_membrane(work[t, :size]"),
    "decay-without-start": ("                u[:] = start[low:high]\n            if by_decay", "                u[:] = zero\n            if by_decay"),
    "forward-without-start": ("            u[:] = start[low:high]\n        for t", "            u[:] = zero\n        for t"),
    "threshold-without-reset": ("_take(by_threshold[:size], g, v, theta)", "pass"),
    "threshold-without-late": ("_take(by_threshold[:size], to_v, u, theta)", "pass"),
    "threshold-without-spikes": ("if by_threshold.size:\n                _subtract", "if False:\n                _subtract"),
    "held-overwritten": ("if (t + 1) % repeat == 0:", "if True:"),
    "held-current-next": ("currents[t // repeat, a", "currents[t // repeat - (t > 0), a"),
    "start-without-late": ("                _add(g, through)", "                pass"),
    "start-threshold-lost": ("                if by_threshold.size:\n                    _subtract", "                if False:\n                    _subtract"),
    "last-forgotten": ("g[:] = to_last[low:high]", "g[:] = zero"),
    "late-kept-between-blocks": ("        late[:] = zero\n", ""),
    "blocks-from-the-first": ("to_last[low:high]", "to_last[:size]"),
}  # fmt: skip
"""Name, text, and what is put in its place."""

PACKAGE = "tacops.backends._cpu"


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The loops with one mistake, or without any, in Python."""
    text = (Path(str(loops.__file__)).parent / "backwards.py").read_text(encoding="utf-8")
    if name:
        old, new = MUTANTS[name]
        assert old in text, f"{name}: its text is no more in backwards.py"
        text = text.replace(old, new)
    module = ModuleType(f"{PACKAGE}.backwards")
    module.__package__ = PACKAGE
    with patch.object(loops, "_compile", lambda function, **options: function):
        exec(compile(text, "backwards.py", "exec"), vars(module))  # noqa: S102 (our own source)
    small: dict[str, Any] = {"MOST": 10, "FEWEST": 10, "BLOCK": 60}  # several blocks of a task, and several tasks
    with patch.object(training, "_loops", lambda: module), patch.multiple(training, **small), np.errstate(all="ignore"):
        yield
