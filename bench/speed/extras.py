"""What ``python -m bench speed`` measures once: call overhead, streams and, on NumPy, layers among products, peak memory."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict

import numpy as np

from bench.speed.result import SpeedResult, StreamRow
from bench.timing.cases import CASES, MEMORY, MODES, TINY, Case
from bench.timing.pool import START_SECONDS, SubjectError, Worker, WorkerDiedError, environment
from bench.timing.session import Session
from bench.timing.stream import NETWORK
from bench.timing.subject import REFERENCE, Entry

__all__ = ["SPIN", "measure_beside_products", "measure_memory", "measure_overhead", "measure_streams"]

EAGER = ("numpy", "torch")
"""Backends on which every call runs our Python; with the others it is compiled once."""

BATCHES = (50, 15)
"""Calls of a tiny layer in a batch, and batches, each time that it is asked for; the clock is too coarse for single calls."""
REPEATS = 5

SPIN = "20"
"""OpenBLAS's threads then wait 2^20 cycles for the next product, not its default of 2^26."""

FED = (255, 1023)
"""Frames of a stream after which memory is looked at; a chunk is incomplete then, and all that the stream ever keeps is there."""


def measure_overhead(session: Session, result: SpeedResult) -> None:
    """Time a tiny layer, tacops and the same calls by hand in turn, and on NumPy what it takes to wake threads for nothing."""
    mode = MODES["exact"]
    for backend in EAGER:
        names = {"tacops": f"tacops {backend}", "plain": f"plain {backend}"}
        if not set(names.values()) <= set(session.workers):
            continue
        session.tell("call overhead")
        questions: dict[str, tuple[str, str, list[object]]] = {
            key: (name, "batches", [TINY, mode, *BATCHES]) for key, name in names.items()
        }
        if backend == "numpy":
            questions["threads"] = names["tacops"], "threads", [*BATCHES]
        times: dict[str, list[float]] = {key: [] for key in questions}
        for name in names.values():
            session.ask(name, TINY.name, "prepare", TINY, mode)
        for _ in range(REPEATS):
            for key, (name, command, arguments) in questions.items():
                time.sleep(session.plan.pause)
                seconds = session.ask(name, TINY.name, command, *arguments)
                times[key] += [seconds] if isinstance(seconds, float) else []
        if all(times.values()):
            result.overhead[backend] = {key: float(np.median(values)) for key, values in times.items()}


def measure_beside_products(session: Session, result: SpeedResult) -> None:
    """Time a layer by itself and among matrix products of the caller's, where their threads wait long and where they don't."""
    session.tell("layers among other products")
    for name, (found, setting) in {
        REFERENCE: (result.beside_blas, {"OPENBLAS_THREAD_TIMEOUT": SPIN}),
        "tacops torch": (result.beside_openmp, {"OMP_WAIT_POLICY": "passive"}),
    }.items():
        if name in session.entries:
            found.update(_beside_products(session, result, session.entries[name], setting))


def _beside_products(session: Session, result: SpeedResult, entry: Entry, setting: dict[str, str]) -> dict[str, float]:
    case, mode = CASES["S4"], MODES["exact"]
    found: dict[str, list[float]] = {}
    try:
        for key, change in (("after", {}), ("timeout", setting)):
            with closing(Worker(entry, {**environment(), **change})) as worker:
                worker.receive(START_SECONDS)
                worker.ask("prepare", case, mode)
                found.setdefault("alone", []).extend(worker.ask("measure", case, mode, 25, session.plan.warm))
                found[key] = worker.ask("after_product", case, mode, 25)
    except (SubjectError, WorkerDiedError) as error:
        result.failed[f"{entry.name}, among other products"] = str(error)
        return {}
    return {key: float(np.median(times)) for key, times in found.items()}


def measure_memory(session: Session, result: SpeedResult) -> None:
    """Take the peak on NumPy beside the result, for an input ten times the work area, and for twice its T and B."""
    entry = session.entries.get(REFERENCE)
    if entry is None:
        return
    session.tell("peak memory")
    found = {"input": 4 * MEMORY.T * MEMORY.rows * MEMORY.c_in, "unfolded": 4 * MEMORY.T * MEMORY.rows * MEMORY.depth}
    mode = MODES["exact"]
    for key, case in {"work": MEMORY, "work_2T": _twice(MEMORY, "T"), "work_2B": _twice(MEMORY, "B")}.items():
        try:
            with closing(Worker(entry, environment())) as worker:
                worker.receive(START_SECONDS)
                peak = worker.ask("peak", case, mode)
        except (SubjectError, WorkerDiedError) as error:
            result.failed[f"{REFERENCE}, peak memory"] = str(error)
            return
        found[key] = peak - 4 * (case.T + 1) * case.rows * case.c_out
    result.memory = found


def measure_streams(session: Session, result: SpeedResult) -> None:
    """Feed a network frame by frame on every backend: what a frame takes, and that memory doesn't grow with their number."""
    for name in [name for name in session.workers if session.entries[name].kind == "tacops"]:
        session.tell(f"a network fed frame by frame: {name}")
        time.sleep(session.plan.pause)
        found = session.ask(name, "fed frame by frame", "stream", FED)
        session.ask(name, "fed frame by frame", "forget")
        if found is None:
            continue
        if not result.subjects[name]["device"].startswith("cpu"):
            found["peak"] = []
        result.streams.append(StreamRow(name, NETWORK, list(FED), **found))


def _twice(case: Case, axis: str) -> Case:
    return Case(**{**asdict(case), axis: 2 * getattr(case, axis), "name": f"{case.name}, 2 {axis}"})
