"""From an operator's arguments to a layer: validation, axes to channels last, and back."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

from .._backend.dispatch import backend_of
from .._backend.protocol import Array, Backend, State, Window
from .._backend.steps import Reset
from . import checks as check
from .axes import channel_from_last, channel_to_last
from .blocks import whole_layer
from .grid import as_grid
from .known import Known, key_of, recall, remember
from .layer import Layer
from .options import GeometryOptions, How, HowOptions, NeuronOptions, Neurons, Time, TimeOptions
from .run import run_layer
from .train import SpikeTrain, remap
from .window import check_padded, check_size, check_window

__all__ = [
    "DEFAULT_AGGREGATION",
    "LAYOUTS",
    "MODES",
    "RESETS",
    "Given",
    "channel_from_last",
    "channel_to_last",
    "check_state",
    "conv_layer",
    "output_shape",
    "run_conv",
    "run_given",
]

LAYOUTS = ("channels_last", "channels_first")
MODES = ("collapse", "preserve")
RESETS = tuple(reset.name.lower() for reset in Reset)
DEFAULT_AGGREGATION = {"collapse": "decay", "preserve": "normalized_decay"}


class Given(NamedTuple):
    """The arrays of a call, as given; a membrane may be a pair."""

    spikes: Array
    weight: Array
    bias: Array | None
    membrane: Any
    lengths: Any


def run_conv(
    function: str,
    given: Given,
    time: TimeOptions,
    neurons: NeuronOptions,
    geometry: GeometryOptions | None,
    how: HowOptions,
) -> SpikeTrain:
    """`tacops.tac_conv` under the name `function`; without a `geometry` `tacops.tac_linear`."""
    spikes, weight, bias, membrane, lengths = given
    backend = _backend_of(function, given, time, neurons)
    options = (*time, *neurons, *(geometry or ()), *how)
    key = key_of(function, backend, (spikes, weight, bias), neurons, options)
    known = recall(key)
    if known is not None:
        weight = channel_to_last(backend.namespace(weight), weight, 1) if known.first else weight
        layer = known.layer(function, backend, weight, bias)
        return run_given(layer, spikes, membrane, lengths, known.first, known.shape)
    if geometry is None:
        layer, first = _dense_layer(function, backend, given, time, neurons, how), False
    else:
        layer, first = _conv_layer(function, backend, given, time, neurons, geometry, how)
    train = run_given(layer, spikes, membrane, lengths, first)
    if key is not None:
        shape = output_shape(layer, spikes, first)
        remember(key, Known(layer.window, layer.time, layer.neurons, layer.how, first, shape))
    return train


def conv_layer(
    function: str,
    given: Given,
    time: TimeOptions,
    neurons: NeuronOptions,
    geometry: GeometryOptions,
    how: HowOptions,
) -> tuple[Layer, bool]:
    """A layer that convolves, and whether its frames are channels first; spikes and what describes the layer are checked."""
    backend = _backend_of(function, given, time, neurons)
    return _conv_layer(function, backend, given, time, neurons, geometry, how)


def _conv_layer(
    function: str,
    backend: Backend,
    given: Given,
    time: TimeOptions,
    neurons: NeuronOptions,
    geometry: GeometryOptions,
    how: HowOptions,
) -> tuple[Layer, bool]:
    weight, first = given.weight, check.check_choice(function, "layout", geometry.layout, LAYOUTS) == "channels_first"
    xp = backend.namespace(weight)
    check.check_weight(function, xp, weight, range(1, 4))
    groups = check.check_groups(function, geometry.groups, weight.shape[0])
    axes = "(T, B, C_in, *S)" if first else "(T, B, *S, C_in)"
    channels = weight.shape[1 if first else -1] * groups
    shape = check.shape_of(weight)
    check.check_spikes(function, xp, given.spikes, channels, axes, weight.ndim + 1, shape, groups)
    if first:
        weight = channel_to_last(xp, weight, 1)
    spatial = tuple(given.spikes.shape[3:] if first else given.spikes.shape[2:-1])
    stride, padding, dilation, *_ = geometry
    moves = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    window = check_window(function, spatial, tuple(weight.shape[1:-1]), **moves)
    return _as_layer(function, backend, weight, given.bias, window, time, neurons, how), first


def _dense_layer(
    function: str, backend: Backend, given: Given, time: TimeOptions, neurons: NeuronOptions, how: HowOptions
) -> Layer:
    """A convolution without spatial dimensions, where every vector is a sample of its own."""
    xp = backend.namespace(given.weight)
    check.check_weight(function, xp, given.weight, range(1))
    check.check_spikes(function, xp, given.spikes, given.weight.shape[1], "(T, B, ..., F_in)", None)
    window = Window((), (), (), 1)
    return _as_layer(function, backend, given.weight, given.bias, window, time, neurons, how)


def run_given(
    layer: Layer,
    spikes: Array,
    membrane: Any,
    lengths: Any,
    first: bool = False,
    known: tuple[int, ...] | None = None,
) -> SpikeTrain:
    """Run a validated layer on the arrays of a call, channels first or last; spikes have been checked.

    Sizes too if the shape of a membrane is `known`.
    """
    function, backend, window = layer.function, layer.backend, layer.window
    xp, dims, shape = backend.namespace(layer.weight), len(window.stride), known or output_shape(layer, spikes, first)
    state = None if membrane is None else check_state(layer, membrane, shape)
    backend.check_time(function, spikes.shape[0], layer.time.chunk_size, lengths is None and not layer.how.remat)
    lengths = check.check_lengths(function, backend, lengths, spikes)
    if dims and known is None:
        frames = check.shape_of(spikes)
        check_padded(function, (*frames[:2], *frames[3:], frames[2]) if first else frames, window)
        check_size(function, "spikes", (frames[0], *shape))
    if backend.blockwise:
        run = partial(_run_block, first=first)
        whole: SpikeTrain = backend.run_blocks(whole_layer(run, layer, spikes, first), spikes, state, lengths)
        return whole
    if not dims:
        return _run_vectors(layer, xp, spikes, state, lengths)
    if first:
        spikes = channel_to_last(xp, spikes, 2)
        state = None if state is None else tuple(channel_to_last(xp, x, 1) for x in state)
    train = run_layer(layer, spikes, state, lengths)
    if not first:
        return train
    return remap(train, lambda x: channel_from_last(xp, x, 2), lambda x: channel_from_last(xp, x, 1))


def _run_block(layer: Layer, spikes: Array, state: State | None, lengths: Any, *, first: bool) -> SpikeTrain:
    """`run_given` as a `Whole` runs it."""
    membrane = state[0] if state is not None and len(state) == 1 else state
    return run_given(layer, spikes, membrane, lengths, first)


def output_shape(layer: Layer, spikes: Array, first: bool) -> tuple[int, ...]:
    """Shape of a membrane in the layout of the call."""
    filters = layer.weight.shape[0]
    if not layer.window.stride:
        return (*spikes.shape[1:-1], filters)
    spatial = tuple(spikes.shape[3:] if first else spikes.shape[2:-1])
    space = layer.window.output_shape(spatial, tuple(layer.weight.shape[1:-1]))
    return (spikes.shape[1], filters, *space) if first else (spikes.shape[1], *space, filters)


def check_state(layer: Layer, membrane: Any, shape: tuple[int, ...]) -> State | None:
    """The state that a membrane, or a pair, of a call stands for."""
    state = _as_state(layer.function, membrane, layer.neurons.synapse_decay)
    _check_shapes(layer.function, state, layer.weight, shape)
    return state


def _run_vectors(layer: Layer, xp: Any, spikes: Array, state: State | None, lengths: Array | None) -> SpikeTrain:
    """Spikes (T, B, ..., F_in), of which every vector is a sample."""
    shape = (*spikes.shape[1:-1], layer.weight.shape[0])
    samples = math.prod(shape[:-1])
    start = None if state is None else tuple(xp.reshape(x, (samples, shape[-1])) for x in state)
    if lengths is not None and spikes.ndim > 3:  # every vector of a sample ends with it
        ends = xp.reshape(lengths, (shape[0], *(1 for _ in shape[1:-1])))
        lengths = xp.reshape(xp.broadcast_to(ends, shape[:-1]), (samples,))
    train = run_layer(layer, xp.reshape(spikes, (spikes.shape[0], samples, spikes.shape[-1])), start, lengths)
    return remap(train, lambda x: xp.reshape(x, (-1, *shape)), lambda x: xp.reshape(x, shape))


def _as_layer(
    function: str,
    backend: Backend,
    weight: Array,
    bias: Array | None,
    window: Window,
    time: TimeOptions,
    neurons: NeuronOptions,
    how: HowOptions,
) -> Layer:
    """Validate what `tac_conv` and `tac_linear` share."""
    size = check.check_count(function, "chunk_size", time.chunk_size)
    check.check_choice(function, "mode", time.mode, MODES)
    check.check_like(function, "bias", bias, weight, (weight.shape[0],))
    given = DEFAULT_AGGREGATION[time.mode] if time.aggregation is None else time.aggregation
    weights = check.check_aggregation(function, backend, weight, given, size)
    kept = _as_how(function, backend.namespace(weight), weight, how, neurons.surrogate)
    lif = _as_neurons(function, backend, weight, weight.shape[0], neurons)
    return Layer(function, backend, weight, bias, window, Time(size, time.mode == "preserve", weights), lif, kept)


def _as_neurons(function: str, backend: Backend, like: Array, channels: int, given: NeuronOptions) -> Neurons:
    check.check_choice(function, "reset", given.reset, RESETS)
    synapse = given.synapse_decay
    if synapse is not None:
        synapse = check.check_decay(function, backend, like, "synapse_decay", synapse, channels)
    return Neurons(
        check.check_decay(function, backend, like, "beta", given.beta, channels),
        check.check_threshold(function, backend, like, given.threshold, channels),
        given.reset,
        synapse,
        check.check_surrogate(function, backend, given.surrogate),
        check.check_flag(function, "detach_reset", given.detach_reset),
    )


def _as_how(function: str, xp: Any, like: Array, given: HowOptions, surrogate: Any, argument: str = "weight") -> How:
    check.check_compact(function, given.compact, surrogate)
    return How(
        check.check_flag(function, "trace", given.trace),
        check.check_flag(function, "remat", given.remat),
        bool(given.compact),
        as_grid(function, given.reproducible, xp, like, argument),
    )


def _as_state(function: str, membrane: Any, synapse_decay: Any) -> State | None:
    """An array, or with `synapse_decay` a pair."""
    if membrane is None:
        return None
    pair = isinstance(membrane, (tuple, list))
    if synapse_decay is None:
        if pair:
            raise check.fail(function, "membrane", "an array", check.show(membrane), TypeError)
        return (membrane,)
    if not pair or len(membrane) != 2 or any(x is None for x in membrane):
        rule = "a pair (membrane, synaptic current) with synapse_decay"
        raise check.fail(function, "membrane", rule, check.show(membrane), TypeError)
    return tuple(membrane)


def _check_shapes(
    function: str, state: State | None, like: Array, shape: tuple[int, ...], source: str = "weight"
) -> None:
    for name, x in _named(state).items():
        check.check_like(function, name, x, like, shape, source)


def _named(state: State | None) -> dict[str, Array]:
    if state is None:
        return {}
    return {"membrane" if len(state) == 1 else f"membrane[{n}]": x for n, x in enumerate(state)}


def _backend_of(function: str, given: Given, time: TimeOptions, neurons: NeuronOptions) -> Backend:
    state = _as_state(function, given.membrane, neurons.synapse_decay)
    arrays = {"spikes": given.spikes, "weight": given.weight, "bias": given.bias, **_named(state)}
    return _backend(function, arrays | _arrays(neurons, time.aggregation, given.lengths))


def _backend(function: str, arrays: dict[str, Array | None]) -> Backend:
    for name in ("spikes", "weight", "current"):
        if name in arrays and arrays[name] is None:
            raise check.fail(function, name, "an array", None, TypeError)
    return backend_of(*arrays.values(), function=function, names=tuple(arrays))


def _arrays(neurons: NeuronOptions, aggregation: Any, lengths: Any) -> dict[str, Array]:
    """Those options that may be arrays and are."""
    values = (
        ("beta", neurons.beta),
        ("threshold", neurons.threshold),
        ("synapse_decay", neurons.synapse_decay),
        ("aggregation", aggregation),
        ("lengths", lengths),
    )
    return {name: value for name, value in values if check.is_array(value) and not check.is_number(value)}
