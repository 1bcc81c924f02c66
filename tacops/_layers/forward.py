r"""A trainable layer's forward pass, written once for the three frameworks.

Parameters become the operator's numbers: :math:`\beta = \sigma(l)`, :math:`\vartheta = e^l`, aggregation weights
:math:`a = G \, \mathrm{softmax}(l)` with the fixed gain G that the rule they start from sums to.

Batch normalisation belongs to a frame, :math:`g (y - \mu) / \sigma + b`, and like the convolution it commutes with
aggregation: with :math:`A = \sum_k a_k` and the aggregated :math:`Y = \sum_k a_k y_k`,

.. math:: \sum_k a_k \left(g \frac{y_k - \mu}{\sigma} + b\right) = A \left(g \frac{Y / A - \mu}{\sigma} + b\right)

So the statistics are those of Y / A, whatever the chunk's length, and at inference the norm folds into weight and bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from .._backend.dispatch import backend_of, undisturbed
from .._backend.protocol import Array, Backend, sum_dtype
from .._core.aggregation import cast, chunk_weights, segments, widen
from .._core.arguments import channel_from_last, channel_to_last, check_state, output_shape, run_given
from .._core.checks import check_flag, check_like, check_spikes, check_surrogate, fail, is_array
from .._core.grid import as_grid
from .._core.layer import Layer
from .._core.options import How
from .._core.run import run_segments
from .._core.synapses import Convolve
from .._core.train import SpikeTrain, concatenate, remap
from .checks import PerChannel
from .spec import STATISTICS, LayerSpec, Norm

__all__ = ["Numbers", "Statistics", "effective", "fold", "run", "run_spans", "spikes_of"]

Statistics: TypeAlias = dict[str, Array]

BLOCK = 64
"""Values that are summed one after the other: more, and what rounding loses adds up to percents (a million in MLX: 1 %)."""


class Numbers(NamedTuple):
    """What the operators take, made of a layer's parameters."""

    weight: Array
    bias: Array | None
    beta: float | Array
    threshold: float | Array
    aggregation: Callable[[int], str | Array]
    """Of a chunk's number of frames: a rule's name or as many weights."""


def spikes_of(given: Any) -> Any:
    """What a layer takes: the spikes of the layer before it, where its whole train is handed on."""
    return given.spikes if isinstance(given, tuple) and hasattr(given, "spikes") else given


def effective(spec: LayerSpec, arrays: Mapping[str, Array]) -> Numbers:
    """The numbers that `arrays` stand for, batch normalisation apart."""
    xp = backend_of(arrays["weight"]).namespace(arrays["weight"])

    def aggregation(size: int) -> str | Array:
        if spec.time.chunk_size == 1:
            return "sum"  # one frame of weight 1, whatever the rule
        if "aggregation" not in spec.learn:
            return spec.rule
        tail, dtype = slice(spec.time.chunk_size - size, None), arrays["aggregation_logits"].dtype
        logits = _wide(xp, arrays["aggregation_logits"])
        if spec.normalised:
            return cast(xp, _softmax(xp, logits[tail]), dtype)
        return cast(xp, sum(spec.start) * _softmax(xp, logits), dtype)[tail]

    def stored(name: str, start: PerChannel) -> Array:
        """One for all channels is stored as (1,), because frameworks that cut parameters can't cut a scalar."""
        return xp.reshape(arrays[name], ()) if isinstance(start, float) else arrays[name]

    return Numbers(
        arrays["weight"],
        arrays.get("bias"),
        # of tanh, which can't overflow
        0.5 + 0.5 * xp.tanh(0.5 * stored("beta_logit", spec.neurons.beta))
        if "beta" in spec.learn
        else spec.neurons.beta,
        xp.exp(stored("threshold_log", spec.neurons.threshold))
        if "threshold" in spec.learn
        else spec.neurons.threshold,
        aggregation,
    )


def fold(norm: Norm, numbers: Numbers, scale: Array, mean: Array, var: Array) -> Numbers:
    """`numbers` with the norm in their weight and bias."""
    weight, xp = numbers.weight, backend_of(scale).namespace(scale)
    scale, mean, var = (_wide(xp, array) for array in (scale, mean, var))
    factor = scale / (var + norm.epsilon) ** 0.5
    bias = -mean * factor if numbers.bias is None else numbers.bias - mean * factor
    folded = weight * xp.reshape(factor, (-1, *(1 for _ in weight.shape[1:])))
    return numbers._replace(weight=cast(xp, folded, weight.dtype), bias=cast(xp, bias, weight.dtype))


def run_spans(
    layer: str,
    call: Callable[..., SpikeTrain],
    spikes: Array,
    membrane: Any,
    lengths: Any,
    chunk_size: int,
    own_tail: bool,
) -> SpikeTrain:
    """``call(spikes, size, membrane)``; twice if a shorter last chunk, of `size` frames, has its `own_tail` of weights."""
    T = spikes.shape[0] if spikes.ndim else 0  # no frames: the call says what is wrong
    if own_tail and chunk_size > 1 and lengths is not None:
        rule = "None where learned aggregation weights sum to one, because those of a shorter chunk are others"
        raise fail(layer, "lengths", rule, "lengths")
    if not (own_tail and T % chunk_size):
        return call(spikes, chunk_size, membrane)
    trains: list[SpikeTrain] = []
    for start, stop, size in segments(T, chunk_size):
        trains.append(call(spikes[start:stop, ...], size, membrane))
        membrane = trains[-1].membrane
    return concatenate(backend_of(spikes).namespace(spikes), trains)


@undisturbed
def run(
    spec: LayerSpec,
    arrays: Mapping[str, Array],
    spikes: Array,
    membrane: Any,
    *,
    training: bool,
    momentum: float | None = None,
    lengths: Any = None,
    trace: bool = False,
    everywhere: Callable[[Array], Array] | None = None,
) -> tuple[SpikeTrain, Statistics]:
    """What the layer returns, and its running statistics after a batch of training (empty if there are none to keep).

    `momentum` is the share of the running statistics that the batch replaces, the layer's own unless given. `everywhere` sums
    an array over all processes that have a part of the batch.
    """
    backend = _check(spec, arrays["weight"], spikes, membrane, lengths, trace, training)
    first, numbers = spec.channels_first, effective(spec, arrays)
    statistics: Statistics = {}
    if spec.norm:
        mean, var = (arrays[name] for name in STATISTICS)
        if training:
            frames = channel_to_last(backend.namespace(spikes), spikes, 2) if first else spikes
            currents, totals = _currents(spec, backend, numbers, frames)
            mean, var, unbiased = _moments(backend.namespace(frames), currents, everywhere)
            share = spec.norm.momentum if momentum is None else momentum
            statistics = _updated(backend, share, arrays, mean, unbiased)
            if spec.reproducible is False:
                scale = arrays["norm_scale"] / (var + spec.norm.epsilon) ** 0.5
                layer = _layer(spec, backend, numbers, spec.time.chunk_size, trace)
                scaled = _normalised(layer, currents, totals, scale, mean)
                return _driven(layer, scaled, spikes, membrane, first), statistics
        numbers = fold(spec.norm, numbers, arrays["norm_scale"], mean, var)
    own_tail = spec.normalised and "aggregation" in spec.learn

    def call(spikes: Array, size: int, membrane: Any) -> SpikeTrain:
        return run_given(_layer(spec, backend, numbers, size, trace), spikes, membrane, lengths, first)

    train = run_spans(spec.layer, call, spikes, membrane, lengths, spec.time.chunk_size, own_tail)
    return train, statistics


def _check(
    spec: LayerSpec, weight: Array, spikes: Array, membrane: Any, lengths: Any, trace: bool, training: bool
) -> Backend:
    """The backend of a call's arrays, which fit the layer."""
    if spikes is None:
        raise fail(spec.layer, "spikes", "an array", None, TypeError)
    state = membrane if isinstance(membrane, (tuple, list)) else (membrane,)
    names = ("weight", "spikes", *("membrane" for _ in state))
    backend = backend_of(weight, spikes, *state, function=spec.layer, names=names)
    dims, first = len(spec.kernel), spec.channels_first
    axes = ("(T, B, C_in, *S)" if first else "(T, B, *S, C_in)") if dims else "(T, B, ..., F_in)"
    check_spikes(spec.layer, backend.namespace(weight), spikes, spec.channels_in, axes, dims + 3 if dims else None)
    check_flag(spec.layer, "trace", trace)
    if lengths is not None and spec.norm and training:
        rule = "None in training with batch_norm, whose statistics are those of whole frames"
        raise fail(spec.layer, "lengths", rule, "lengths")
    return backend


def _layer(spec: LayerSpec, backend: Backend, numbers: Numbers, size: int, trace: bool) -> Layer:
    """The layer with the numbers of this call, in chunks of `size` frames."""
    function, weight, given = spec.layer, numbers.weight, numbers.aggregation(size)
    for name in ("beta", "threshold"):
        value = getattr(numbers, name)
        if is_array(value):
            check_like(function, name, value, weight, tuple(value.shape))
    weights = given if isinstance(given, str) else tuple(given[k, ...] for k in range(size))
    neurons = replace(
        spec.neurons,
        beta=numbers.beta,
        threshold=numbers.threshold,
        surrogate=check_surrogate(function, backend, spec.neurons.surrogate),
    )
    grid = as_grid(function, spec.reproducible, backend.namespace(weight), weight)
    time = replace(spec.time, chunk_size=size, aggregation=weights)
    how = How(trace, spec.remat, compact=False, grid=grid)
    return Layer(function, backend, weight, numbers.bias, spec.window, time, neurons, how)


def _currents(
    spec: LayerSpec, backend: Backend, numbers: Numbers, spikes: Array
) -> tuple[list[Array], list[float | Array]]:
    """Y / A, without bias, of the full chunks and of the shorter one, and A; channels last, float32 or better."""
    xp, dims = backend.namespace(spikes), len(spec.kernel)
    currents, totals = [], []
    for start, stop, size in segments(spikes.shape[0], spec.time.chunk_size):
        given = numbers.aggregation(size)
        rule = given if isinstance(given, str) else tuple(given[k, ...] for k in range(size))
        weights = chunk_weights(widen(backend, rule), size, widen(backend, numbers.beta))
        conv = Convolve(backend, spec.window, numbers.weight, None, tuple(weights))
        frames = conv.aggregate(spikes[start:stop, ...])
        lead = frames.shape[: frames.ndim - dims - 1]
        out = conv(xp.reshape(frames, (-1, *frames.shape[len(lead) :])))
        totals.append(sum(weights[1:], weights[0]))
        currents.append(_wide(xp, xp.reshape(out, (*lead, *out.shape[1:]))) / totals[-1])
    return currents, totals


def _normalised(
    layer: Layer, currents: list[Array], totals: list[float | Array], scale: Array, mean: Array
) -> list[Array]:
    """A (g (Y / A - mean) / sigma + b), in the computing dtype."""
    xp, offset = layer.backend.namespace(mean), 0.0 if layer.bias is None else layer.bias
    pairs = zip(currents, totals, strict=True)
    return [cast(xp, ((y - mean) * scale + offset) * total, layer.weight.dtype) for y, total in pairs]


def _driven(layer: Layer, currents: list[Array], spikes: Array, membrane: Any, first: bool) -> SpikeTrain:
    """Neurons driven by the currents of `_currents`; membranes and spikes in the layout of the call."""
    xp, state = layer.backend.namespace(spikes), check_state(layer, membrane, output_shape(layer, spikes, first))
    if not first:
        return run_segments(layer, currents, spikes.shape[0], state)
    if state is not None:
        state = tuple(channel_to_last(xp, x, 1) for x in state)
    train = run_segments(layer, currents, spikes.shape[0], state)
    return remap(train, lambda x: channel_from_last(xp, x, 2), lambda x: channel_from_last(xp, x, 1))


def _moments(
    xp: Any, currents: list[Array], everywhere: Callable[[Array], Array] | None = None
) -> tuple[Array, Array, Array]:
    """Mean, variance and unbiased variance per channel; of all processes, if `everywhere` sums over them."""
    parts = [xp.reshape(current, (-1, current.shape[-1])) for current in currents]
    n: Any = sum(part.shape[0] for part in parts)
    total = _total(xp, parts)
    if everywhere is not None:  # the number too: processes may have different ones
        sums = everywhere(xp.concat([total, xp.zeros_like(total[:1]) + n], axis=0))
        total, n = sums[:-1], sums[-1, ...]
    mean = total * (1.0 / n)
    squares = _total(xp, [(part - mean) * (part - mean) for part in parts])
    if everywhere is None:
        return mean, squares * (1.0 / n), squares * (1.0 / max(n - 1, 1))
    squares = everywhere(squares)
    return mean, squares * (1.0 / n), squares * (1.0 / xp.where(n > 1.0, n - 1.0, n))


def _total(xp: Any, parts: list[Array]) -> Array:
    """Sum over the rows of all parts (n, C), in blocks of rows, then in blocks of their sums, and so on."""
    totals = []
    for part in parts:
        while part.shape[0] > BLOCK:
            n, channels = part.shape
            blocks = n // BLOCK
            whole = xp.reshape(part[: blocks * BLOCK, ...], (blocks, BLOCK, channels))
            rest = xp.sum(part[blocks * BLOCK :, ...], axis=0, keepdims=True)
            part = xp.concat([xp.sum(whole, axis=1), rest], axis=0)
        totals.append(xp.sum(part, axis=0))
    return sum(totals[1:], totals[0])


def _updated(backend: Backend, share: float, arrays: Mapping[str, Array], *moments: Array) -> Statistics:
    """Moved in float32 or better, stored as they are."""
    updated = {}
    for name, new in zip(STATISTICS, moments, strict=True):
        old = arrays[name]
        xp = backend.namespace(old)
        wide = _wide(xp, old)
        updated[name] = cast(xp, wide + (backend.stop_gradient(new) - wide) * share, old.dtype)
    return updated


def _wide(xp: Any, x: Array) -> Array:
    """`x` in float32 if it has half precision: statistics of a batch, and what is made of them, need more."""
    return cast(xp, x, sum_dtype(xp, x.dtype))


def _softmax(xp: Any, logits: Array) -> Array:
    powers = xp.exp(logits - xp.max(logits, axis=0))  # with an axis, because ONNX knows no other maximum
    return powers / xp.sum(powers, axis=0)
