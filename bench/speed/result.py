"""Results of ``python -m bench speed``: what is stored, read again, and derived from the stored numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.shared.files import DAMAGE
from bench.shared.results import ResultError, check_kind, fault
from bench.speed.ceilings import COPY_BYTES, SGEMM_FLOPS, least_seconds
from bench.timing.cases import ALL_MODES, Case, Mode
from bench.timing.times import Times, with_times

SCHEMA = 4


@dataclass(frozen=True)
class SpeedRow:
    """One subject's times for one layer in one mode."""

    case: str
    subject: str
    kind: str
    mode: str
    variant: str
    times: Times
    agree: float | None = None
    """Share of spike decisions, neurons times frames, that are those of tacops on NumPy."""
    shared: float | None = None
    """Share of the spikes fired by either that are fired by both."""
    differs: float | None = None
    """Of a training step: how far the weight's gradient is from that of tacops, relative to its size."""

    @property
    def seconds(self) -> float:
        """Median of all calls."""
        return self.times.median

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the calls were faster, a quarter slower."""
        return self.times.quartiles


@dataclass(frozen=True)
class Slope:
    """How the time grows with one size: the exponent of a power law fitted to the medians."""

    subject: str
    mode: str
    axis: str
    values: list[int]
    seconds: list[float]
    slope: float
    """Least-squares slope of log time over log size."""


@dataclass(frozen=True)
class StepMemory:
    """The most memory that a training step takes, at several T, and the exponent of its growth."""

    subject: str
    mode: str
    values: list[int]
    """T."""
    peak: list[int]
    """Bytes beside input, weight and the spikes' gradients; the spikes are counted."""
    slope: float


@dataclass(frozen=True)
class StreamRow:
    """One backend's `tacops.Stream`, fed a frame at a time."""

    subject: str
    network: str
    """In words."""
    frames: list[int]
    """After how many of them memory was looked at."""
    inside: dict[str, float]
    """``median`` and ``worst`` seconds of a frame that completes no chunk."""
    complete: dict[str, float]
    """The same of one that does, until the result is there."""
    kept: list[int]
    """Bytes that the stream remembers."""
    peak: list[int]
    """Bytes by which the process grew at most; empty on accelerators, whose memory the system doesn't count."""


@dataclass
class SpeedResult:
    """All that one run found."""

    settings: dict[str, Any]
    machine: dict[str, Any]
    subjects: dict[str, dict[str, str]] = field(default_factory=dict)
    """By name: kind, version, device and note."""
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[SpeedRow] = field(default_factory=list)
    ceilings: list[SpeedRow] = field(default_factory=list)
    sweep: list[Slope] = field(default_factory=list)
    overhead: dict[str, dict[str, float]] = field(default_factory=dict)
    """By backend, seconds of one call of a tiny layer, ``tacops`` and ``plain``; on NumPy, those in which ``threads`` are
    woken and waited for, too."""
    beside_blas: dict[str, float] = field(default_factory=dict)
    """Seconds of an exact layer on NumPy ``alone``, right ``after`` a product by BLAS's threads, and after one with
    ``timeout``, that is where they wait for the next product for a shorter time."""
    beside_openmp: dict[str, float] = field(default_factory=dict)
    """The same on PyTorch, after a product of its own, and with ``OMP_WAIT_POLICY=passive``."""
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes: ``input``, ``unfolded``, and ``work`` beside the result for this input, for T and for B twice as large."""
    step_memory: list[StepMemory] = field(default_factory=list)
    streams: list[StreamRow] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def layer(self, case: str) -> Case:
        """A case as it was measured."""
        known = self.cases[case]  # older files say less
        sizes = {name: known[name] for name in Case.__dataclass_fields__ if name in known}
        return Case(**{**sizes, "space": tuple(sizes["space"])})

    def layers(self) -> list[str]:
        """Cases that are layers by themselves, at the usual share of spikes."""
        return [case for case, about in self.cases.items() if not about.get("base")]

    def base(self, case: str) -> str:
        """The layer of which a case is one with another input; a layer itself is its own."""
        return self.cases.get(case, {}).get("base") or case

    def find(self, case: str, subject: str, mode: str) -> SpeedRow | None:
        """The row, if it was measured."""
        return self._index().get((case, subject, mode))

    def _index(self) -> dict[tuple[str, str, str], SpeedRow]:
        return {(row.case, row.subject, row.mode): row for row in (*self.rows, *self.ceilings)}

    def names(self, kind: str) -> list[str]:
        """Subjects of a kind that were measured."""
        return [name for name, about in self.subjects.items() if about["kind"] == kind]

    def ratio(self, case: str, slower: tuple[str, str], faster: tuple[str, str]) -> float | None:
        """How many times as long the first (subject, mode) takes as the second; None unless both were measured."""
        first, second = self.find(case, *slower), self.find(case, *faster)
        return None if first is None or second is None else first.seconds / second.seconds

    def fastest(self, case: str, kind: str, mode: str = "exact") -> SpeedRow | None:
        """The fastest subject of a kind."""
        rows = [row for row in self.rows if (row.case, row.kind, row.mode) == (case, kind, mode)]
        return min(rows, key=lambda row: row.seconds, default=None)

    def rate(self, row: SpeedRow) -> float:
        """Effective GFLOP/s: the exact layer's operations, however few the mode really does."""
        return self.layer(row.case).flops / row.seconds / 1e9

    def bandwidth(self, case: str) -> float:
        """Bytes per second of a copy, infinite if it wasn't measured."""
        copy = self.find(self.base(case), "ceilings", "copy")
        return COPY_BYTES / copy.seconds if copy else float("inf")

    def sgemm(self, case: str) -> float | None:
        """GFLOP/s of a large matrix product."""
        row = self.find(case, "ceilings", "sgemm")
        return SGEMM_FLOPS / row.seconds / 1e9 if row else None

    def gemm(self, case: str, mode: Mode) -> float | None:
        """Seconds of the matrix products alone that a mode needs, at their own shape."""
        same = "collapse4" if mode.name == "preserve4" else "exact" if mode.reproducible else mode.name
        same = f"collapse{mode.chunk}" if mode.by and mode.chunk > 1 else "exact" if mode.by else same
        row = self.find(self.base(case), "ceilings", same)
        # a gradient is as many products as the convolution
        return row.seconds * {"": 1, "weight": 2, "both": 3}[mode.by] if row else None

    def ceiling(self, row: SpeedRow) -> float | None:
        """Fraction of what the machine can do: the larger of products alone and traffic alone, over the time taken.

        None on accelerators: the ceilings that are measured are the processor's.
        """
        if not self.subjects[row.subject].get("device", "cpu").startswith("cpu"):
            return None
        case, mode = self.layer(row.case), ALL_MODES[row.mode]
        least = least_seconds(case, mode, self.gemm(row.case, mode), self.bandwidth(row.case))
        return least / row.seconds if least else None


def as_json(result: SpeedResult, targets: Iterable[Mapping[str, Any]]) -> str:
    """Write everything, with the derived numbers for readers without this code."""
    derived = [
        {
            "case": row.case,
            "subject": row.subject,
            "mode": row.mode,
            "median_seconds": row.seconds,
            "quartiles_seconds": row.quartiles,
            "effective_gflops": result.rate(row),
            "fraction_of_ceiling": result.ceiling(row),
        }
        for row in result.rows
    ]
    content = {"benchmark": "tacops speed", "schema": SCHEMA, **asdict(result), "derived": derived}
    return json.dumps({**content, "targets": list(targets)}, indent=1) + os.linesep


def from_dict(content: Any, name: str) -> SpeedResult:
    """The result in a file of this name, or `ResultError`."""
    check_kind(content, name, "speed", (2, 3, SCHEMA))
    lists = ("rows", "ceilings", "sweep", "step_memory", "streams")
    names = [name for name in SpeedResult.__dataclass_fields__ if name not in lists]
    try:
        return SpeedResult(
            **{name: content[name] for name in names},
            rows=[SpeedRow(**with_times(row)) for row in content["rows"]],
            ceilings=[SpeedRow(**with_times(row)) for row in content["ceilings"]],
            sweep=[Slope(**slope) for slope in content["sweep"]],
            step_memory=[StepMemory(**row) for row in content.get("step_memory", ())],
            streams=[StreamRow(**row) for row in content.get("streams", ())],
        )
    except DAMAGE as error:
        raise ResultError(f"{name} is incomplete: {fault(error)}") from error
