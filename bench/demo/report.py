"""The demonstration's results as a table, as sentences and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.demo.measure import ROUNDS, DemoRow
from bench.shared.machine import cores
from bench.shared.machine import machine as machine_of_this
from bench.shared.model import MODES
from bench.shared.tables import print_reasons
from tacops import __version__

SCHEMA = 1


@dataclass(frozen=True)
class Report:
    """All that the demonstration found."""

    images: int
    seed: int
    time_steps: int
    seconds: float
    load: float
    """Average number of processes that were running in the minute before the demonstration began."""
    results: Sequence[DemoRow]
    reproducible: Mapping[str, int]
    """By backend, how many spikes of exact simulation in reproducible mode are not as NumPy's."""
    missing: Mapping[str, str]
    failed: Mapping[str, str]
    unset_variables: Sequence[str]
    trained: Mapping[str, Any]


def as_json(report: Report) -> str:
    """Write everything as one JSON object."""
    machine = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": machine_of_this()["processor"],
        "cores": cores(),
        "tacops": __version__,
    }
    about = {"benchmark": "tacops demo", "schema": SCHEMA, "machine": machine, "summary": summary(report)}
    return json.dumps({**about, **asdict(report)}, indent=2)


def print_report(console: Console, report: Report) -> None:
    """Print the table, what it means, and what is missing."""
    if report.results:
        console.print(table(report))
    for sentence in (*summary(report), *conditions(report)):
        console.print(escape(sentence))
    print_reasons(console, "Not installed or not usable here", report.missing)
    print_reasons(console, "FAILED", report.failed)


def table(report: Report) -> Table:
    """Lay out one row for each backend and mode."""
    title = f"{report.images} Fashion-MNIST test images, rate-coded over {report.time_steps} frames"
    layout = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_edge=False, padding=0, pad_edge=False)
    layout.add_column("backend, version,\ndevice", overflow="fold")
    layout.add_column("mode", no_wrap=True)
    for name in ("accuracy", "images/s", "over\nexact", "spikes not\nas NumPy's"):
        layout.add_column(name, justify="right", no_wrap=True)
    for backend, rows in groupby(report.results, lambda row: row.backend):
        for n, row in enumerate(rows):
            layout.add_row(
                (f"[bold]{escape(backend)}[/]", escape(row.version), escape(row.device), "")[n],
                MODES[row.mode].label,
                f"{row.accuracy:.1%}",
                f"{row.images_per_second:,.0f}",
                f"{row.speedup:.1f} x",
                f"{row.differing:,}",
                end_section=n == len(MODES) - 1,
            )
    return layout


def summary(report: Report) -> list[str]:
    """Say in two or three sentences what the numbers show."""
    if not report.results:
        return ["No backend ran."]
    accuracy = {row.mode: row.accuracy for row in reversed(report.results)}
    gains = [
        f"{_range([row.speedup for row in report.results if row.mode == name])} times as many with {mode.label} "
        f"({accuracy[name]:.1%} right)"
        for name, mode in MODES.items()
        if name != "exact"
    ]
    differing = sum(row.differing for row in report.results)
    decisions = sum(row.decisions for row in report.results)
    agreement = "none differs" if differing == 0 else f"{differing:,} differ ({differing / decisions:.1e} of them)"
    grid = sum(report.reproducible.values())
    everywhere = f"with reproducible=True (exact) {f'{grid:,} differ' if grid else 'none differs'}"
    return [
        f"Exact simulation gets {accuracy['exact']:.1%} of the images right.",
        f"In the time it takes for one image, the same backend classifies {', '.join(gains)}.",
        f"Of {decisions:,} hidden-layer spike decisions {agreement} from NumPy's; {everywhere}.",
    ]


def conditions(report: Report) -> list[str]:
    """Say how the numbers were measured."""
    how = "after compiling and warming up; input already on the device; encoding not timed"
    stated = [f"{MODES[name].label} {about['test_accuracy']:.1%}" for name, about in report.trained.items()]
    full = f" On all 10,000 test images: {', '.join(stated)}." if stated else ""
    lines = [
        f"Medians of {ROUNDS} interleaved repeats on {cores()} CPU cores, {how}.",
        f"Each mode has weights trained for it.{full} {report.seconds:.0f} s in all.",
    ]
    partly = {row.backend: row.timed_images for row in report.results if row.timed_images < report.images}
    if partly:
        timed = ", ".join(f"{backend} {images}" for backend, images in partly.items())
        lines.append(f"Slow backends were timed on fewer images ({timed}); accuracy and spikes are of all.")
    if report.load > cores() / 2:
        lines.append(f"Other processes kept {report.load:.1f} cores busy at the start: an idle machine is faster.")
    if report.unset_variables:
        lines.append(f"Unset for this run, because they slow NumPy's BLAS: {', '.join(report.unset_variables)}.")
    return lines


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
