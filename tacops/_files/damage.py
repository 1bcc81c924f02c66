"""Reading files that anyone may have written: what parsers raise for damage, and JSON within bounds."""

from __future__ import annotations

import json
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["DAMAGE", "LARGEST", "one_line", "parse_json", "read_json", "reason"]

DAMAGE = (
    ArithmeticError,  # numbers too large for what they are used as
    AttributeError,  # content of another type than expected
    EOFError,  # compressed data or archives that end early
    LookupError,  # keys, members and encodings that are not there
    MemoryError,  # sizes that no machine has
    OSError,  # missing, unreadable; damaged gzip; seeks beyond the end
    RuntimeError,  # encrypted members, nesting (RecursionError), what is not implemented (NotImplementedError)
    SyntaxError,  # headers of arrays are Python literals,
    tokenize.TokenError,  # which NumPy takes apart by Python's own tools
    TypeError,
    ValueError,  # also text that is no UTF-8, and JSON
    Warning,  # remarks of parsers, where warnings are errors
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy, zipfile, gzip and json raise for damaged files, and what using their content does; nobody's `Exception`."""

LARGEST = 64 * 2**20
"""Bytes of a JSON file that is read."""
DEEPEST = 64
"""Levels of JSON: far more than any file of ours has, far fewer than recursion takes."""


def reason(error: BaseException) -> str:
    """What an error says, on one line of bounded length."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return one_line(said) or type(error).__name__


def one_line(text: str) -> str:
    r"""Printable, and of bounded length: what a file says may hold anything.

    Examples
    --------
    >>> one_line("a\n\x1b[31mb")
    'a [31mb'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:10_000]).split())
    return text if len(text) <= 200 else f"{text[:120]} ... {text[-70:]}"


def read_json(path: str | Path, *, constants: bool = True) -> Any:
    """What a JSON file of at most 64 MiB holds.

    Parameters
    ----------
    path : path
    constants : bool
        Whether NaN and Infinity, which Python writes, are taken.

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If it is no such file. The message does not name it.
    """
    with Path(path).open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MiB")
    return parse_json(raw, constants=constants)


def parse_json(raw: bytes, *, constants: bool = True) -> Any:
    """JSON whose numbers fit into 64 bits, whose keys are distinct, and whose nesting is bounded; else ValueError.

    Parameters
    ----------
    raw : bytes
        UTF-8.
    constants : bool
        Whether NaN and Infinity are taken.

    Examples
    --------
    >>> parse_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    >>> parse_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: the key 'a' is there twice
    """
    hooks = {"parse_int": _int, "parse_float": _float, "object_pairs_hook": _object}
    if not constants:
        hooks["parse_constant"] = _refuse
    try:
        content = json.loads(raw.decode(), **hooks)  # type: ignore[arg-type]
    except RecursionError as error:
        raise ValueError(f"more than {DEEPEST} levels") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"no text (UTF-8) from byte {error.start} on") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON from line {error.lineno}, column {error.colno} on") from error
    level = [content]
    for _ in range(DEEPEST):
        level = [inner for held in level for inner in _inner(held)]
        if not level:
            return content
    raise ValueError(f"more than {DEEPEST} levels")


def _inner(held: Any) -> Iterable[Any]:
    """What a value holds; nothing for a single one."""
    return held.values() if isinstance(held, dict) else held if isinstance(held, list) else ()


def _int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"{text[:20]}{'...' * (len(text) > 20)} is an integer of more than 64 bits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]}{'...' * (len(text) > 20)} is beyond the range of numbers")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return found


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")
