"""The map's results for people: tables of gains by condition, and what fresh seeds confirm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape

from bench.accuracy.map.conditions import MAPS, Condition
from bench.accuracy.map.result import Gain, MapResult
from bench.accuracy.map.stages import CONFIRMED, Point, words
from bench.accuracy.modes import VARIANTS
from bench.shared.tables import print_table

CONFIRMED_HEAD = ("factor", "condition", "mode", "exact, %", "gain, points", "fresh seeds say")


def print_map(console: Console, result: MapResult) -> None:
    """Print all tables."""
    for name in result.maps:
        for title, head, rows in tables(result, name):
            left = ("factor", "condition", "mode", "fresh seeds say")
            print_table(console, title, head, rows, words=left, bracketed=head)
    for line in conditions(result):
        console.print(escape(line), highlight=False)


def tables(result: MapResult, name: str) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """Title, head and rows: the screen, and what was confirmed."""
    found, title = result.maps[name], MAPS[name].title
    middle = next(iter(found))
    modes = middle.modes
    head = ("factor", "condition", "exact, %", *(VARIANTS[mode].label for mode in modes))
    rows = [_row(result, name, point, modes) for point in found if point.stage != "confirm"]
    seeds = sorted({len(records) for point, records in found.items() if point.stage != "confirm"})
    yield f"Gain over exact, points: {title}, {' or '.join(map(str, seeds))} seeds", head, rows
    confirmed = [point for point in found if point.stage == "confirm"]
    if confirmed:
        rows = [_confirmed(result, name, point) for point in confirmed]
        yield f"What looked like a gain, with {len(CONFIRMED)} fresh seeds: {title}", CONFIRMED_HEAD, rows


def _row(result: MapResult, name: str, point: Point, modes: Sequence[str]) -> tuple[str, ...]:
    shown = points if MAPS[name].searched else interval  # what fresh seeds confirm has its intervals there
    gains = (shown(result.gain(name, point, mode)) if mode in point.modes else "" for mode in modes)
    middle = result.middle(name)
    label = point.label(middle)
    if point.condition == middle and not MAPS[name].searched:  # a map with a middle of its own
        label = words(middle.changes(Condition()))
    return (point.factor, label, f"{100 * result.exact(name, point):.1f}", *gains)


def _confirmed(result: MapResult, name: str, point: Point) -> tuple[str, ...]:
    gain = result.gain(name, point, point.modes[0])
    labels = (point.factor, point.label(result.middle(name)), VARIANTS[point.modes[0]].label)
    return (*labels, f"{100 * result.exact(name, point):.1f}", interval(gain), gain.word)


def points(gain: Gain) -> str:
    """A gain in points.

    Examples
    --------
    >>> points(Gain(0.0123, 0.01))
    '+1.2'
    """
    return f"{100 * gain.mean:+.1f}"


def interval(gain: Gain) -> str:
    """A gain with its confidence interval.

    Examples
    --------
    >>> interval(Gain(0.0123, 0.01))
    '+1.2 (+0.2 to +2.2)'
    """
    if math.isinf(gain.half):
        return points(gain)
    return f"{points(gain)} ({100 * (gain.mean - gain.half):+.1f} to {100 * (gain.mean + gain.half):+.1f})"


def conditions(result: MapResult) -> list[str]:
    """Where and how it was trained."""
    settings = result.settings
    count = sum(
        len(records) * (1 + len(point.modes)) for found in result.maps.values() for point, records in found.items()
    )
    every = [record for found in result.maps.values() for records in found.values() for record in records]
    other = sorted({f"PyTorch {record['torch']}" for record in every if "torch" in record})
    versions = [f"JAX {settings['versions']['jax']}", *other, f"tacops {settings['versions']['tacops']}"]
    tested = sorted({point.condition.tested for found in result.maps.values() for point in found})
    return [
        (
            f"{count:,} trainings in {settings['seconds'] / 3600:.1f} hours on {', '.join(settings['processors'])}; "
            f"{' or '.join(f'{size:,}' for size in tested)} test samples; {', '.join(versions)}."
        ),
        *(
            f"{name}: {count} conditions of this stage were not trained; --from goes on with them."
            for name, count in settings.get("left", {}).items()
            if count
        ),
        (
            "Intervals: 95 %, of the spread over seeds (Student's t) and of drawing the test samples; "
            "conditions were chosen by other seeds than those that confirm."
        ),
    ]
