"""The parts of ``python -m bench gpu``, in order, each by itself: one that fails is recorded, and the others go on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench.gpu.launches import check_device
from bench.gpu.layers import entries, plan
from bench.machine.parts import Job, Step, run_backend
from bench.shared.progress import Tell
from bench.shared.store import Store
from bench.speed.result import as_json
from bench.speed.run import run as run_speed

__all__ = ["EXPECTED", "PARTS", "jobs", "run_jobs"]

PARTS = ("digests", "conformance", "exactness", "peaks", "speed", "launches")
EXPECTED = {"digests": 10.0, "conformance": 70.0, "exactness": 15.0, "peaks": 15.0, "speed": 300.0, "launches": 20.0}
"""Seconds of one job on a GPU, expected and not measured: for the progress bar alone."""
COMMAND = (sys.executable, "-m", "bench.gpu.step")
SILENCE = 420.0
"""Seconds without a finished part after which a process is stopped."""


def jobs(on: Mapping[str, str], parts: Sequence[str], *, rehearsal: bool) -> list[Job]:
    """All, correctness first."""
    found, _ = entries(dict(on), rehearsal=rehearsal)
    owners = {
        **{part: list(on) for part in ("digests", "conformance", "exactness")},
        "peaks": ["torch"] if "torch" in on else [],
        "speed": [""],
        "launches": [entry.name for entry in found],
    }
    return [Job(part, owner) for part in PARTS if part in parts for owner in owners[part]]


def run_jobs(todo: Sequence[Job], store: Store, settings: Mapping[str, Any], tell: Tell) -> dict[Job, Step]:
    """Do all, one at a time; what is done is kept in the store."""
    done: dict[Job, Step] = {}
    for part in PARTS:
        for job in [job for job in todo if job.part == part]:
            if job.part == "speed":
                done[job] = _speed(settings, tell)
                if done[job]["status"] == "done":
                    store.save(job.key, settings, done[job])
            else:
                done |= run_backend([job], store, settings, tell, COMMAND, SILENCE)
    return done


def _speed(settings: Mapping[str, Any], tell: Tell) -> Step:
    """Layers in rounds, in worker processes."""
    start = time.perf_counter()
    try:
        found, missing = entries(settings["on"], rehearsal=settings["quick"])
        result = run_speed(plan(rehearsal=settings["quick"]), found, missing, lambda text: tell(f"speed: {text}"))
        for name, about in result.subjects.items():
            check_device(name, about["device"], settings["quick"])
        outcome: Step = {"status": "done", "result": json.loads(as_json(result, ()))}
    except Exception as error:  # noqa: BLE001 (whatever a library raises belongs in the result)
        outcome = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return {**outcome, "seconds": time.perf_counter() - start}
