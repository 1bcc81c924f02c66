"""What is kept of the times of one subject in one layer: a median and quartiles, and of how many calls."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

__all__ = ["Times", "with_times"]


@dataclass(frozen=True)
class Times:
    """Seconds of a call, over all calls of all rounds."""

    median: float
    quartiles: tuple[float, float]
    """A quarter of the calls were faster, a quarter slower."""
    calls: int
    rounds: int

    @classmethod
    def of(cls, rounds: Sequence[Sequence[float]]) -> Self:
        """Of the seconds of every timed call, visit by visit.

        Examples
        --------
        >>> Times.of([[3.0], [1.0, 2.0, 5.0, 4.0]])
        Times(median=3.0, quartiles=(2.0, 4.0), calls=5, rounds=2)
        """
        calls = [seconds for visit in rounds for seconds in visit]
        low, high = np.percentile(calls, [25, 75])
        return cls(statistics.median(calls), (float(low), float(high)), len(calls), len(rounds))


def with_times(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored row with its `Times`; older files hold every time, visit by visit, under ``rounds``."""
    fields = dict(row)
    if "rounds" in fields:
        times = Times.of(fields.pop("rounds"))
        return {**fields, "times": times}
    held = fields["times"]
    low, high = held["quartiles"]
    return {**fields, "times": Times(**{**held, "quartiles": (low, high)})}
