"""Checkpoints of commands that take long: one file per finished piece of work, never taken for other settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.shared.files import DAMAGE, read_json, reason, write_whole
from bench.shared.results import ResultError, fault


class CheckpointError(RuntimeError):
    """A checkpoint is damaged or was made with other settings; the message is one sentence."""


@dataclass(frozen=True)
class Store:
    """A folder of checkpoints."""

    folder: Path

    def path(self, name: str) -> Path:
        """Where the piece of work of this name is kept."""
        return self.folder / f"{name}.json"

    def load(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Take up finished work; None if there is none, `CheckpointError` if it was made with other settings."""
        path = self.path(name)
        if not path.exists():
            return None
        advice = "delete it or choose another --work folder"
        try:
            found = _read(path)
            made_with, record = found["settings"], found["record"]
            if found["fingerprint"] != fingerprint({"settings": made_with, "record": record}):
                raise ResultError("its fingerprint is wrong")
            record = dict(record)
        except DAMAGE as error:
            raise CheckpointError(f"the checkpoint {path} is damaged ({fault(error)}); {advice}") from error
        wanted = json.loads(json.dumps(settings))
        if made_with != wanted:
            changes = "; ".join(differences(made_with, wanted))
            raise CheckpointError(f"the checkpoint {path} was made with other settings ({changes}); {advice}")
        return record

    def save(self, name: str, settings: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Keep finished work, whole or not at all."""
        content = {"settings": settings, "record": record}
        text = json.dumps({"fingerprint": fingerprint(content), **content}, indent=1) + "\n"
        write_whole(self.path(name), text.encode())


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except DAMAGE as error:
        raise ResultError(reason(error)) from error


def fingerprint(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content as JSON, whatever the order of its keys.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": (2,)}) == fingerprint({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Say where two settings differ.

    Examples
    --------
    >>> list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}))
    ['a.b: 1 there, 3 here']
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            yield from differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
    elif there != here:
        yield f"{name}: {there} there, {here} here"
