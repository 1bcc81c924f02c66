"""One run of a benchmark that times many subjects: their processes, its time, and rounds over what is ready.

In every round each item is visited once, in an order that is shuffled anew. So a disturbance of the machine strikes all
alike, and every ratio is of times taken within seconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, ClassVar, Self

import numpy as np

from bench.shared.progress import Tell
from bench.timing.cases import SEED, Case
from bench.timing.pool import START_SECONDS, SubjectError, Worker, WorkerDiedError, environment
from bench.timing.subject import Entry

__all__ = ["Item", "Plan", "Session"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured; benchmarks add what."""

    cases: Sequence[Case]
    seconds: float
    """For everything, starting the workers included; looked at before each round."""
    rounds: tuple[int, int]
    """At least and at most."""
    visit: float
    """Seconds of timed calls per visit."""
    calls: int
    """At most, per visit."""
    pause: float
    """Seconds before another process works, in which most threads of the one before fall asleep."""
    slow: float = 0.25
    """Seconds. A call that takes longer is timed once per visit, without a warm-up call, and in `slow_rounds` rounds only; the
    first of its times is that of its second call while it is prepared."""
    warm: float = 0.04
    """Seconds of calls before the timed ones of a visit, at least one call. A process that has slept starts slowly: for
    about 30 ms the system runs all its threads on one core, whatever the library, and calls take up to twice as long."""
    together: ClassVar[bool] = False
    """Whether a round visits all items of one process, then all of the next, instead of any item after any other."""

    @property
    def slow_rounds(self) -> int:
        """Rounds in which slow calls are timed: the least number."""
        return self.rounds[0]


@dataclass
class Item:
    """A subject, a layer and a way to compute it that are ready to be timed."""

    name: str
    case: Any
    mode: Any
    variant: str
    seconds: float
    spikes: bytes | None = None
    gradient: bytes | None = None
    rounds: list[list[float]] = field(default_factory=list)
    """Seconds of every timed call, visit by visit."""


@dataclass
class Session:
    """A run that is going on."""

    plan: Plan
    entries: dict[str, Entry]
    """By name, without those that can't be started."""
    failed: dict[str, str]
    """What went wrong; the result's own."""
    tell: Tell
    workers: dict[str, Worker] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.close()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    @property
    def left(self) -> float:
        """Seconds of the plan."""
        return self.plan.seconds - self.spent

    def start_workers(self) -> Iterator[tuple[Entry, str, str]]:
        """Start at once all that aren't there, those that died included; yield each when it is ready, its version and device."""
        absent = [name for name in self.entries if name not in self.workers]
        for name in absent:
            self.tell(f"starting one process per library: {name}")
            self.workers[name] = Worker(self.entries[name], environment())
        for name in absent:
            try:
                version = self.workers[name].receive(START_SECONDS)
                device = self.workers[name].ask("where")
            except (SubjectError, WorkerDiedError) as error:
                self._lose(name, error)
                del self.entries[name]
            else:
                yield self.entries[name], version, device

    def _lose(self, name: str, error: Exception) -> None:
        self.failed[name] = str(error)
        self.workers.pop(name).close()

    def ask(self, name: str, about: str, command: str, *arguments: object) -> Any:
        """Ask a worker; None, and an entry among the failures, if it can't.

        Raises
        ------
        UnsupportedError
            If its library has no such layer.
        """
        if name not in self.workers:
            return None
        try:
            return self.workers[name].ask(command, *arguments)
        except SubjectError as error:
            self.failed[f"{name}, {about}"] = str(error)
        except WorkerDiedError as error:
            self._lose(name, error)
        return None

    def prepare(self, name: str, case: Any, mode: Any, about: str) -> Item | None:
        """Let a worker compile a layer, warm it up and choose its fastest variant; None if it can't."""
        answer = self.ask(name, about, "prepare", case, mode)
        if answer is None:
            return None
        item = Item(name, case, mode, answer["variant"], answer["seconds"], answer["spikes"], answer["gradient"])
        if item.seconds > self.plan.slow:
            item.rounds.append([item.seconds])
        return item

    def measure(self, items: Sequence[Item], title: str, deadline: float) -> None:
        """Visit all in rounds until the deadline, or the most rounds; then free them."""
        rng, longest = random.Random(SEED), 0.0
        least, most = self.plan.rounds
        for n in range(most):
            begin = time.perf_counter()
            if n >= least and begin + longest > deadline:
                break
            self.tell(f"{title}: round {n + 1}")
            for visits in self._order(items, rng):
                time.sleep(self.plan.pause)
                for item in visits:
                    self._visit(item, title)
            longest = max(longest, time.perf_counter() - begin)
        self.forget(title)

    def _order(self, items: Sequence[Item], rng: random.Random) -> Iterable[list[Item]]:
        """A round's visits: those with no pause between them are in one list."""
        due = [item for item in items if item.name in self.workers and self._due(item)]
        rng.shuffle(due)
        if not self.plan.together:
            return [[item] for item in due]
        turn = {name: rng.random() for name in self.workers}
        due.sort(key=lambda item: turn[item.name])
        return [list(visits) for _, visits in groupby(due, key=lambda item: item.name)]

    def _due(self, item: Item) -> bool:
        return item.seconds <= self.plan.slow or len(item.rounds) < self.plan.slow_rounds

    def _visit(self, item: Item, about: str) -> None:
        plan, slow = self.plan, item.seconds > self.plan.slow
        calls = 1 if slow else max(1, min(plan.calls, int(plan.visit / item.seconds)))
        times = self.ask(item.name, about, "measure", item.case, item.mode, calls, 0.0 if slow else plan.warm)
        if times:
            item.rounds.append(times)
            item.seconds = float(np.median(times))

    def forget(self, about: str) -> None:
        """Free all layers."""
        for name in list(self.workers):
            self.ask(name, about, "forget")
