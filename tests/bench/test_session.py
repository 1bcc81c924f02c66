"""The session of bench speed and bench sparsity: rounds, slow calls, and workers that die; without processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, ClassVar

import pytest

from bench.timing import session as timing
from bench.timing.cases import EXACT, TINY
from bench.timing.pool import SubjectError, WorkerDiedError
from bench.timing.session import Plan, Session
from bench.timing.subject import Entry, UnsupportedError

PLAN = Plan(cases=[TINY], seconds=1e9, rounds=(2, 4), visit=0.02, calls=5, pause=0.0)


class GroupedPlan(Plan):
    """Process after process."""

    together: ClassVar[bool] = True


@dataclass
class Stub:
    """The parent's side of a worker that answers at once, as its entry's argument says."""

    entry: Entry
    settings: Mapping[str, str]

    def receive(self, timeout: float) -> str:
        """Its version."""
        if self.entry.argument == "unborn":
            raise SubjectError("it has no library")
        return f"{self.entry.name} 1"

    def ask(self, command: str, *arguments: Any) -> Any:
        """Calls take 1 ms, or 1 s if they are slow."""
        ASKED.append((self.entry.name, command, arguments))
        if command == "prepare" and self.entry.argument == "unable":
            raise UnsupportedError("it has no such layer")
        if command == "measure" and self.entry.argument == "mortal":
            raise WorkerDiedError("it is gone")
        seconds = 1.0 if self.entry.argument == "slow" else 1e-3
        answers = {
            "where": "cpu",
            "prepare": {"variant": "only", "seconds": seconds, "spikes": None, "gradient": None},
            "measure": [seconds] * (arguments[2] if command == "measure" else 0),
        }
        return answers.get(command)

    def close(self) -> None:
        """It is gone."""
        CLOSED.append(self.entry.name)


ASKED: list[tuple[str, str, tuple[Any, ...]]] = []
CLOSED: list[str] = []


@pytest.fixture(autouse=True)
def _stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "Worker", Stub)
    ASKED.clear()
    CLOSED.clear()


def session(plan: Plan = PLAN, **arguments: str) -> Session:
    """Subjects by name, with what they do."""
    entries = {name: Entry(name, "peer", "", argument) for name, argument in arguments.items()}
    return Session(plan, entries, {}, lambda _: None)


def visits() -> list[str]:
    """Who was timed, in order."""
    return [name for name, command, _ in ASKED if command == "measure"]


def measure(going: Session, modes: int = 2) -> list[timing.Item]:
    """Time every subject in some modes."""
    list(going.start_workers())
    found = [
        going.prepare(name, TINY, replace(EXACT, name=str(n)), "it") for name in going.entries for n in range(modes)
    ]
    items = [item for item in found if item is not None]
    going.measure(items, "it", deadline=float("inf"))
    return items


@pytest.mark.parametrize("plan", [PLAN, GroupedPlan(**vars(PLAN))], ids=["any order", "process after process"])
def test_every_round_visits_all_once_in_a_new_order(plan: Plan) -> None:
    with session(plan, a="", b="", c="") as going:
        items = measure(going, modes=3)
    assert {tuple(map(len, item.rounds)) for item in items} == {(5, 5, 5, 5)}
    rounds = [visits()[n : n + 9] for n in range(0, 36, 9)]
    assert all(sorted(names) == list("aaabbbccc") for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1
    grouped = [len(list(groupby(names))) == 3 for names in rounds]
    assert all(grouped) if plan.together else not all(grouped)
    assert sorted(CLOSED) == ["a", "b", "c"]


def test_rounds_end_at_the_deadline_but_not_before_the_least() -> None:
    with session(a="") as going:
        list(going.start_workers())
        item = going.prepare("a", TINY, EXACT, "it")
        assert item is not None
        going.measure([item], "it", deadline=0.0)
    assert len(item.rounds) == 2
    assert ASKED[-1][1] == "forget"


def test_slow_calls_are_timed_alone_and_in_the_least_rounds() -> None:
    """The first of their times is that of their preparation."""
    with session(a="slow", b="") as going:
        slow, fast = measure(going, modes=1)
    assert slow.rounds == [[1.0], [1.0]]
    assert len(fast.rounds) == 4
    arguments = {name: rest[2:] for name, command, rest in ASKED if command == "measure"}
    assert arguments == {"a": (1, 0.0), "b": (5, PLAN.warm)}


def test_a_worker_that_dies_is_named_and_started_again() -> None:
    with session(a="mortal", b="") as going:
        items = measure(going)
        assert going.failed == {"a": "it is gone"}
        assert list(going.workers) == ["b"]
        assert [len(item.rounds) for item in items] == [0, 0, 4, 4]
        assert [(entry.name, version, device) for entry, version, device in going.start_workers()] == [
            ("a", "a 1", "cpu")
        ]
    assert CLOSED == ["a", "b", "a"]


def test_a_worker_that_cannot_start_is_not_tried_again() -> None:
    with session(a="unborn", b="") as going:
        assert [entry.name for entry, _, _ in going.start_workers()] == ["b"]
        assert list(going.start_workers()) == []
        assert going.failed == {"a": "it has no library"}
        assert going.ask("a", "it", "forget") is None


def test_what_a_library_has_not_is_the_callers_to_say() -> None:
    with session(a="unable") as going:
        list(going.start_workers())
        with pytest.raises(UnsupportedError, match="no such layer"):
            going.prepare("a", TINY, EXACT, "it")
    assert going.failed == {}
