"""What the results of all benchmarks share: how a file is read, and the error if it holds none."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from bench.shared.files import DAMAGE, read_json, reason

__all__ = ["ResultError", "check_kind", "read_content"]


class ResultError(ValueError):
    """A file holds no result that can be used; the message is one sentence."""


def read_content(path: Path) -> Any:
    """What a JSON file holds; `ResultError` if it can't be read."""
    try:
        return read_json(path)
    except DAMAGE as error:
        raise ResultError(f"{path} cannot be read: {reason(error)}") from error


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
