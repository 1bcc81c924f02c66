"""The schedule of ``python -m bench speed``: layer after layer until the time is up, then the smaller measurements."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from bench.shared.machine import machine
from bench.shared.progress import Tell
from bench.speed.ceilings import COPY, GEMMS, SGEMM
from bench.speed.extras import measure_beside_blas, measure_memory, measure_overhead
from bench.speed.result import SpeedResult, SpeedRow
from bench.speed.sweep import Axis, fit
from bench.timing.cases import BETA, DENSITY, MODES, SEED, THRESHOLD, Case, Mode, describe_case
from bench.timing.pool import environment
from bench.timing.session import Item, Plan, Session
from bench.timing.subject import REFERENCE, Entry, UnsupportedError
from bench.timing.times import Times

LAG = {"spyx": 1}
"""Frames by which a library emits its spikes late."""
CEILINGS = Entry("ceilings", "ceiling", "bench.speed.ceilings:Ceilings")


@dataclass(frozen=True, kw_only=True)
class SpeedPlan(Plan):
    """How much is measured."""

    axes: Sequence[Axis] = ()
    modes: Sequence[Mode] = tuple(MODES.values())
    pause: float = 0.01
    sweep_share: float = 0.12
    """Of the time."""
    extras: bool = True
    """Call overhead and peak memory, too."""


def run(plan: SpeedPlan, entries: Sequence[Entry], missing: Mapping[str, str], tell: Tell) -> SpeedResult:
    """Measure everything; what fails is named in the result and doesn't stop the rest."""
    result = SpeedResult(settings=settings(plan), machine=machine(), missing=dict(missing))
    with Session(plan, {entry.name: entry for entry in entries}, result.failed, tell) as session:
        start_workers(session, result)
        smaller = plan.seconds * (plan.sweep_share if plan.axes else 0.0)
        for n, case in enumerate(plan.cases):
            share = (session.left - smaller) / (len(plan.cases) - n)
            measure_case(session, result, plan.modes, case, time.perf_counter() + share)
            start_workers(session, result)  # those that died, for the next layer
        if plan.extras:
            measure_overhead(session, result)
            measure_beside_blas(session, result)
            measure_memory(session, result)
        for n, axis in enumerate(plan.axes):
            measure_axis(session, result, axis, time.perf_counter() + session.left / (len(plan.axes) - n))
        result.seconds = session.spent
    return result


def settings(plan: SpeedPlan) -> dict[str, object]:
    """Collect what a reader needs in order to repeat the run."""
    how = {name: value for name, value in asdict(plan).items() if name not in ("cases", "axes", "modes")}
    neuron = {"beta": BETA, "threshold": THRESHOLD, "reset": "subtract", "density": DENSITY, "seed": SEED}
    return {**how, **neuron, "dtype": "float32", "environment": environment()}


def start_workers(session: Session, result: SpeedResult) -> None:
    """Start all that aren't there, and describe them."""
    for entry, version, device in session.start_workers():
        about = {"kind": entry.kind, "version": version, "device": device, "note": entry.note}
        result.subjects[entry.name] = about


def measure_case(session: Session, result: SpeedResult, modes: Sequence[Mode], case: Case, deadline: float) -> None:
    """Time one layer on all subjects until the deadline."""
    result.cases[case.name] = describe_case(case)
    items = list(prepare(session, modes, case))
    shares = compare(items)
    session.measure(items, case.name, deadline)
    for item in items:
        if item.rounds:
            kind = session.entries[item.name].kind
            agree, shared = shares.get((item.name, item.mode.name), (None, None))
            row = SpeedRow(
                case.name, item.name, kind, item.mode.name, item.variant, Times.of(item.rounds), agree, shared
            )
            (result.ceilings if kind == "ceiling" else result.rows).append(row)


def prepare(session: Session, modes: Sequence[Mode], case: Case) -> Iterator[Item]:
    """Ready every subject in every mode that it has."""
    for name in list(session.workers):
        session.tell(f"{case.name}: preparing {name}")
        for mode in [*GEMMS, SGEMM, COPY] if name == CEILINGS.name else modes:
            try:
                item = session.prepare(name, case, mode, case.name)
            except UnsupportedError:
                continue
            if item is not None:
                yield item


def compare(items: Sequence[Item]) -> dict[tuple[str, str], tuple[float, float]]:
    """By subject and mode: the shares of spike decisions, and of spikes, that are the reference's."""
    expected: dict[str, NDArray[np.bool_]] = {}
    found = {}
    for item in sorted(items, key=lambda item: item.name != REFERENCE):
        if item.spikes is None:
            continue
        frames = item.case.convolutions(item.mode) * item.mode.hold
        decisions = frames * item.case.rows * item.case.c_out
        bits = np.unpackbits(np.frombuffer(item.spikes, np.uint8), count=decisions)
        mine: NDArray[np.bool_] = bits.astype(bool).reshape(frames, -1)
        if item.name == REFERENCE:
            expected[item.mode.name] = mine
        if item.mode.name in expected:
            lag = LAG.get(item.name, 0)
            found[item.name, item.mode.name] = _shares(mine[lag:], expected[item.mode.name][: frames - lag])
    return found


def _shares(mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[float, float]:
    either = int(np.count_nonzero(mine | theirs))
    shared = float(np.count_nonzero(mine & theirs) / either) if either else 1.0
    return float(np.mean(mine == theirs)), shared


def measure_axis(session: Session, result: SpeedResult, axis: Axis, deadline: float) -> None:
    """Time the layers along one axis on every backend of tacops, and fit; late points are left out, and late axes."""
    if time.perf_counter() > deadline:
        result.missing[f"sweep over {axis.name}, {axis.mode}"] = "no time was left"
        return
    for name in [name for name in session.workers if session.entries[name].kind == "tacops"]:
        session.tell(f"sweep over {axis.name}: {name}")
        seconds: dict[int, float] = {}
        for value, (case, mode) in axis.points().items():
            median = _median(session, name, axis, case, mode)
            if median is None:
                break
            seconds[value] = median
            if time.perf_counter() > deadline and len(seconds) > 2:
                break
        if len(seconds) > 2:
            result.sweep.append(fit(name, axis, list(seconds), list(seconds.values())))


def _median(session: Session, name: str, axis: Axis, case: Case, mode: Mode) -> float | None:
    """Seconds of one point, from one visit."""
    plan, about = session.plan, f"sweep {axis.name}"
    item = session.prepare(name, case, mode, about)
    if item is None:
        return None
    calls = max(1, min(15, int(plan.visit / item.seconds)))
    times = session.ask(name, about, "measure", case, mode, calls, plan.warm if calls > 1 else 0.0)
    session.ask(name, about, "forget")
    return float(np.median(times)) if times else None
