"""The schedule of ``python -m bench sparsity``: layer after layer, structure after structure, densities ascending.

For each, all contenders of all libraries are prepared, checked, and timed in rounds, in an order shuffled anew every
round, process by process. What is hopeless is not timed again: see `Plan`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bench.shared.machine import machine
from bench.shared.progress import Tell
from bench.sparsity.cases import CONTENDERS, STRATEGIES, Contender, Workload, measured_density, structures
from bench.sparsity.result import Result, Row
from bench.timing.cases import BETA, SEED, Case, describe_case
from bench.timing.pool import START_SECONDS, SubjectError, Worker, WorkerDiedError, environment
from bench.timing.subject import Entry, UnsupportedError


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    cases: Sequence[Case]
    structures: Sequence[str]
    densities: Sequence[float]
    """Ascending."""
    contenders: Sequence[Contender]
    """With the dense one."""
    seconds: float
    """For everything; looked at before each round."""
    rounds: tuple[int, int]
    """At least and at most."""
    visit: float = 0.02
    """Seconds of timed calls per visit."""
    calls: int = 3
    """At most, per visit."""
    pause: float = 0.03
    """Seconds before another process works, in which the threads of the one before fall asleep."""
    slow: float = 0.25
    """Seconds. A backend whose dense path takes longer is left out of a layer: it has no convolution to compare with. A
    strategy that takes longer is timed once, while it is prepared."""
    structured: Sequence[float] = ()
    """Densities for spikes that are not independent; none: the same."""
    hopeless: float = 4.0
    """A strategy this many times slower than its backend's dense path, and no faster at the density before, is given up
    at higher densities of the same structure."""

    def workloads(self, case: Case) -> list[Workload]:
        """Spikes for a layer, in order."""
        names = [name for name in structures(case) if name in self.structures]
        densities = {
            name: self.densities if name == "iid" or not self.structured else self.structured for name in names
        }
        return [Workload(case, name, density) for name in names for density in densities[name]]


@dataclass
class Item:
    """A contender that is ready to be timed."""

    name: str
    contender: Contender
    variant: str
    seconds: float
    rounds: list[list[float]] = field(default_factory=list)


@dataclass
class Bench:
    """A run that is going on."""

    plan: Plan
    entries: dict[str, Entry]
    result: Result
    tell: Tell
    workers: dict[str, Worker] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)
    hopeless: set[tuple[str, str, str, str]] = field(default_factory=set)
    """Entry, contender, layer and structure."""

    @property
    def left(self) -> float:
        """Seconds."""
        return self.plan.seconds - (time.perf_counter() - self.start)

    def ask(self, name: str, about: str, command: str, *arguments: object) -> Any:
        """Ask a worker; None, and an entry among the failures, if it can't."""
        if name not in self.workers:
            return None
        try:
            return self.workers[name].ask(command, *arguments)
        except UnsupportedError as error:
            self.result.missing.setdefault(f"{about.split(' on ')[0]} on {name}", str(error))
        except SubjectError as error:
            self.result.failed[f"{name}, {about}"] = str(error)
        except WorkerDiedError as error:
            self.result.failed[name] = str(error)
            self.workers.pop(name).close()
        return None


def backend_of(entry: Entry) -> str:
    """The backend whose arrays a subject takes, and with whose dense path it is compared."""
    return entry.argument or "jax"


def contenders_of(plan: Plan, entry: Entry) -> list[Contender]:
    """What a subject is asked for: brainevent, which computes on JAX's arrays, for nothing but itself."""
    return [
        contender for contender in plan.contenders if (contender.name == "brainevent") == (entry.name == "brainevent")
    ]


def run(plan: Plan, entries: Sequence[Entry], missing: Mapping[str, str], tell: Tell) -> Result:
    """Measure everything; what fails is named in the result and doesn't stop the rest."""
    result = Result(settings=settings(plan), machine=machine(), missing=dict(missing))
    bench = Bench(plan, {entry.name: entry for entry in entries}, result, tell)
    with ExitStack() as stack:
        start_workers(bench, stack)
        for n, case in enumerate(plan.cases):
            measure_case(bench, case, time.perf_counter() + bench.left / (len(plan.cases) - n))
        result.seconds = time.perf_counter() - bench.start
    return result


def measure_case(bench: Bench, case: Case, deadline: float) -> None:
    """Time one layer on all kinds of spikes, each with its share of the time that is left."""
    todo, longest = bench.plan.workloads(case), 0.0
    for n, workload in enumerate(todo):
        begin = time.perf_counter()
        left = deadline - begin
        if left <= 0 or bench.left < longest:
            bench.result.missing[f"{case.name}, {len(todo) - n} of {len(todo)} kinds of spikes"] = "no time was left"
            return
        measure_workload(bench, workload, begin + left / (len(todo) - n))
        longest = max(longest, time.perf_counter() - begin)


def settings(plan: Plan) -> dict[str, Any]:
    """Collect what a reader needs in order to repeat the run."""
    left_out = ("cases", "contenders")
    how = {name: value for name, value in asdict(plan).items() if name not in left_out}
    names = [contender.name for contender in plan.contenders]
    return {**how, "contenders": names, "beta": BETA, "seed": SEED, "dtype": "float32", "environment": environment()}


def start_workers(bench: Bench, stack: ExitStack) -> None:
    """Start all at once, then wait for each."""
    bench.tell("starting one process per library")
    for name, entry in bench.entries.items():
        bench.workers[name] = stack.enter_context(closing(Worker(entry, environment())))
    for name, entry in bench.entries.items():
        try:
            version = bench.workers[name].receive(START_SECONDS)
            bench.result.subjects[name] = {"backend": backend_of(entry), "version": version}
        except (SubjectError, WorkerDiedError) as error:
            bench.result.failed[name] = str(error)
            bench.workers.pop(name).close()


def measure_workload(bench: Bench, workload: Workload, deadline: float) -> None:
    """Time all contenders on one kind of spikes until the deadline."""
    plan, result = bench.plan, bench.result
    result.cases.setdefault(workload.case.name, describe_case(workload.case))
    result.shares[workload.name] = measured_density(workload)
    items = list(prepare(bench, workload))
    rng, longest = random.Random(SEED), 0.0
    for n in range(plan.rounds[1]):
        begin = time.perf_counter()
        if n >= plan.rounds[0] and begin + longest > deadline:
            break
        bench.tell(f"{workload.name}: round {n + 1}")
        for name in rng.sample(list(bench.workers), len(bench.workers)):
            time.sleep(plan.pause)
            for item in rng.sample(items, len(items)):
                if item.name == name:
                    visit(bench, workload, item)
        longest = max(longest, time.perf_counter() - begin)
    for item in items:
        backend = backend_of(bench.entries[item.name])
        key = (workload.case.name, workload.structure, workload.density, backend, item.contender.name)
        result.rows.append(Row(*key, item.variant, item.rounds))
    give_up(bench, workload)
    for name in list(bench.workers):
        bench.ask(name, workload.name, "forget")


def prepare(bench: Bench, workload: Workload) -> Iterator[Item]:
    """Compile every contender, check its answer and let it choose its fastest variant."""
    case = workload.case.name
    for name in list(bench.workers):
        for contender in contenders_of(bench.plan, bench.entries[name]):
            key = (name, contender.name, case, workload.structure)
            if key in bench.hopeless or f"{contender.label} on {name}" in bench.result.missing:
                continue
            if f"{backend_of(bench.entries[name])} at {case}" in bench.result.missing:
                break
            bench.tell(f"{workload.name}: {name}, {contender.label}")
            answer = bench.ask(name, f"{contender.label} on {workload.name}", "prepare", workload, contender)
            if answer is None:
                continue
            if contender.kind == "dense" and answer["seconds"] > bench.plan.slow:
                reason = f"left out: its dense path takes {answer['seconds']:.2g} s, more than {bench.plan.slow:g} s"
                bench.result.missing[f"{name} at {case}"] = reason
                break
            item = Item(name, contender, answer["variant"], answer["seconds"])
            if item.seconds > bench.plan.slow:
                item.rounds.append([item.seconds])
            yield item


def visit(bench: Bench, workload: Workload, item: Item) -> None:
    """Time an item once, unless it is slow."""
    plan = bench.plan
    if item.name not in bench.workers or (item.rounds and item.seconds > plan.slow):
        return
    calls = max(1, min(plan.calls, int(plan.visit / item.seconds)))
    about = f"{item.contender.label} on {workload.name}"
    warm = item.seconds < plan.visit  # a longer call warms itself up
    times = bench.ask(item.name, about, "measure", workload, item.contender, calls, warm)
    if times:
        item.rounds.append(times)
        item.seconds = float(np.median(times))


def give_up(bench: Bench, workload: Workload) -> None:
    """Name the strategies that are not worth timing at higher densities."""
    where = (workload.case.name, workload.structure)
    for name, entry in bench.entries.items():
        backend = backend_of(entry)
        dense = bench.result.curve(*where, backend, "dense").get(workload.density)
        for contender in contenders_of(bench.plan, entry):
            curve = bench.result.curve(*where, backend, contender.name)
            if contender.kind != "sparse" or dense is None or workload.density not in curve:
                continue
            now, before = curve[workload.density], list(curve.values())[-2:][0]
            if now > bench.plan.hopeless * dense and now >= before and len(curve) > 1:
                bench.hopeless.add((name, contender.name, *where))


def choose_contenders(strategies: Sequence[str] | None, aggregated: Sequence[str]) -> list[Contender]:
    """Dense, the modes of TAC that are named, and the strategies that are named, or all."""
    names = ["dense", *aggregated, *(STRATEGIES if strategies is None else strategies)]
    return [contender for contender in CONTENDERS.values() if contender.name in names]
