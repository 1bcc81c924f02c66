"""Spikes on which array libraries disagree: layer by layer, on the default path and in reproducible mode.

Three convolutional layers with arbitrary float32 weights run for 32 frames on every backend that is found, eager and, where
users compile, compiled. What differs from NumPy's spikes is counted per layer; differences of one layer are inputs of the next.
A last row shows what TF32 would do, the default of convolutions on recent NVIDIA GPUs that tacops switches off: NumPy
with its weights rounded to TF32's 11 bits. The shipped networks show what reproducible mode's rounding costs.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.shared.devices import own_backends
from bench.shared.encoding import rate_code
from bench.shared.files import check_output, write_whole
from bench.shared.model import LAYER, MODES, Mode, hidden_layer, load_trained
from bench.shared.plots import plot_files
from bench.shared.subset import load_subset
from tacops import __version__, conv_lif, tac_linear
from tacops.backends import Backend, BackendUnavailable, get_backend

STEPS = 32
LAYERS = 3
BATCH = 100


Spikes = list[NDArray[np.bool_]]
Weights = list[NDArray[np.float32]]
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Size:
    """Samples, height and width, channels of every layer."""

    batch: int = 4
    space: int = 32
    channels: int = 48


@dataclass(frozen=True)
class FlipsRow:
    """Spikes of each layer that differ from NumPy's."""

    name: str
    version: str
    reproducible: bool
    differing: list[int]
    decisions: int
    """Neurons times frames times samples of one layer."""


@dataclass(frozen=True)
class Accuracy:
    """What reproducible mode's rounding does to a shipped network."""

    mode: str
    images: int
    default: float
    reproducible: float
    answers_changed: int
    spikes_changed: float
    """Share of the hidden layers' spike decisions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--backend", nargs="+", metavar="NAME", help="these only (default: all that are found)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write flips.svg, .png and .json there")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of weights and spikes (default: 0)")
    parser.add_argument("--quick", action="store_true", help="a small network and few images, to see that it works")


def main(args: argparse.Namespace) -> int:
    """Count, print and draw; 1 if a spike differs in reproducible mode, 2 if a named backend is missing."""
    log = Console(stderr=True)
    if args.out:
        check_output(args.out / "flips.json", *plot_files(args.out / "flips"))
    try:
        backends = [get_backend(name) for name in args.backend or own_backends()]
    except (BackendUnavailable, ValueError) as error:
        log.print(f"python -m bench: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    size = Size(2, 8, 8) if args.quick else Size()
    columns = (TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=log, transient=True, disable=not log.is_terminal) as progress:
        task = progress.add_task("starting", total=2 * (len(list(variants(backends))) + 2) + len(MODES))

        def tick(text: str) -> None:
            progress.update(task, advance=1, description=text)

        rows = count(backends, size, args.seed, tick)
        accuracies = [accuracy(mode, 50 if args.quick else 1000, tick) for mode in MODES.values()]
    report(Console(), rows, accuracies)
    if args.out:
        save(args.out, rows, accuracies, size)
        log.print(f"wrote flips.json, flips.svg and flips.png in {args.out}", markup=False, highlight=False)
    return int(any(row.reproducible and any(row.differing) for row in rows))


def variants(backends: list[Backend]) -> Iterator[tuple[str, Backend, bool]]:
    """Name, backend, and whether to compile; NumPy is what they are compared with."""
    for backend in backends:
        if backend.name != "numpy":
            yield backend.name, backend, False
        if backend.compiles_fast:
            yield f"{backend.name} compiled", backend, True


def problem(size: Size, seed: int) -> tuple[NDArray[np.float32], Weights]:
    """Random spikes and weights with which a twelfth of the neurons fire in a frame."""
    rng = np.random.default_rng(seed)
    c = size.channels
    spikes = (rng.random((STEPS, size.batch, size.space, size.space, c)) < 0.15).astype(np.float32)
    scale = np.sqrt(2.0 / (9 * c))
    return spikes, [rng.normal(0.0, scale, (c, 3, 3, c)).astype(np.float32) for _ in range(LAYERS)]


def run(
    backend: Backend, spikes: NDArray[np.float32], weights: Weights, *, reproducible: bool, compiled: bool
) -> Spikes:
    """All layers' spikes, on the host."""

    def network(x: Any, *given: Any) -> tuple[Any, ...]:
        fired = []
        for weight in given:
            x = conv_lif(x, weight, padding=1, beta=0.9, threshold=1.0, reproducible=reproducible).spikes
            fired.append(x)
        return tuple(fired)

    function = backend.compile(network) if compiled else network
    answers = function(*(backend.from_numpy(array) for array in (spikes, *weights)))
    return [backend.to_numpy(fired) != 0 for fired in answers]


def tf32(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of 11 significant bits, rounded to nearest."""
    large = weight * np.float32(8193)
    rounded: NDArray[np.float32] = large - (large - weight)
    return rounded


def count(backends: list[Backend], size: Size, seed: int, tick: Callable[[str], None]) -> list[FlipsRow]:
    """Run every variant both ways."""
    spikes, weights = problem(size, seed)
    numpy = get_backend("numpy")
    rows = []
    for reproducible in (False, True):
        tick("numpy: reference spikes")
        want = run(numpy, spikes, weights, reproducible=reproducible, compiled=False)

        def row(name: str, version: str, got: Spikes, want: Spikes = want, mode: bool = reproducible) -> FlipsRow:
            differing = [int(np.sum(a != b)) for a, b in zip(got, want, strict=True)]
            return FlipsRow(name, version, mode, differing, want[0].size)

        for name, backend, compiled in variants(backends):
            tick(f"{name}{', reproducible' if reproducible else ''}")
            got = run(backend, spikes, weights, reproducible=reproducible, compiled=compiled)
            rows.append(row(name, backend.describe()["version"], got))
        if not reproducible:
            tick("numpy with TF32 weights")
            rounded = run(numpy, spikes, [tf32(w) for w in weights], reproducible=False, compiled=False)
            rows.append(row("numpy, weights in TF32", np.__version__, rounded))
    return rows


def accuracy(mode: Mode, images: int, tick: Callable[[str], None]) -> Accuracy:
    """Run a shipped network both ways on the shipped images with NumPy."""
    tick(f"accuracy: {mode.label}")
    subset, parameters = load_subset(), load_trained().parameters[mode.name]
    frames, labels = rate_code(subset.images[:images]), subset.labels[:images]
    answers: dict[bool, Numbers] = {}
    fired: dict[bool, list[Numbers]] = {False: [], True: []}
    for reproducible, spikes in fired.items():
        classes = []
        for start in range(0, images, BATCH):
            logits, *layers = forward(parameters, frames[:, start : start + BATCH], mode, reproducible)
            classes.append(np.argmax(logits, axis=-1))
            spikes += layers
        answers[reproducible] = np.concatenate(classes)
    pairs = list(zip(fired[False], fired[True], strict=True))
    return Accuracy(
        mode=mode.name,
        images=images,
        default=float(np.mean(answers[False] == labels)),
        reproducible=float(np.mean(answers[True] == labels)),
        answers_changed=int(np.sum(answers[False] != answers[True])),
        spikes_changed=sum(int(np.sum(a != b)) for a, b in pairs) / sum(a.size for a, _ in pairs),
    )


def forward(parameters: Any, frames: Numbers, mode: Mode, reproducible: bool) -> tuple[Numbers, Numbers, Numbers]:
    """`bench.shared.model.forward`, with every layer reproducible or none."""
    options = {**LAYER, "reproducible": reproducible}
    first = hidden_layer(frames, parameters["conv1"], parameters["bias1"], mode, options).spikes
    later = MODES["exact"] if mode.kind == "collapse" else mode
    last = hidden_layer(first, parameters["conv2"], parameters["bias2"], later, options).spikes
    flat = last.reshape(*last.shape[:2], -1)
    more: dict[str, Any] = {
        "chunk_size": len(flat),
        "aggregation": "mean",
        "reset": "none",
        "reproducible": reproducible,
    }
    return tac_linear(flat, parameters["readout"], parameters["bias3"], **more).membrane, first != 0, last != 0


def report(console: Console, rows: list[FlipsRow], accuracies: list[Accuracy]) -> None:
    """Two tables."""
    table = Table("differs from NumPy", *(f"layer {n + 1}" for n in range(LAYERS)), title_justify="left", box=None)
    table.title = f"Spikes that differ, of {rows[0].decisions:,} in each layer"
    for row in rows:
        name = f"{row.name}{' (reproducible)' if row.reproducible else ''}"
        table.add_row(name, *(f"{n:,}" for n in row.differing))
    console.print(table)
    table = Table("network", "default", "reproducible", "answers changed", "spikes changed", box=None)
    for a in accuracies:
        share, spikes = f"{a.answers_changed} of {a.images}", f"{a.spikes_changed:.2%}"
        table.add_row(a.mode, f"{a.default:.1%}", f"{a.reproducible:.1%}", share, spikes)
    console.print(table)


def save(folder: Path, rows: list[FlipsRow], accuracies: list[Accuracy], size: Size) -> None:
    """Write the numbers and the figure."""
    machine = {"platform": platform.platform(), "numpy": np.__version__, "tacops": __version__}
    from bench.spikes.pictures import save_flips

    found: dict[str, Any] = {
        "rows": [asdict(row) for row in rows],
        "accuracies": [asdict(a) for a in accuracies],
        "size": asdict(size),
        "machine": machine,
    }
    write_whole(folder / "flips.json", (json.dumps(found, indent=1) + "\n").encode())
    save_flips(found["rows"], folder / "flips")
