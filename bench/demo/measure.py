"""Run the demonstration's network on one backend: answers, spikes and speed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.shared.datasets import Labels
from bench.shared.model import MODES, Mode, Output, Trained, forward
from tacops.backends import Backend

ROUNDS = 5
PASS_SECONDS = (0.05, 0.3)
"""A timed pass is repeated up to the first length, and takes fewer batches where exact would exceed the second."""

REPRODUCIBLE = "reproducible"
"""Exact simulation in reproducible mode: its spikes are counted, and not timed."""

Batches = Sequence[NDArray[np.bool_]]
Tick = Callable[[str], None]


@dataclass(frozen=True)
class Answers:
    """What one mode answered: the classes (N,), and each batch's spikes of both layers, eight to a byte."""

    classes: NDArray[np.int64]
    spikes: list[NDArray[np.uint8]]
    neurons: int
    """Number of spike decisions, that is of neurons times frames times images, in the hidden layers."""

    def differing(self, other: Answers) -> int:
        """Count the spikes that differ from another backend's."""
        pairs = zip(self.spikes, other.spikes, strict=True)
        return sum(int(np.bitwise_count(mine ^ theirs).sum()) for mine, theirs in pairs)

    @property
    def fired(self) -> int:
        """Number of spikes in the hidden layers."""
        return sum(int(np.bitwise_count(batch).sum()) for batch in self.spikes)


@dataclass(frozen=True)
class DemoRow:
    """One row of the table; ``speedup`` is over exact on the same backend, ``differing`` against NumPy."""

    backend: str
    version: str
    device: str
    precision: str
    mode: str
    accuracy: float
    images_per_second: float
    speedup: float
    spikes: int
    decisions: int
    differing: int
    timed_images: int
    seconds: list[float] = field(repr=False)
    """Each timed repeat's time for ``timed_images`` images."""


class Network:
    """The network in all modes on one backend, its input already there."""

    def __init__(self, backend: Backend, trained: Trained, batches: Batches) -> None:
        self.backend = backend
        self.batches = [backend.from_numpy(batch) for batch in batches]
        self.device = ""
        """Read from the last answer."""
        self.run = {name: self._compile(mode, trained) for name, mode in MODES.items()}
        self.run[REPRODUCIBLE] = self._compile(MODES["exact"], trained, reproducible=True)

    def _compile(self, mode: Mode, trained: Trained, *, reproducible: bool = False) -> Callable[[object], Output]:
        weights = {name: self.backend.from_numpy(array) for name, array in trained.parameters[mode.name].items()}
        xp = self.backend.namespace(self.batches[0])

        def network(frames: Any) -> tuple[Any, ...]:
            return tuple(forward(weights, frames, mode, xp, reproducible=reproducible))

        # torch.compile takes longer than everything else here, and gives up on the modes' different numbers of frames
        call = self.backend.compile(network) if self.backend.compiles_fast else network

        def run(frames: object) -> Output:
            output = Output(*call(frames))
            self.backend.synchronize(*output)
            return output

        return run

    def answer(self, mode: str, tick: Callable[[], None]) -> Answers:
        """Classify all batches, calling ``tick`` after each."""
        classes, spikes, neurons = [], [], 0
        for batch in self.batches:
            output = self.run[mode](batch)
            self.device = self.backend.device_name(output.logits)
            classes.append(np.argmax(self.backend.to_numpy(output.logits), axis=-1))
            for layer in (output.spikes1, output.spikes2):
                fired = self.backend.to_numpy(layer) != 0
                spikes.append(np.packbits(fired))
                neurons += fired.size
            tick()
        return Answers(np.concatenate(classes), spikes, neurons)

    def seconds(self, mode: str, batches: int, passes: int) -> float:
        """Time ``passes`` passes over the first ``batches`` batches; the mean time of one pass."""
        run, chosen = self.run[mode], self.batches[:batches]
        start = time.perf_counter()
        for _ in range(passes):
            for batch in chosen:
                run(batch)
        return (time.perf_counter() - start) / passes

    def timings(self, tick: Tick) -> tuple[int, dict[str, list[float]]]:
        """Time all modes in turn, ``ROUNDS`` times; compiled and warmed up before.

        Returns
        -------
        batches : int
            How many batches one pass has.
        seconds : dict
            For each mode the time of a pass in each round.
        """
        estimates = {mode: self.seconds(mode, 1, 1) for mode in MODES}
        shortest, longest = PASS_SECONDS
        batches = min(len(self.batches), max(1, int(longest / estimates["exact"])))
        passes = {mode: max(1, math.ceil(shortest / (batches * one))) for mode, one in estimates.items()}
        seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
        for _ in range(ROUNDS):
            for mode, times in seconds.items():
                times.append(self.seconds(mode, batches, passes[mode]))
                tick(f"{self.backend.name}: timing")
        return batches, seconds


def reference(network: Network, tick: Tick) -> dict[str, Answers]:
    """Compute all modes' answers on the backend that the others are compared with."""
    return {mode: network.answer(mode, partial(tick, "numpy: reference spikes")) for mode in MODES}


def measure(network: Network, expected: Mapping[str, Answers], labels: Labels, tick: Tick) -> list[DemoRow]:
    """Run every mode on one backend: its accuracy, its spikes against ``expected``, and its speed."""
    backend = network.backend
    answers = {}
    for name, mode in MODES.items():
        answers[name] = network.answer(name, partial(tick, f"{backend.name}: {mode.label}"))
    batches, seconds = network.timings(tick)
    timed = sum(batch.shape[1] for batch in network.batches[:batches])
    median = {name: statistics.median(times) for name, times in seconds.items()}
    about = backend.describe()
    return [
        DemoRow(
            backend=backend.name,
            version=about["version"],
            device=network.device,
            precision=about["precision"],
            mode=name,
            accuracy=float(np.mean(answer.classes == labels)),
            images_per_second=timed / median[name],
            speedup=median["exact"] / median[name],
            spikes=answer.fired,
            decisions=answer.neurons,
            differing=answer.differing(expected[name]),
            timed_images=timed,
            seconds=seconds[name],
        )
        for name, answer in answers.items()
    ]


def reproducible(network: Network, tick: Tick) -> Answers:
    """Simulate exactly, in reproducible mode."""
    return network.answer(REPRODUCIBLE, partial(tick, f"{network.backend.name}: reproducible"))


def ticks(batches: int) -> int:
    """Count the calls of ``tick`` that `measure` and `reproducible` make."""
    return len(MODES) * (batches + ROUNDS) + batches
