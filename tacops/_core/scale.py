"""The numbers that a layer computes with: floats as they are given, or integers in units of reproducible mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .._backend.protocol import Array, Backend, State
from .aggregation import Weights, cast, chunk_weights, widen
from .grid import Grid, add_poison, check_inputs, check_units
from .kept import keep
from .layer import Layer
from .units import Units, aggregation_bits, layer_units, unit_weights

__all__ = ["Drive", "Scale", "in_floats", "in_units"]


class Scale(NamedTuple):
    """What potentials are computed in: floats as they are, or units of reproducible mode."""

    threshold: float | Array
    units: Units | None = None
    poison: Array | None = None

    def enter(self, backend: Backend, state: State | None) -> State | None:
        """Potentials as numbers."""
        units = self.units
        if units is None or state is None:
            return state
        return tuple(backend.round_through(x * units.per_one) for x in state)

    def leave(self, x: Array) -> Array:
        """Numbers as potentials; 0 has one sign, whatever the libraries round or sum it from."""
        if self.units is None:
            return add_poison(self.poison, x)
        return x * self.units.inverse + (0.0 if self.poison is None else self.poison)


class Drive(NamedTuple):
    """What drives the neurons of a layer, in its `Scale`."""

    weight: Array
    bias: Callable[[Array, float | Array], Array]
    """Of the given bias and the sum of the aggregation weights."""
    weights: Callable[[int], Weights]
    """Of the frames of a chunk."""


def in_floats(layer: Layer) -> tuple[Drive, Scale]:
    """Numbers of the default path: as given, but for aggregation weights, which are those of a sum."""
    backend = layer.backend
    aggregation, beta = layer.time.aggregation, widen(backend, layer.neurons.beta)
    aggregation = aggregation if isinstance(aggregation, str) else widen(backend, aggregation)

    def bias(bias: Array, total: float | Array) -> Array:
        if isinstance(total, float) and total == 1.0:
            return bias
        return cast(backend.namespace(bias), widen(backend, bias) * total, bias.dtype)

    drive = Drive(layer.weight, bias, weights=lambda size: chunk_weights(aggregation, size, beta))
    return drive, Scale(layer.neurons.threshold)


class _Rounded(NamedTuple):
    """A layer's parameters in its units, which no input changes."""

    units: Units
    weight: Array
    threshold: Array
    poison: Array | None
    biases: dict[float, Array]
    """By the sums of aggregation weights."""


def in_units(layer: Layer, grid: Grid, spikes: Array) -> tuple[Drive, Scale]:
    """Numbers of reproducible mode: integers on the layer's grid."""
    backend, weight = layer.backend, layer.weight
    beta, size, aggregation = layer.neurons.beta, layer.time.chunk_size, layer.time.aggregation
    q = aggregation_bits(grid, aggregation, size)
    rounded: _Rounded = keep(layer, grid, lambda: _round(layer, grid))
    units = rounded.units
    poison = add_poison(rounded.poison, check_inputs(layer.function, backend, grid, spikes, weight))

    def bias(bias: Array, total: float | Array) -> Array:
        known = rounded.biases.get(total) if isinstance(total, float) else None
        if known is None:
            known = backend.round_through(bias * (units.weight_scale * (total * (1.0 / grid.input_step))))
            if isinstance(total, float):
                rounded.biases.update({total: known})
        return known

    drive = Drive(rounded.weight, bias, lambda size: unit_weights(backend, aggregation, size, beta, q))
    return drive, Scale(rounded.threshold, units, poison)


def _round(layer: Layer, grid: Grid) -> _Rounded:
    backend, weight, time = layer.backend, layer.weight, layer.time
    units = layer_units(backend, grid, weight, layer.bias, time.aggregation, time.chunk_size, layer.neurons.beta)
    threshold = backend.round_through(units.per_one * layer.neurons.threshold)
    poison = check_units(layer.function, backend, grid, units.valid, threshold)
    rows = backend.namespace(weight).reshape(units.weight_scale, (-1, *(1 for _ in weight.shape[1:])))
    return _Rounded(units, backend.round_through(weight * rows), threshold, poison, {})
