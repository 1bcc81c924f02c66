"""Subjects that a test can time, and layers small enough for it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import numpy as np

from bench.speed.result import SpeedResult, as_json
from bench.speed.run import SpeedPlan
from bench.speed.targets import targets
from bench.timing.cases import CASES, TINY, Case, Mode
from bench.timing.subject import Entry, Subject, UnsupportedError, Variant, fires

SMALL = {case.name: replace(case, B=1, space=(4,) * len(case.space)) for case in CASES.values()}

PLAN = SpeedPlan(cases=[TINY], seconds=1.0, rounds=(2, 2), visit=0.001, calls=3, pause=0.0, warm=0.001, extras=False)


class Fake(Subject):
    """A library with two ways of which the second is faster, whose neurons fire always."""

    def __init__(self, deadly: str = "") -> None:
        self.deadly = deadly

    def version(self) -> str:
        """Of no library."""
        return "fake 1"

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """Fail in every way, by mode."""
        if mode.preserve:
            raise UnsupportedError("fake has no such mode")
        if mode.reproducible:
            raise RuntimeError("broken on purpose")
        if mode.chunk == 16 and self.deadly:
            print("the last words", flush=True)
            os._exit(3)
        out = np.ones((case.convolutions(mode), case.B, *case.space, case.c_out))

        def slow() -> Any:
            time.sleep(0.02)
            return out

        return [Variant("slow", slow, fires), Variant("fast", lambda: out, fires)]


def silent() -> Subject:
    """A library that takes too long to load."""
    time.sleep(60)
    return Fake()


FAKE = Entry("fake", "peer", "tests.support.speed_subjects:Fake", note="It fires always.")


def stored_text(result: SpeedResult) -> str:
    """The text of a result's file."""
    return as_json(result, (target.as_dict() for target in targets(result)))
