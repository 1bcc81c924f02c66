"""What `tacops.advise` costs beside one exact layer of the same spikes, on NumPy and one core."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tacops
from bench.shared.files import write_whole
from bench.shared.machine import busy, machine
from bench.shared.tables import markdown
from tacops.backends._cpu import choose

__all__ = ["INPUTS", "measure", "run", "sentence", "table"]

INPUTS = (
    ((16, 8, 32, 32, 2), 32),
    ((16, 32, 28, 28, 1), 32),
    ((16, 8, 28, 28, 32), 64),
    ((16, 4, 16, 16, 64), 128),
    ((64, 32, 28, 28, 1), 32),
)
"""Shapes of spikes, and the channels of a layer with 3 x 3 kernels that they go into."""
DENSITY = 0.2


def run(rounds: int, json_file: Path | None) -> int:
    """Measure, print the table and store the times."""
    found = measure(rounds)
    print(f"{sentence(found)}:\n\n{table(found)}")
    if json_file:
        write_whole(json_file, (json.dumps(found, indent=1) + "\n").encode())
    return 0


def measure(rounds: int) -> dict[str, Any]:
    """Time in a process of its own, whose BLAS has one thread."""
    settings = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    root = str(Path(__file__).parents[2])
    settings["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH", "")])])
    child = [sys.executable, "-m", "bench.spikes.advise_cost", str(rounds)]
    here = machine()
    if warning := busy(here):
        print(warning, file=sys.stderr)
    done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **settings})
    return {
        "machine": here,
        "numpy": np.__version__,
        "density": DENSITY,
        "rounds": rounds,
        "cost": json.loads(done.stdout),
    }


def sentence(found: Mapping[str, Any]) -> str:
    """How the times were taken."""
    processor = found["machine"]["processor"].removesuffix(" Processor")
    return (
        f"Medians of {found['rounds']} interleaved calls, NumPy {found['numpy']}, one core ({processor}), {found['density']:.0%} of "
        "all inputs spiking; the exact layer has 3 x 3 kernels"
    ).replace("%", " %")


def table(found: Mapping[str, Any]) -> str:
    """In Markdown."""
    rows = []
    for one in found["cost"]:
        advise, exact, dense = (1e3 * one[name] for name in ("advise", "exact", "dense"))
        shape = f"({', '.join(map(str, one['spikes']))})"
        cells = f"{advise:.1f}", f"{exact:.1f}", f"{dense:.1f}", f"{advise / exact:.2f}"
        rows.append((f"{shape}, {one['channels']}", *cells))
    head = "input, to channels", "`advise`, ms", "exact layer", "exact layer, dense products", "`advise` / exact layer"
    return markdown(head, rows)


def main() -> None:
    """The child's part: print the times, in seconds, as JSON."""
    if hasattr(os, "sched_setaffinity"):  # NumPy's layers use as many threads as they may
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps([_time(*one, int(sys.argv[1])) for one in INPUTS]))


def _time(shape: tuple[int, ...], channels: int, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    spikes = (rng.random(shape) < DENSITY).astype(np.float32)
    weight = (rng.integers(-8, 9, (channels, 3, 3, shape[-1])) / 16).astype(np.float32)

    def exact() -> None:
        tacops.conv_lif(spikes, weight, padding=1, beta=0.5)

    def dense() -> None:
        with choose.force("dense"):
            exact()

    def advise() -> None:
        tacops.advise(spikes)

    calls: dict[str, Callable[[], None]] = {"advise": advise, "exact": exact, "dense": dense}
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for n in range(rounds + 2):
        rng.shuffle(order)  # what runs before leaves its numbers in the cache
        for name in order:
            start = time.perf_counter()
            calls[name]()
            if n >= 2:
                times[name].append(time.perf_counter() - start)
    print(f"{shape} -> {channels}", file=sys.stderr, flush=True)
    return {"spikes": shape, "channels": channels, **{name: statistics.median(some) for name, some in times.items()}}


if __name__ == "__main__":
    main()
