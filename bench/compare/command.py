"""``python -m bench compare``: results of several machines side by side, in the terminal and as one HTML file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench.compare.data import PAPER, Groups, Machine, accuracies, ceilings, common_layers, load, speedups, spikes
from bench.compare.extended import sparse_gain, step_cost
from bench.compare.gpu import is_gpu_run
from bench.gpu.report import sentences
from bench.machine.result import done
from bench.shared.files import OutputError, check_output, write_whole
from bench.shared.tables import percent_of_ceiling, print_table

HEAD = (
    "machine",
    "backend",
    "device",
    "precision",
    "collapse K=16",
    "preserve K=4",
    "exact, of ceiling",
    "exact at 1 %",
    "training step",
    "accuracy exact",
    "accuracy collapse 16",
    "failed checks",
)
WORDS = ("machine", "backend", "device", "precision")
SPARE = ("precision", "device", "training step", "exact at 1 %")
"""What a narrow terminal does without, first to last."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("files", nargs="+", type=Path, metavar="RESULT.json", help="written by python -m bench run")
    parser.add_argument(
        "-o", "--html", type=Path, metavar="FILE", help="the report (default: comparison.html beside the first file)"
    )
    parser.add_argument("--no-html", action="store_true", help="print the table alone")


def main(args: argparse.Namespace) -> int:
    """Compare; 0 if all is well, 1 if a file could not be compared or spikes differ, 2 if nothing could be compared."""
    target = args.html or args.files[0].parent / "comparison.html"
    machines, problems = load(args.files)
    for problem in problems:
        print(f"python -m bench compare: {problem}", file=sys.stderr)
    if not machines:
        return 2
    if not args.no_html:
        try:
            check_output(target)
        except OutputError as error:
            print(f"python -m bench compare: {error}", file=sys.stderr)
            return 2
    fired = spikes(machines)
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    print_tables(console, machines)
    console.print(f"Spikes of reproducible mode: {fired.sentence}", markup=False, highlight=False)
    if not args.no_html:
        from bench.compare.html import page

        write_whole(target, page(machines, fired, problems).encode())
        console.print(f"wrote {target}", markup=False, highlight=False, soft_wrap=True)
    return 1 if problems or (fired.said and not fired.identical) else 0


def print_tables(console: Console, machines: Sequence[Machine]) -> None:
    """One row per machine and backend; layers are summed up by geometric means."""
    print_table(console, "", HEAD, summary(machines), words=WORDS, whole=("backend",), spare=SPARE)
    paper = ", ".join(f"{value:g} x on {name}" for name, value in PAPER.items())
    over = ", ".join(common_layers(machines)) or "none"
    means = f"geometric means over the layers that all have measured ({over})"
    lines = [
        f"Speed-ups are over exact on the same backend, fractions are of the same machine's ceiling: {means}.",
        "Exact at 1 %: times as fast as at 10 % of spikes. Training step: by weight, times as long as forward alone.",
        f"The paper reports for collapse {paper}, for its own networks and code.",
    ]
    lines += [f"{machine.label}: {machine.busy}" for machine in machines if machine.busy]
    for machine in machines:
        if machine.content.get("rehearsal"):
            lines.append(f"{machine.label}: a rehearsal on a CPU, which says nothing about any GPU.")
        if is_gpu_run(machine):
            lines += [f"{machine.label}: {line}" for line in sentences(machine.content)]
    lines += [
        f"{m.label}: {' '.join(found['conclusion'])}" for m in machines for _, found in done(m.content, "sparsity")
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False)


def summary(machines: Sequence[Machine]) -> list[tuple[str, ...]]:
    """Cells of the table, by `HEAD`."""
    faster, fraction, right = speedups(machines), ceilings(machines), accuracies(machines)
    rows: list[tuple[str, ...]] = []
    for machine in machines:
        checks = {backend: result["counts"] for backend, result in done(machine.content, "conformance")}
        sparse, steps = sparse_gain(machine), step_cost(machine)
        for backend, said in machine.backends().items():
            counts = checks.get(backend)

            def cell(
                groups: Groups, heading: str, form: Callable[[float], str], of: str = backend, on: str = machine.label
            ) -> str:
                value = groups.get(heading, {}).get(of, {}).get(on)
                return "" if value is None else form(value)

            rows.append(
                (
                    machine.label,
                    *(backend, said["device"], said["precision"]),
                    cell(faster, "collapse K=16", _TIMES),
                    cell(faster, "preserve K=4", _TIMES),
                    cell(fraction, "exact", percent_of_ceiling),
                    _TIMES(sparse[backend]) if backend in sparse else "",
                    _TIMES(steps[backend]) if backend in steps else "",
                    cell(right, "exact", _PERCENT),
                    cell(right, "collapse K=16", _PERCENT),
                    "" if counts is None else f"{counts['failed']} of {counts['passed'] + counts['failed']}",
                )
            )
    return rows


_TIMES, _PERCENT = "{:.1f} x".format, "{:.1f} %".format
