"""The schedule of ``python -m bench speed``: layer after layer until the time is up, then the smaller measurements."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from bench.shared.machine import machine
from bench.shared.progress import Tell
from bench.speed.extras import measure_beside_products, measure_memory, measure_overhead, measure_streams
from bench.speed.peaks import measure_step_memory
from bench.speed.result import SpeedResult
from bench.speed.sweep import Axis, fit
from bench.speed.work import CEILINGS, Work, densities, layers, measure, steps, until
from bench.timing.cases import (
    BETA,
    DENSITY,
    EXACT,
    MODES,
    REPRODUCIBLE,
    SEED,
    SIZES,
    SLOPE,
    STEP_DENSITY,
    THRESHOLD,
    Case,
    Mode,
)
from bench.timing.memory import HOW
from bench.timing.pool import environment
from bench.timing.session import Plan, Session
from bench.timing.subject import Entry, UnsupportedError

__all__ = ["CEILINGS", "SpeedPlan", "run", "settings", "start_workers"]


@dataclass(frozen=True, kw_only=True)
class SpeedPlan(Plan):
    """How much is measured."""

    axes: Sequence[Axis] = ()
    modes: Sequence[Mode] = tuple(MODES.values())
    densities: Sequence[float] = ()
    """Shares of spikes, beside the usual one, at which the layers of `sized` are timed."""
    density_modes: Sequence[Mode] = (EXACT, REPRODUCIBLE)
    events: float | None = None
    """The share of spikes in the recordings, if they are there and frames of them are to be timed, too."""
    steps: Sequence[Mode] = ()
    """Kinds of training steps, of the layers of `sized`."""
    memory_over: Sequence[int] = ()
    """T, of a layer whose training step's peak memory is measured."""
    pause: float = 0.01
    density_share: float = 0.25
    """Of the time; likewise the others."""
    step_share: float = 0.2
    sweep_share: float = 0.12
    extras: bool = True
    """Call overhead, peak memory and streams, too."""

    @property
    def sized(self) -> list[Case]:
        """The layers that targets speak of."""
        return [case for case in self.cases if case.name in SIZES]

    @property
    def works(self) -> list[tuple[list[Work], float]]:
        """What is timed in rounds, in order, each with the share of the time that is left for all that follows it."""
        parts = (
            (layers(self.cases, self.modes), 0.0),
            (densities(self.sized, self.densities, self.density_modes, self.events), self.density_share),
            (steps(self.sized, self.steps), self.step_share),
        )
        left = self.sweep_share if self.axes else 0.0
        found: list[tuple[list[Work], float]] = []
        for works, share in reversed(parts):
            found.insert(0, (works, left))
            left += share if works else 0.0
        return found


def run(plan: SpeedPlan, entries: Sequence[Entry], missing: Mapping[str, str], tell: Tell) -> SpeedResult:
    """Measure everything; what fails is named in the result and doesn't stop the rest."""
    result = SpeedResult(settings=settings(plan), machine=machine(), missing=dict(missing))
    with Session(plan, {entry.name: entry for entry in entries}, result.failed, tell) as session:
        start_workers(session, result)
        for works, share in plan.works:
            for n, work in enumerate(works):
                measure(session, result, work, until(session, share, len(works) - n))
                start_workers(session, result)  # those that died, for the next layer
        if plan.extras:
            measure_overhead(session, result)
            measure_beside_products(session, result)
            measure_memory(session, result)
            measure_streams(session, result)
        measure_step_memory(session, result, plan.memory_over)
        for n, axis in enumerate(plan.axes):
            measure_axis(session, result, axis, time.perf_counter() + session.left / (len(plan.axes) - n))
        result.seconds = session.spent
    return result


def settings(plan: SpeedPlan) -> dict[str, object]:
    """Collect what a reader needs in order to repeat the run."""
    left_out = ("cases", "axes", "modes", "density_modes", "steps")
    how = {name: value for name, value in asdict(plan).items() if name not in left_out}
    neuron = {"beta": BETA, "threshold": THRESHOLD, "reset": "subtract", "density": DENSITY, "seed": SEED}
    steps = {"step_density": STEP_DENSITY, "surrogate": f"arctan, slope {SLOPE:g}", "step_memory": HOW}
    return {**how, **neuron, **steps, "dtype": "float32", "environment": environment()}


def start_workers(session: Session, result: SpeedResult) -> None:
    """Start all that aren't there, and describe them."""
    for entry, version, device in session.start_workers():
        about = {"kind": entry.kind, "version": version, "device": device, "note": entry.note}
        result.subjects[entry.name] = about


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
    try:
        item = session.prepare(name, case, mode, about)
    except UnsupportedError:
        return None
    if item is None:
        return None
    calls = max(1, min(15, int(plan.visit / item.seconds)))
    times = session.ask(name, about, "measure", case, mode, calls, plan.warm if calls > 1 else 0.0)
    session.ask(name, about, "forget")
    return float(np.median(times)) if times else None
