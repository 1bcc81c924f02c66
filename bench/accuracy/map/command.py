"""``python -m bench accuracy --map``: train under all conditions, taking up what is finished, and write the result."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.accuracy.map.conditions import MAPS, Map
from bench.accuracy.map.report import print_map
from bench.accuracy.map.result import MapResult, as_json, from_dict
from bench.accuracy.map.stages import Point, confirm, screen, shortened, stored, together
from bench.accuracy.map.train import BATCH, Samples, train, versions_of
from bench.shared.files import check_output
from bench.shared.machine import load, machine
from bench.shared.plots import plot_files
from bench.shared.results import read_content, stem, write_content
from bench.shared.store import CheckpointError, Store, differences, fingerprint

REVISION = 1
"""Raised whenever a change of this code changes results: older checkpoints are then refused."""
SILENCE = 20.0
"""Seconds between two lines about one training."""
Records = dict[Point, list[dict[str, Any]]]


def main(args: argparse.Namespace, versions: dict[str, str]) -> int:
    """Train what is not trained yet, print the tables and write what was asked for."""
    console = Console(stderr=True)
    check_output(args.json)
    beside = stem(args.json) if args.json else Path("accuracy-map")
    store = Store(args.work or beside.with_name(f"{beside.name}{'-quick' * args.quick}-checkpoints"))
    check_output(store.path("any"))
    for name in args.map:
        for _, condition in MAPS[name].conditions():
            versions_of(condition)  # a library that is missing is missed now, too
    settings: dict[str, Any] = {"batch": BATCH, "quick": args.quick, "versions": versions, "revision": REVISION}
    try:
        earlier = read_earlier(args.earlier, settings) if args.earlier else MapResult(settings, {}, {})
        if args.plot:  # what it needs is missed now, not when all is measured
            from bench.accuracy.map.plot import save_map

            check_output(*plot_files(args.plot, *(f"-{name}" for name in {**earlier.maps, **dict.fromkeys(args.map)})))
        trained = Trainings(store, settings, console, earlier, 60 * args.minutes if args.minutes else math.inf)
        maps = {name: trained.map(name, shortened(MAPS[name]) if args.quick else MAPS[name]) for name in args.map}
    except CheckpointError as error:
        print(f"python -m bench accuracy: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.print(f"finished trainings are kept in {store.folder}; the same command goes on from there")
        raise
    others = {name: found for name, found in earlier.maps.items() if name not in maps}
    about = {"seconds": trained.seconds, "processors": trained.processors, "left": trained.left}
    result = MapResult({**settings, **about}, machine(), others | maps)
    print_map(Console(), result)
    if args.json:
        write_content(args.json, as_json(result))
    if args.plot:
        console.print("wrote", *save_map(result, args.plot), highlight=False)
    return 0


def read_earlier(path: Path, settings: dict[str, Any]) -> MapResult:
    """A result to go on from; `CheckpointError` if it was made with other settings."""
    result = from_dict(read_content(path), path.name)
    there = {name: result.settings.get(name) for name in settings}
    changes = "; ".join(differences(there, json.loads(json.dumps(settings))))
    if changes:
        raise CheckpointError(f"{path.name} was made with other settings ({changes}); start without --from")
    return result


class Trainings:
    """Trainings that are kept in a store, and their data."""

    def __init__(
        self, store: Store, settings: dict[str, Any], console: Console, earlier: MapResult, seconds: float
    ) -> None:
        self.store, self.settings, self.console = store, settings, console
        self.until = time.perf_counter() + seconds
        self.earlier = {
            (name, point, record["seed"]): record
            for name, found in earlier.maps.items()
            for point, records in found.items()
            for record in records
        }
        self.left: dict[str, int] = dict(earlier.settings.get("left", {}))
        """Conditions of each map that there was no time for."""
        self.seconds = float(earlier.settings.get("seconds", 0.0))
        """Of all trainings, those taken up included."""
        self.processors: list[str] = list(earlier.settings.get("processors", []))
        """That trained: an interrupted run may go on elsewhere."""
        self._samples: dict[tuple[str, int], Samples] = {}
        self._told = time.perf_counter()

    def map(self, name: str, part: Map) -> Records:
        """The screen, factors together, and fresh seeds for what looks like a gain."""
        found = self.points(name, part, screen(part))
        if not part.searched or self.left[name]:
            return found
        found |= self.points(name, part, [point for point in together(part, found) if _new(point, found)])
        return found if self.left[name] else found | self.points(name, part, confirm(found))

    def points(self, name: str, part: Map, points: Iterable[Point]) -> Records:
        """Train each point with each of its seeds, as long as there is time; the first always."""
        plan, found = list(points), Records()
        self.left[name] = len(plan)
        for n, point in enumerate(plan):
            words = f"{name}, {point.stage} {n + 1} of {len(plan)}: {point.factor}, {point.label(part.middle)}"
            for seed in point.seeds:
                if found and time.perf_counter() > self.until:
                    return found
                self.console.print(f"{words}, seed {seed}", highlight=False)
                found.setdefault(point, []).append(self.one(name, point, seed))
            self.left[name] -= 1
        return found

    def one(self, name: str, point: Point, seed: int) -> dict[str, Any]:
        """One seed of a point."""
        about = stored(point)
        trained_by = versions_of(point.condition)
        settings = {**self.settings, "condition": about["condition"], "modes": point.modes, "seed": seed, **trained_by}
        key = f"{name}-{point.stage}-{fingerprint({**about['condition'], 'modes': point.modes})[:12]}-{seed}"
        earlier = self.earlier.get((name, point, seed))
        if earlier is not None:
            if changes := "; ".join(differences({key: earlier.get(key) for key in trained_by}, trained_by)):
                raise CheckpointError(
                    f"a training of {name} was made by another version ({changes}); start without --from"
                )
            return dict(earlier)
        record = self.store.load(key, settings)
        if record is None:
            began, busy = time.perf_counter(), load()
            modes = train(self.samples(point), point.condition, ("exact", *point.modes), seed, self.tell)
            record = {"seed": seed, **modes, **trained_by, "load": busy, "seconds": time.perf_counter() - began}
            record["processor"] = machine()["processor"]
            self.store.save(key, settings, record)
        self.seconds += record["seconds"]
        if record["processor"] not in self.processors:
            self.processors.append(record["processor"])
        return record

    def tell(self, text: str) -> None:
        """Say where a long training is, but not more often than a reader wants to know."""
        if time.perf_counter() - self._told > SILENCE:
            self._told = time.perf_counter()
            self.console.print(f"  {text}", highlight=False)

    def samples(self, point: Point) -> Samples:
        """The data of a condition; the last set is kept."""
        data = point.condition.data
        key = (data, 0 if data in ("mnist", "fashion") else point.condition.time_steps)
        if key not in self._samples:
            self._samples = {key: Samples(data, point.condition.time_steps)}
        return self._samples[key]


def _new(point: Point, found: Records) -> bool:
    return all(point.condition != other.condition for other in found)
