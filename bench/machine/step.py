"""One backend's parts of ``python -m bench run``, in a process of their own: ``python -m bench.machine.step FOLDER``.

Orders come as one line of JSON on standard input, which stays open: when it ends, so does this process. Each part's step
is written to the folder as soon as it is finished.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.demo.command import BATCH
from bench.demo.measure import Network, measure, reference
from bench.shared.encoding import rate_code
from bench.shared.model import load_trained
from bench.shared.store import Store
from bench.shared.subset import load_subset
from bench.spikes.digests import records
from tacops.backends import Backend, get_backend
from tacops.testing import conformance_checks, run_checks, where

IMAGES = (100, 1000)
"""Quick and full."""
TIERS = ((1,), (1, 2, 3, 4))
EACH = (3, 1)
"""Every how many-th check is run: JAX compiles each of them."""


def digests(backend: Backend, quick: bool) -> dict[str, Any]:
    """Digests of every case."""
    del quick
    return {"cases": records(backend)}


def conformance(backend: Backend, quick: bool) -> dict[str, Any]:
    """How many checks passed, and which failed."""
    tiers = TIERS[not quick]
    checks = [check for check in conformance_checks() if check.tier in tiers]
    counts = dict.fromkeys(("passed", "failed", "expected failure", "not applicable"), 0)
    failed = {}
    for outcome in run_checks(backend, checks[:: EACH[not quick]]):
        counts[outcome.status] += 1
        if outcome.status == "failed":
            failed[outcome.check.id] = _line(outcome.message)
    return {"tiers": list(tiers), "of": len(checks), "counts": counts, "failures": failed}


def accuracy(backend: Backend, quick: bool) -> dict[str, Any]:
    """The shipped networks on shipped images: right answers, speed, and spikes that are not NumPy's on this machine."""
    images = IMAGES[not quick]
    subset = load_subset()
    frames, labels = rate_code(subset.images[:images]), subset.labels[:images]
    batches = [np.ascontiguousarray(frames[:, start : start + BATCH]) for start in range(0, images, BATCH)]
    trained = load_trained()

    def tick(text: str) -> None:
        del text

    expected = reference(Network(get_backend("numpy"), trained, batches), tick)
    kept = ("accuracy", "images_per_second", "speedup", "spikes", "decisions", "differing", "timed_images", "seconds")
    modes = {
        row.mode: {**{name: getattr(row, name) for name in kept}, "median_seconds": statistics.median(row.seconds)}
        for row in measure(Network(backend, trained, batches), expected, labels, tick)
    }
    return {"images": images, "modes": modes}


RUN: dict[str, Callable[[Backend, bool], dict[str, Any]]] = {
    "digests": digests,
    "conformance": conformance,
    "accuracy": accuracy,
}


def step(part: str, backend: Backend, quick: bool, device: str | None = None) -> dict[str, Any]:
    """Run a part, on arrays whose device is called `device`; what it raises is its reason."""
    start = time.perf_counter()
    try:
        if device is not None and (found := where(backend)["device"]) != device:
            raise RuntimeError(f"arrays are on {found}, though the run is said to be on {device}")
        outcome = {"status": "done", "result": RUN[part](backend, quick)}
    except Exception as error:  # noqa: BLE001 (whatever a library raises belongs in the result)
        outcome = {"status": "failed", "reason": _line(f"{type(error).__name__}: {error}")}
    return {**outcome, "seconds": time.perf_counter() - start}


def _line(text: str) -> str:
    return " ".join(text.split())[:400]


def end_with_input() -> None:
    """End this process when its standard input does."""
    sys.stdin.read()
    os._exit(1)


def main(folder: str) -> None:
    """Do what standard input orders."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_input, daemon=True).start()
    store, settings = Store(Path(folder)), order["settings"]
    backend = get_backend(order["backend"]).on(settings.get("device"))
    device = settings["backends"][order["backend"]].get("device")
    for part, key in order["parts"].items():
        store.save(key, settings, step(part, backend, settings["quick"], device))


if __name__ == "__main__":
    main(sys.argv[1])
