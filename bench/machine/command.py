"""``python -m bench run``: the standard set, in parts that survive an interruption, in one self-describing file."""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.machine.description import describe_machine, libraries, source_digest
from bench.machine.parts import PARTS, PER_BACKEND, Job, planned_seconds, run_jobs
from bench.machine.result import as_json, assemble, failures, spike_sentence
from bench.shared.devices import add_device, place
from bench.shared.files import check_output, write_whole
from bench.shared.machine import busy
from bench.shared.progress import progress
from bench.shared.store import CheckpointError, Store
from tacops.backends import BackendUnavailable
from tacops.testing import where


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RESULT.json", help="the file to write")
    parser.add_argument(
        "--quick", action="store_true", help="about three minutes on two idle cores: fewer layers, images and checks"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="PART",
        help=f"these only, of {', '.join(PARTS)} (default: all)",
    )
    parser.add_argument(
        "--backend", nargs="+", metavar="NAME", help="these only, and fail if one is missing (default: all found)"
    )
    add_device(parser)
    parser.add_argument("--name", type=_name, help="what to call this machine (default: its processor and cores)")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for finished parts (default: beside the output, .parts added)"
    )


def main(args: argparse.Namespace) -> int:
    """Run what is not there yet, write the file; 0 if all is well, 1 if anything failed or differs, 2 for wrong usage."""
    log = Console(stderr=True)
    try:
        check_output(args.output)
        store = Store(args.work or args.output.with_name(f"{args.output.name}.parts"))
        check_output(store.path("any"))
        placed, missing = place(args.backend, args.device)
        backends = {name: where(backend) for name, backend in placed.items()}
    except (BackendUnavailable, OSError, ValueError) as error:
        log.print(f"python -m bench run: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    machine = describe_machine(backends)
    settings = {
        "quick": args.quick,
        "device": args.device,
        "backends": backends,
        "libraries": libraries(),
        "source": source_digest(),
        "processor": machine["processor"],
        "python": machine["python"],
    }
    jobs = [
        Job(part, backend)
        for part in PARTS
        if part in args.parts
        for backend in (backends if part in PER_BACKEND else [""])
    ]
    try:
        found = {job: store.load(job.key, settings) for job in jobs}
    except CheckpointError as error:
        log.print(f"python -m bench run: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    kept = {job: step for job, step in found.items() if step and step["status"] == "done"}
    if kept:
        log.print(f"taken up from {store.folder}: {len(kept)} of {len(jobs)} parts", markup=False, highlight=False)
    absent = [job for job in jobs if job not in kept]
    try:
        with progress(log, planned_seconds(absent, quick=args.quick)) as tell:
            done = {**kept, **run_jobs(absent, store, settings, tell)}
    except KeyboardInterrupt:
        log.print(f"finished parts are in {store.folder}; the same command goes on from there", markup=False)
        raise
    result = assemble(
        {job: done[job] for job in jobs},
        name=args.name or machine["name"],
        machine=machine,
        missing=missing,
        settings={**settings, "unset_variables": list(args.unset_variables)},
    )
    write_whole(args.output, as_json(result).encode())
    shutil.rmtree(store.folder, ignore_errors=True)
    wrong = failures(result)
    _print(Console(), result, wrong)
    log.print(f"wrote {args.output}; compare it: python -m bench compare {args.output} OTHER.json", markup=False)
    return 1 if wrong else 0


def _print(console: Console, result: dict[str, object], wrong: list[str]) -> None:
    """A line for each part, and what went wrong."""
    parts = result["parts"]
    assert isinstance(parts, dict)
    table = Table("part", "backend", "state", "s", box=None, pad_edge=False)
    for part, steps in parts.items():
        for backend, step in steps.items():
            state = step["status"] + (f": {step['reason']}" if "reason" in step else "")
            table.add_row(part, backend, state, f"{step['seconds']:.0f}")
    console.print(table, markup=False, highlight=False)
    warning = busy(result["machine"])  # type: ignore[arg-type]
    for line in [*([warning] if warning else []), *spike_sentence(result), *(f"FAILED: {line}" for line in wrong)]:
        console.print(line, markup=False, highlight=False)


def _name(text: str) -> str:
    """A short line of text."""
    if not text.strip() or len(text) > 80 or re.search(r"[^ -~\u00a0-\ud7ff]", text):
        raise argparse.ArgumentTypeError("must be a line of 1 to 80 printable characters")
    return text.strip()
