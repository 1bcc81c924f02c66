"""What several result files say, side by side: the numbers of every table and plot of ``python -m bench compare``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine.result import Content, digests, done, read
from bench.shared.machine import busy
from bench.shared.model import MODES as NETWORK_MODES
from bench.shared.results import ResultError
from bench.spikes.digests import Record, differing
from bench.timing.cases import ALL_MODES, DENSITY, MODES

PAPER = {"M3 Max": 13.8, "V100": 11.0}
"""Speed-up of collapse over exact that the paper reports, of its own networks and code (arXiv:2603.13810)."""

Values = dict[str, float]
"""By machine."""
Groups = dict[str, dict[str, Values]]
"""By heading, then by label."""


@dataclass(frozen=True)
class Machine:
    """One file that could be read."""

    label: str
    file: str
    content: Content

    def backends(self) -> dict[str, dict[str, str]]:
        """What each says of itself."""
        found: dict[str, dict[str, str]] = self.content["backends"]
        return found

    @property
    def busy(self) -> str:
        """A warning, if other processes had the machine; else nothing."""
        return busy(self.content["machine"])

    def layers(self) -> dict[str, str]:
        """Layers whose speed was measured, in words."""
        return {
            case: about["text"]
            for _, result in done(self.content, "speed")
            for case, about in result["cases"].items()
            if not about.get("base")
        }

    def speed(self) -> Iterator[Speed]:
        """Every layer, mode and backend."""
        return (row for row in self.timed() if not row.base)

    def timed(self) -> Iterator[Speed]:
        """Other shares of spikes, and training steps, too."""
        for _, result in done(self.content, "speed"):
            for row in result["derived"]:
                backend, about = row["subject"].removeprefix("tacops "), result["cases"].get(row["case"], {})
                if backend in self.backends() and row["mode"] in ALL_MODES:
                    where = about.get("base", ""), about.get("density", DENSITY)
                    numbers = row["median_seconds"], row["fraction_of_ceiling"]
                    yield Speed(row["case"], backend, row["mode"], *numbers, *where)

    def accuracy(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Backend, mode and numbers."""
        for backend, result in done(self.content, "accuracy"):
            yield from ((backend, mode, about) for mode, about in result["modes"].items() if mode in NETWORK_MODES)


@dataclass(frozen=True)
class Speed:
    """Median seconds of one case, and the fraction of the machine's own ceiling."""

    case: str
    backend: str
    mode: str
    seconds: float
    ceiling: float | None
    base: str = ""
    """The layer of which the case is one with another input."""
    density: float = DENSITY


def load(paths: Sequence[Path]) -> tuple[list[Machine], list[str]]:
    """Read files; those that can't be are sentences in the second list."""
    machines: list[Machine] = []
    problems = []
    for path in dict.fromkeys(paths):
        try:
            content = read(path)
        except ResultError as error:
            problems.append(f"{error}.")
            continue
        same = next((machine for machine in machines if machine.content["checksum"] == content["checksum"]), None)
        if same:
            problems.append(f"{path} holds the same result as {same.file}.")
            continue
        machines.append(Machine(content["name"], path.name, content))
    names = Counter(machine.label for machine in machines)
    unique = [
        Machine(
            f"{n}: {machine.label}" + (f" ({machine.file})" if names[machine.label] > 1 else ""),
            machine.file,
            machine.content,
        )
        for n, machine in enumerate(machines, 1)
    ]
    return unique, problems


def common_layers(machines: Iterable[Machine]) -> list[str]:
    """Layers that all machines with times have measured."""
    found = [machine.layers() for machine in machines if machine.layers()]
    return [case for case in found[0] if all(layers.get(case) == found[0][case] for layers in found)] if found else []


def speeds(machines: Sequence[Machine], case: str) -> Groups:
    """Milliseconds of a layer by mode, backend and machine."""
    groups: Groups = {}
    for machine in machines:
        for row in machine.speed():
            if row.case == case:
                _put(groups, MODES[row.mode].label, row.backend, machine, 1e3 * row.seconds)
    return _ordered(groups)


def ceilings(machines: Sequence[Machine]) -> Groups:
    """Percent of each machine's own ceiling, the geometric mean over the common layers."""
    return _means(machines, lambda row, exact: None if row.ceiling is None else 100 * row.ceiling)


def speedups(machines: Sequence[Machine]) -> Groups:
    """How many times as fast as exact on the same backend: the geometric mean over the common layers, and a whole network."""
    groups = {
        label: rows
        for label, rows in _means(machines, lambda row, exact: exact / row.seconds if exact else None).items()
        if label.startswith(("collapse", "preserve"))
    }
    for machine in machines:
        for backend, mode, about in machine.accuracy():
            if mode != "exact":
                heading = f"shipped network, {NETWORK_MODES[mode].label}"
                _put(groups, heading, backend, machine, about["speedup"])
    return groups


def accuracies(machines: Sequence[Machine]) -> Groups:
    """Percent of the shipped images that are classified rightly."""
    groups: Groups = {}
    for machine in machines:
        for backend, mode, about in machine.accuracy():
            _put(groups, NETWORK_MODES[mode].label, backend, machine, 100 * about["accuracy"])
    return groups


def _means(machines: Sequence[Machine], value: Any) -> Groups:
    """Geometric means over the common layers of a function of a row and the exact mode's seconds."""
    layers = common_layers(machines)
    groups: Groups = {}
    for machine in machines:
        rows = [row for row in machine.speed() if row.case in layers]
        exact = {(row.case, row.backend): row.seconds for row in rows if row.mode == "exact"}
        found: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            number = value(row, exact.get((row.case, row.backend)))
            if number:
                found.setdefault((MODES[row.mode].label, row.backend), []).append(math.log(number))
        for (label, backend), logs in found.items():
            if len(logs) == len(layers):
                _put(groups, label, backend, machine, math.exp(sum(logs) / len(logs)))
    return _ordered(groups)


def _put(groups: Groups, heading: str, label: str, machine: Machine, value: float) -> None:
    groups.setdefault(heading, {}).setdefault(label, {})[machine.label] = value


def _ordered(groups: Groups) -> Groups:
    """Modes in their usual order."""
    return {mode.label: groups[mode.label] for mode in MODES.values() if mode.label in groups}


@dataclass(frozen=True)
class Spikes:
    """Whether all fired the same spikes in reproducible mode."""

    cases: list[str]
    said: dict[tuple[str, str], dict[str, str]]
    """By machine and backend: what differs from what most fired, by case; "not run" where there is no digest."""
    sentence: str

    @property
    def identical(self) -> bool:
        """No spike and no membrane differs, and every case was compared."""
        return bool(self.said) and not any(self.said.values())


def spikes(machines: Sequence[Machine]) -> Spikes:
    """Hold each case of each machine and backend against what most of them fired."""
    found = {(m.label, backend): records for m in machines for backend, records in digests(m.content).items()}
    cases = list(dict.fromkeys(case for records in found.values() for case in records))
    usual = {case: _usual(records[case] for records in found.values() if case in records) for case in cases}
    said = {
        key: {
            case: words
            for case in cases
            if (words := differing(records, usual).get(case, "" if case in records else "not run"))
        }
        for key, records in found.items()
    }
    absent = [machine.label for machine in machines if machine.label not in {label for label, _ in found}]
    return Spikes(cases, said, _sentence(len(machines) - len(absent), cases, said, absent))


def _usual(records: Iterable[Record]) -> Record:
    """The record that most have; of equally many the first."""
    kinds = list(records)
    count = Counter((record["inputs"], record["spikes"], record["membrane"]) for record in kinds)
    return max(kinds, key=lambda record: count[record["inputs"], record["spikes"], record["membrane"]])


def _sentence(
    machines: int, cases: Sequence[str], said: Mapping[tuple[str, str], Mapping[str, str]], absent: Sequence[str]
) -> str:
    but = f" Without digests, so not compared: {'; '.join(absent)}." if absent else ""
    if not said:
        return f"No file holds digests of spikes.{but}"
    for case in cases:
        wrong = {key: words[case] for key, words in said.items() if case in words}
        if wrong:
            who = "; ".join(f"{backend} on {label}: {words}" for (label, backend), words in wrong.items())
            return f"NOT identical. The first case that differs is {case}: {who}.{but}"
    count = f"{machines} machine{'s' * (machines != 1)}, {len(said)} backend{'s' * (len(said) != 1)} in all"
    return f"Identical: {count}, fired the same spikes and left the same membranes in all {len(cases)} cases.{but}"
