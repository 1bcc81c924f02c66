"""What the results of all benchmarks share: how a file is written and read, and the error if it holds none."""

from __future__ import annotations

import gzip
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bench.shared.files import DAMAGE, parse_json, reason, write_whole
from tacops._files.damage import LARGEST, one_line

__all__ = ["ResultError", "check_kind", "fault", "read_content", "stem", "write_content"]


class ResultError(ValueError):
    """A file holds no result that can be used; the message is one sentence."""


def read_content(path: Path) -> Any:
    """What a JSON file holds, compressed if its name ends with ``.gz``; `ResultError` if it can't be read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MiB")
        return parse_json(raw)
    except DAMAGE as error:
        raise ResultError(f"{path} cannot be read: {reason(error)}") from error


def fault(error: BaseException) -> str:
    """What is wrong with the content of a file, in words that are not Python's.

    Examples
    --------
    >>> fault(KeyError("rows")), fault(TypeError("string indices must be integers"))
    ("'rows' is missing", 'something in it is of another kind than it must be')
    """
    if isinstance(error, ResultError):
        return str(error)
    if isinstance(error, KeyError):
        return one_line(f"{error} is missing")
    if isinstance(error, LookupError):
        return "a list in it is too short"
    if isinstance(error, ArithmeticError):
        return "a number in it is 0 or too large"
    if isinstance(error, (TypeError, ValueError, AttributeError)):
        return "something in it is of another kind than it must be"
    return reason(error)


def write_content(path: Path, text: str) -> None:
    """Write JSON, compressed if the file's name ends with ``.gz``."""
    raw = text.encode()
    write_whole(path, gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)


def stem(path: Path) -> Path:
    """A result's path without ``.json`` or ``.json.gz``: what lies beside the file begins with it."""
    return path.with_suffix("").with_suffix("") if path.suffix == ".gz" else path.with_suffix("")


def check_kind(content: Any, name: str, benchmark: str, schemas: Collection[int]) -> dict[str, Any]:
    """The content as a mapping; `ResultError` unless it says that it is of this benchmark, in a form that is known.

    Parameters
    ----------
    content : any
        What a file holds.
    name : str
        The file's.
    benchmark : str
        Of the command, such as ``"speed"``.
    schemas : collection of int
        Versions of the form that can be read; the last is the one that is written.
    """
    if not isinstance(content, dict) or content.get("benchmark") != f"tacops {benchmark}":
        raise ResultError(f"{name} is no result of python -m bench {benchmark}")
    if content.get("schema") not in schemas:
        raise ResultError(
            f"{name} has schema {content.get('schema')!r}; this version reads {', '.join(map(str, schemas))}"
        )
    return content
