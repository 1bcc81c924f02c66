"""What ``python -m bench speed`` times in its rounds: layers in every mode, other shares of spikes, training steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.speed.ceilings import COPY, GEMMS, SGEMM
from bench.speed.result import SpeedResult, SpeedRow
from bench.timing.cases import EVENTS, STEP_DENSITY, Case, Mode, at, describe_case
from bench.timing.session import Item, Session
from bench.timing.subject import REFERENCE, Entry, UnsupportedError
from bench.timing.times import Times

LAG = {"spyx": 1}
"""Frames by which a library emits its spikes late."""
CEILINGS = Entry("ceilings", "ceiling", "bench.speed.ceilings:Ceilings")
GRADIENTS = ("tacops torch", "tacops jax", "tacops mlx")
"""With whose gradients the others' are compared: the first that is there."""


@dataclass(frozen=True)
class Work:
    """Layers and modes that are timed in the same rounds."""

    title: str
    pairs: Sequence[tuple[Case, Mode]]

    def quick_enough(self, session: Session, result: SpeedResult, name: str) -> bool:
        """Whether a library is worth asking: none that takes long for the layer alone, if that is known."""
        base = self.pairs[0][0].base
        row = result.find(base, name, "exact") if base else None
        if row is None or row.seconds <= session.plan.slow:
            return True
        result.missing[f"{name}, {self.title}"] = f"left out: exact takes more than {session.plan.slow:g} s"
        return False


def layers(cases: Sequence[Case], modes: Sequence[Mode]) -> list[Work]:
    """Every layer in every mode."""
    return [Work(case.name, [(case, mode) for mode in modes]) for case in cases]


def densities(
    cases: Sequence[Case], shares: Sequence[float], modes: Sequence[Mode], events: float | None
) -> list[Work]:
    """Every layer at every share of spikes; frames of recordings, which have a share of `events`, too."""
    works = [
        Work(f"{case.name}, densities", [(at(case, share), mode) for share in shares for mode in modes])
        for case in cases
        if shares
    ]
    if events is not None:
        real = replace(EVENTS, density=events)
        works.append(Work(real.name, [(real, mode) for mode in modes]))
    return works


def steps(cases: Sequence[Case], modes: Sequence[Mode]) -> list[Work]:
    """Every layer in every kind of training step."""
    return [
        Work(f"{case.name}, training", [(at(case, STEP_DENSITY), mode) for mode in modes]) for case in cases if modes
    ]


def measure(session: Session, result: SpeedResult, work: Work, deadline: float) -> None:
    """Time all subjects until the deadline."""
    if not work.pairs:
        return
    for case, _ in work.pairs:
        result.cases.setdefault(case.name, describe_case(case))
    items = list(prepare(session, result, work))
    shares, distances = compare(items), differing(items)
    session.measure(items, work.title, deadline)
    for item in items:
        if item.rounds:
            key = (item.name, item.case.name, item.mode.name)
            kind, times = session.entries[item.name].kind, Times.of(item.rounds)
            agree, shared = shares.get(key, (None, None))
            where = (item.case.name, item.name, kind, item.mode.name, item.variant)
            row = SpeedRow(*where, times, agree, shared, distances.get(key))
            (result.ceilings if kind == "ceiling" else result.rows).append(row)


def prepare(session: Session, result: SpeedResult, work: Work) -> Iterator[Item]:
    """Ready every subject for every pair that it can do."""
    own = work.pairs[0][0]
    for name in list(session.workers):
        session.tell(f"{work.title}: preparing {name}")
        pairs = work.pairs
        if name == CEILINGS.name:
            pairs = [] if own.base else [(own, mode) for mode in (*GEMMS, SGEMM, COPY)]
        elif not work.quick_enough(session, result, name):
            continue
        for case, mode in pairs:
            try:
                item = session.prepare(name, case, mode, case.name)
            except UnsupportedError:
                continue
            if item is not None:
                yield item


def compare(items: Sequence[Item]) -> dict[tuple[str, str, str], tuple[float, float]]:
    """By subject, case and mode: the shares of spike decisions, and of spikes, that are the reference's."""
    expected: dict[tuple[str, str], NDArray[np.bool_]] = {}
    found = {}
    for item in sorted(items, key=lambda item: item.name != REFERENCE):
        if item.spikes is None:
            continue
        frames = item.case.convolutions(item.mode) * item.mode.hold
        decisions = frames * item.case.rows * item.case.c_out
        bits = np.unpackbits(np.frombuffer(item.spikes, np.uint8), count=decisions)
        mine: NDArray[np.bool_] = bits.astype(bool).reshape(frames, -1)
        key = item.case.name, item.mode.name
        if item.name == REFERENCE:
            expected[key] = mine
        if key in expected:
            lag = LAG.get(item.name, 0)
            found[item.name, *key] = _shares(mine[lag:], expected[key][: frames - lag])
    return found


def _shares(mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[float, float]:
    either = int(np.count_nonzero(mine | theirs))
    shared = float(np.count_nonzero(mine & theirs) / either) if either else 1.0
    return float(np.mean(mine == theirs)), shared


def differing(items: Sequence[Item]) -> dict[tuple[str, str, str], float]:
    """By subject, case and mode: how far a weight's gradient is from that of tacops, relative to the size of that."""
    found = {
        (item.name, item.case.name, item.mode.name): np.frombuffer(item.gradient, np.float32).astype(np.float64)
        for item in items
        if item.gradient is not None
    }
    distances = {}
    for (name, *key), mine in found.items():
        theirs = next((found[other, *key] for other in GRADIENTS if (other, *key) in found), None)
        size = 0.0 if theirs is None else float(np.linalg.norm(theirs))
        if theirs is not None and math.isfinite(size) and size > 0:
            distances[name, key[0], key[1]] = float(np.linalg.norm(mine - theirs)) / size
    return distances


def until(session: Session, share: float, count: int) -> float:
    """The clock when a part of `count` equal ones must end, so that `share` of the plan's seconds is left after all."""
    return time.perf_counter() + max(0.0, session.left - session.plan.seconds * share) / count
