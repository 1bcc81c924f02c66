"""The map's trainings in PyTorch, which trains large networks sooner than JAX on CPUs: see the training steps of docs/speed.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bench.accuracy.map import network
from bench.accuracy.map.conditions import Condition
from bench.accuracy.tasks import Spikes
from bench.shared.model import Mode


class Training:
    """See `bench.accuracy.map.train.Training`."""

    def __init__(self, condition: Condition, mode: Mode, steps: int, weights: Mapping[str, Any]) -> None:
        self.condition, self.mode, self.derivative = condition, mode, network.surrogate(condition)
        self.weights = {name: torch.tensor(array, requires_grad=True) for name, array in weights.items()}
        self.optimiser = torch.optim.Adam(self.weights.values(), lr=condition.learning_rate, foreach=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, steps)
        self.statistics: Any = None

    def step(self, frames: Spikes, labels: NDArray[np.int32]) -> float:
        """One step of Adam; the batch's mean loss."""
        self.optimiser.zero_grad()
        loss = functional.cross_entropy(self._run(frames)[0], torch.tensor(labels, dtype=torch.int64))
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        return float(loss.item())

    def settle(self, frames: Spikes) -> None:
        """Normalise by the statistics of these frames from now on."""
        with torch.no_grad():
            self.statistics = self._run(frames)[1]

    def classify(self, frames: Spikes) -> NDArray[Any]:
        """The most likely class of each sample."""
        with torch.no_grad():
            return np.asarray(self._run(frames)[0].argmax(-1))

    def _run(self, frames: Spikes) -> tuple[torch.Tensor, Any]:
        spikes, given = torch.from_numpy(frames), self.statistics
        return network.logits(self.weights, spikes, self.condition, self.mode, given, self.derivative, batch_norm)


def start(condition: Condition, mode: Mode, steps: int, weights: Mapping[str, NDArray[np.float32]]) -> Training:
    """Begin a training of so many steps."""
    return Training(condition, mode, steps, weights)


def batch_norm(
    current: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, statistics: Any
) -> tuple[torch.Tensor, Any]:
    """As `network.batch_norm`, by PyTorch's own, which is one operation."""
    flat = current.reshape(-1, current.shape[-1])
    mean, variance = statistics or (torch.zeros_like(bias), torch.ones_like(bias))
    out = functional.batch_norm(flat, mean, variance, gain, bias, statistics is None, 1.0, network.EPSILON)
    if statistics is None:
        variance = variance * ((len(flat) - 1) / len(flat))  # PyTorch keeps the unbiased one
    return out.reshape(current.shape), (mean.detach(), variance.detach())
