"""One library's parts of ``python -m bench gpu``, in a process of their own: ``python -m bench.gpu.step FOLDER``.

Orders come as for `bench.machine.step`: a line of JSON on standard input, at whose end this process ends.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.gpu.launches import launches
from bench.gpu.layers import entries
from bench.gpu.peaks import peaks
from bench.gpu.sums import exactness
from bench.machine import step as machine
from bench.shared.store import Store
from tacops.backends import get_backend
from tacops.testing import conformance_checks, run_checks, where

__all__ = ["RUN", "main"]

CHECKS_SECONDS = 150.0
"""After which no further check is begun: JAX compiles each of them."""
Settings = Mapping[str, Any]


def placed(name: str, settings: Settings) -> Any:
    """The backend, on the device of this run, which its arrays must really be on."""
    backend = get_backend(name).on(settings["on"][name])
    if (found := where(backend)["device"]) != (said := settings["backends"][name]["device"]):
        raise RuntimeError(f"arrays are on {found}, though the run is said to be on {said}")
    return backend


def conformance(name: str, settings: Settings) -> dict[str, Any]:
    """All tiers, as far as the time goes; in a rehearsal every tenth check of the first."""
    tiers = (1,) if settings["quick"] else (1, 2, 3, 4)
    checks = [check for check in conformance_checks() if check.tier in tiers]
    counts = dict.fromkeys(("passed", "failed", "expected failure", "not applicable"), 0)
    failures, start = {}, time.perf_counter()
    for outcome in run_checks(placed(name, settings), checks[:: 10 if settings["quick"] else 1]):
        counts[outcome.status] += 1
        if outcome.status == "failed":
            failures[outcome.check.id] = " ".join(outcome.message.split())[:400]
        if time.perf_counter() - start > CHECKS_SECONDS:
            break
    return {"tiers": list(tiers), "of": len(checks), "counts": counts, "failures": failures}


def count(name: str, settings: Settings) -> dict[str, Any]:
    """Launches of one library, backends of tacops among them."""
    found, _ = entries(settings["on"], rehearsal=settings["quick"])
    entry = next(entry for entry in found if entry.name == name)
    return launches(entry, settings["quick"])


RUN: dict[str, Callable[[str, Settings], dict[str, Any]]] = {
    "digests": lambda name, settings: machine.digests(placed(name, settings), settings["quick"]),
    "conformance": conformance,
    "exactness": lambda name, settings: exactness(name, settings["on"][name], settings["quick"]),
    "peaks": lambda name, settings: peaks(settings["on"][name], settings["quick"]),
    "launches": count,
}


def run(part: str, name: str, settings: Settings) -> dict[str, Any]:
    """A part; what it raises is its reason."""
    start = time.perf_counter()
    try:
        outcome = {"status": "done", "result": RUN[part](name, settings)}
    except Exception as error:  # noqa: BLE001 (whatever a library raises belongs in the result)
        outcome = {"status": "failed", "reason": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
    return {**outcome, "seconds": time.perf_counter() - start}


def main(folder: str) -> None:
    """Do what standard input orders."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=machine.end_with_input, daemon=True).start()
    store, settings = Store(Path(folder)), order["settings"]
    for part, key in order["parts"].items():
        store.save(key, settings, run(part, order["backend"], settings))


if __name__ == "__main__":
    main(sys.argv[1])
