"""The peak memory of a training step in each library, over T: a process each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from bench.speed.result import SpeedResult, StepMemory
from bench.timing.cases import STEPS, Case
from bench.timing.pool import START_SECONDS, SubjectError, Worker, WorkerDiedError, environment
from bench.timing.session import Session
from bench.timing.subject import Entry, UnsupportedError

__all__ = ["LAYER", "OVER", "measure_step_memory"]

LAYER = Case("peak", 16, 8, (32, 32), 16, 32)
"""Its currents of 16 frames take 16 MiB."""
OVER = (8, 16, 32)
"""Values of T."""


def measure_step_memory(session: Session, result: SpeedResult, over: Sequence[int]) -> None:
    """Take the peak of every library that trains, at every T in `over`, and fit how it grows."""
    kinds = ("tacops", "plain", "peer")
    for name, entry in session.entries.items() if over else ():
        if entry.kind not in kinds or not result.subjects[name].get("device", "cpu").startswith("cpu"):
            continue
        session.tell(f"peak memory of a training step: {name}")
        try:
            peaks = _peaks(entry, over)
        except UnsupportedError:
            continue
        except (SubjectError, WorkerDiedError) as error:
            result.failed[f"{name}, peak memory of a training step"] = str(error)
            continue
        logs = np.log(np.maximum(peaks, 1))
        slope = float(np.polyfit(np.log(over), logs, 1)[0]) if len(over) > 1 else 0.0
        result.step_memory.append(StepMemory(name, "step", list(over), peaks, slope))


def _peaks(entry: Entry, over: Sequence[int]) -> list[int]:
    """Bytes at each T, with the system's usual allocator: that of the timed runs keeps what is freed."""
    usual = {name: value for name, value in environment().items() if name != "GLIBC_TUNABLES"}
    with closing(Worker(entry, usual)) as worker:
        worker.receive(START_SECONDS)
        return [int(worker.ask("step_peak", replace(LAYER, name=f"peak:T={T}", T=T), STEPS["step"])) for T in over]
