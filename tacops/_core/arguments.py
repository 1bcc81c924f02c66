"""From an operator's arguments to a layer: validation, axes to channels last, and back."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .._backend.dispatch import backend_of
from .._backend.protocol import Array, Backend, Window
from . import checks as check
from .grid import as_grid
from .neurons import Reset
from .run import Driven, Layer, Neurons, SpikeTrain, remap, run_currents, run_layer
from .window import check_padded, check_size, check_window

__all__ = ["run_conv", "run_lif", "run_linear"]

LAYOUTS = ("channels_last", "channels_first")
MODES = ("collapse", "preserve")
RESETS = tuple(reset.name.lower() for reset in Reset)
MOST_STEPS = 2**20
"""Steps for which `lif` holds a current."""
DEFAULT_AGGREGATION = {"collapse": "decay", "preserve": "normalized_decay"}


def run_conv(
    function: str,
    spikes: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: object,
    padding: object,
    dilation: object,
    groups: object,
    layout: str,
    membrane: Array | None,
    lengths: Any,
    **options: Any,
) -> SpikeTrain:
    """`tacops.tac_conv` under the name `function`."""
    given = {"spikes": spikes, "weight": weight, "bias": bias, "membrane": membrane}
    backend = _backend(function, **given, **_arrays(options, lengths))
    xp = backend.namespace(weight)
    first = check.check_choice(function, "layout", layout, LAYOUTS) == "channels_first"
    check.check_weight(function, xp, weight, range(1, 4))
    groups = check.check_groups(function, groups, weight.shape[0])
    axes = "(T, B, C_in, *S)" if first else "(T, B, *S, C_in)"
    check.check_spikes(function, xp, spikes, weight.shape[1 if first else -1] * groups, axes, weight.ndim + 1)
    if first:
        spikes, weight = _channel_to_last(xp, spikes, 2), _channel_to_last(xp, weight, 1)
    spatial, kernel = tuple(spikes.shape[2:-1]), tuple(weight.shape[1:-1])
    window = check_window(function, spatial, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    layer = _layer(function, backend, weight, bias, window, **options)
    space, batch, channels = window.output_shape(spatial, kernel), spikes.shape[1], weight.shape[0]
    shape = (batch, channels, *space) if first else (batch, *space, channels)
    check_padded(function, check.shape_of(spikes), window)
    check_size(function, "spikes", (spikes.shape[0], *shape))
    check.check_like(function, "membrane", membrane, weight, shape)
    lengths = check.check_lengths(function, backend, lengths, spikes)
    if not first:
        return run_layer(layer, spikes, membrane, lengths)
    train = run_layer(layer, spikes, None if membrane is None else _channel_to_last(xp, membrane, 1), lengths)
    return remap(train, lambda x: _channel_from_last(xp, x, 2), lambda x: _channel_from_last(xp, x, 1))


def run_linear(
    spikes: Array, weight: Array, bias: Array | None, *, membrane: Array | None, lengths: Any, **options: Any
) -> SpikeTrain:
    """`tacops.tac_linear`: a convolution without spatial dimensions, where every vector is a sample of its own."""
    function = "tac_linear"
    given = {"spikes": spikes, "weight": weight, "bias": bias, "membrane": membrane}
    backend = _backend(function, **given, **_arrays(options, lengths))
    xp = backend.namespace(weight)
    check.check_weight(function, xp, weight, range(1))
    features_out, features_in = weight.shape
    check.check_spikes(function, xp, spikes, features_in, "(T, B, ..., F_in)", None)
    layer = _layer(function, backend, weight, bias, Window((), (), (), 1), **options)
    shape = (*spikes.shape[1:-1], features_out)
    check.check_like(function, "membrane", membrane, weight, shape)
    samples = math.prod(shape[:-1])
    start = None if membrane is None else xp.reshape(membrane, (samples, features_out))
    lengths = check.check_lengths(function, backend, lengths, spikes)
    if lengths is not None and spikes.ndim > 3:  # every vector of a sample ends with it
        ends = xp.reshape(lengths, (shape[0], *(1 for _ in shape[1:-1])))
        lengths = xp.reshape(xp.broadcast_to(ends, shape[:-1]), (samples,))
    train = run_layer(layer, xp.reshape(spikes, (spikes.shape[0], samples, features_in)), start, lengths)
    return remap(train, lambda x: xp.reshape(x, (-1, *shape)), lambda x: xp.reshape(x, shape))


def run_lif(
    current: Array,
    *,
    beta: object,
    threshold: object,
    reset: str,
    repeat: object,
    membrane: Array | None,
    lengths: Any,
    trace: object,
    surrogate: Any,
    detach_reset: object,
    remat: object,
    compact: object,
    reproducible: object,
) -> SpikeTrain:
    """`tacops.lif`."""
    function = "lif"
    arrays = _arrays({"beta": beta, "threshold": threshold}, lengths)
    backend = _backend(function, current=current, membrane=membrane, **arrays)
    xp = backend.namespace(current)
    check.check_current(function, xp, current)
    how = _Kept(surrogate, compact, detach_reset, trace)
    neurons = _neurons(function, backend, current, current.shape[-1], beta, threshold, reset, how)
    steps = check.check_count(function, "repeat", repeat)
    if steps > MOST_STEPS:
        raise check.fail(function, "repeat", f"at most {MOST_STEPS}", steps)
    check_size(function, "repeat", (current.shape[0] * steps, *current.shape[1:]))
    check.check_like(function, "membrane", membrane, current, tuple(current.shape[1:]), "current")
    grid = as_grid(function, reproducible, xp, current, "current")
    driven = Driven(function, backend, neurons, grid, steps, check.check_flag(function, "remat", remat))
    if current.ndim > 2:
        return run_currents(driven, current, membrane, check.check_lengths(function, backend, lengths, current))
    if lengths is not None:
        raise check.fail(function, "lengths", "None for currents (T, C), which have no batch", lengths)
    start = None if membrane is None else xp.reshape(membrane, (1, -1))
    train = run_currents(driven, xp.reshape(current, (-1, 1, current.shape[1])), start)
    return remap(train, lambda x: x[:, 0, ...], lambda x: x[0, ...])


def _layer(
    function: str,
    backend: Backend,
    weight: Array,
    bias: Array | None,
    window: Window,
    *,
    chunk_size: object,
    mode: str,
    beta: object,
    threshold: object,
    reset: str,
    aggregation: object,
    trace: object,
    surrogate: Any,
    detach_reset: object,
    remat: object,
    compact: object,
    reproducible: object,
) -> Layer:
    """Validate what `tac_conv` and `tac_linear` share."""
    channels = weight.shape[0]
    size = check.check_count(function, "chunk_size", chunk_size)
    check.check_choice(function, "mode", mode, MODES)
    check.check_like(function, "bias", bias, weight, (channels,))
    given = DEFAULT_AGGREGATION[mode] if aggregation is None else aggregation
    weights = check.check_aggregation(function, backend, weight, given, size)
    how = _Kept(surrogate, compact, detach_reset, trace)
    neurons = _neurons(function, backend, weight, channels, beta, threshold, reset, how)
    grid = as_grid(function, reproducible, backend.namespace(weight), weight)
    again = check.check_flag(function, "remat", remat)
    return Layer(function, backend, weight, bias, window, size, mode == "preserve", weights, neurons, grid, again)


class _Kept(NamedTuple):
    """What is kept of neurons, and what their gradient is."""

    surrogate: Any
    compact: object
    detach_reset: object
    trace: object


def _neurons(
    function: str,
    backend: Backend,
    like: Array,
    channels: int,
    beta: object,
    threshold: object,
    reset: str,
    kept: _Kept,
) -> Neurons:
    check.check_choice(function, "reset", reset, RESETS)
    surrogate = check.check_surrogate(function, backend, kept.surrogate)
    check.check_compact(function, kept.compact, kept.surrogate)
    return Neurons(
        check.check_beta(function, backend, like, beta, channels),
        check.check_threshold(function, backend, like, threshold, channels),
        reset,
        surrogate,
        bool(kept.compact),
        check.check_flag(function, "detach_reset", kept.detach_reset),
        check.check_flag(function, "trace", kept.trace),
    )


def _backend(function: str, **arrays: Array | None) -> Backend:
    for name in ("spikes", "weight", "current"):
        if name in arrays and arrays[name] is None:
            raise check.fail(function, name, "an array", None, TypeError)
    return backend_of(*arrays.values(), function=function, names=tuple(arrays))


def _arrays(options: dict[str, Any], lengths: Any) -> dict[str, Array]:
    """Those parameters that may be arrays and are."""
    values = {name: options.get(name) for name in ("beta", "threshold", "aggregation")} | {"lengths": lengths}
    return {name: value for name, value in values.items() if hasattr(value, "shape") and not check.is_number(value)}


def _channel_to_last(xp: Any, x: Array, axis: int) -> Array:
    return xp.permute_dims(x, (*range(axis), *range(axis + 1, x.ndim), axis))


def _channel_from_last(xp: Any, x: Array, axis: int) -> Array:
    return xp.permute_dims(x, (*range(axis), x.ndim - 1, *range(axis, x.ndim - 1)))
