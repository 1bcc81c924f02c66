"""Mistakes that were planted by somebody who had not seen the checks, and that none found: more entries for ``mutants.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .. import surrogate
from .._backend.protocol import Array, Backend, State, Window
from .._core import arguments, checks, grid, run, scale
from .._core.aggregation import decay_power
from .._core.neurons import LIFStep
from ._faults import LARGE, PLAIN, parent
from ._host import np

__all__ = ["MORE_METHODS", "MORE_PATCHES"]


# Mistakes of the adapter


def _no_depthwise_bias(self: Any, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
    depthwise = window.groups > 1 and weight.shape[0] == window.groups and weight.shape[-1] == 1
    return parent(self).conv(self, x, weight, None if depthwise else bias, window, exact=exact)


def _sliced_first(self: Any, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
    right = parent(self).conv(self, x, weight, bias, window, exact=exact)
    if max(window.stride, default=1) == 1 or max(weight.shape[1:-1]) > 1 or not any(map(any, window.padding)):
        return right
    x = x[(slice(None), *(slice(None, None, step) for step in window.stride), ...)]
    window = replace(window, stride=(1,) * len(window.stride))
    out = parent(self).conv(self, x, weight, bias, window, exact=exact)
    return out[(slice(None), *(slice(0, size) for size in right.shape[1:-1]), ...)]


def _dilation_remembered(
    self: Any, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool
) -> Array:
    """What is kept of a window is found again by a key without its dilation, where the first axis fits."""
    space = window.output_shape(x.shape[1:-1], weight.shape[1:-1])
    key = tuple(x.shape), tuple(weight.shape), space[:1], window.stride, window.padding
    window = self.__dict__.setdefault("_dilations", {}).setdefault(key, window)
    return parent(self).conv(self, x, weight, bias, window, exact=exact)


def _weights_half(self: Any, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
    xp = self.namespace(x)
    if dtype not in (xp.float32, xp.float64) and all(isinstance(weight, float) for weight in weights):
        rounded = xp.astype(xp.astype(self.from_numpy(np.array(weights, np.float32)), dtype), xp.float32)
        weights = [float(weight) for weight in self.to_numpy(rounded)]
    return parent(self).weighted_sum(self, x, weights, dtype)


def _wrapped(self: Any, x: Array, low: float, high: float, step: float) -> Array:
    xp = self.namespace(x)
    for bits in (16, 32):
        if x.dtype == getattr(xp, f"uint{bits}"):
            x = xp.astype(x, getattr(xp, f"int{bits}"))
    return parent(self).on_grid(self, x, low, high, step)


def _shifted(self: Any, step: LIFStep, currents: Array, state: State | None, repeat: int) -> Any:
    """One threshold per channel, written out for 1024 neurons and repeated, whether or not channels divide 1024."""
    shape, wrong = tuple(currents.shape[1:]), step
    if math.prod(currents.shape) >= LARGE and not isinstance(step.threshold, float) and step.threshold.ndim:
        places = (np.arange(math.prod(shape)) % 1024 % shape[-1]).astype(np.int32)
        xp = self.namespace(currents)
        wrong = replace(step, threshold=xp.reshape(xp.take(step.threshold, self.from_numpy(places), axis=0), shape))
    return Backend.scan(self, wrong, currents, state, repeat)


MORE_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "depthwise-unbiased": ("no bias where every channel is a group of its own", {**PLAIN, "conv": _no_depthwise_bias}),
    "sliced-first": (
        "1 x 1 kernels with a stride: frames sliced before they are padded",
        {"conv": _sliced_first, **PLAIN},
    ),
    "dilation-remembered": (
        "a window reused for one that differs in its dilation along a later axis",
        {**PLAIN, "conv": _dilation_remembered},
    ),
    "weights-half": (
        "aggregation weights rounded to half precision before they are summed",
        {**PLAIN, "weighted_sum": _weights_half},
    ),
    "unsigned-wrapped": ("unsigned integers off the grid taken for signed ones", {**PLAIN, "on_grid": _wrapped}),
    "parameters-shifted": (
        "many neurons: thresholds per channel shifted where channels divide no power of two",
        {**PLAIN, "scan": _shifted},
    ),
}


# Mistakes of the core

_check_decay, _check_inputs = checks.check_decay, grid.check_inputs
_of_chunk, _run_layer = run._of_chunk, run.run_layer


def _power_rounded(backend: Backend, decay: float | Array, size: int) -> float | Array:
    return decay_power(decay, size)


def _whole_synapse(backend: Backend, time: Any, neurons: Any, size: int) -> Any:
    changed = _of_chunk(backend, time, neurons, size)
    if neurons.synapse_decay is None or time.preserve:
        return changed
    return replace(changed, synapse_decay=decay_power(neurons.synapse_decay, time.chunk_size))


def _pair_unmoved(layer: Any, spikes: Array, state: State | None, *rest: Any) -> Any:
    """The second array of a given state with channels first stays as it is, where its sizes don't tell."""
    if state is not None and len(state) > 1 and state[1].ndim > 2 and len(set(state[1].shape[1:])) == 1:
        xp, axes = layer.backend.namespace(state[1]), state[1].ndim
        state = state[0], xp.permute_dims(state[1], (0, axes - 1, *range(1, axes - 1)))
    return _run_layer(layer, spikes, state, *rest)


def _any_decay(function: str, backend: Backend, like: Array, name: str, decay: Any, channels: int) -> Any:
    undefined = isinstance(decay, float) and math.isnan(decay)
    return decay if undefined else _check_decay(function, backend, like, name, decay, channels)


def _unmarked(*given: Any) -> None:
    _check_inputs(*given)


MORE_PATCHES: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "power-rounded": ("the power of a half-precision decay rounded at every factor", run, "_power", _power_rounded),
    "synapse-whole": (
        "a synaptic current decays by a whole chunk in a shorter one",
        run,
        "_of_chunk",
        _whole_synapse,
    ),
    "pair-unmoved": (
        "a given synaptic current with channels first not moved where C = H = W",
        arguments,
        "run_layer",
        _pair_unmoved,
    ),
    "nan-decay": ("NaN taken for a decay", checks, "check_decay", _any_decay),
    "surrogates-alike": (
        "surrogates of different slopes taken for equal",
        surrogate.Surrogate,
        "__eq__",
        lambda one, other: one.name == other.name,
    ),
    "poison-lost": (
        "inputs off the grid that can't be read in time leave no mark",
        scale,
        "check_inputs",
        _unmarked,
    ),
}
