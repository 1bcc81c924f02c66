"""A layer's run: chunks of frames through synapses and neurons, by the backend's schedule.

The operators validate and describe a layer; this file knows how its two functions, `Convolve` and `LIFStep`, follow from
that description, in plain floats or in reproducible units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from ._aggregate import Weights, cast, chunk_weights, decay_power, is_one, segments
from ._convolve import Convolve
from ._grid import (
    Grid,
    Units,
    add_poison,
    aggregation_bits,
    check_inputs,
    check_units,
    current_units,
    layer_units,
    round_weights,
)
from ._lif import LIFStep
from ._protocol import Array, Backend, Window
from ._remat import run_in_parts

__all__ = ["Driven", "Layer", "Neurons", "SpikeTrain", "run_currents", "run_layer"]


class SpikeTrain(NamedTuple):
    """What a layer of neurons answers.

    Parameters
    ----------
    spikes : array
        0 and 1, in the computing dtype, time first.
    membrane : array
        Membrane potential after the last step and its reset; pass it on as ``membrane=`` to continue the simulation.
    """

    spikes: Array
    membrane: Array


@dataclass(frozen=True)
class Neurons:
    """Parameters of the LIF neurons."""

    beta: float | Array
    threshold: float | Array
    reset: str
    surrogate: Callable[[Array], Array] | None
    compact: bool


@dataclass(frozen=True)
class Layer:
    """A validated layer, channels last."""

    function: str
    backend: Backend
    weight: Array
    bias: Array | None
    window: Window
    chunk_size: int
    preserve: bool
    aggregation: str | Weights
    neurons: Neurons
    grid: Grid | None
    remat: bool

    @property
    def values(self) -> tuple[float | Array | None, ...]:
        """What may be arrays that are differentiated by, for `with_values`."""
        given = () if isinstance(self.aggregation, str) else self.aggregation
        return self.weight, self.bias, self.neurons.beta, self.neurons.threshold, *given

    def with_values(self, weight: Array, bias: Array | None, beta: Any, threshold: Any, *given: Any) -> Layer:
        """The same layer of other `values`."""
        neurons = replace(self.neurons, beta=beta, threshold=threshold)
        return replace(self, weight=weight, bias=bias, neurons=neurons, aggregation=given or self.aggregation)


@dataclass(frozen=True)
class Driven:
    """Validated neurons without synapses."""

    function: str
    backend: Backend
    neurons: Neurons
    grid: Grid | None
    repeat: int
    remat: bool

    def with_values(self, beta: Any, threshold: Any) -> Driven:
        """The same neurons of other parameters."""
        return replace(self, neurons=replace(self.neurons, beta=beta, threshold=threshold))


class _Numbers(NamedTuple):
    """A layer's numbers, as floats or in units: where the two ways to compute meet."""

    weight: Array
    bias: Callable[[Array, float | Array], Array]
    """Of the given bias and the sum of the aggregation weights."""
    weights: Callable[[int], Weights]
    threshold: float | Array
    units: Units | None
    poison: Array | None


def run_layer(layer: Layer, spikes: Array, membrane: Array | None) -> SpikeTrain:
    """Simulate `layer` on spikes (T, B, *S, C_in) from `membrane`, or from zero."""
    with layer.backend.ambient():
        if not (layer.remat and layer.backend.differentiable):
            return _run_frames(layer, spikes, membrane)
        run = partial(_run_frames_with, layer.with_values(*map(_plain, layer.values)))
        return SpikeTrain(*run_in_parts(layer.backend, run, spikes, membrane, layer.values, layer.chunk_size))


def run_currents(driven: Driven, current: Array, membrane: Array | None) -> SpikeTrain:
    """Simulate neurons alone on currents (T, B, ..., C)."""
    backend, neurons = driven.backend, driven.neurons
    values = neurons.beta, neurons.threshold
    with backend.ambient():
        if not (driven.remat and backend.differentiable):
            return _run_currents(driven, current, membrane)
        run = partial(_run_currents_with, driven.with_values(*map(_plain, values)))
        return SpikeTrain(*run_in_parts(backend, run, current, membrane, values, 1))


def _plain(value: Any) -> Any:
    """A value that a part is given anew left out, so that parts of equal layers are equal, whatever arrays they hold."""
    return None if hasattr(value, "shape") else value


def _run_frames_with(layer: Layer, spikes: Array, membrane: Array | None, *values: Any) -> SpikeTrain:
    return _run_frames(layer.with_values(*values), spikes, membrane)


def _run_currents_with(driven: Driven, current: Array, membrane: Array | None, *values: Any) -> SpikeTrain:
    return _run_currents(driven.with_values(*values), current, membrane)


def _run_frames(layer: Layer, spikes: Array, membrane: Array | None) -> SpikeTrain:
    """`run_layer` in one piece."""
    backend = layer.backend
    xp = backend.namespace(spikes)
    numbers = _float_numbers(layer) if layer.grid is None else _unit_numbers(layer, layer.grid, spikes)
    if layer.grid is not None and layer.grid.input_step != 1.0:
        spikes = cast(xp, spikes, layer.weight.dtype) * (1.0 / layer.grid.input_step)  # exact
    membrane = _enter(backend, numbers.units, membrane)
    trains = []
    for start, stop, size in segments(spikes.shape[0], layer.chunk_size):
        part = spikes if stop - start == spikes.shape[0] else spikes[start:stop, ...]
        train, membrane = _run_segment(layer, numbers, part, size, membrane)
        trains.append(train)
    train = trains[0] if len(trains) == 1 else xp.concat(trains, axis=0)
    return SpikeTrain(train, _leave(numbers.units, numbers.poison, membrane))


def _run_currents(driven: Driven, current: Array, membrane: Array | None) -> SpikeTrain:
    """`run_currents` in one piece."""
    backend, neurons, grid = driven.backend, driven.neurons, driven.grid
    units, poison, threshold = None, None, neurons.threshold
    if grid is not None:
        units = current_units(backend, grid, current, threshold)
        threshold = backend.round_through(units.per_one * threshold)
        poison = check_units(driven.function, backend, grid, units, threshold)
        current = backend.round_through(current * units.per_one)
    step = _step(backend, neurons, neurons.beta, threshold, units, poison)
    spikes, after = backend.scan(step, current, _enter(backend, units, membrane), driven.repeat)
    return SpikeTrain(spikes, _leave(units, poison, after))


def _run_segment(
    layer: Layer, numbers: _Numbers, spikes: Array, size: int, membrane: Array | None
) -> tuple[Array, Array]:
    """Run whole chunks of `size` frames."""
    backend, beta = layer.backend, layer.neurons.beta
    weights = numbers.weights(size)
    conv = Convolve(
        backend,
        layer.window,
        numbers.weight,
        None if layer.bias is None else numbers.bias(layer.bias, _total(weights)),
        None if is_one(weights) else tuple(weights),
        exact=layer.grid is not None,
    )
    decay = beta if layer.preserve else decay_power(beta, size)
    step = _step(backend, layer.neurons, decay, numbers.threshold, numbers.units, numbers.poison)
    return backend.schedule(conv, step, spikes, membrane, size if layer.preserve else 1)


def _step(
    backend: Backend,
    neurons: Neurons,
    decay: float | Array,
    threshold: float | Array,
    units: Units | None,
    poison: Array | None,
) -> LIFStep:
    """`neurons` with the decay of this segment and the threshold in its units."""
    return LIFStep(
        backend,
        decay,
        threshold,
        neurons.reset,
        neurons.surrogate,
        rounded=units is not None,
        poison=poison,
        unit=None if units is None else units.inverse,
        compact=neurons.compact,
    )


def _total(weights: Weights) -> float | Array:
    return sum(weights[1:], weights[0])


def _float_numbers(layer: Layer) -> _Numbers:
    """Numbers of the default path: as given."""
    beta = layer.neurons.beta
    return _Numbers(
        weight=layer.weight,
        bias=lambda bias, total: bias if isinstance(total, float) and total == 1.0 else bias * total,
        weights=lambda size: chunk_weights(layer.aggregation, size, beta),
        threshold=layer.neurons.threshold,
        units=None,
        poison=None,
    )


def _unit_numbers(layer: Layer, grid: Grid, spikes: Array) -> _Numbers:
    """Numbers of reproducible mode: integers on the layer's grid."""
    backend, weight = layer.backend, layer.weight
    beta, threshold = layer.neurons.beta, layer.neurons.threshold
    xp = backend.namespace(weight)
    q = aggregation_bits(grid, layer.aggregation, layer.chunk_size)
    units = layer_units(backend, grid, weight, layer.bias, layer.aggregation, layer.chunk_size, beta)
    level = backend.round_through(units.per_one * threshold)
    poison = check_units(layer.function, backend, grid, units, level)
    poison = add_poison(poison, check_inputs(layer.function, backend, grid, spikes, weight))
    return _Numbers(
        weight=backend.round_through(weight * xp.reshape(units.weight_scale, (-1, *(1 for _ in weight.shape[1:])))),
        bias=lambda bias, total: backend.round_through(bias * (units.weight_scale * (total * (1.0 / grid.input_step)))),
        weights=lambda size: round_weights(backend, chunk_weights(layer.aggregation, size, beta), q),
        threshold=level,
        units=units,
        poison=poison,
    )


def _enter(backend: Backend, units: Units | None, membrane: Array | None) -> Array | None:
    """A membrane potential in units."""
    return membrane if units is None or membrane is None else backend.round_through(membrane * units.per_one)


def _leave(units: Units | None, poison: Array | None, membrane: Array) -> Array:
    """A membrane in units as a potential."""
    return add_poison(poison, membrane if units is None else membrane * units.inverse)
