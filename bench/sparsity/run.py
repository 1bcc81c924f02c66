"""The schedule of ``python -m bench sparsity``: layer after layer, structure after structure, densities ascending.

For each, all contenders of all libraries are prepared, checked, and timed in rounds, process by process. What is hopeless is
not timed again: see `SparsityPlan`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from bench.shared.machine import machine
from bench.shared.progress import Tell
from bench.sparsity.cases import CONTENDERS, LAYERS, STRATEGIES, Contender, Workload, measured_density, structures
from bench.sparsity.result import SparsityResult, SparsityRow
from bench.timing.cases import BETA, SEED, Case, describe_case
from bench.timing.pool import environment
from bench.timing.session import Item, Plan, Session
from bench.timing.subject import Entry, UnsupportedError
from bench.timing.times import Times


@dataclass(frozen=True, kw_only=True)
class SparsityPlan(Plan):
    """How much is measured."""

    structures: Sequence[str]
    densities: Sequence[float]
    """Ascending."""
    contenders: Sequence[Contender]
    """With the dense one."""
    structured: Sequence[float] = ()
    """Densities for spikes that are not independent; none: the same."""
    visit: float = 0.02
    calls: int = 3
    pause: float = 0.03
    slow: float = 0.25
    """Seconds. A backend whose dense path takes longer is left out of a layer: it has no convolution to compare with. A
    strategy that takes longer is timed once, while it is prepared."""
    hopeless: float = 4.0
    """A strategy this many times slower than its backend's dense path, and no faster at the density before, is given up
    at higher densities of the same structure."""
    together: ClassVar[bool] = True

    @property
    def slow_rounds(self) -> int:
        """One: the time of its preparation."""
        return 1

    def workloads(self, case: Case) -> list[Workload]:
        """Spikes for a layer, in order."""
        names = [name for name in structures(case) if name in self.structures]
        densities = {
            name: self.densities if name == "iid" or not self.structured else self.structured for name in names
        }
        return [Workload(case, name, density) for name in names for density in densities[name]]


@dataclass
class SparsityRun:
    """A run that is going on."""

    plan: SparsityPlan
    session: Session
    result: SparsityResult
    hopeless: set[tuple[str, str, str, str]] = field(default_factory=set)
    """Entry, contender, layer and structure."""


def backend_of(entry: Entry) -> str:
    """The backend whose arrays a subject takes, and with whose dense path it is compared."""
    return entry.argument or "jax"


def contenders_of(plan: SparsityPlan, entry: Entry) -> list[Contender]:
    """What a subject is asked for: brainevent, on JAX's arrays, for nothing but itself; whole layers of NumPy alone."""
    return [
        contender
        for contender in plan.contenders
        if (contender.name == "brainevent") == (entry.name == "brainevent")
        and (contender.kind != "layer" or entry.argument == "numpy")
    ]


def run(plan: SparsityPlan, entries: Sequence[Entry], missing: Mapping[str, str], tell: Tell) -> SparsityResult:
    """Measure everything; what fails is named in the result and doesn't stop the rest."""
    result = SparsityResult(settings=settings(plan), machine=machine(), missing=dict(missing))
    with Session(plan, {entry.name: entry for entry in entries}, result.failed, tell) as session:
        going = SparsityRun(plan, session, result)
        for n, case in enumerate(plan.cases):
            for entry, version, _ in session.start_workers():
                result.subjects[entry.name] = {"backend": backend_of(entry), "version": version}
            measure_case(going, case, time.perf_counter() + session.left / (len(plan.cases) - n))
        result.seconds = session.spent
    return result


def settings(plan: SparsityPlan) -> dict[str, Any]:
    """Collect what a reader needs in order to repeat the run."""
    left_out = ("cases", "contenders")
    how = {name: value for name, value in asdict(plan).items() if name not in left_out}
    names = [contender.name for contender in plan.contenders]
    return {**how, "contenders": names, "beta": BETA, "seed": SEED, "dtype": "float32", "environment": environment()}


def measure_case(run: SparsityRun, case: Case, deadline: float) -> None:
    """Time one layer on all kinds of spikes, each with its share of the time that is left."""
    todo, longest = run.plan.workloads(case), 0.0
    for n, workload in enumerate(todo):
        begin = time.perf_counter()
        left = deadline - begin
        if left <= 0 or run.session.left < longest:
            run.result.missing[f"{case.name}, {len(todo) - n} of {len(todo)} kinds of spikes"] = "no time was left"
            return
        measure_workload(run, workload, begin + left / (len(todo) - n))
        longest = max(longest, time.perf_counter() - begin)


def measure_workload(run: SparsityRun, workload: Workload, deadline: float) -> None:
    """Time all contenders on one kind of spikes until the deadline."""
    session, result = run.session, run.result
    result.cases.setdefault(workload.case.name, describe_case(workload.case))
    result.shares[workload.name] = measured_density(workload)
    items = list(prepare(run, workload))
    session.measure(items, workload.name, deadline)
    for item in items:
        if item.rounds:
            backend = backend_of(session.entries[item.name])
            key = (workload.case.name, workload.structure, workload.density, backend, item.mode.name)
            result.rows.append(SparsityRow(*key, item.variant, Times.of(item.rounds)))
    give_up(run, workload)


def prepare(run: SparsityRun, workload: Workload) -> Iterator[Item]:
    """Ready all contenders of all subjects; their currents are compared with the dense ones on the way."""
    for name in list(run.session.workers):
        yield from _prepare(run, workload, name)


def _prepare(run: SparsityRun, workload: Workload, name: str) -> Iterator[Item]:
    """The contenders of one subject, but those that are hopeless, and none where its dense path is slow."""
    case, missing, entry = workload.case.name, run.result.missing, run.session.entries[name]
    if f"{backend_of(entry)} at {case}" in missing:
        return
    for contender in contenders_of(run.plan, entry):
        said = f"{contender.label} on {name}"
        if said in missing or (name, contender.name, case, workload.structure) in run.hopeless:
            continue
        run.session.tell(f"{workload.name}: {name}, {contender.label}")
        try:
            item = run.session.prepare(name, workload, contender, f"{contender.label} on {workload.name}")
        except UnsupportedError as error:
            if contender.kind != "layer":  # which of the operator's ways there are depends on the layer
                missing[said] = str(error)
            continue
        if item is None:
            continue
        if contender.kind == "dense" and item.seconds > run.plan.slow:
            slow = f"left out: its dense path takes {item.seconds:.2g} s, more than {run.plan.slow:g} s"
            missing[f"{name} at {case}"] = slow
            return
        yield item


def give_up(run: SparsityRun, workload: Workload) -> None:
    """Name the strategies that are not worth timing at higher densities."""
    where = (workload.case.name, workload.structure)
    for name, entry in run.session.entries.items():
        backend = backend_of(entry)
        dense = run.result.curve(*where, backend, "dense").get(workload.density)
        for contender in contenders_of(run.plan, entry):
            curve = run.result.curve(*where, backend, contender.name)
            if contender.kind != "sparse" or dense is None or workload.density not in curve:
                continue
            now, before = curve[workload.density], list(curve.values())[-2:][0]
            if now > run.plan.hopeless * dense and now >= before and len(curve) > 1:
                run.hopeless.add((name, contender.name, *where))


def choose_contenders(strategies: Sequence[str] | None, aggregated: Sequence[str]) -> list[Contender]:
    """Dense, the modes of TAC that are named, the strategies that are named, or all, and whole layers."""
    names = ["dense", *aggregated, *(STRATEGIES if strategies is None else strategies), *LAYERS]
    return [contender for contender in CONTENDERS.values() if contender.name in names]
