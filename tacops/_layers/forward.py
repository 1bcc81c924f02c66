r"""A trainable layer's forward pass, written once for the three frameworks.

Parameters become the operator's numbers: :math:`\beta = \sigma(l)`, :math:`\vartheta = e^l`, aggregation weights
:math:`a = G \, \mathrm{softmax}(l)` with the fixed gain G that the rule they start from sums to.

Batch normalisation belongs to a frame, :math:`g (y - \mu) / \sigma + b`, and like the convolution it commutes with
aggregation: with :math:`A = \sum_k a_k` and the aggregated :math:`Y = \sum_k a_k y_k`,

.. math:: \sum_k a_k \left(g \frac{y_k - \mu}{\sigma} + b\right) = A \left(g \frac{Y / A - \mu}{\sigma} + b\right)

So the statistics are those of Y / A, whatever the chunk's length, and at inference the norm folds into weight and bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from .._backend.dispatch import backend_of, undisturbed
from .._backend.protocol import Array, Backend, sum_dtype
from .._core.aggregation import cast, chunk_weights, merge_chunks, segments, widen
from .._core.arguments import _channel_from_last, _channel_to_last
from .._core.checks import check_flag, check_like, check_spikes, fail
from .._core.run import SpikeTrain, TracedSpikeTrain, decay_of, remap
from .._core.synapses import Convolve
from .._operators import lif, tac_conv, tac_linear
from .checks import PerChannel
from .spec import STATISTICS, LayerSpec

__all__ = ["Numbers", "Statistics", "effective", "fold", "operator_options", "run", "simulate", "spikes_of"]

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
        if spec.chunk_size == 1:
            return "sum"  # one frame of weight 1, whatever the rule
        if "aggregation" not in spec.learn:
            return spec.aggregation
        tail, dtype = slice(spec.chunk_size - size, None), arrays["aggregation_logits"].dtype
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
        0.5 + 0.5 * xp.tanh(0.5 * stored("beta_logit", spec.beta)) if "beta" in spec.learn else spec.beta,
        xp.exp(stored("threshold_log", spec.threshold)) if "threshold" in spec.learn else spec.threshold,
        aggregation,
    )


def fold(spec: LayerSpec, numbers: Numbers, scale: Array, mean: Array, var: Array) -> Numbers:
    """`numbers` with the norm in their weight and bias."""
    weight, xp = numbers.weight, backend_of(scale).namespace(scale)
    scale, mean, var = (_wide(xp, array) for array in (scale, mean, var))
    factor = scale / (var + spec.epsilon) ** 0.5
    bias = -mean * factor if numbers.bias is None else numbers.bias - mean * factor
    folded = weight * xp.reshape(factor, (-1, *(1 for _ in weight.shape[1:])))
    return numbers._replace(weight=cast(xp, folded, weight.dtype), bias=cast(xp, bias, weight.dtype))


def operator_options(spec: LayerSpec) -> dict[str, Any]:
    """The operator's keyword arguments that are no arrays."""
    options = {name: getattr(spec, name) for name in ("chunk_size", "mode", "reset", "reproducible")}
    if spec.kernel:
        window = {name: getattr(spec.window, name) for name in ("stride", "padding", "dilation", "groups")}
        options |= {**window, "layout": spec.layout}
    return options


@undisturbed
def simulate(
    spikes: Array, numbers: Numbers, membrane: Array | None, *, own_tail: bool, layer: str, **options: Any
) -> SpikeTrain:
    """Call the operator: `tac_linear` if the weight has no kernel; twice if a shorter last chunk has its `own_tail` of weights."""
    weight = numbers.weight
    operator = tac_conv if weight.ndim > 2 else tac_linear
    if options.get("layout") == "channels_first":
        weight = _channel_from_last(backend_of(weight).namespace(weight), weight, 1)
    options |= {"beta": numbers.beta, "threshold": numbers.threshold}
    T, K = (
        spikes.shape[0] if spikes.ndim else 0,
        options.pop("chunk_size"),
    )  # no frames: the operator says what is wrong
    if own_tail and K > 1 and options.get("lengths") is not None:
        rule = "None where learned aggregation weights sum to one, because those of a shorter chunk are others"
        raise fail(layer, "lengths", rule, "lengths")
    spans = segments(T, K) if own_tail and T % K else [(0, T, K)]
    trains: list[SpikeTrain] = []
    for start, stop, size in spans:
        train = operator(
            spikes if len(spans) == 1 else spikes[start:stop, ...],
            weight,
            numbers.bias,
            chunk_size=size,
            aggregation=numbers.aggregation(size),
            membrane=membrane,
            **options,
        )
        trains.append(train)
        membrane = train.membrane
    return _train(trains)


def run(
    spec: LayerSpec,
    arrays: Mapping[str, Array],
    spikes: Array,
    membrane: Array | None,
    *,
    training: bool,
    momentum: float | None = None,
    lengths: Any = None,
    trace: bool = False,
) -> tuple[SpikeTrain, Statistics]:
    """The layer's answer, and its running statistics after a batch of training (empty if there are none to keep).

    `momentum` is the share of the running statistics that the batch replaces, the layer's own unless given.
    """
    weight = arrays["weight"]
    if spikes is None:
        raise fail(spec.layer, "spikes", "an array", None, TypeError)
    backend = backend_of(weight, spikes, membrane, function=spec.layer, names=("weight", "spikes", "membrane"))
    xp, dims, first = backend.namespace(weight), len(spec.kernel), spec.layout == "channels_first"
    axes = ("(T, B, C_in, *S)" if first else "(T, B, *S, C_in)") if dims else "(T, B, ..., F_in)"
    check_spikes(spec.layer, xp, spikes, spec.channels_in, axes, dims + 3 if dims else None)
    check_flag(spec.layer, "trace", trace)
    if lengths is not None and spec.batch_norm and training:
        rule = "None in training with batch_norm, whose statistics are those of whole frames"
        raise fail(spec.layer, "lengths", rule, "lengths")
    numbers, statistics = effective(spec, arrays), {}
    if spec.batch_norm:
        mean, var = (arrays[name] for name in STATISTICS)
        if training:
            frames = _channel_to_last(xp, spikes, 2) if first else spikes
            currents, totals = _currents(spec, backend, numbers, frames)
            mean, var, unbiased = _moments(xp, currents)
            share = spec.momentum if momentum is None else momentum
            statistics = _updated(backend, share, arrays, mean, unbiased)
            if spec.reproducible is False:
                factor = arrays["norm_scale"] / (var + spec.epsilon) ** 0.5
                offset = 0.0 if numbers.bias is None else numbers.bias
                scaled = [
                    cast(xp, ((current - mean) * factor + offset) * total, weight.dtype)
                    for current, total in zip(currents, totals, strict=True)
                ]
                return _neurons(spec, xp, numbers, scaled, spikes.shape[0], membrane, trace), statistics
        numbers = fold(spec, numbers, arrays["norm_scale"], mean, var)
    own_tail = spec.normalised and "aggregation" in spec.learn
    options = {name: getattr(spec, name) for name in ("layer", "surrogate", "detach_reset", "remat")}
    options |= operator_options(spec) | {"lengths": lengths, "trace": trace}
    return simulate(spikes, numbers, membrane, own_tail=own_tail, **options), statistics


def _currents(
    spec: LayerSpec, backend: Backend, numbers: Numbers, spikes: Array
) -> tuple[list[Array], list[float | Array]]:
    """Y / A, without bias, of the full chunks and of the shorter one, and A; channels last, float32 or better."""
    xp, dtype, dims = backend.namespace(spikes), numbers.weight.dtype, len(spec.kernel)
    conv = Convolve(backend, spec.window, numbers.weight, None)
    currents, totals = [], []
    for start, stop, size in segments(spikes.shape[0], spec.chunk_size):
        given = numbers.aggregation(size)
        rule = given if isinstance(given, str) else tuple(given[k, ...] for k in range(size))
        weights = chunk_weights(widen(backend, rule), size, widen(backend, numbers.beta))
        frames = merge_chunks(backend, spikes[start:stop, ...], weights, dtype)
        lead = frames.shape[: frames.ndim - dims - 1]
        out = conv(xp.reshape(frames, (math.prod(lead), *frames.shape[len(lead) :])))
        totals.append(sum(weights[1:], weights[0]))
        currents.append(_wide(xp, xp.reshape(out, (*lead, *out.shape[1:]))) / totals[-1])
    return currents, totals


def _moments(xp: Any, currents: list[Array]) -> tuple[Array, Array, Array]:
    """Mean, variance and unbiased variance per channel."""
    parts = [xp.reshape(current, (-1, current.shape[-1])) for current in currents]
    n = sum(part.shape[0] for part in parts)
    mean = _total(xp, parts) * (1.0 / n)
    squares = _total(xp, [(part - mean) * (part - mean) for part in parts])
    return mean, squares * (1.0 / n), squares * (1.0 / max(n - 1, 1))


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


def _neurons(
    spec: LayerSpec,
    xp: Any,
    numbers: Numbers,
    currents: list[Array],
    T: int,
    membrane: Array | None,
    trace: bool,
) -> SpikeTrain:
    """Neurons driven by the currents of `_currents`; membranes and spikes in the layer's layout."""
    first, backend = spec.layout == "channels_first", backend_of(numbers.weight)
    batch, *space, channels = currents[0].shape[1:]
    shape = (batch, channels, *space) if first else (batch, *space, channels)
    check_like(spec.layer, "membrane", membrane, numbers.weight, shape)
    if first and membrane is not None:
        membrane = _channel_to_last(xp, membrane, 1)
    trains: list[SpikeTrain] = []
    preserve = spec.mode == "preserve"
    for current, (_, _, size) in zip(currents, segments(T, spec.chunk_size), strict=True):
        train = lif(
            current,
            beta=numbers.beta if preserve else decay_of(backend, numbers.beta, size),
            threshold=numbers.threshold,
            reset=spec.reset,
            repeat=size if preserve else 1,
            membrane=membrane,
            trace=trace,
            surrogate=spec.surrogate,
            detach_reset=spec.detach_reset,
            remat=spec.remat,
        )
        trains.append(train)
        membrane = train.membrane
    whole = _train(trains)
    if not first:
        return whole
    return remap(whole, lambda x: _channel_from_last(xp, x, 2), lambda x: _channel_from_last(xp, x, 1))


def _train(parts: list[SpikeTrain]) -> SpikeTrain:
    """Trains one after the other as one."""
    if len(parts) == 1:
        return parts[0]
    xp = backend_of(parts[0].spikes).namespace(parts[0].spikes)
    spikes, membrane = xp.concat([part.spikes for part in parts], axis=0), parts[-1].membrane
    if not isinstance(parts[0], TracedSpikeTrain):
        return SpikeTrain(spikes, membrane)
    return TracedSpikeTrain(spikes, membrane, xp.concat([part.trace for part in parts], axis=0))


def _wide(xp: Any, x: Array) -> Array:
    """`x` in float32 if it has half precision: statistics of a batch, and what is made of them, need more."""
    return cast(xp, x, sum_dtype(xp, x.dtype))


def _softmax(xp: Any, logits: Array) -> Array:
    powers = xp.exp(logits - xp.max(logits, axis=0))  # with an axis, because ONNX knows no other maximum
    return powers / xp.sum(powers, axis=0)
