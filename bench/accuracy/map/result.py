"""Results of ``python -m bench accuracy --map``: what is stored, read again and derived."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import t as student  # JAX brings SciPy

from bench.accuracy.map.conditions import Condition
from bench.accuracy.map.stages import Point, point_from, stored
from bench.shared.files import DAMAGE
from bench.shared.results import ResultError, check_kind, fault

SCHEMA = 1
NAME = "accuracy map"
LEVEL = 0.95
NORMAL = 1.96


@dataclass(frozen=True)
class Gain:
    """Accuracy of a mode minus that of exact, with a 95 % confidence interval."""

    mean: float
    half: float
    """Half the interval's width: from the spread over seeds and the sampling of test samples."""

    @property
    def word(self) -> str:
        """What the interval says."""
        if self.mean - self.half > 0:
            return "gain"
        return "loss" if self.mean + self.half < 0 else "no difference shown"


def gain(records: list[dict[str, Any]], mode: str, tested: int) -> Gain:
    """Mean gain over seeds.

    Its variance is the seeds' (Student's t), plus that of drawing the test samples, which all seeds share: where a share
    d of them is right in one of the two modes alone, that of the difference g is (d - g^2) / N.
    """
    gains = [record[mode]["gain"] for record in records]
    mean = statistics.fmean(gains)
    differs = statistics.fmean(record[mode]["differs"] for record in records)
    sampling = NORMAL * math.sqrt(max(differs - mean**2, 0.0) / tested)
    if len(gains) == 1:
        return Gain(mean, math.inf)
    quantile = float(student.ppf((1 + LEVEL) / 2, len(gains) - 1))
    return Gain(mean, math.hypot(quantile * statistics.stdev(gains) / math.sqrt(len(gains)), sampling))


@dataclass(frozen=True)
class MapResult:
    """All that was trained, map by map."""

    settings: dict[str, Any]
    machine: dict[str, Any]
    maps: dict[str, dict[Point, list[dict[str, Any]]]]

    def middle(self, name: str) -> Condition:
        """The middle of a map: its first point."""
        return next(iter(self.maps[name])).condition

    def exact(self, name: str, point: Point) -> float:
        """Mean accuracy of the exact simulation."""
        return statistics.fmean(record["exact"]["accuracy"] for record in self.maps[name][point])

    def gain(self, name: str, point: Point, mode: str) -> Gain:
        """Of a mode over exact."""
        return gain(self.maps[name][point], mode, point.condition.tested)


def as_json(result: MapResult) -> str:
    """As it is written."""
    maps = {
        name: [{**stored(point), "runs": records} for point, records in found.items()]
        for name, found in result.maps.items()
    }
    content = {
        "benchmark": f"tacops {NAME}",
        "schema": SCHEMA,
        **asdict(MapResult(result.settings, result.machine, {})),
    }
    return json.dumps({**content, "maps": maps}, indent=1) + "\n"


def from_dict(content: Any, name: str) -> MapResult:
    """As it was read; `ResultError` if it is no such result."""
    checked = check_kind(content, name, NAME, (SCHEMA,))
    try:
        maps = {
            part: {point_from(entry): [dict(run) for run in entry["runs"]] for entry in entries}
            for part, entries in checked["maps"].items()
        }
        result = MapResult(dict(checked["settings"]), dict(checked["machine"]), maps)
        for part, found in maps.items():
            for point in found:
                result.exact(part, point)
                for mode in point.modes:
                    result.gain(part, point, mode)
    except DAMAGE as error:
        raise ResultError(f"{name} is damaged: {fault(error)}") from error
    return result
