"""Results of ``python -m bench sparsity``: what is stored and read again, and the crossovers derived from it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.shared.files import DAMAGE
from bench.shared.results import ResultError, check_kind, fault
from bench.sparsity.cases import CONTENDERS, STRATEGIES
from bench.timing.times import Times, with_times

SCHEMA = 2
NAME = "sparsity"


@dataclass(frozen=True)
class SparsityRow:
    """One contender's times for one layer and one kind of spikes."""

    case: str
    structure: str
    density: float
    """As asked for."""
    backend: str
    contender: str
    variant: str
    times: Times

    @property
    def seconds(self) -> float:
        """Median of all calls."""
        return self.times.median

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the calls were faster, a quarter slower."""
        return self.times.quartiles


Curve = dict[float, float]
"""Seconds by density, ascending."""


@dataclass
class SparsityResult:
    """All that one run found."""

    settings: dict[str, Any]
    machine: dict[str, Any]
    subjects: dict[str, dict[str, str]] = field(default_factory=dict)
    """By name: the backend whose arrays it takes, and versions."""
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[SparsityRow] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)
    """The share of spikes that each kind of spikes really has."""
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def panels(self) -> list[tuple[str, str]]:
        """Layers and structures that were measured."""
        return list(dict.fromkeys((row.case, row.structure) for row in self.rows))

    def backends(self) -> list[str]:
        """With a dense path that was measured."""
        return list(dict.fromkeys(row.backend for row in self.rows if row.contender == "dense"))

    def curve(self, case: str, structure: str, backend: str | None, contender: str) -> Curve:
        """Seconds by density; with `backend` None of the fastest backend at each."""
        key = (case, structure, contender)
        rows = [row for row in self.rows if (row.case, row.structure, row.contender) == key]
        return fastest(row for row in rows if backend in (None, row.backend))

    def strategies(self, case: str, structure: str) -> list[tuple[str, str]]:
        """Pairs of strategy and backend that were measured, in a fixed order."""
        found = {(row.contender, row.backend) for row in self.rows if (row.case, row.structure) == (case, structure)}
        order = list(STRATEGIES)
        return sorted(
            (pair for pair in found if pair[0] in STRATEGIES), key=lambda pair: (order.index(pair[0]), pair[1])
        )

    def best(self, case: str, structure: str, density: float) -> SparsityRow | None:
        """The fastest sparse strategy of all backends."""
        key = (case, structure, density)
        rows = [row for row in self.rows if (row.case, row.structure, row.density) == key]
        return min((row for row in rows if row.contender in STRATEGIES), key=lambda row: row.seconds, default=None)

    def best_curve(self, case: str, structure: str) -> Curve:
        """Of the fastest sparse strategy of all backends at each density."""
        key = (case, structure)
        return fastest(row for row in self.rows if (row.case, row.structure) == key and row.contender in STRATEGIES)


def fastest(rows: Iterable[SparsityRow]) -> Curve:
    """The least median at every density."""
    curve: Curve = {}
    for row in rows:
        curve[row.density] = min(row.seconds, curve.get(row.density, math.inf))
    return dict(sorted(curve.items()))


@dataclass(frozen=True)
class Crossover:
    """Densities at which something is faster than a baseline.

    From `low` to `high`, both included where they were measured; None at an end means that it is so up to the end of the
    densities that were measured. `wins` False: nowhere.
    """

    wins: bool
    low: float | None = None
    high: float | None = None

    def text(self, densities: Sequence[float]) -> str:
        """For a table."""
        if not self.wins:
            return "none"
        if self.low is None:
            return (
                f"all ({percent(densities[0])} to {percent(densities[-1])})"
                if self.high is None
                else percent(self.high)
            )
        return f"{percent(self.low)} to {percent(densities[-1] if self.high is None else self.high)}"


def crossover(curve: Mapping[float, float], baseline: Mapping[float, float]) -> Crossover:
    """Where `curve` lies below `baseline`, interpolated between densities on logarithmic scales.

    The first range of densities from the left counts. Densities of `baseline` beyond the last of `curve` were given up,
    which only happens to what is far slower; a curve that ends below its baseline is faster as far as is known.

    Parameters
    ----------
    curve, baseline : mapping
        Seconds by density.

    Examples
    --------
    >>> crossover({0.01: 1.0, 0.1: 4.0}, {0.01: 2.0, 0.1: 2.0})
    Crossover(wins=True, low=None, high=0.0316...)
    >>> crossover({0.01: 3.0, 0.1: 4.0}, {0.01: 2.0, 0.1: 2.0})
    Crossover(wins=False, low=None, high=None)
    """
    densities = sorted(set(curve) & set(baseline))
    logs = [math.log(curve[density] / baseline[density]) for density in densities]
    first = next((n for n, log in enumerate(logs) if log < 0), None)
    if first is None:
        return Crossover(False)
    last = next((n for n in range(first, len(logs)) if logs[n] >= 0), None)
    low = None if first == 0 else _zero(densities, logs, first)
    return Crossover(True, low, None if last is None else _zero(densities, logs, last))


def _zero(densities: Sequence[float], logs: Sequence[float], right: int) -> float:
    """Density at which the logarithm of the ratio is 0, left of the index `right`."""
    (x0, x1), (y0, y1) = map(math.log, densities[right - 1 : right + 1]), logs[right - 1 : right + 1]
    return math.exp(x0 - y0 * (x1 - x0) / (y1 - y0))


def percent(density: float) -> str:
    """Two digits."""
    return f"{float(f'{100 * density:.2g}'):g} %"


def as_dict(result: SparsityResult, conclusion: Sequence[str]) -> dict[str, Any]:
    """Everything, with derived numbers for readers without this code; JSON can hold it."""
    derived = [
        {
            **{name: getattr(row, name) for name in ("case", "structure", "density", "backend", "contender")},
            "median_seconds": row.seconds,
            "quartiles_seconds": row.quartiles,
        }
        for row in result.rows
    ]
    crossovers = [
        {
            "case": case,
            "structure": structure,
            "strategy": strategy,
            "backend": backend,
            "against": against,
            **asdict(crossover(result.curve(case, structure, backend, strategy), baseline(case, structure, backend))),
        }
        for case, structure in result.panels()
        for strategy, backend in result.strategies(case, structure)
        for against, baseline in baselines(result).items()
    ]
    content = {
        "benchmark": f"tacops {NAME}",
        "schema": SCHEMA,
        **asdict(result),
        "derived": derived,
        "crossovers": crossovers,
    }
    return {**content, "conclusion": list(conclusion)}


def baselines(result: SparsityResult) -> dict[str, Callable[[str, str, str], Curve]]:
    """What strategies are held against, by name: curves of (case, structure, backend)."""
    return {
        "dense, same backend": lambda case, structure, backend: result.curve(case, structure, backend, "dense"),
        "dense, fastest backend": lambda case, structure, _: result.curve(case, structure, None, "dense"),
        "collapse K=8, same backend": lambda case, structure, backend: result.curve(
            case, structure, backend, "collapse8"
        ),
        "collapse K=8, fastest backend": lambda case, structure, _: result.curve(case, structure, None, "collapse8"),
    }


def as_json(content: Mapping[str, Any]) -> str:
    """The text of a file."""
    return json.dumps(content, indent=1) + os.linesep


def from_dict(content: Any, name: str) -> SparsityResult:
    """The result in a file of this name, or `ResultError`."""
    check_kind(content, name, NAME, (1, SCHEMA))
    names = [name for name in SparsityResult.__dataclass_fields__ if name != "rows"]
    try:
        result = SparsityResult(
            **{name: content[name] for name in names}, rows=[SparsityRow(**with_times(row)) for row in content["rows"]]
        )
        for row in result.rows:
            if not row.seconds > 0 or row.contender not in CONTENDERS or row.case not in result.cases:
                raise ResultError(f"row {row.case}, {row.structure}, {row.density}, {row.contender}")
    except DAMAGE as error:
        raise ResultError(f"{name} is damaged: {fault(error)}") from error
    return result
