"""A layer's run: chunks of frames through synapses and neurons, by the backend's schedule.

The operators validate and describe a layer; this file knows how its two functions, `Convolve` and `LIFStep`, follow from
that description, in plain floats or in reproducible units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from .._backend.protocol import Array, Backend, Window
from .aggregation import Weights, cast, chunk_weights, decay_power, is_one, segments, widen
from .grid import (
    Grid,
    Units,
    add_poison,
    aggregation_bits,
    check_inputs,
    check_units,
    current_units,
    layer_units,
    unit_weights,
)
from .lengths import run_ragged
from .neurons import LIFStep
from .remat import run_in_parts
from .synapses import Convolve

__all__ = [
    "Driven",
    "Layer",
    "Neurons",
    "SpikeTrain",
    "TracedSpikeTrain",
    "decay_of",
    "remap",
    "run_currents",
    "run_layer",
]


class SpikeTrain(NamedTuple):
    """What a layer of neurons returns.

    Parameters
    ----------
    spikes : array
        0 and 1, in the computing dtype, time first.
    membrane : array
        Membrane potential after the last step and its reset; pass it on as ``membrane=`` to continue the simulation.
    """

    spikes: Array
    membrane: Array

    @property
    def trace(self) -> Array:
        """The membrane of every step, of a layer called with ``trace=True``."""
        raise AttributeError("SpikeTrain: trace is kept by a call with trace=True only")


class TracedSpikeTrain(NamedTuple):
    """What a layer of neurons returns with ``trace=True``: a `SpikeTrain` and the membrane of every step.

    Parameters
    ----------
    spikes, membrane : array
        As of `SpikeTrain`.
    trace : array
        Membrane potential after every step and its reset, one for each frame of `spikes`; the last is `membrane`.
    """

    spikes: Array
    membrane: Array
    trace: Array


def remap(train: SpikeTrain, over_time: Callable[[Array], Array], over_space: Callable[[Array], Array]) -> SpikeTrain:
    """A train whose arrays with time, and whose membrane, are laid out anew."""
    if isinstance(train, TracedSpikeTrain):
        return train._replace(
            spikes=over_time(train.spikes), membrane=over_space(train.membrane), trace=over_time(train.trace)
        )
    return SpikeTrain(over_time(train.spikes), over_space(train.membrane))


@dataclass(frozen=True)
class Neurons:
    """Parameters of the LIF neurons, and what is kept of them."""

    beta: float | Array
    threshold: float | Array
    reset: str
    surrogate: Callable[[Array], Array] | None
    compact: bool
    detach_reset: bool
    trace: bool

    @property
    def traced(self) -> Neurons:
        """The same neurons, whose membranes are kept."""
        return replace(self, trace=True)


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


def run_layer(layer: Layer, spikes: Array, membrane: Array | None, lengths: Array | None = None) -> SpikeTrain:
    """Simulate `layer` on spikes (T, B, *S, C_in) from `membrane`, or from zero; of each sample, its length of frames."""
    if lengths is None:
        return _unstacked(layer.backend, layer.neurons, _run_layer(layer, spikes, membrane))
    traced = replace(layer, neurons=layer.neurons.traced)
    size = min(layer.chunk_size, spikes.shape[0] + 1)  # a longer chunk is never whole either

    def run(spikes: Array, membrane: Array | None) -> Array:
        return _run_layer(traced, spikes, membrane)[0]

    def steps(frames: Any) -> Any:
        return frames if layer.preserve else (frames + (size - 1)) // size

    return _ragged(layer.backend, layer.neurons, run, spikes, membrane, lengths, size, steps)


def run_currents(driven: Driven, current: Array, membrane: Array | None, lengths: Array | None = None) -> SpikeTrain:
    """Simulate neurons alone on currents (T, B, ..., C)."""
    if lengths is None:
        return _unstacked(driven.backend, driven.neurons, _run_driven(driven, current, membrane))
    traced = replace(driven, neurons=driven.neurons.traced)

    def run(current: Array, membrane: Array | None) -> Array:
        return _run_driven(traced, current, membrane)[0]

    def steps(frames: Any) -> Any:
        return frames * driven.repeat

    return _ragged(driven.backend, driven.neurons, run, current, membrane, lengths, 1, steps)


def _run_layer(layer: Layer, spikes: Array, membrane: Array | None) -> tuple[Array, Array]:
    """Spikes, or with `Neurons.trace` spikes and membranes (steps, 2, ...), and the last membrane."""
    if not (layer.remat and layer.backend.differentiable):
        return _run_frames(layer, spikes, membrane)

    run = partial(_run_frames_with, layer.with_values(*map(_plain, layer.values)))
    return run_in_parts(layer.backend, run, spikes, membrane, layer.values, layer.chunk_size)


def _run_driven(driven: Driven, current: Array, membrane: Array | None) -> tuple[Array, Array]:
    """As `_run_layer`, of neurons alone."""
    backend, neurons = driven.backend, driven.neurons
    if not (driven.remat and backend.differentiable):
        return _run_currents(driven, current, membrane)
    values = neurons.beta, neurons.threshold
    run = partial(_run_currents_with, driven.with_values(*map(_plain, values)))
    return run_in_parts(backend, run, current, membrane, values, 1)


def _plain(value: Any) -> Any:
    """A value that a part is given anew left out, so that parts of equal layers are equal, whatever arrays they hold."""
    return None if hasattr(value, "shape") else value


def _run_frames_with(layer: Layer, spikes: Array, membrane: Array | None, *values: Any) -> tuple[Array, Array]:
    return _run_frames(layer.with_values(*values), spikes, membrane)


def _run_currents_with(driven: Driven, current: Array, membrane: Array | None, *values: Any) -> tuple[Array, Array]:
    return _run_currents(driven.with_values(*values), current, membrane)


def _unstacked(backend: Backend, neurons: Neurons, train: tuple[Array, Array]) -> SpikeTrain:
    if not neurons.trace:
        return SpikeTrain(*train)
    return _train(neurons, train[0][:, 0, ...], train[1], train[0][:, 1, ...])


def _ragged(backend: Backend, neurons: Neurons, *given: Any) -> SpikeTrain:
    fired, trace, membrane = run_ragged(backend, *given)
    return _train(neurons, fired, membrane, trace)


def _train(neurons: Neurons, fired: Array, membrane: Array, trace: Array) -> SpikeTrain:
    """Spikes that were kept beside membranes, as they are asked for."""
    fired = fired > 0.5 if neurons.compact else fired
    # the two are alike but for the trace, which type checkers know by the property
    return TracedSpikeTrain(fired, membrane, trace) if neurons.trace else SpikeTrain(fired, membrane)  # type: ignore[return-value]


def _run_frames(layer: Layer, spikes: Array, membrane: Array | None) -> tuple[Array, Array]:
    """`_run_layer` in one piece."""
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
    return _left(layer.neurons, xp, numbers.units, numbers.poison, train, membrane)


def _run_currents(driven: Driven, current: Array, membrane: Array | None) -> tuple[Array, Array]:
    """`_run_driven` in one piece."""
    backend, neurons, grid = driven.backend, driven.neurons, driven.grid
    units, poison, threshold = None, None, neurons.threshold
    if grid is not None:
        units = current_units(backend, grid, current, threshold)
        threshold = backend.round_through(units.per_one * threshold)
        poison = check_units(driven.function, backend, grid, units, threshold)
        current = backend.round_through(current * units.per_one)
    step = _step(backend, neurons, neurons.beta, threshold, units, poison)
    spikes, after = backend.scan(step, current, _enter(backend, units, membrane), driven.repeat)
    return _left(neurons, backend.namespace(current), units, poison, spikes, after)


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
    decay = beta if layer.preserve else decay_of(backend, beta, size)
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
        detach_reset=neurons.detach_reset,
        trace=neurons.trace,
    )


def _total(weights: Weights) -> float | Array:
    return sum(weights[1:], weights[0])


def decay_of(backend: Backend, beta: float | Array, size: int) -> float | Array:
    """``beta ** size``, of half precision rounded once."""
    power = decay_power(widen(backend, beta), size)
    return power if isinstance(beta, float) else cast(backend.namespace(beta), power, beta.dtype)


def _float_numbers(layer: Layer) -> _Numbers:
    """Numbers of the default path: as given, but for aggregation weights, which are those of a sum."""
    backend, aggregation, beta = layer.backend, layer.aggregation, widen(layer.backend, layer.neurons.beta)
    aggregation = aggregation if isinstance(aggregation, str) else widen(backend, aggregation)

    def bias(bias: Array, total: float | Array) -> Array:
        if isinstance(total, float) and total == 1.0:
            return bias
        return cast(backend.namespace(bias), widen(backend, bias) * total, bias.dtype)

    return _Numbers(
        weight=layer.weight,
        bias=bias,
        weights=lambda size: chunk_weights(aggregation, size, beta),
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
        weights=lambda size: unit_weights(backend, layer.aggregation, size, beta, q),
        threshold=level,
        units=units,
        poison=poison,
    )


def _enter(backend: Backend, units: Units | None, membrane: Array | None) -> Array | None:
    """A membrane potential in units."""
    return membrane if units is None or membrane is None else backend.round_through(membrane * units.per_one)


def _leave(units: Units | None, poison: Array | None, membrane: Array) -> Array:
    """A membrane in units as a potential; 0 has one sign, whatever the libraries round or sum it from."""
    return add_poison(poison, membrane if units is None else membrane * units.inverse + 0.0)


def _left(
    neurons: Neurons, xp: Any, units: Units | None, poison: Array | None, spikes: Array, membrane: Array
) -> tuple[Array, Array]:
    """`_leave` of the last membrane, and of those that were kept."""
    if neurons.trace and not (units is None and poison is None):
        spikes = xp.stack([spikes[:, 0, ...], _leave(units, poison, spikes[:, 1, ...])], axis=1)
    return spikes, _leave(units, poison, membrane)
