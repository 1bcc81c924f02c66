"""The file that ``python -m bench run`` writes: put together, checked against its schema, written and read again.

``bench/schema/result-1.json`` (JSON Schema 2020-12) says what is in it. A file that is read may come from anyone: it is
bounded in size, checked before anything in it is used, and every problem is one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from bench.machine.parts import Job, Step
from bench.shared.results import ResultError
from bench.shared.store import fingerprint
from bench.spikes.digests import Record, differing, load_reference
from tacops._files.damage import LARGEST, parse_json

SCHEMA = 1
NAME = "tacops run"
SCHEMA_FILE = Path(__file__).parents[1] / "schema" / f"result-{SCHEMA}.json"

Content = dict[str, Any]


def assemble(
    steps: Mapping[Job, Step],
    *,
    name: str,
    machine: Mapping[str, Any],
    missing: Mapping[str, str],
    settings: Mapping[str, Any],
    rehearsal: bool = False,
) -> Content:
    """Put a result together, with its checksum."""
    parts: dict[str, dict[str, Step]] = {}
    for job, step in steps.items():
        parts.setdefault(job.part, {})[job.backend or "all"] = step
    content = {
        "benchmark": NAME,
        "schema": SCHEMA,
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": settings["quick"],
        **({"rehearsal": True} if rehearsal else {}),
        "seconds": sum(step["seconds"] for step in steps.values()),
        "machine": {key: value for key, value in machine.items() if key != "name"},
        "backends": settings["backends"],
        "libraries": settings["libraries"],
        "missing": dict(missing),
        "settings": {key: value for key, value in settings.items() if key not in ("backends", "libraries", "quick")},
        "parts": parts,
    }
    # one line each: what libraries say may have several
    plain: Content = _lines(json.loads(json.dumps(content)))
    return sealed(plain)


def _lines(value: Any) -> Any:
    """The same with every text on one printable line."""
    if isinstance(value, dict):
        return {key: _lines(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_lines(entry) for entry in value]
    if isinstance(value, str):
        return " ".join("".join(c if c.isprintable() else " " for c in value).split(" "))[:4000]
    return value


def sealed(content: Mapping[str, Any]) -> Content:
    """Add the checksum of all the rest."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return {**rest, "checksum": fingerprint(rest)}


def as_json(content: Content) -> str:
    """The text of the file; `ResultError` if it isn't what the schema says."""
    check(content, "this result")
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))


def check(content: Any, name: str) -> None:
    """Raise `ResultError` unless it follows the schema and its checksum is right."""
    error = best_match(_validator().iter_errors(content))
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or "its top level"
        raise ResultError(f"{name} is damaged or incomplete: at {_short(where)}: {_short(error.message)}")
    if sealed(content) != content:
        raise ResultError(f"{name} was damaged or changed after it was written: its checksum is wrong")


def _short(text: str) -> str:
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 160 else f"{text[:80]} ... {text[-70:]}"


def read(path: Path) -> Content:
    """Read a file that anyone may have written; `ResultError` if it holds no result that can be compared."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise ResultError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(raw) > LARGEST:
        raise ResultError(f"{path} is larger than {LARGEST >> 20} MiB, which no result is")
    try:
        content = parse_json(raw, constants=False)
    except ValueError as error:  # also of text that isn't UTF-8
        kind = "empty" if not raw.strip() else "no JSON, or was cut off or damaged"
        raise ResultError(f"{path} is {kind} ({_short(str(error))})") from error
    said = content.get("benchmark") if isinstance(content, dict) else None
    if said != NAME:
        other = f"; it says {_short(repr(said))}" if said else ""
        raise ResultError(f"{path} is JSON, but no result of python -m bench run{other}")
    version = content.get("schema")
    if isinstance(version, int) and version > SCHEMA:
        raise ResultError(
            f"{path} has schema {version}, this version of tacops reads {SCHEMA}: compare it with a newer one"
        )
    check(content, str(path))
    return dict(content)


def done(content: Content, part: str) -> Iterator[tuple[str, Any]]:
    """Backend and result of each finished step of a part."""
    for backend, step in content["parts"].get(part, {}).items():
        if step["status"] == "done":
            yield backend, step["result"]


def digests(content: Content) -> dict[str, dict[str, Record]]:
    """Records of every case by backend."""
    return {backend: result["cases"] for backend, result in done(content, "digests")}


def failures(content: Content) -> list[str]:
    """What makes a run fail, a sentence each: parts that failed, checks that failed, digests that aren't the stored ones."""
    said = [
        f"{part}{'' if backend == 'all' else f', {backend}'}: {step['reason']}"
        for part, steps in content["parts"].items()
        for backend, step in steps.items()
        if step["status"] == "failed"
    ]
    for backend, result in done(content, "conformance"):
        said += [f"conformance, {backend}, {name}: {message}" for name, message in result["failures"].items()]
    for part in ("speed", "sparsity"):
        for _, result in done(content, part):
            said += [f"{part}, {name}: {reason}" for name, reason in result["failed"].items()]
    want = load_reference()
    for backend, found in digests(content).items():
        said += [f"digests, {backend}, {case}: {what}" for case, what in differing(found, want).items()]
    return said


def spike_sentence(content: Content) -> list[str]:
    """Say whether all backends fired the stored spikes."""
    found, want = digests(content), load_reference()
    wrong = {backend: said for backend, mine in found.items() if (said := differing(mine, want))}
    if not found:
        return []
    if not wrong:
        return [f"Reproducible mode: {', '.join(found)} fired the stored spikes in all {len(want)} cases."]
    backend, said = next(iter(wrong.items()))
    case, what = next(iter(said.items()))
    return [f"Reproducible mode: NOT the stored spikes, first in case {case} on {backend}: {what}."]
