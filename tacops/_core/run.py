"""How a layer runs: chunks of frames through synapses and neurons, by the backend's schedule.

``arguments.py`` describes a layer; this file knows how its two functions, `Convolve` and a step of the neurons, follow from
that description, in plain floats or in reproducible units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from .._backend.protocol import Array, Backend, State
from .._backend.steps import Potential
from .aggregation import Weights, cast, decay_power, is_one, segments, widen
from .blocks import whole_neurons
from .checks import is_array
from .grid import check_units, fits_half
from .layer import Driven, Layer
from .lengths import run_ragged
from .neurons import LIFStep, SynapticStep
from .options import How, Neurons, Time
from .remat import run_in_parts
from .scale import Drive, Scale, in_floats, in_units
from .synapses import Convolve
from .train import SpikeTrain, TracedSpikeTrain, concatenate
from .units import current_units

__all__ = ["run_currents", "run_layer", "run_segments", "run_synapses"]


def run_layer(layer: Layer, spikes: Array, state: State | None, lengths: Array | None = None) -> SpikeTrain:
    """Simulate `layer` on spikes (T, B, *S, C_in) from `state`, or from zero; of each sample, its length of frames."""
    if lengths is None:
        return _as_train(layer, *_run_layer(layer, spikes, state))
    traced = replace(layer, how=layer.how.traced)
    size = min(layer.time.chunk_size, spikes.shape[0] + 1)  # a longer chunk is never whole either

    def run(spikes: Array, state: State | None) -> Array:
        return _run_layer(traced, spikes, state)[0]

    def steps(frames: Any) -> Any:
        return frames if layer.time.preserve else (frames + (size - 1)) // size

    return _ragged_train(layer, *run_ragged(layer.backend, run, spikes, state, lengths, size, steps))


def run_currents(driven: Driven, current: Array, state: State | None, lengths: Array | None = None) -> SpikeTrain:
    """Simulate neurons alone on currents (T, B, ..., C)."""
    if driven.backend.blockwise:
        train: SpikeTrain = driven.backend.run_blocks(
            whole_neurons(run_currents, driven, current), current, state, lengths
        )
        return train
    if lengths is None:
        return _as_train(driven, *_run_driven(driven, current, state))
    traced = replace(driven, how=driven.how.traced)

    def run(current: Array, state: State | None) -> Array:
        return _run_driven(traced, current, state)[0]

    def steps(frames: Any) -> Any:
        return frames * driven.repeat

    return _ragged_train(driven, *run_ragged(driven.backend, run, current, state, lengths, 1, steps))


def run_synapses(layer: Layer, spikes: Array) -> Array:
    """Currents (T, B, *S_out, C_out) of every frame, without neurons."""
    backend, grid = layer.backend, layer.how.grid
    xp, (T, B) = backend.namespace(spikes), tuple(spikes.shape[:2])
    drive, scale = in_floats(layer) if grid is None else in_units(layer, grid, spikes, False)
    frames = _in_steps(xp, layer, spikes)
    currents = _synapses(layer, drive, 1)(xp.reshape(frames, (T * B, *frames.shape[2:])))
    return scale.leave(backend, xp.reshape(currents, (T, B, *currents.shape[1:])))


def run_segments(layer: Layer, currents: Sequence[Array], T: int, state: State | None) -> SpikeTrain:
    """The neurons of `layer` on the currents of each of its `segments`, which were made of T frames elsewhere."""
    trains: list[SpikeTrain] = []
    for current, (_, _, size) in zip(currents, segments(T, layer.time.chunk_size), strict=True):
        neurons = _of_chunk(layer.backend, layer.time, layer.neurons, size)
        driven = Driven(layer.function, layer.backend, neurons, layer.how, layer.time.steps(size))
        trains.append(run_currents(driven, current, state))
        last = trains[-1].membrane
        state = last if isinstance(last, tuple) else (last,)
    return concatenate(layer.backend.namespace(currents[0]), trains)


def _run_layer(layer: Layer, spikes: Array, state: State | None) -> tuple[Array, State]:
    """Spikes, or with `How.trace` spikes and states (steps, 1 + states, ...), and the last state."""
    if not (layer.how.remat and layer.backend.differentiable):
        return _run_frames(layer, spikes, state)
    run = partial(_run_frames_with, layer.with_values(*map(_plain, layer.values)))
    return run_in_parts(layer.backend, run, spikes, state, layer.values, layer.time.chunk_size)


def _run_driven(driven: Driven, current: Array, state: State | None) -> tuple[Array, State]:
    """As `_run_layer`, of neurons alone."""
    backend, values = driven.backend, driven.neurons.values
    if not (driven.how.remat and backend.differentiable):
        return _run_currents(driven, current, state)
    run = partial(_run_currents_with, driven.with_values(*map(_plain, values)))
    return run_in_parts(backend, run, current, state, values, 1)


def _plain(value: Any) -> Any:
    """A value that a part is given anew left out, so that parts of equal layers are equal, whatever arrays they hold."""
    return None if is_array(value) else value


def _run_frames_with(layer: Layer, spikes: Array, state: State | None, *values: Any) -> tuple[Array, State]:
    return _run_frames(layer.with_values(*values), spikes, state)


def _run_currents_with(driven: Driven, current: Array, state: State | None, *values: Any) -> tuple[Array, State]:
    return _run_currents(driven.with_values(*values), current, state)


def _run_frames(layer: Layer, spikes: Array, state: State | None) -> tuple[Array, State]:
    """`_run_layer` in one piece."""
    backend, grid = layer.backend, layer.how.grid
    xp = backend.namespace(spikes)
    drive, scale = in_floats(layer) if grid is None else in_units(layer, grid, spikes, True)
    spikes = _in_steps(xp, layer, spikes)
    state, trains = scale.enter(backend, state), []
    for start, stop, size in segments(spikes.shape[0], layer.time.chunk_size):
        part = spikes if stop - start == spikes.shape[0] else spikes[start:stop, ...]
        conv = _synapses(layer, drive, size)
        step = _step(backend, _of_chunk(backend, layer.time, layer.neurons, size), layer.how, scale)
        state = scale.enter(backend, state) if isinstance(state, Potential) else state
        train, state = backend.schedule(conv, step, part, state, layer.time.steps(size))
        trains.append(train)
    if drive.due is not None:
        drive.due.look()
    train = trains[0] if len(trains) == 1 else xp.concat(trains, axis=0)
    return _left(backend, layer.how, scale, train, state or ())


def _in_steps(xp: Any, layer: Layer, spikes: Array) -> Array:
    """Inputs as multiples of the grid's step."""
    grid = layer.how.grid
    if grid is None or grid.input_step == 1.0:
        return spikes
    return cast(xp, spikes, layer.weight.dtype) * (1.0 / grid.input_step)  # exact


def _run_currents(driven: Driven, current: Array, state: State | None) -> tuple[Array, State]:
    """`_run_driven` in one piece."""
    backend, neurons, grid = driven.backend, driven.neurons, driven.how.grid
    scale = Scale(neurons.threshold)
    if grid is not None:
        units = current_units(backend, grid, current, neurons.threshold)
        threshold = backend.round_through(units.per_one * neurons.threshold)
        scale = Scale(threshold, units, check_units(driven.function, backend, grid, units.valid, threshold))
        current = backend.round_through(current * units.per_one)
    step = _step(backend, neurons, driven.how, scale)
    spikes, after = backend.scan(step, current, scale.enter(backend, state), driven.repeat)
    return _left(backend, driven.how, scale, spikes, after)


def _synapses(layer: Layer, drive: Drive, size: int) -> Convolve:
    """The synapses of whole chunks of `size` frames."""
    weights, grid = drive.weights(size), layer.how.grid
    return Convolve(
        layer.backend,
        layer.window,
        drive.weight,
        None if layer.bias is None else drive.bias(layer.bias, _total(weights)),
        None if is_one(weights) else tuple(weights),
        exact=grid is not None,
        fits_half=grid is not None and fits_half(grid, weights),
        due=drive.due,
    )


def _total(weights: Weights) -> float | Array:
    return sum(weights[1:], weights[0])


def _of_chunk(backend: Backend, time: Time, neurons: Neurons, size: int) -> Neurons:
    """The neurons with the decays of one of their steps: of a frame, or of a whole chunk of `size`."""
    if time.preserve or size == 1:
        return neurons
    synapse = neurons.synapse_decay
    return neurons.with_values(
        _power(backend, neurons.beta, size),
        neurons.threshold,
        None if synapse is None else _power(backend, synapse, size),
    )


def _power(backend: Backend, decay: float | Array, size: int) -> float | Array:
    """``decay ** size``, of half precision rounded once."""
    power = decay_power(widen(backend, decay), size)
    return power if isinstance(decay, float) else cast(backend.namespace(decay), power, decay.dtype)


def _step(backend: Backend, neurons: Neurons, how: How, scale: Scale) -> LIFStep:
    """A step of the neurons, in their scale."""
    units = scale.units
    given = (
        backend,
        neurons.beta,
        scale.threshold,
        neurons.reset,
        neurons.surrogate,
        units is not None,
        scale.poison,
        None if units is None else units.inverse,
        how.compact,
        neurons.detach_reset,
        how.trace,
    )
    synapse = neurons.synapse_decay
    return LIFStep(*given) if synapse is None else SynapticStep(*given, synapse)


def _left(backend: Backend, how: How, scale: Scale, spikes: Array, state: State) -> tuple[Array, State]:
    """The last state in potentials, and those that were kept."""
    if isinstance(state, Potential):
        return spikes, tuple(state)
    if how.trace and not (scale.units is None and scale.poison is None):
        kept = [scale.leave(backend, spikes[:, n, ...]) for n in range(1, spikes.shape[1])]
        spikes = backend.namespace(spikes).stack([spikes[:, 0, ...], *kept], axis=1)
    alone = len(state) == 1  # after one step a synaptic current can be the membrane
    return spikes, tuple([scale.leave(backend, x, alone) for x in state])


def _as_train(run: Layer | Driven, spikes: Array, state: State) -> SpikeTrain:
    """Of what `_run_layer` returns."""
    if not run.how.trace:
        return SpikeTrain(_constant(run, spikes, state), _as_membrane(state))
    return _train(run, spikes[:, 0, ...], state, spikes[:, 1, ...])


def _ragged_train(run: Layer | Driven, fired: Array, traces: Sequence[Array], state: State) -> SpikeTrain:
    return _train(run, fired, state, traces[0])


def _train(run: Layer | Driven, fired: Array, state: State, trace: Array) -> SpikeTrain:
    """Spikes that were kept beside membranes, as they are asked for."""
    fired, membrane = fired > 0.5 if run.how.compact else _constant(run, fired, state), _as_membrane(state)
    # the two are alike but for the trace, which type checkers know by the property
    return TracedSpikeTrain(fired, membrane, trace) if run.how.trace else SpikeTrain(fired, membrane)  # type: ignore[return-value]


def _constant(run: Layer | Driven, spikes: Array, state: State) -> Array:
    """Spikes; without a surrogate they let no gradient through."""
    if run.neurons.surrogate is not None or run.how.compact:
        return spikes
    return run.backend.constant(spikes, state, run.function)


def _as_membrane(state: State) -> Any:
    """What users pass and get: the membrane, or a pair where there is more."""
    return state[0] if len(state) == 1 else state
