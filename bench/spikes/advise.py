"""How often `advise` is wrong where the rate is constant, and how small a change it sees: simulated, with plots."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.shared.files import DAMAGE, OutputError, check_figure, check_output, write_whole
from bench.shared.machine import machine
from bench.shared.results import ResultError, fault, read_content
from bench.spikes import advise_cost
from bench.spikes.motions import DENSITIES, SPEEDS, MotionPower, motion_power
from tacops._advise.advise import advise

Spikes = NDArray[Any]
Generator = np.random.Generator
LEVELS = (0.01, 0.05)
DEFAULTS = (1000, 100, 50, 0)
"""Draws of stationary codes, of changing ones, of moving dots; the seed."""

# T, batch, height = width, greatest rate of a pixel
SIZES = (
    (3, 8, 12, 0.5),
    (4, 1, 28, 0.5),
    (4, 8, 12, 0.5),
    (5, 4, 8, 0.2),
    (8, 1, 28, 0.3),
    (8, 4, 8, 0.02),
    (16, 1, 8, 0.1),
    (16, 1, 28, 0.9),
    (16, 8, 12, 0.02),
    (16, 8, 28, 0.3),
    (33, 4, 12, 0.1),
    (64, 1, 8, 0.5),
)


def rates(rng: Generator, shape: Sequence[int], highest: float) -> NDArray[np.float64]:
    """Of every pixel one, uniform in [0, highest]."""
    return rng.random(shape) * highest


def bernoulli(rng: Generator, T: int, rate: NDArray[np.float64]) -> Spikes:
    """Independent 0/1 spikes."""
    return (rng.random((T, *rate.shape)) < rate).astype(np.float32)


def poisson(rng: Generator, T: int, rate: NDArray[np.float64]) -> Spikes:
    """Independent counts of equal mean and variance."""
    return rng.poisson(rate, (T, *rate.shape)).astype(np.float32)


def bursts(rng: Generator, T: int, rate: NDArray[np.float64]) -> Spikes:
    """Independent counts whose variance is far above their mean."""
    return 5 * bernoulli(rng, T, rate / 5)


def shared_gain(rng: Generator, T: int, rate: NDArray[np.float64]) -> Spikes:
    """Counts whose rates all go up and down together, at random from frame to frame: pixels are not independent."""
    return rng.poisson(rate * rng.gamma(4, 0.25, (T, rate.shape[0], 1, 1, 1))).astype(np.float32)


def hot_pixel(rng: Generator, T: int, rate: NDArray[np.float64]) -> Spikes:
    """Poisson counts with one pixel that fires a hundred times per frame."""
    rate = rate.copy()
    rate[:, 0, 0] = 100
    return poisson(rng, T, rate)


def neighbours(rng: Generator, T: int, rate: NDArray[np.float64]) -> Spikes:
    """Spots of 2 x 2 pixels, somewhere else in every frame: pixels spike together with their neighbours."""
    seeds = bernoulli(rng, T, rate / 4)
    for axis in (2, 3):
        seeds = np.maximum(seeds, np.roll(seeds, 1, axis))
    return seeds


def hot_pixels(rng: Generator, T: int, rate: NDArray[np.float64]) -> Spikes:
    """Poisson counts, of which one pixel in twenty has twenty times the rate."""
    return poisson(rng, T, rate * np.where(rng.random(rate.shape) < 0.05, 20, 1))


CODES: dict[str, Callable[[Generator, int, NDArray[np.float64]], Spikes]] = {
    "Bernoulli": bernoulli,
    "Poisson": poisson,
    "bursts of 5": bursts,
    "shared gain": shared_gain,
    "hot pixel": hot_pixel,
    "neighbours": neighbours,
    "hot pixels": hot_pixels,
}


@dataclass(frozen=True)
class FalseAlarms:
    """Of one stationary code: how often a change was found where there is none."""

    code: str
    T: int
    batch: int
    side: int
    rate: float
    draws: int
    alarms: dict[float, int]
    """p-values at most this level."""
    preserve: int
    """Answers "preserve" at significance 0.01."""

    def within_error(self, level: float, deviations: float = 3.0) -> bool:
        """Whether the count is at most what the level allows, and binomial error."""
        mean = self.draws * level
        return self.alarms[level] <= mean + deviations * math.sqrt(mean * (1 - level))


@dataclass(frozen=True)
class Power:
    """Of one size and one change: how often it was found."""

    T: int
    batch: int
    side: int
    rate: float
    change: float
    """Share of the signal's energy that changes."""
    draws: int
    found: int


def false_alarms(code: str, size: tuple[int, int, int, float], draws: int, seed: int) -> FalseAlarms:
    """Draw a stationary code `draws` times, each with new rates and a new seed of the permutations."""
    T, batch, side, highest = size
    rng = np.random.default_rng([seed, T, batch, side, int(1000 * highest), list(CODES).index(code)])
    p_values, preserve = [], 0
    for n in range(draws):
        advice = advise(CODES[code](rng, T, rates(rng, (batch, side, side, 1), highest)), seed=n)
        p_values.append(advice.p_value)
        preserve += advice.mode == "preserve"
    alarms = {level: sum(p <= level for p in p_values) for level in LEVELS}
    return FalseAlarms(code, T, batch, side, highest, draws, alarms, preserve)


def drifting(rng: Generator, T: int, rate: NDArray[np.float64], change: float) -> Spikes:
    """Bernoulli spikes whose rates rise or fall linearly, by 4 x 4 neighbourhoods at random.

    A drift from ``r (1 - m)`` to ``r (1 + m)`` has the share ``a / (1 + a)`` of its energy in the change, with
    ``a = m^2 (T + 1) / (3 (T - 1))``.
    """
    m = math.sqrt(3 * change / (1 - change) * (T - 1) / (T + 1))
    batch, side = rate.shape[:2]
    sign = np.kron(rng.choice([-1.0, 1.0], (batch, -(-side // 4), -(-side // 4))), np.ones((4, 4)))
    slope = np.linspace(-m, m, T)[:, None, None, None] * sign[:, :side, :side]
    return (rng.random((T, *rate.shape)) < rate * (1 + slope[..., None])).astype(np.float32)


def power(T: int, batch: int, side: int, rate: float, change: float, draws: int, seed: int) -> Power:
    """Count how often a change of this size is found at significance 0.01."""
    rng = np.random.default_rng([seed, T, batch, side, int(1e6 * change)])
    found = 0
    for n in range(draws):
        spikes = drifting(rng, T, rates(rng, (batch, side, side, 1), rate), change)
        found += advise(spikes, seed=n).p_value <= 0.01
    return Power(T, batch, side, rate, change, draws, found)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    draws, power_draws, motion_draws, seed = DEFAULTS
    parser.add_argument("--draws", type=int, default=draws, help=f"draws of every stationary code (default {draws})")
    parser.add_argument(
        "--power-draws", type=int, default=power_draws, help=f"draws of every changing code (default {power_draws})"
    )
    parser.add_argument(
        "--motion-draws",
        type=int,
        default=motion_draws,
        help=f"draws of moving dots of every kind (default {motion_draws})",
    )
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all counts into this file")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="draw all into this .svg or .png file")
    parser.add_argument("--redraw", type=Path, metavar="FILE", help="simulate nothing: draw what --json wrote")
    parser.add_argument(
        "--cost",
        type=int,
        nargs="?",
        const=51,
        metavar="ROUNDS",
        help="simulate nothing: time advise beside one exact layer (default 51 rounds), on a machine that is idle otherwise",
    )


def main(args: argparse.Namespace) -> int:
    """Simulate, print the tables; 1 if there are more false alarms than binomial error allows."""
    check_output(args.json)
    check_figure(args.plot)
    if args.cost is not None:
        simulation = (args.draws, args.power_draws, args.motion_draws, args.seed) != DEFAULTS
        if args.plot or args.redraw or simulation or args.cost < 1:
            print("python -m bench advise: --cost takes at least 1 round, and no option but --json", file=sys.stderr)
            return 2
        return advise_cost.run(args.cost, args.json)
    if args.redraw:
        if args.json:
            print("python -m bench advise: --redraw simulates nothing that --json could write", file=sys.stderr)
            return 2
        return redraw(args.redraw, args.plot)
    if args.plot and not (args.draws or args.power_draws or args.motion_draws):
        print("python -m bench advise: --plot needs draws of something", file=sys.stderr)
        return 2
    started = time.perf_counter()
    alarms = simulate_false_alarms(args.draws, args.seed) if args.draws else []
    powers = simulate_power(args.power_draws, args.seed) if args.power_draws else []
    motions = simulate_motion(args.motion_draws, args.seed) if args.motion_draws else []
    print(f"{time.perf_counter() - started:.0f} s, seed {args.seed}")
    found: dict[str, Any] = {"machine": machine(), "seconds": round(time.perf_counter() - started), "seed": args.seed}
    for name, part in (("false_alarms", alarms), ("power", powers), ("motion", motions)):
        found[name] = [asdict(one) for one in part]
    if args.json:
        write_whole(args.json, (json.dumps(found, indent=1) + "\n").encode())
    if args.plot:
        from bench.spikes.pictures import save_advise

        save_advise(found, args.plot)
        print(f"drawn into {args.plot}")
    for level in LEVELS if alarms else ():
        total, draws = sum(a.alarms[level] for a in alarms), sum(a.draws for a in alarms)
        print(f"p <= {level:g}: {total:,} of {draws:,} draws ({total / draws:.4f})")
    excessive = [a for a in alarms for level in LEVELS if not a.within_error(level, 4.0)]
    for a in excessive:
        print(f"too many false alarms: {a}", file=sys.stderr)
    return 1 if excessive else 0


def redraw(stored: Path, plot: Path | None) -> int:
    """Draw a stored simulation."""
    if plot is None:
        print("python -m bench advise: --redraw needs --plot OUT", file=sys.stderr)
        return 2
    from bench.spikes.pictures import save_advise

    try:
        found = read_content(stored)
        try:
            save_advise(found, plot)
        except OutputError:
            raise
        except DAMAGE as error:
            raise ResultError(f"{stored} can't be drawn: {fault(error)}") from error
    except ResultError as error:
        print(f"python -m bench advise: {error}", file=sys.stderr)
        return 2
    print(f"drawn into {plot}")
    return 0


def simulate_false_alarms(draws: int, seed: int) -> list[FalseAlarms]:
    """Bernoulli and Poisson codes of all sizes, the others of a few."""
    print("code          T  batch  size   rate   p<=0.01  p<=0.05  preserve")
    found = []
    for code in CODES:
        for size in SIZES if code in ("Bernoulli", "Poisson") else SIZES[2::5]:
            a = false_alarms(code, size, draws, seed)
            found.append(a)
            shares = "".join(f"{a.alarms[level] / draws:9.4f}" for level in LEVELS)
            print(f"{code:11}{a.T:4}{a.batch:7}{a.side:6}{a.rate:7.2f}{shares}{a.preserve / draws:10.4f}", flush=True)
    return found


MOTION_SIZES = ((8, 16), (8, 28), (1, 28))
CHANGES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def simulate_power(draws: int, seed: int) -> list[Power]:
    """Growing changes for growing inputs, T = 16, rates up to 0.3; and the same for shorter windows."""
    print("detected share of drifts by the share of the signal's energy that changes")
    print("  T  batch  size" + "".join(f"{change:>7g}" for change in CHANGES))
    found = []
    for T, batch, side in ((16, 1, 8), (16, 1, 16), (16, 1, 28), (16, 8, 28), (16, 32, 28), (8, 8, 28), (4, 8, 28)):
        row = [power(T, batch, side, 0.3, change, draws, seed) for change in CHANGES]
        found += row
        print(f"{T:3}{batch:7}{side:6}" + "".join(f"{p.found / draws:7.2f}" for p in row), flush=True)
    return found


def simulate_motion(draws: int, seed: int) -> list[MotionPower]:
    """Dots of one pixel, a quarter of all spikes, by density and speed."""
    print("detected share of moving dots of one pixel, a tenth of all spikes, by spikes per pixel")
    print("batch  size  pixels per frame" + "".join(f"{density:>8g}" for density in DENSITIES))
    found = []
    for batch, side in MOTION_SIZES:
        for speed in SPEEDS:
            row = [motion_power(batch, side, density, speed, draws, seed) for density in DENSITIES]
            found += row
            shares = "".join(f"{p.found / draws:8.2f}" for p in row)
            print(f"{batch:5}{side:6}{speed:18g}{shares}", flush=True)
    return found
