"""Plain values that users pass, and what errors show of them: ``<function>: <argument> must be <rule>; got <value or shape>``."""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Sequence
from numbers import Real
from typing import Any

from ._backend.window import Array

__all__ = [
    "as_float",
    "as_int",
    "as_list",
    "check_choice",
    "check_count",
    "check_flag",
    "check_number",
    "fail",
    "is_array",
    "is_number",
    "shape_of",
    "show",
]

LONGEST = 120
"""Characters that an error shows of a value."""
LONGEST_PHRASE = 240
"""Characters of what we say of one, which may hold another error's message."""
LARGEST_COUNT = 2**63 - 1
"""The largest integer that libraries can be given, and that floats hold nearly."""


class _Short(reprlib.Repr):
    """Values as Python prints them, but cut, whatever their own ``__repr__`` does."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST

    def repr1(self, x: Any, level: int) -> str:
        """Arrays by their shape, because of values nobody would read more than a few; the rest by its type."""
        shape = getattr(x, "shape", None)
        if isinstance(shape, tuple):
            return f"an array of shape {tuple(shape)}" if shape else self.repr_instance(x, level)
        return super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to print numbers of more than 4,300 digits."""
        return repr(x) if x.bit_length() <= 256 else f"an int of {x.bit_length()} bits"


_short = _Short()


def show(value: object) -> str:
    """A value in a few words, on one line."""
    try:
        return _cut(_short.repr(value), LONGEST)
    except Exception:  # noqa: BLE001 (an error must not fail because of what it is about)
        return f"an object of type {type(value).__qualname__}"


def fail(function: str, argument: str, rule: str, got: object, error: type[Exception] = ValueError) -> Exception:
    """The one message style; `got` is a phrase, or the value itself."""
    said = _cut(got, LONGEST_PHRASE) if isinstance(got, str) else show(got)
    return error(f"{function}: {_cut(argument, LONGEST)} must be {rule}; got {said}")


def _cut(text: str, longest: int) -> str:
    text = " ".join(text[: 8 * longest].split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def check_choice(function: str, argument: str, value: object, choices: Sequence[str]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise fail(function, argument, "one of " + ", ".join(map(repr, choices)), show(value))
    return value


def check_count(function: str, argument: str, value: object) -> int:
    """An integer of at least 1, bool excluded."""
    if type(value) is int and 1 <= value <= LARGEST_COUNT:  # most are; a call of a small layer takes a tenth less
        return value
    count = as_int(value)
    if count is None:
        raise fail(function, argument, "an int", show(value), TypeError)
    if not 1 <= count <= LARGEST_COUNT:
        raise fail(function, argument, "at least 1" if count < 1 else "below 2^63", count)
    return count


def check_flag(function: str, argument: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise fail(function, argument, "True or False", show(value), TypeError)
    return value


def check_number(function: str, argument: str, value: object) -> float:
    """A real number, as a float; one beyond a float's range is infinite."""
    if not is_number(value):
        raise fail(function, argument, "a number", show(value), TypeError)
    return as_float(value)


def as_int(value: object) -> int | None:
    """An integer of any library as Python's; None if it is none."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return operator.index(value)
    except Exception:  # noqa: BLE001 (an array of several numbers or of another dtype, a tracer: libraries differ)
        return None


def as_list(value: Any) -> Any:
    """Tuples and lists as they are, arrays with axes as lists of Python's numbers, anything else as it is."""
    if isinstance(value, (tuple, list)) or not getattr(value, "ndim", 0) or not hasattr(value, "tolist"):
        return value
    try:
        return value.tolist()
    except Exception:  # noqa: BLE001 (a tracer: libraries differ)
        return value


def as_float(value: Any) -> float:
    """A number as Python's float; one beyond its range is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def is_array(value: object) -> bool:
    """Whether `value` has a shape, and is no number: of those torch.compile can't ask for one, where they may vary."""
    return not isinstance(value, (float, int)) and hasattr(value, "shape")


def is_number(value: object) -> bool:
    """Whether `value` is a real number, NumPy's scalars included, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def shape_of(array: Array) -> tuple[int, ...]:
    """`array.shape` as a plain tuple (PyTorch's prints otherwise)."""
    return tuple(array.shape)
