"""The schedule of ``python -m bench speed``: rounds over subjects until the time is up, then the smaller measurements.

Layer after layer; each in rounds, in every one of which each subject is visited once per mode, in an order that is shuffled
anew. So a disturbance of the machine strikes all alike, and every ratio is of times taken within seconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.shared.machine import machine
from bench.shared.progress import Tell
from bench.speed.ceilings import COPY, GEMMS, SGEMM
from bench.speed.extras import measure_beside_blas, measure_memory, measure_overhead
from bench.speed.result import Result, Row
from bench.speed.sweep import Axis, fit
from bench.timing.cases import BETA, DENSITY, MODES, SEED, THRESHOLD, Case, Mode, describe_case
from bench.timing.pool import START_SECONDS, SubjectError, Worker, WorkerDiedError, environment
from bench.timing.subject import REFERENCE, Entry, UnsupportedError

LAG = {"spyx": 1}
"""Frames by which a library emits its spikes late."""
CEILINGS = Entry("ceilings", "ceiling", "bench.speed.ceilings:Ceilings")


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    cases: Sequence[Case]
    axes: Sequence[Axis]
    seconds: float
    """For everything, starting the workers included; looked at before each round."""
    rounds: tuple[int, int]
    """At least and at most."""
    visit: float
    """Seconds of timed calls per visit."""
    calls: int
    """At most, per visit."""
    slow: float = 0.25
    """A call that takes longer is timed in the least number of rounds only, once per visit and without a warm-up call; the
    first time is that of its second call while it is prepared."""
    pause: float = 0.01
    """Seconds before each visit, in which most threads of the subject before fall asleep."""
    warm: float = 0.04
    """Seconds of calls before the timed ones of a visit, at least one: a process that has slept is slower at first, its threads
    together on one processor, up to twice as slow for 30 ms and whatever its library."""
    modes: Sequence[Mode] = tuple(MODES.values())
    sweep_share: float = 0.12
    """Of the time."""
    extras: bool = True
    """Call overhead and peak memory, too."""


@dataclass
class Bench:
    """A run that is going on."""

    plan: Plan
    entries: dict[str, Entry]
    """Without those that can't be started."""
    result: Result
    tell: Tell
    workers: dict[str, Worker] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)

    def ask(self, name: str, case: str, command: str, *arguments: object) -> object:
        """Ask a worker; None, and an entry among the failures, if it can't."""
        if name not in self.workers:
            return None
        try:
            return self.workers[name].ask(command, *arguments)
        except UnsupportedError:
            return None
        except SubjectError as error:
            self.result.failed[f"{name}, {case}"] = str(error)
        except WorkerDiedError as error:
            self.result.failed[name] = str(error)
            self.workers.pop(name).close()
        return None


@dataclass
class Item:
    """A subject, a layer and a mode that are ready to be timed."""

    name: str
    case: Case
    mode: Mode
    variant: str
    seconds: float
    spikes: bytes | None
    rounds: list[list[float]] = field(default_factory=list)
    agree: float | None = None
    shared: float | None = None


def run(plan: Plan, entries: Sequence[Entry], missing: Mapping[str, str], tell: Tell) -> Result:
    """Measure everything; what fails is named in the result and doesn't stop the rest."""
    result = Result(settings=settings(plan), machine=machine(), missing=dict(missing))
    bench = Bench(plan, {entry.name: entry for entry in entries}, result, tell)
    with ExitStack() as stack:
        start_workers(bench, stack)
        smaller = plan.seconds * (plan.sweep_share if plan.axes else 0.0)
        for n, case in enumerate(plan.cases):
            left = plan.seconds - smaller - (time.perf_counter() - bench.start)
            measure_case(bench, case, time.perf_counter() + left / (len(plan.cases) - n))
            start_workers(bench, stack)  # those that died, for the next layer
        if plan.extras:
            measure_overhead(bench)
            measure_beside_blas(bench)
            measure_memory(bench)
        deadline = bench.start + plan.seconds
        for n, axis in enumerate(plan.axes):
            share = (deadline - time.perf_counter()) / (len(plan.axes) - n)
            measure_axis(bench, axis, time.perf_counter() + share)
        result.seconds = time.perf_counter() - bench.start
    return result


def settings(plan: Plan) -> dict[str, object]:
    """Collect what a reader needs in order to repeat the run."""
    how = {name: value for name, value in asdict(plan).items() if name not in ("cases", "axes", "modes")}
    neuron = {"beta": BETA, "threshold": THRESHOLD, "reset": "subtract", "density": DENSITY, "seed": SEED}
    return {**how, **neuron, "dtype": "float32", "environment": environment()}


def start_workers(bench: Bench, stack: ExitStack) -> None:
    """Start all that aren't there at once, then wait for each."""
    absent = [name for name in bench.entries if name not in bench.workers]
    for name in absent:
        bench.tell(f"starting one process per library: {name}")
        bench.workers[name] = stack.enter_context(closing(Worker(bench.entries[name], environment())))
    for name in absent:
        worker = bench.workers[name]
        try:
            version = worker.receive(START_SECONDS)
            device = worker.ask("where")
        except (SubjectError, WorkerDiedError) as error:
            bench.result.failed[name] = str(error)
            bench.workers.pop(name).close()
            del bench.entries[name]
            continue
        entry = bench.entries[name]
        bench.result.subjects[name] = {"kind": entry.kind, "version": version, "device": device, "note": entry.note}


def measure_case(bench: Bench, case: Case, deadline: float) -> None:
    """Time one layer on all subjects until the deadline."""
    plan = bench.plan
    bench.result.cases[case.name] = describe_case(case)
    items = list(prepare(bench, case))
    compare(items)
    order, rng, longest = list(items), random.Random(SEED), 0.0
    for n in range(plan.rounds[1]):
        begin = time.perf_counter()
        if n >= plan.rounds[0] and begin + longest > deadline:
            break
        bench.tell(f"{case.name}: round {n + 1}")
        rng.shuffle(order)
        for item in order:
            visit(bench, item)
        longest = max(longest, time.perf_counter() - begin)
    for item in items:
        if item.rounds:
            row = _row(item, bench.entries[item.name].kind)
            (bench.result.ceilings if row.kind == "ceiling" else bench.result.rows).append(row)
    for name in list(bench.workers):
        bench.ask(name, case.name, "forget")


def prepare(bench: Bench, case: Case) -> Iterator[Item]:
    """Compile every layer, warm it up and let it choose its fastest variant."""
    for name in list(bench.workers):
        bench.tell(f"{case.name}: preparing {name}")
        modes = [*GEMMS, SGEMM, COPY] if name == CEILINGS.name else bench.plan.modes
        for mode in modes:
            answer = bench.ask(name, case.name, "prepare", case, mode)
            if isinstance(answer, dict):
                item = Item(name, case, mode, answer["variant"], answer["seconds"], answer["spikes"])
                if item.seconds > bench.plan.slow:
                    item.rounds.append([item.seconds])
                yield item


def compare(items: Sequence[Item]) -> None:
    """Count the spikes that are the reference's."""
    expected: dict[str, NDArray[np.bool_]] = {}
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
            theirs = expected[item.mode.name][: frames - lag]
            item.agree = float(np.mean(mine[lag:] == theirs))
            either = int(np.count_nonzero(mine[lag:] | theirs))
            item.shared = float(np.count_nonzero(mine[lag:] & theirs) / either) if either else 1.0


def visit(bench: Bench, item: Item) -> None:
    """Time an item once; slow ones in the first rounds only."""
    plan = bench.plan
    slow = item.seconds > plan.slow
    if item.name not in bench.workers or (slow and len(item.rounds) >= plan.rounds[0]):
        return
    calls = 1 if slow else max(1, min(plan.calls, int(plan.visit / item.seconds)))
    time.sleep(plan.pause)
    times = bench.ask(item.name, item.case.name, "measure", item.case, item.mode, calls, 0.0 if slow else plan.warm)
    if isinstance(times, list):
        item.rounds.append(times)
        item.seconds = float(np.median(times))


def measure_axis(bench: Bench, axis: Axis, deadline: float) -> None:
    """Time the layers along one axis on every backend of tacops, and fit; late points are left out, and late axes."""
    if time.perf_counter() > deadline:
        bench.result.missing[f"sweep over {axis.name}, {axis.mode}"] = "no time was left"
        return
    for name in [name for name in bench.workers if bench.entries[name].kind == "tacops"]:
        bench.tell(f"sweep over {axis.name}: {name}")
        values: list[int] = []
        seconds: list[float] = []
        for value, (case, mode) in axis.points().items():
            answer = bench.ask(name, f"sweep {axis.name}", "prepare", case, mode)
            if not isinstance(answer, dict):
                break
            calls = max(1, min(15, int(bench.plan.visit / answer["seconds"])))
            warm = bench.plan.warm if calls > 1 else 0.0
            times = bench.ask(name, f"sweep {axis.name}", "measure", case, mode, calls, warm)
            bench.ask(name, f"sweep {axis.name}", "forget")
            if not isinstance(times, list):
                break
            values.append(value)
            seconds.append(float(np.median(times)))
            if time.perf_counter() > deadline and len(values) > 2:
                break
        if len(values) > 2:
            bench.result.sweep.append(fit(name, axis, values, seconds))


def _row(item: Item, kind: str) -> Row:
    return Row(
        item.case.name, item.name, kind, item.mode.name, item.variant, item.rounds, agree=item.agree, shared=item.shared
    )
