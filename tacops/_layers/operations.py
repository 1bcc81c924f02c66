"""What `tacops.synops` counts, in print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["LayerOperations", "Operations"]

OperationMode = Literal["exact", "collapse", "preserve"]


@dataclass(frozen=True)
class LayerOperations:
    """Of one layer in one mode, for all samples and frames.

    Attributes
    ----------
    layer : str
    mode : {"exact", "collapse", "preserve"}
    chunk_size : int
        K; 1 if exact.
    frames : int
        Frames that are convolved, of each sample: T if exact, else ceil(T / K); T, too, where channels with decays of their own
        weight the frames.
    dense : int
        Products of all inputs and weights, zeros included, without the padding's: multiply-adds of hardware that skips nothing.
    accumulates, multiply_accumulates : int
        Effective synaptic operations: products of an input and a weight neither of which is zero. They are additions if
        all inputs of the layer are -1, 0 and 1, else multiply-adds; one of the two is 0.
    events : int
        Inputs that are not zero, in the frames that are convolved.
    aggregated, aggregated_events : int
        Multiply-adds that sum the frames of chunks: of all numbers, and of those that are not zero; of all currents, where these are
        summed instead. 0 if exact.
    updates : int
        Neurons' steps, each of which decays, integrates and compares: one multiply-add.
    traffic, traffic_events : int
        Bytes that are read and written, dense and event-driven; `tacops.synops` says what is counted.
    energy, energy_events : float or None
        Picojoules, dense and event-driven, at the user's prices; None without prices.
    """

    layer: str
    mode: OperationMode
    chunk_size: int
    frames: int
    dense: int
    accumulates: int
    multiply_accumulates: int
    events: int
    aggregated: int
    aggregated_events: int
    updates: int
    traffic: int
    traffic_events: int
    energy: float | None = None
    energy_events: float | None = None

    @property
    def effective(self) -> int:
        """Synaptic operations, of either kind."""
        return self.accumulates + self.multiply_accumulates


@dataclass(frozen=True)
class Operations:
    """All layers in all three modes; `print` shows the table.

    Attributes
    ----------
    rows : tuple of LayerOperations
        Layer by layer; exact, collapse and preserve.
    samples : int
        B, over which all numbers are sums.
    """

    rows: tuple[LayerOperations, ...]
    samples: int

    def __iter__(self) -> Iterator[LayerOperations]:
        return iter(self.rows)

    def total(self, mode: OperationMode) -> Mapping[str, float]:
        """The sums over the layers of one mode, by the names of `LayerOperations`.

        Parameters
        ----------
        mode : {"exact", "collapse", "preserve"}
        """
        rows = [row for row in self.rows if row.mode == mode]
        names = [*SUMMED, *(["energy", "energy_events"] if rows and rows[0].energy is not None else [])]
        return {name: sum(getattr(row, name) for row in rows) for name in names}

    def __str__(self) -> str:
        """A table of all layers, and the sums where there are several, continued below where it is wider than `WIDTH`."""
        energy = any(row.energy is not None for row in self.rows)
        head = ["layer", "mode", "frames", "dense MACs", "ACs", "MACs", "to sum", "updates", "bytes", "bytes, events"]
        head += ["pJ", "pJ, events"] if energy else []
        lines = [head]
        for row in self.rows:
            how = row.mode if row.mode == "exact" else f"{row.mode} K={row.chunk_size}"
            lines.append(
                [row.layer, how, str(row.frames), *_cells({name: getattr(row, name) for name in COLUMNS}, energy)]
            )
        layers = {row.layer for row in self.rows}
        for mode in dict.fromkeys(row.mode for row in self.rows) if len(layers) > 1 else ():
            lines.append(["all", mode, "", *_cells(self.total(mode), energy)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = [
            "  ".join(_aligned(line[n], widths[n], n) for n in part).rstrip()
            for part in _parts(widths)
            for line in lines
        ]
        several = "s" * (self.samples != 1)
        return "\n".join([*shown, f"{self.samples} sample{several}; ACs and MACs: of events; to sum: events"])


WIDTH = 80


def _parts(widths: list[int]) -> list[list[int]]:
    """Columns that fit beside each other; every part begins with the layer and the mode."""
    parts = [[0, 1]]
    for n in range(2, len(widths)):
        if len(parts[-1]) > 2 and sum(widths[m] + 2 for m in parts[-1]) + widths[n] > WIDTH:
            parts.append([0, 1])
        parts[-1].append(n)
    return parts


SUMMED = (
    "dense", "accumulates", "multiply_accumulates", "events", "aggregated", "aggregated_events", "updates", "traffic",
    "traffic_events",
)  # fmt: skip
COLUMNS = (
    "dense", "accumulates", "multiply_accumulates", "aggregated_events", "updates", "traffic", "traffic_events", "energy",
    "energy_events",
)  # fmt: skip


def _cells(numbers: Mapping[str, float | None], energy: bool) -> list[str]:
    return [_short(numbers[name]) for name in (COLUMNS if energy else COLUMNS[:-2])]


def _short(number: float | None) -> str:
    """Whole numbers as they are up to a million, others with a unit."""
    if number is None:
        return "-"
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= unit:
            return f"{number / unit:.4g} {name}"
    return f"{number:,.0f}" if number >= 1e3 or number == int(number) else f"{number:.4g}"


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)
