"""The default job: real images, small spiking networks, every backend that is installed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from bench.demo.measure import Batches, DemoRow, Network, Tick, measure, reference, reproducible, ticks
from bench.demo.report import Report, as_json, print_report
from bench.shared.datasets import Labels
from bench.shared.devices import add_device, place
from bench.shared.encoding import TIME_STEPS, rate_code
from bench.shared.files import check_output, write_whole
from bench.shared.machine import load
from bench.shared.model import MODES, Trained, load_trained
from bench.shared.subset import SUBSET_SIZE, load_subset
from tacops.backends import Backend, BackendUnavailable, get_backend

BATCH = 100
DEFAULT_IMAGES = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demonstration's options."""
    parser.add_argument(
        "--backend",
        nargs="+",
        metavar="NAME",
        help="run these only, and fail if one is missing (default: all that are found)",
    )
    add_device(parser)
    parser.add_argument(
        "--images",
        type=_count,
        default=DEFAULT_IMAGES,
        metavar="N",
        help=f"how many images, 1 to {SUBSET_SIZE} (default: {DEFAULT_IMAGES})",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the rate code (default: 0)")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the results as JSON, too; without FILE, to standard output alone",
    )


def main(args: argparse.Namespace) -> int:
    """Run the demonstration; 0 if every backend ran, 1 if one failed, 2 if a named one is missing."""
    start, busy = time.perf_counter(), load()
    log = Console(stderr=True)
    output = None if args.json in (None, "-") else Path(args.json)
    check_output(output)
    try:
        backends, missing = place(args.backend, args.device)
    except (BackendUnavailable, ValueError) as error:
        log.print(f"python -m bench: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    trained, subset = load_trained(), load_subset()
    frames = rate_code(subset.images[: args.images], seed=args.seed)
    results, agreement, failed = run(backends, trained, frames, subset.labels[: args.images], log)
    report = Report(
        images=args.images,
        seed=args.seed,
        time_steps=TIME_STEPS,
        seconds=time.perf_counter() - start,
        load=busy,
        results=results,
        reproducible=agreement,
        missing=missing,
        failed=failed,
        unset_variables=args.unset_variables,
        trained=trained.metadata,
    )
    if output:
        write_whole(output, as_json(report).encode())
    if args.json == "-":
        print(as_json(report))
    else:
        print_report(Console(), report)
    return 1 if failed else 0


def run(
    backends: Mapping[str, Backend], trained: Trained, frames: NDArray[np.bool_], labels: Labels, log: Console
) -> tuple[list[DemoRow], dict[str, int], dict[str, str]]:
    """Measure each backend in turn; one that fails doesn't stop the others.

    Parameters
    ----------
    backends : mapping of str to Backend
        Each on its device.
    trained : Trained
        Weights of every mode.
    frames : (T, N, 28, 28, 1) bool
        Coded images.
    labels : (N,) uint8
        Their classes.
    log : Console
        Where the progress bar goes.

    Returns
    -------
    results : list of DemoRow
    agreement : dict
        By backend, how many spikes of exact simulation in reproducible mode are not as NumPy's.
    failed : dict
        What went wrong, by backend.
    """
    starts = range(0, len(labels), BATCH)
    batches: Batches = [np.ascontiguousarray(frames[:, start : start + BATCH]) for start in starts]
    results: list[DemoRow] = []
    agreement: dict[str, int] = {}
    failed: dict[str, str] = {}
    with progress_bar(log, (len(MODES) + 1) * len(batches) + len(backends) * ticks(len(batches))) as tick:
        own = Network(get_backend("numpy"), trained, batches)
        expected, same = reference(own, tick), reproducible(own, tick)
        for name, backend in backends.items():
            if not log.is_terminal:
                log.print(f"running {name}", highlight=False)
            try:
                network = Network(backend, trained, batches)
                results += measure(network, expected, labels, tick)
                agreement[name] = reproducible(network, tick).differing(same)
            except Exception as error:  # noqa: BLE001 (whatever another library raises belongs in the report)
                failed[name] = f"{type(error).__name__}: {error}"
    return results, agreement, failed


@contextmanager
def progress_bar(log: Console, total: int) -> Iterator[Tick]:
    """Show a bar while the block runs; yield the function that advances it and says what is being done."""
    columns = (TextColumn("{task.description:28}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=log, transient=True, disable=not log.is_terminal) as progress:
        task = progress.add_task("starting", total=total)
        yield lambda text: progress.update(task, advance=1, description=text)


def _count(text: str) -> int:
    """Parse the number of images."""
    count = int(text)
    if not 1 <= count <= SUBSET_SIZE:
        raise argparse.ArgumentTypeError(f"must be from 1 to {SUBSET_SIZE}; got {count}")
    return count
