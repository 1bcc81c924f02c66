"""Results of ``python -m bench accuracy``: what is stored, read again, and derived from the stored numbers."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.accuracy.modes import VARIANTS
from bench.shared.files import DAMAGE
from bench.shared.results import ResultError, check_kind, fault

SCHEMA = 1
NAME = "accuracy"
Timed = Literal["train", "infer", "layer"]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds or folds, 0 for a single one."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of a list of numbers.

        Examples
        --------
        >>> Spread.of([1.0, 3.0])
        Spread(mean=2.0, deviation=1.4142135623730951, count=2)
        """
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(statistics.fmean(values), deviation, len(values))


@dataclass(frozen=True)
class AccuracyRow:
    """One mode of a task."""

    mode: str
    accuracy: Spread
    change: Spread
    """Accuracy minus that of exact, run by run."""
    epoch_seconds: float
    """Median over all epochs of all runs, with coding of the spikes, without compilation."""
    train: float
    """Median time of exact over that of this mode: of a training step, ..."""
    infer: float
    """... of answers, ..."""
    layer: float
    """... of the first layer alone, forward."""
    convolutions: int
    """Of both layers, per sample."""


Word = Literal["confirmed", "no difference", "contradicted", "not trained"]


@dataclass(frozen=True)
class Verdict:
    """Whether training shows the advised mode to be the better one, and what its K costs."""

    advised: str
    """The answer in words."""
    nearest: str | None
    """The trained mode that is nearest to it: as advised, with the greatest K that does not exceed the advised one."""
    cost: Spread | None
    """Accuracy of `nearest` minus that of exact, run by run."""
    pair: tuple[str, str] | None
    """The advised mode and the other one, at the greatest such K at which both were trained; where K = 1 is advised,
    exact and the best of the others."""
    difference: Spread | None
    """Accuracy of the first of the pair minus that of the second, run by run."""
    word: Word
    """Of the mode, at equal K: a difference counts if it exceeds its standard deviation and its sampling error."""


@dataclass(frozen=True)
class AccuracyResult:
    """All that one run found, as it is stored."""

    settings: dict[str, Any]
    machine: dict[str, Any]
    tasks: dict[str, dict[str, Any]]

    def label(self, mode: str) -> str:
        """The name of a mode for a table."""
        return VARIANTS[mode].label

    def accuracies(self, task: str, mode: str) -> dict[int, float]:
        """Final accuracy by run."""
        return {record["run"]: record["accuracy"] for record in self.tasks[task]["trained"][mode]}

    def difference(self, task: str, mode: str, other: str) -> Spread:
        """Accuracy of one mode minus that of another, run by run: the runs share weights, order and split."""
        mine, theirs = self.accuracies(task, mode), self.accuracies(task, other)
        return Spread.of([mine[run] - theirs[run] for run in mine if run in theirs])

    def sampling_error(self, task: str, *modes: str) -> float:
        """Binomial standard error of the difference of two modes' accuracies on a test set of this size."""
        records = [self.tasks[task]["trained"][mode] for mode in modes]
        rates = [Spread.of([record["accuracy"] for record in runs]).mean for runs in records]
        return math.sqrt(sum(rate * (1 - rate) for rate in rates) / records[0][0]["tested"])

    def speedup(self, task: str, mode: str, timed: Timed) -> float:
        """How many times as long exact takes."""
        seconds = self.tasks[task]["times"][timed]
        return float(statistics.median(seconds["exact"]) / statistics.median(seconds[mode]))

    def rows(self, task: str) -> list[AccuracyRow]:
        """All modes of a task."""
        return [self.row(task, mode) for mode in self.tasks[task]["trained"]]

    def row(self, task: str, mode: str) -> AccuracyRow:
        """One mode of a task."""
        records = self.tasks[task]["trained"][mode]
        return AccuracyRow(
            mode,
            Spread.of(list(self.accuracies(task, mode).values())),
            self.difference(task, mode, "exact"),
            statistics.median(seconds for record in records for seconds in record["epoch_seconds"]),
            self.speedup(task, mode, "train"),
            self.speedup(task, mode, "infer"),
            self.speedup(task, mode, "layer"),
            VARIANTS[mode].convolutions(self.tasks[task]["settings"]["time_steps"]),
        )

    def verdict(self, task: str) -> Verdict:
        """Compare the advised mode with the other one at equal K, and the advised K with exact."""
        advice, trained = self.tasks[task]["advice"], self.tasks[task]["trained"]
        kind, most = advice["mode"], advice["chunk_size"]
        if kind is None:
            return Verdict("can't tell", None, None, None, None, "not trained")
        if most == 1:
            return self._exact_verdict(task)
        other = "preserve" if kind == "collapse" else "collapse"
        found_sizes = (int(mode.removeprefix(kind)) for mode in trained if mode.removeprefix(kind).isdigit())
        sizes = sorted((K for K in found_sizes if 1 < K <= most), reverse=True)
        nearest = f"{kind}{sizes[0]}" if sizes else None
        cost = self.difference(task, nearest, "exact") if nearest else None
        advised = f"{kind} K={most}"
        pair = next(((f"{kind}{K}", f"{other}{K}") for K in sizes if f"{other}{K}" in trained), None)
        if pair is None:
            return Verdict(advised, nearest, cost, None, None, "not trained")
        return Verdict(advised, nearest, cost, pair, *self._judged(task, pair))

    def _exact_verdict(self, task: str) -> Verdict:
        """Compare exact, where K = 1 was advised, with the best of the modes that aggregate."""
        trained = self.tasks[task]["trained"]
        others = [mode for mode in trained if mode.startswith(("collapse", "preserve"))]
        if not others:
            return Verdict("exact (K=1)", None, None, None, None, "not trained")
        best = max(others, key=lambda mode: Spread.of(list(self.accuracies(task, mode).values())).mean)
        pair = ("exact", best)
        return Verdict("exact (K=1)", "exact", self.difference(task, "exact", "exact"), pair, *self._judged(task, pair))

    def _judged(self, task: str, pair: tuple[str, str]) -> tuple[Spread, Word]:
        """The difference of two modes, and what it says of the first."""
        found = self.difference(task, *pair)
        if abs(found.mean) <= max(found.deviation, self.sampling_error(task, *pair)):
            return found, "no difference"
        return found, "confirmed" if found.mean > 0 else "contradicted"

    @property
    def seconds(self) -> float:
        """Of all pieces of work, whenever they were done."""
        return float(sum(record["seconds"] for record in self.records))

    @property
    def records(self) -> list[dict[str, Any]]:
        """All pieces of work."""
        return [
            record
            for task in self.tasks.values()
            for record in (task["advice"], task["times"], *(run for runs in task["trained"].values() for run in runs))
        ]


def as_json(result: AccuracyResult) -> str:
    """Write everything, with the derived numbers for readers without this code."""
    derived = {
        task: {"rows": [asdict(row) for row in result.rows(task)], "verdict": asdict(result.verdict(task))}
        for task in result.tasks
    }
    return (
        json.dumps({"benchmark": f"tacops {NAME}", "schema": SCHEMA, **asdict(result), "derived": derived}, indent=1)
        + os.linesep
    )


def from_dict(content: Any, name: str) -> AccuracyResult:
    """The result in a file of this name, or `ResultError`."""
    check_kind(content, name, NAME, [SCHEMA])
    try:
        result = AccuracyResult(content["settings"], content["machine"], content["tasks"])
        as_json(result)  # derives everything
    except DAMAGE as error:
        raise ResultError(f"{name} is incomplete: {fault(error)}") from error
    return result
