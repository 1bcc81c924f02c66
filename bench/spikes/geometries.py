"""``python -m bench geometries``: random convolutions, forwards and backwards, in every dtype, against plain sums.

The libraries under the backends have been seen to return wrong numbers, memory that nobody wrote, or a crash, for rare shapes.
All numbers here are small integers, so that every dtype holds every sum: one differing bit is a mistake. The first mistake
of each backend is made as small as possible and printed as a program. A process of its own runs each backend: a crash is
reported like a mistake.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.shared.devices import own_backends
from bench.spikes.geometry_cases import DTYPES, Case, as_program, draw, shrink
from bench.spikes.geometry_check import mistake, prepare, supported
from tacops.backends import Backend, BackendUnavailable, get_backend

CRASH = "the process that computed it ended"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which backends and dtypes, how many cases, and where the random numbers start."""
    parser.add_argument(
        "--backend", action="append", metavar="NAME", help="repeatable; all that are available by default"
    )
    parser.add_argument(
        "--dtype", action="append", choices=DTYPES, help="repeatable; all that a backend has by default"
    )
    parser.add_argument("--count", type=_positive, default=300, help="cases for each backend (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="case number n is a function of SEED and n alone")


def main(args: argparse.Namespace) -> int:
    """0 if every case of every backend is right, 1 if one is not, 2 for a backend that is not there."""
    console = Console()
    names = args.backend or [*own_backends()]
    for name in names:
        try:
            get_backend(name)
        except (BackendUnavailable, ValueError) as error:
            console.print(f"python -m bench geometries: {error}", markup=False)
            return 2
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    found = []
    with Progress(*columns, console=console) as progress:
        for name in names:
            task = progress.add_task(name, total=args.count)
            found.append((name, *_search(name, args, partial(_advance, progress, task))))
    for name, dtypes, message in found:
        verdict = f"{args.count} cases right" if message is None else f"WRONG\n{message}"
        console.print(f"{name} ({', '.join(dtypes)}): {verdict}", markup=False, highlight=False, soft_wrap=True)
    return int(any(message for *_, message in found))


def _search(name: str, args: argparse.Namespace, report: Callable[[int], None]) -> tuple[Sequence[str], str | None]:
    """Run one backend's cases in a new process; the dtypes that were tried, and what was found."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, name, args.dtype, args.count, args.seed))
    process.start()
    there.close()
    dtypes: Sequence[str] = ()
    case, finished, message = None, False, None
    try:
        while not finished:
            kind, value = here.recv()
            if kind == "dtypes":
                dtypes = value
            elif kind == "case":
                number, case = value
                report(number)
            else:
                finished, message = True, value
    except EOFError:
        process.join()
        what = "before the first case" if case is None else as_program(name, case, CRASH)
        message = f"{CRASH} ({process.exitcode})\n{what}"
    finally:
        if not finished:
            process.terminate()
        process.join()
    return dtypes, message


def _child(pipe: Connection, name: str, dtypes: Sequence[str] | None, count: int, seed: int) -> None:
    prepare(name)
    backend = get_backend(name)
    have = [dtype for dtype in dtypes or DTYPES if supported(backend, dtype)]
    pipe.send(("dtypes", have))
    for number in range(count if have else 0):
        case = draw(seed, number, have)
        pipe.send(("case", (number, case)))
        if what := mistake(backend, case):
            smallest = shrink(case, partial(_tried, pipe, number, backend))
            pipe.send(("found", as_program(name, smallest, mistake(backend, smallest) or what)))
            return
    pipe.send(("case", (count, None)))
    pipe.send(("found", None if have else "none of the dtypes is supported"))


def _tried(pipe: Connection, number: int, backend: Backend, case: Case) -> bool:
    pipe.send(("case", (number, case)))
    return mistake(backend, case) is not None


def _advance(progress: Progress, task: TaskID, number: int) -> None:
    progress.update(task, completed=number)


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
