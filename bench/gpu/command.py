"""``python -m bench gpu``: what only a machine with a GPU can tell, in one command and one file."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.gpu.jobs import EXPECTED, PARTS, jobs, run_jobs
from bench.gpu.layers import BACKENDS
from bench.gpu.report import print_result
from bench.machine.description import describe_machine, libraries, source_digest
from bench.machine.result import as_json, assemble, failures
from bench.shared.files import check_output, write_whole
from bench.shared.progress import progress
from bench.shared.store import CheckpointError, Store
from tacops.backends import Backend, available_backends, get_backend, missing_backends
from tacops.testing import where


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("gpu.json"),
        metavar="RESULT.json",
        help="the file (default: gpu.json)",
    )
    parser.add_argument(
        "--device",
        default=None,
        metavar="NAME",
        help="the GPU, as the backends call it, for example cuda:1 (default: the first)",
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="run all of it on the CPU, with tiny layers: says nothing about any GPU"
    )
    parser.add_argument(
        "--backend", nargs="+", choices=BACKENDS, default=list(BACKENDS), metavar="NAME", help="these only"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="PART",
        help=f"these only, of {', '.join(PARTS)}",
    )
    parser.add_argument("--name", help="what to call this machine (default: its processor, cores and GPU)")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for finished parts (default: beside the output, .parts added)"
    )


def main(args: argparse.Namespace) -> int:
    """Run what is not there yet; 0 if all is well, 1 if a part failed, 2 without a GPU."""
    log = Console(stderr=True)

    def refuse(why: object) -> int:
        log.print(f"python -m bench gpu: {why}", markup=False, highlight=False, soft_wrap=True)
        return 2

    placed, missing = find(args.backend, args.device, rehearsal=args.rehearse)
    if not placed:
        return refuse(
            f"no GPU was found by {', '.join(args.backend)} ({'; '.join(f'{k}: {v}' for k, v in missing.items())}); "
            "--rehearse tries the command on a CPU"
        )
    check_output(args.output)
    store = Store(args.work or args.output.with_name(f"{args.output.name}.parts"))
    check_output(store.path("any"))
    about = {name: where(backend) for name, backend in placed.items()}
    machine = describe_machine(about)
    settings: dict[str, Any] = {
        "quick": args.rehearse,
        "on": {name: backend.device or "" for name, backend in placed.items()},
        "backends": about,
        "libraries": libraries(),
        "source": source_digest(),
        "python": machine["python"],
    }
    todo = jobs(settings["on"], args.parts, rehearsal=args.rehearse)
    try:
        found = {job: store.load(job.key, settings) for job in todo}
    except CheckpointError as error:
        return refuse(error)
    kept = {job: step for job, step in found.items() if step and step["status"] == "done"}
    if kept:
        log.print(f"taken up from {store.folder}: {len(kept)} of {len(todo)} parts", markup=False, highlight=False)
    absent = [job for job in todo if job not in kept]
    try:
        with progress(log, 20.0 if args.rehearse else sum(EXPECTED[job.part] for job in absent)) as tell:
            done = {**kept, **run_jobs(absent, store, settings, tell)}
    except KeyboardInterrupt:
        log.print(f"finished parts are in {store.folder}; the same command goes on from there", markup=False)
        raise
    name = args.name or machine["name"]
    if args.rehearse:
        name = f"REHEARSAL on a CPU: {name}"
    result = assemble(
        {job: done[job] for job in todo},
        name=name[:120],
        machine=machine,
        missing=missing,
        settings={**settings, "unset_variables": list(args.unset_variables)},
        rehearsal=args.rehearse,
    )
    write_whole(args.output, as_json(result).encode())
    shutil.rmtree(store.folder, ignore_errors=True)
    wrong = [*failures(result), *failed_launches(result)]
    print_result(Console(), result, wrong)
    log.print(f"wrote {args.output}; compare it: python -m bench compare {args.output} OTHER.json", markup=False)
    return 1 if wrong else 0


def find(names: Sequence[str], device: str | None, *, rehearsal: bool) -> tuple[dict[str, Backend], dict[str, str]]:
    """The backends that compute on a GPU, put there, and why the others don't; in a rehearsal those on a CPU."""
    placed: dict[str, Backend] = {}
    missing = {name: why for name, why in missing_backends().items() if name in names}
    for name in names:
        if name not in available_backends():
            missing.setdefault(name, "not installed")
            continue
        try:
            backend = get_backend(name).on("cpu" if rehearsal else device)
            on = where(backend)["device"]
        except Exception as error:  # noqa: BLE001 (a driver may fail in any way)
            missing[name] = " ".join(str(error).split())[:200]
            continue
        if on.startswith("cpu") == rehearsal:
            placed[name] = backend
        else:
            missing[name] = f"its arrays are on {on}"
    return placed, missing


def failed_launches(result: dict[str, Any]) -> list[str]:
    """Layers that could not be counted."""
    return [
        f"launches, {name}, {layer}: {why}"
        for name, step in result["parts"].get("launches", {}).items()
        if step["status"] == "done"
        for layer, why in step["result"]["failed"].items()
    ]
