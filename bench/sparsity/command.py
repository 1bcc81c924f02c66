"""``python -m bench sparsity``: sparse ways to convolve spikes against dense ones and temporal aggregation."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.shared.devices import add_device, place
from bench.shared.files import check_output
from bench.shared.plots import plot_files
from bench.shared.progress import minutes, progress
from bench.shared.results import stem, write_content
from bench.sparsity.cases import DENSITIES, QUICK_DENSITIES, STRATEGIES, STRUCTURED_DENSITIES, STRUCTURES, TAC
from bench.sparsity.conclusion import conclusion
from bench.sparsity.report import print_result
from bench.sparsity.result import as_dict, as_json
from bench.sparsity.run import SparsityPlan, choose_contenders, run
from bench.sparsity.subject import BACKENDS
from bench.timing.cases import CASES, SIZES
from bench.timing.subject import Entry
from tacops.backends import BackendUnavailable

QUICK_SIZES = ("S1", "S3")
QUICK_STRUCTURES = ("iid", "patches")
QUICK_TAC = ("collapse8", "preserve4")
MINUTES, QUICK_MINUTES = 13.0, 1.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    names = ", ".join
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"under two minutes on an idle machine: {names(QUICK_SIZES)}, {names(QUICK_STRUCTURES)}, fewer densities and chunks",
    )
    parser.add_argument(
        "--backend", nargs="+", metavar="NAME", help="these only, and fail if one is missing (default: all found)"
    )
    add_device(parser)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, metavar="NAME", help=f"{names(STRATEGIES)}")
    parser.add_argument("--size", nargs="+", choices=SIZES, metavar="NAME", help=f"layers: {names(SIZES)}")
    parser.add_argument("--structures", nargs="+", choices=STRUCTURES, metavar="NAME", help=f"{names(STRUCTURES)}")
    parser.add_argument(
        "--densities", nargs="+", type=_density, metavar="D", help="shares of spikes, such as 0.01 or 1%%"
    )
    parser.add_argument(
        "--minutes",
        type=minutes,
        metavar="M",
        help=f"time to use; repeats adapt ({MINUTES:g}, quick {QUICK_MINUTES:g})",
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
        from bench.sparsity.plot import save_plots  # what it needs is missed now, not when all is measured
    try:
        entries, missing = choose(args.backend, args.strategies, args.device)
    except (BackendUnavailable, ValueError) as error:
        log.print(f"python -m bench sparsity: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    plan = make_plan(args)
    with progress(log, plan.seconds) as tell:
        result = run(plan, entries, missing, tell)
    result.settings["unset_variables"] = list(args.unset_variables)
    if args.json:
        write_content(args.json, as_json(as_dict(result, conclusion(result))))
    console = Console()
    print_result(console if console.is_terminal else Console(width=160), result)
    if beside:
        log.print("wrote", *([args.json] if args.json else []), *save_plots(result, beside), highlight=False)
    return 1 if result.failed or not result.rows else 0


def make_plan(args: argparse.Namespace) -> SparsityPlan:
    """Turn the options into a plan."""
    sizes = args.size or (QUICK_SIZES if args.quick else SIZES)
    found = args.structures or (QUICK_STRUCTURES if args.quick else STRUCTURES)
    densities = sorted(set(args.densities or (QUICK_DENSITIES if args.quick else DENSITIES)))
    return SparsityPlan(
        cases=[CASES[name] for name in dict.fromkeys(sizes)],
        structures=list(dict.fromkeys(found)),
        densities=densities,
        contenders=choose_contenders(args.strategies, QUICK_TAC if args.quick else tuple(TAC)),
        seconds=60 * (args.minutes or (QUICK_MINUTES if args.quick else MINUTES)),
        rounds=(1, 5) if args.quick else (3, 12),
        structured=() if args.quick or args.densities else STRUCTURED_DENSITIES,
    )


def choose(
    backends: Sequence[str] | None, strategies: Sequence[str] | None, device: str | None = None
) -> tuple[list[Entry], dict[str, str]]:
    """List what to run, and what is not installed with the reason.

    Parameters
    ----------
    backends : sequence of str or None
        None is all that are found.
    strategies : sequence of str or None
        None is all; brainevent, whose kernels are the CPU's, is a process of its own.
    device : str or None
        As for `bench.shared.devices.place`.
    """
    placed, without = place(backends, device)
    missing = {name: reason for name, reason in without.items() if name in BACKENDS}
    if other := [name for name in backends or () if name not in BACKENDS]:
        raise ValueError(f"no sparse strategies are written for {other[0]!r}; there are {', '.join(BACKENDS)}")
    on = {name: backend.device or "" for name, backend in placed.items() if name in BACKENDS}
    entries = [Entry(name, "tacops", "bench.sparsity.subject:SparseSubject", name, device=on[name]) for name in on]
    if on.get("jax", "").startswith("cpu") and "brainevent" in (strategies or STRATEGIES):
        entry = Entry(
            "brainevent", "peer", "bench.sparsity.subject:BrainEvent", module="brainevent", install="brainevent"
        )
        if importlib.util.find_spec(entry.module):
            entries.append(entry)
        else:
            missing[entry.name] = f"not installed; try: pip install {entry.install}"
    return entries, missing


def _density(text: str) -> float:
    density = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < density <= 0.5:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 0.5; got {text}")
    return density
