"""The numbers that a layer computes with: floats as they are given, or integers in units of reproducible mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import NamedTuple

from .._backend.protocol import Array, Backend, State
from .._backend.steps import Due
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

    def leave(self, backend: Backend, x: Array, alone: bool = True) -> Array:
        """Numbers as potentials; 0 has one sign, whatever the libraries round or sum it from.

        Nobody needs `x` any more, if it is `alone` in its memory.
        """
        if self.units is None:
            return add_poison(self.poison, x)
        if self.poison is None and alone:
            return backend.rescale(x, self.units.inverse)
        return x * self.units.inverse + (0.0 if self.poison is None else self.poison)


class Drive(NamedTuple):
    """What drives the neurons of a layer, in its `Scale`."""

    weight: Array
    bias: Callable[[Array, float | Array], Array]
    """Of the given bias and the sum of the aggregation weights."""
    weights: Callable[[int], Weights]
    """Of the frames of a chunk."""
    due: Due | None = None
    """What is still to be checked of the frames."""


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


def in_units(layer: Layer, grid: Grid, spikes: Array, scheduled: bool) -> tuple[Drive, Scale]:
    """Numbers of reproducible mode: integers on the layer's grid; if they are `scheduled`, the backend may check the spikes."""
    backend, weight = layer.backend, layer.weight
    beta, size, aggregation = layer.neurons.beta, layer.time.chunk_size, layer.time.aggregation
    q = aggregation_bits(grid, aggregation, size)
    rounded: _Rounded = keep(layer, grid, lambda: _round(layer, grid))
    units = rounded.units

    def check() -> Array | None:
        return check_inputs(layer.function, backend, grid, spikes, weight)

    readable = rounded.poison is None  # the units were
    late = readable and scheduled and size == 1 and grid.input_step == 1.0 and backend.reads_frames(spikes)
    poison = rounded.poison if late else add_poison(rounded.poison, check())

    def bias(bias: Array, total: float | Array) -> Array:
        known = rounded.biases.get(total) if isinstance(total, float) else None
        if known is None:
            known = backend.round_through(bias * (units.weight_scale * (total * (1.0 / grid.input_step))))
            if isinstance(total, float):
                rounded.biases.update({total: known})
        return known

    due = Due(grid.input_max, check) if late else None
    drive = Drive(rounded.weight, bias, lambda size: unit_weights(backend, aggregation, size, beta, q), due)
    return drive, Scale(rounded.threshold, units, poison)


def _round(layer: Layer, grid: Grid) -> _Rounded:
    lent = layer.backend.lends(layer.values)
    if lent is None:
        return _round_here(layer, grid)
    backend, values, back = lent
    with backend.undisturbed():
        there = _round_here(replace(layer.with_values(*values), backend=backend), grid)
    units = Units(*(back(getattr(there.units, each.name)) for each in fields(Units)))
    return _Rounded(units, back(there.weight), back(there.threshold), there.poison, {})


def _round_here(layer: Layer, grid: Grid) -> _Rounded:
    backend, weight, time = layer.backend, layer.weight, layer.time
    units = layer_units(backend, grid, weight, layer.bias, time.aggregation, time.chunk_size, layer.neurons.beta)
    threshold = backend.round_through(units.per_one * layer.neurons.threshold)
    poison = check_units(layer.function, backend, grid, units.valid, threshold)
    return _Rounded(units, backend.round_rows(weight, units.weight_scale), threshold, poison, {})
