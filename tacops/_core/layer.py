"""Validated layers: what ``arguments.py`` makes and ``run.py`` runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .._backend.protocol import Array, Backend, Window
from .options import How, Neurons, Time

__all__ = ["Driven", "Layer"]


@dataclass(frozen=True)
class Layer:
    """A validated layer, channels last."""

    function: str
    backend: Backend
    weight: Array
    bias: Array | None
    window: Window
    time: Time
    neurons: Neurons
    how: How

    @property
    def values(self) -> tuple[float | Array | None, ...]:
        """What may be arrays that are differentiated by, for `with_values`."""
        given = () if isinstance(self.time.aggregation, str) else self.time.aggregation
        return self.weight, self.bias, *self.neurons.values, *given

    def with_values(self, weight: Array, bias: Array | None, beta: Any, threshold: Any, synapse: Any, *a: Any) -> Layer:
        """The same layer of other `values`."""
        neurons = self.neurons.with_values(beta, threshold, synapse)
        time = replace(self.time, aggregation=a) if a else self.time
        return replace(self, weight=weight, bias=bias, neurons=neurons, time=time)

    def at(self, backend: Any, values: tuple[Any, ...], padding: tuple[tuple[int, int], ...] | None) -> Layer:
        """The same layer in another library, on frames with other borders: `Described.at`."""
        window = self.window if padding is None else replace(self.window, padding=padding)
        return replace(self.with_values(*values), backend=backend, window=window)


@dataclass(frozen=True)
class Driven:
    """Validated neurons without synapses, which hold every current for `repeat` steps."""

    function: str
    backend: Backend
    neurons: Neurons
    how: How
    repeat: int
    axis: int | None = None
    """Where a caller's channels are, if they were moved to the end."""

    def with_values(self, *values: Any) -> Driven:
        """The same neurons of other `Neurons.values`."""
        return replace(self, neurons=self.neurons.with_values(*values))

    @property
    def values(self) -> tuple[Any, ...]:
        """Those of its neurons."""
        return self.neurons.values

    def at(self, backend: Any, values: tuple[Any, ...], padding: tuple[tuple[int, int], ...] | None) -> Driven:
        """The same neurons in another library: `Described.at`."""
        return replace(self.with_values(*values), backend=backend)
