"""What several result files say of other shares of spikes, of training steps and of their memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.compare.data import Groups, Machine
from bench.machine.result import done
from bench.timing.cases import DENSITY, STEPS

__all__ = ["densities", "sparse_gain", "step_cost", "step_memory", "steps"]


def densities(machines: Sequence[Machine]) -> Groups:
    """Milliseconds of the exact layer at every share of spikes, by layer and share."""
    rows = [(machine, row) for machine in machines for row in machine.timed() if row.mode == "exact"]
    layers = dict.fromkeys(row.base for _, row in rows if row.base)
    groups: Groups = {}
    for layer in layers:
        of = [(machine, row) for machine, row in rows if layer in (row.base, row.case)]
        for machine, row in sorted(of, key=lambda pair: pair[1].density):
            heading = f"{layer}, {100 * row.density:.3g} % of spikes"
            groups.setdefault(heading, {}).setdefault(row.backend, {})[machine.label] = 1e3 * row.seconds
    return groups


def steps(machines: Sequence[Machine]) -> Groups:
    """Milliseconds of a training step, by layer and kind."""
    groups: Groups = {}
    for mode in STEPS.values():
        for machine in machines:
            for row in machine.timed():
                if row.mode == mode.name:
                    heading = f"{row.case}, {mode.label}"
                    groups.setdefault(heading, {}).setdefault(row.backend, {})[machine.label] = 1e3 * row.seconds
    return groups


def step_memory(machines: Sequence[Machine]) -> Groups:
    """MiB that a training step takes at most, by T."""
    groups: Groups = {}
    for machine in machines:
        for _, result in done(machine.content, "speed"):
            for row in result.get("step_memory", ()):
                backend = row["subject"].removeprefix("tacops ")
                for T, peak in zip(row["values"], row["peak"], strict=False) if backend in machine.backends() else ():
                    groups.setdefault(f"T = {T}", {}).setdefault(backend, {})[machine.label] = peak / 2**20
    return groups


def sparse_gain(machine: Machine, share: float = 0.01) -> dict[str, float]:
    """By backend, how many times as fast the exact layer is at a small share of spikes as at the usual one: geometric means."""
    exact = {(row.case, row.backend): row.seconds for row in machine.speed() if row.mode == "exact"}
    return _means(
        (row.backend, exact[row.base, row.backend] / row.seconds)
        for row in machine.timed()
        if row.mode == "exact" and row.density == share != DENSITY and (row.base, row.backend) in exact
    )


def step_cost(machine: Machine) -> dict[str, float]:
    """By backend, how many times as long a training step by weight takes as the exact layer: geometric means."""
    exact = {(row.case, row.backend): row.seconds for row in machine.timed() if row.mode == "exact"}

    def pairs() -> Iterator[tuple[str, float]]:
        for row in machine.timed():
            alone = exact.get((row.case, row.backend)) or exact.get((row.base, row.backend))
            if row.mode == "step" and alone:
                yield row.backend, row.seconds / alone

    return _means(pairs())


def _means(pairs: Iterator[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for backend, value in pairs:
        if value > 0:
            found.setdefault(backend, []).append(math.log(value))
    return {backend: math.exp(sum(logs) / len(logs)) for backend, logs in found.items()}
