"""What results of ``python -m bench gpu`` say, side by side with other libraries on the same device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.compare.data import Groups, Machine
from bench.gpu.report import Layer, layers
from bench.machine.result import done
from bench.timing.cases import ALL_MODES

__all__ = ["KINDS", "grouped", "inexact", "is_gpu_run"]

Value = Callable[[Layer], float | None]
KINDS: dict[str, tuple[str, str, Value]] = {
    "gpums": ("On a GPU: time of a layer", "milliseconds", lambda row: 1e3 * row.seconds if row.seconds else None),
    "gpulaunches": ("On a GPU: launches of a layer", "kernels", lambda row: row.launches),
    "gpubandwidth": (
        "On a GPU: of the memory bandwidth",
        "percent of a copy's rate",
        lambda row: 100 * row.bandwidth if row.bandwidth else None,
    ),
    "gputensor": (
        "On a GPU: of the fastest products",
        "percent of a large product's rate",
        lambda row: 100 * row.tensor if row.tensor else None,
    ),
}
"""Title, unit and value by the name of the section."""


def is_gpu_run(machine: Machine) -> bool:
    """Whether a file is of that command."""
    return any(part in machine.content["parts"] for part in ("launches", "peaks", "exactness"))


def grouped(machines: Sequence[Machine], value: Value) -> Groups:
    """Numbers by layer and mode, library and machine."""
    groups: Groups = {}
    for machine in machines:
        for row in layers(machine.content) if is_gpu_run(machine) else ():
            number = value(row)
            if number is not None and row.mode in ALL_MODES:
                heading = f"{row.case}, {ALL_MODES[row.mode].label}"
                groups.setdefault(heading, {}).setdefault(row.subject, {})[machine.label] = float(number)
    return groups


def inexact(machines: Sequence[Machine]) -> Groups:
    """Sums of integers that a route got wrong, by sum, library and route."""
    groups: Groups = {}
    for machine in machines:
        for backend, result in done(machine.content, "exactness"):
            for name, about in result["sums"].items():
                for route, count in about["differing"].items():
                    groups.setdefault(name, {}).setdefault(f"{backend}, {route}", {})[machine.label] = float(count)
    return groups
