"""``python -m bench.sparsity.calibrate``: what the rule of NumPy's engine should reckon with on this machine, and how well it chooses.

Layers are run by each way at several densities, interleaved, medians; a fit by non-negative least squares of relative errors
gives the nanoseconds that `tacops.backends._cpu.choose.PRICES` holds. Run it on one core (``taskset -c 0``): the ways share
out their work alike.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import nnls

import tacops
from tacops.backends import Window
from tacops.backends._cpu import choose
from tacops.backends._cpu.frames import Frames

DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
ROUNDS = 9
ORDERS = random.Random(0)
"""Of all layers: a way that always came after the same one would find the same caches."""


@dataclass(frozen=True)
class Layer:
    """Spikes (T, B, *S, C_in) through a weight."""

    spikes: tuple[int, ...]
    weight: tuple[int, ...]
    padding: int = 0
    stride: int = 1
    groups: int = 1
    chunks: tuple[int, ...] = field(default=(1, 4))

    def window(self) -> Window:
        """As the operators give it to a backend."""
        dims = len(self.weight) - 2
        return Window((self.stride,) * dims, ((self.padding,) * 2,) * dims, (1,) * dims, self.groups)

    def run(self, x: Any, w: Any, chunk: int) -> Any:
        """The layer's operator, with every frame's spikes."""
        if len(self.weight) == 2:
            return tacops.tac_linear(x, w, chunk_size=chunk, mode="preserve")
        options = {"padding": self.padding, "stride": self.stride, "groups": self.groups}
        return tacops.tac_conv(x, w, chunk_size=chunk, mode="preserve", **options)  # type: ignore[arg-type]


LAYERS = {
    "S1": Layer((16, 8, 32, 32, 2), (32, 3, 3, 2), 1),
    "S2": Layer((16, 32, 28, 28, 1), (32, 3, 3, 1), 1),
    "S3": Layer((16, 8, 28, 28, 32), (64, 3, 3, 32), 1),
    "S4": Layer((16, 4, 16, 16, 64), (128, 3, 3, 64), 1),
    "LIN": Layer((16, 128, 784), (512, 784)),
    "readout": Layer((64, 128, 784), (10, 784)),
    "DW": Layer((16, 8, 28, 28, 64), (64, 3, 3, 1), 1, groups=64),
    "groups": Layer((16, 8, 28, 28, 64), (64, 3, 3, 16), 1, groups=4),
    "D1": Layer((16, 16, 256, 32), (64, 5, 32), 2),
    "1 x 1": Layer((16, 8, 28, 28, 64), (64, 1, 1, 64)),
    "5 x 5": Layer((32, 16, 34, 34, 2), (16, 5, 5, 2), 2),
    "stride": Layer((16, 8, 28, 28, 32), (64, 3, 3, 32), 1, 2),
    "8 channels": Layer((16, 8, 32, 32, 8), (16, 3, 3, 8), 1),
    "3-D": Layer((8, 2, 12, 16, 16, 4), (16, 3, 3, 3, 4), 1),
}


def medians(calls: dict[Any, Callable[[], Any]], rounds: int = ROUNDS) -> dict[Any, float]:
    """Nanoseconds of processor time, interleaved."""
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    order = list(calls)
    for _ in range(rounds):
        ORDERS.shuffle(order)
        for name in order:
            start = time.process_time_ns()
            calls[name]()
            times[name].append(time.process_time_ns() - start)
    return {name: statistics.median(some) for name, some in times.items()}


def by(way: choose.Way | None, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call, one way; None is the rule's."""

    def run() -> Any:
        with choose.force(way):
            return call()

    return run


def main() -> int:
    """Measure, print, fit."""
    parser = argparse.ArgumentParser(prog="python -m bench.sparsity.calibrate", description=__doc__)
    parser.add_argument("--layer", action="append", choices=list(LAYERS), help="measure this layer only (repeatable)")
    parser.add_argument("--float", action="store_true", help="spikes as float32 instead of bool")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    rows: dict[choose.Way, list[tuple[list[float], float]]] = {way: [] for way in choose.WAYS}
    print("layer        K  density   dense  events  tables    rule (ms)  dense/rule  rule/best")
    for name in args.layer or LAYERS:
        layer = LAYERS[name]
        w = (rng.standard_normal(layer.weight) * np.sqrt(2 / np.prod(layer.weight[1:]))).astype(np.float32)
        for chunk in layer.chunks:
            for density in DENSITIES if chunk == 1 else DENSITIES[:4]:
                x = rng.random(layer.spikes) < density
                x = x.astype(np.float32) if args.float else x
                frames = Frames(x, None if chunk == 1 else np.full(chunk, 1 / chunk, np.float32))
                shape = choose.shape_of(frames.shape, w.shape, layer.window())
                tabled = chunk == 1 and choose.can_tabulate(shape)
                ways: list[choose.Way] = ["dense", "events", *(["tables"] if tabled else [])]  # type: ignore[list-item]
                call = partial(layer.run, x, w, chunk)
                found = medians({way: by(way, call) for way in [*ways, None]})
                chunks = 1.0 - (1.0 - density) ** chunk
                neurons = float(shape.places * shape.width * chunk)
                summed = float(x.size) if chunk > 1 else 0.0
                for way in ways:
                    rows[way].append(([neurons, summed, *choose.amounts(shape, chunks)[way]], found[way]))
                texts = [f"{found[way] / 1e6:8.2f}" if way in found else " " * 8 for way in (*choose.WAYS, None)]
                best = min(found[way] for way in ways)
                gain = f"{found['dense'] / found[None]:12.2f}{found[None] / best:11.2f}"
                print(f"{name:12}{chunk:2}{density:9.2f}{''.join(texts)}{gain}", flush=True)
    print("prices, after the neurons' and the sums':")
    for way, some in rows.items():
        if some:
            matrix, times = np.array([row for row, _ in some]), np.array([spent for _, spent in some])
            scale, _ = nnls(matrix / times[:, None], np.ones(len(times)))
            errors = matrix @ scale / times
            text = ", ".join(f"{value:.3g}" for value in scale)
            print(f"{way:7} {text}   (fitted / measured: {errors.min():.2f} to {errors.max():.2f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
