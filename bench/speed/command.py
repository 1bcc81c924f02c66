"""``python -m bench speed``: tacops against SNN libraries, plain code and the machine's own ceilings, in one run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.shared.datasets import DATA_VARIABLE, DatasetError
from bench.shared.devices import add_device, place
from bench.shared.events import event_input
from bench.shared.files import check_output
from bench.shared.plots import plot_files
from bench.shared.progress import minutes, progress
from bench.shared.results import stem, write_content
from bench.speed.peaks import OVER
from bench.speed.peers import PEERS, PLAIN
from bench.speed.report import print_result
from bench.speed.result import as_json
from bench.speed.run import CEILINGS, SpeedPlan, run
from bench.speed.sweep import AXES, short
from bench.speed.targets import targets
from bench.timing.cases import CASES, DENSITIES, EVENTS, MODES, STEPS
from bench.timing.subject import Entry
from tacops.backends import BackendUnavailable, get_backend

QUICK = ("S1", "S4")
QUICK_DENSITIES = (0.01, 0.5)
QUICK_MODES = ("exact", "collapse16", "preserve4", "reproducible")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"about two minutes on an idle machine: {', '.join(QUICK)}, fewer modes, shares of spikes and repeats",
    )
    parser.add_argument(
        "--backend", nargs="+", metavar="NAME", help="run these only, and fail if one is missing (default: all found)"
    )
    add_device(parser)
    parser.add_argument("--size", nargs="+", choices=CASES, metavar="NAME", help=f"layers: {', '.join(CASES)}")
    parser.add_argument("--no-peers", action="store_true", help="leave out the SNN libraries")
    parser.add_argument("--no-densities", action="store_true", help="leave out other shares of spikes than a tenth")
    parser.add_argument("--no-training", action="store_true", help="leave out training steps and their memory")
    parser.add_argument("--no-sweep", action="store_true", help="leave out the growth with T, B, C and K")
    parser.add_argument(
        "--minutes", type=minutes, metavar="M", help="time to use; repeats adapt (default: 24, with --quick 2)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results; compressed if it ends with .gz")
    parser.add_argument(
        "--plot", type=Path, metavar="STEM", help="write STEM.svg and STEM.png (default: beside the JSON file)"
    )


def main(args: argparse.Namespace) -> int:
    """Measure and report; 0 if all ran, 1 if something failed, 2 if a named backend is missing."""
    log = Console(stderr=True)
    check_output(args.json)
    beside = args.plot or (stem(args.json) if args.json else None)
    check_output(*(plot_files(beside) if beside else []))
    if beside:
        from bench.speed.roofline import save_plots  # what it needs is missed now, not when all is measured
    try:
        entries, missing = choose(args.backend, peers=not args.no_peers, device=args.device)
    except (BackendUnavailable, ValueError) as error:
        log.print(f"python -m bench speed: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    plan = make_plan(args)
    if plan.events is None and not args.no_densities:
        missing["N-MNIST frames"] = f"not found; set {DATA_VARIABLE} to the folder that has the recordings"
    with progress(log, plan.seconds) as tell:
        result = run(plan, entries, missing, tell)
    result.settings["unset_variables"] = list(args.unset_variables)
    if args.json:
        write_content(args.json, as_json(result, (target.as_dict() for target in targets(result))))
    console = Console()
    print_result(console if console.is_terminal else Console(width=160), result)
    if beside:
        log.print("wrote", *([args.json] if args.json else []), *save_plots(result, beside), highlight=False)
    return 1 if result.failed else 0


def make_plan(args: argparse.Namespace) -> SpeedPlan:
    """Turn the options into a plan."""
    names = args.size or (QUICK if args.quick else CASES)
    axes = () if args.no_sweep else tuple(short(axis) for axis in AXES) if args.quick else AXES
    what: dict[str, Any] = {"cases": [CASES[name] for name in dict.fromkeys(names)], "axes": axes}
    if not args.no_densities:
        what |= {"densities": QUICK_DENSITIES if args.quick else DENSITIES, "events": recorded_share()}
    if not args.no_training:
        what |= {"steps": [STEPS["step"]] if args.quick else list(STEPS.values())}
        what |= {"memory_over": OVER[:2] if args.quick else OVER}
    if args.quick:
        what |= {"modes": [MODES[name] for name in QUICK_MODES], "sweep_share": 0.1}
        return SpeedPlan(**what, seconds=60 * (args.minutes or 2.0), rounds=(1, 5), visit=0.02, calls=5)
    return SpeedPlan(**what, seconds=60 * (args.minutes or 24.0), rounds=(3, 12), visit=0.12, calls=15)


def recorded_share() -> float | None:
    """The share of spikes in frames of N-MNIST's recordings; None if these are not there."""
    try:
        return float(event_input(EVENTS.T, EVENTS.B).mean())
    except DatasetError:
        return None


def choose(
    backends: Sequence[str] | None, *, peers: bool, device: str | None = None
) -> tuple[list[Entry], dict[str, str]]:
    """List what to run, and what is not installed with the reason.

    Parameters
    ----------
    backends : sequence of str or None
        tacops' backends; None is all that are found.
    peers : bool
        Whether to run SNN libraries, too.
    device : str or None
        As for `bench.shared.devices.place`; other libraries run where the backend of the library they are made of runs.
    """
    placed, without = place(backends, device)
    missing = {f"tacops {name}": reason for name, reason in without.items()}
    on = {name: backend.device or "" for name, backend in placed.items()}
    entries = [Entry(f"tacops {name}", "tacops", "bench.timing.subject:Tacops", name, device=on[name]) for name in on]
    if "numpy" in on and find_spec("numba"):
        entries.append(Entry("tacops numpy, no Numba", "tacops", "bench.timing.subject:WithoutNumba"))
    entries += [replace(PLAIN[name], device="" if name == "numpy" else on[name]) for name in on if name in PLAIN]
    for entry in PEERS.values() if peers else ():
        if not entry.found:
            missing[entry.name] = f"not installed; try: pip install {entry.install}"
        elif device is not None and entry.library not in on:
            missing[entry.name] = f"left out, because backend {entry.library!r} is not run on {device!r}"
        else:
            entries.append(replace(entry, device=on.get(entry.library) or _default(entry.library)))
    return [*entries, CEILINGS], missing


def _default(library: str) -> str:
    """The device that a library's backend would use."""
    return get_backend(library).on(None).device or ""
