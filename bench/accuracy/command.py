"""``python -m bench accuracy``: what temporal aggregation costs in accuracy and saves in time, on real data.

Small spiking networks are trained in every mode, with several seeds or folds, on six tasks; each finished training is
kept in a folder, so that an interrupted run goes on where it stopped. docs/accuracy.md says what is measured and what
came out. Needs ``pip install 'tacops[train]'`` and the data sets.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import tacops
from bench.accuracy.map import command as map_command
from bench.accuracy.map.conditions import MAPS
from bench.accuracy.modes import VARIANTS
from bench.accuracy.report import print_result
from bench.accuracy.result import AccuracyResult, as_json, from_dict
from bench.accuracy.run import ADVISED, CALLS, CURVE, LoadedTask, Tick
from bench.accuracy.tasks import TASKS, Task
from bench.shared.files import check_output
from bench.shared.machine import cores, load, machine
from bench.shared.model import CHANNELS, LAYER
from bench.shared.plots import plot_files
from bench.shared.progress import minutes
from bench.shared.results import read_content, stem, write_content
from bench.shared.store import CheckpointError, Store, fingerprint
from bench.shared.training import SLOPE

REVISION = 1
"""Raised whenever a change of this code changes results: older checkpoints are then refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="tasks (default: all)")
    parser.add_argument("--modes", nargs="+", choices=VARIANTS, help="modes, those that the task has (default: all)")
    parser.add_argument("--seeds", type=_count, metavar="N", help="seeds, or folds, of each task (default: 3 to 10)")
    parser.add_argument("--quick", action="store_true", help="less data, fewer modes, two seeds: about three minutes")
    parser.add_argument(
        "--map",
        nargs="*",
        choices=MAPS,
        help="instead: where aggregation gains over exact, one factor after the other (default: every map); hours",
    )
    parser.add_argument("--minutes", type=minutes, metavar="M", help="with --map: begin nothing after so many minutes")
    parser.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        metavar="FILE",
        help="with --map: go on from a result, for example of --minutes, and keep what is in it",
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder of checkpoints (default: beside the JSON file)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything into this file; compressed if it ends with .gz"
    )
    parser.add_argument(
        "--advise",
        type=Path,
        metavar="FILE",
        help="ask tacops.advise again for the tasks of a stored result; no training",
    )
    parser.add_argument("--plot", type=Path, metavar="STEM", help="draw STEM.svg, STEM.png and STEM-curves.svg, .png")


def main(args: argparse.Namespace) -> int:
    """Train what is not trained yet, print the tables and write what was asked for."""
    if args.advise:
        return advise_again(args)
    if args.map is not None:
        if args.modes or args.seeds or args.tasks != list(TASKS):
            print("python -m bench accuracy: --map takes no --tasks, --modes or --seeds", file=sys.stderr)
            return 2
        args.map = args.map or ["codes", "motion"]
        return map_command.main(args, versions())
    if args.minutes or args.earlier:
        print("python -m bench accuracy: --minutes and --from go with --map", file=sys.stderr)
        return 2
    console = Console(stderr=True)
    tasks = [TASKS[name].quick() if args.quick else TASKS[name] for name in args.tasks]
    check_output(args.json)
    store = Store(args.work or _work(args))
    check_output(store.path("any"), *(plot_files(args.plot, "", "-curves") if args.plot else []))
    if args.plot:
        from bench.accuracy.plot import save_plots  # what it needs is missed now, not when all is measured
    try:
        result = measure(tasks, args, store, console)
    except CheckpointError as error:
        print(f"python -m bench accuracy: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.print(f"finished trainings are kept in {store.folder}; the same command goes on from there")
        raise
    print_result(Console(), result)
    if args.json:
        write_content(args.json, as_json(result))
    if args.plot:
        console.print("wrote", *save_plots(result, args.plot), highlight=False)
    return 0


def advise_again(args: argparse.Namespace) -> int:
    """Put what `tacops.advise` says today into a stored result, in its place or into ``--json``."""
    path = args.json or args.advise
    check_output(path)
    result = from_dict(read_content(args.advise), args.advise.name)
    for name, about in result.tasks.items():
        began, busy = time.perf_counter(), load()
        loaded = LoadedTask(TASKS[name].quick() if result.settings["quick"] else TASKS[name])
        about["advice"] = {**loaded.advice(), "load": busy, "seconds": time.perf_counter() - began}
    print_result(Console(), result)
    write_content(path, as_json(result))
    return 0


def measure(tasks: Iterable[Task], args: argparse.Namespace, store: Store, console: Console) -> AccuracyResult:
    """Do all pieces of work that the store doesn't have, and collect all."""
    about = machine()
    plan = [(task, modes(task, args), runs(task, args)) for task in tasks]
    found = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=120) as progress:
        bar = progress.add_task(
            "", total=sum(cost(task, name) * count for task, names, count in plan for name in names)
        )
        for task, names, count in plan:
            found[task.name] = measure_task(task, names, count, rounds(args), store, _ticker(progress, bar))
    settings = {"quick": args.quick, "slope": SLOPE, "channels": CHANNELS, "layer": LAYER, "advised": ADVISED}
    settings |= {"curve": CURVE, "rounds": rounds(args), "calls": CALLS, "versions": versions()}
    settings["allocator"] = os.environ.get("GLIBC_TUNABLES", "the system's default")
    return AccuracyResult(settings, about, found)


def measure_task(
    task: Task, names: list[str], runs: int, rounds: int, store: Store, ticker: Callable[[str, float], Tick]
) -> dict[str, Any]:
    """Advice, trainings and times of one task."""
    loaded = LoadedTask(task)
    common = conditions(task)

    def piece(
        name: str, settings: Mapping[str, Any], work: Callable[[Tick], dict[str, Any]], size: float
    ) -> dict[str, Any]:
        tick = ticker(name, size)
        record = store.load(name, {**common, **settings})
        if record is not None:
            tick("taken up", 1.0)
            return record
        began, busy = time.perf_counter(), load()
        record = {**work(tick), "load": busy, "seconds": time.perf_counter() - began}
        store.save(name, {**common, **settings}, record)
        return record

    def trained(mode: str, run: int) -> dict[str, Any]:
        settings = {"mode": mode, "run": run}
        record = piece(f"{task.name}-{mode}-{run}", settings, partial(loaded.train, mode, run), cost(task, mode))
        return {"run": run, **record}

    advice = piece(f"{task.name}-advice", {"advised": ADVISED}, lambda _: loaded.advice(), 0.0)
    found = {mode: [trained(mode, run) for run in range(runs)] for mode in names}
    timing = {"modes": names, "rounds": rounds, "calls": CALLS}
    times = piece(f"{task.name}-times-{fingerprint(timing)[:8]}", timing, partial(loaded.times, names, rounds), 0.0)
    about = {"title": task.title, "classes": task.classes, "settings": asdict(task.settings)}
    return {**about, "advice": advice, "trained": found, "times": times}


def conditions(task: Task) -> dict[str, Any]:
    """All that a checkpoint must have in common with this run."""
    return {
        "revision": REVISION,
        "task": task.name,
        "classes": task.classes,
        **asdict(task.settings),
        "network": {"channels": CHANNELS, "layer": LAYER, "slope": SLOPE},
        "versions": versions(),
        "machine": {"processor": machine()["processor"], "cores": cores()},
    }


def modes(task: Task, args: argparse.Namespace) -> list[str]:
    """The modes of a task that were asked for; always exact, with which all are compared."""
    asked = set(args.modes or task.modes) | {"exact"}
    return [name for name in task.modes if name in asked]


def runs(task: Task, args: argparse.Namespace) -> int:
    """How many seeds or folds; there are no more folds than there are."""
    count = args.seeds or task.runs
    return min(count, task.settings.folds) if task.settings.folds else count


def rounds(args: argparse.Namespace) -> int:
    """How often all modes are timed in turn."""
    return 3 if args.quick else 15


def cost(task: Task, mode: str) -> float:
    """Rough relative time of one training, for the progress bar."""
    variant = VARIANTS[mode]
    share = 1 / variant.mode.chunk_size
    share = 0.4 + 0.6 * share if variant.mode.kind == "preserve" else share
    return task.settings.epochs * task.epoch * share


def versions() -> dict[str, str]:
    """Versions of all that computes."""
    found = {"tacops": tacops.__version__, "python": platform.python_version(), "jax": jax.__version__}
    return found | {"optax": optax.__version__, "numpy": np.__version__}


def _ticker(progress: Progress, bar: Any) -> Callable[[str, float], Tick]:
    def ticker(name: str, size: float) -> Tick:
        progress.update(bar, description=name)
        if not progress.console.is_terminal:
            total = progress.tasks[0].total or 1.0
            progress.console.print(f"{progress.tasks[0].completed / total:.0%}: {name}", highlight=False)
        return lambda word, share: progress.update(bar, advance=size * share, description=f"{name}, {word}")

    return ticker


def _work(args: argparse.Namespace) -> Path:
    """The default folder of checkpoints; quick runs have one of their own."""
    beside = stem(args.json) if args.json else Path("accuracy")
    return beside.with_name(f"{beside.name}{'-quick' * args.quick}-checkpoints")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a positive number; got {text}")
    return int(text)
