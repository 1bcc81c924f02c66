"""Mistakes that only sizes, types and geometries of some kinds show: more entries for the tables of ``mutants.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .._backend.protocol import Array, Backend, State, Window
from .._core import aggregation, arguments, grid, run, scale, train, units
from .._core.neurons import LIFStep

__all__ = ["COMPILED_PATCHES", "LARGE", "METHODS", "PATCHES", "PLAIN", "parent"]

LARGE = 1 << 17
"""Numbers from which an array counts as large."""


def parent(mutant: Any) -> type[Backend]:
    """The backend's class that a mutant's is derived from."""
    kind: type[Backend] = type(mutant).__mro__[1]
    return kind


def _schedule(self: Any, conv: Any, step: LIFStep, frames: Array, state: Any, repeat: int) -> Any:
    return Backend.schedule(self, conv, step, frames, state, repeat)


PLAIN: dict[str, Any] = {"schedule": _schedule}
"""Every layer goes through the mutant's own methods, one after the other, whatever faster way its backend has."""


def _first_again(backend: Backend, x: Array) -> Array:
    """The second half of the first axis is the first one again."""
    half = -(-x.shape[0] // 2)
    return backend.namespace(x).concat([x[:half, ...], x[: x.shape[0] - half, ...]], axis=0)


# Mistakes of the convolution


def _conv(change: Callable[..., Array]) -> dict[str, Any]:
    def conv(self: Any, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        def honest(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
            return parent(self).conv(self, x, weight, bias, window, exact=exact)

        return change(self, honest, x, weight, bias, window)

    return {**PLAIN, "conv": conv}


def _padding_swapped(self: Any, honest: Any, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    if len(window.stride) == 3:
        window = replace(window, padding=tuple((high, low) for low, high in window.padding))
    return honest(x, weight, bias, window)


def _dilation_capped(self: Any, honest: Any, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    right = honest(x, weight, bias, window)
    if not any(d > 2 for d in window.dilation):
        return right
    dilation = tuple(min(d, 2) for d in window.dilation)
    out = honest(x, weight, bias, replace(window, dilation=dilation))
    return out[(slice(None), *(slice(0, size) for size in right.shape[1:-1]), ...)]


def _dense_reused(self: Any, honest: Any, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    out = honest(x, weight, bias, window)
    return out if window.stride or x.shape[0] * x.shape[1] < LARGE else _first_again(self, out)


def _parts_reused(self: Any, honest: Any, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    out = honest(x, weight, bias, window)
    taps = 1
    for size in (*out.shape[:-1], *weight.shape[1:]):
        taps *= size
    return out if not window.stride or taps < 1 << 23 else _first_again(self, out)


def _singles(self: Any, honest: Any, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    xp = self.namespace(x)
    if x.dtype != xp.float64:
        return honest(x, weight, bias, window)
    single = [None if array is None else xp.astype(array, xp.float32) for array in (x, weight, bias)]
    return xp.astype(honest(*single, window), xp.float64)


def _half_sums(self: Any, honest: Any, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """Feature by feature, each sum rounded to half precision."""
    xp, count = self.namespace(x), weight.shape[-1]
    if x.dtype in (xp.float32, xp.float64) or window.stride or count < 500:
        return honest(x, weight, bias, window)
    total = honest(x[:, :1], weight[:, :1], bias, window)
    for n in range(1, count):
        total = total + honest(x[:, n : n + 1], weight[:, n : n + 1], None, window)
    return total


def _padding_remembered(self: Any, honest: Any, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """What is kept of a window is found again by its shapes, which don't tell the two sides of the padding."""
    known = self.__dict__.setdefault("_windows", {})
    space = window.output_shape(x.shape[1:-1], weight.shape[1:-1])
    key = tuple(x.shape), tuple(weight.shape), space, window.stride, window.dilation
    return honest(x, weight, bias, known.setdefault(key, window))


# Mistakes of aggregation


def _sum(change: Callable[..., tuple[Array, Sequence[float | Array]]]) -> dict[str, Any]:
    def weighted_sum(self: Any, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        return parent(self).weighted_sum(self, *change(self, x, weights), dtype)

    return {**PLAIN, "weighted_sum": weighted_sum}


def _frame_dropped(self: Any, x: Array, weights: Sequence[float | Array]) -> tuple[Array, Sequence[float | Array]]:
    return (x, weights) if len(weights) < 16 else (x[:, 1:, ...], weights[1:])


def _weights_single(self: Any, x: Array, weights: Sequence[float | Array]) -> tuple[Array, Sequence[float | Array]]:
    """Numbers rounded to float32's 24 bits."""
    return x, [w * (2.0**29 + 1) - (w * (2.0**29 + 1) - w) if isinstance(w, float) else w for w in weights]


def _large_reused(kinds: Sequence[str]) -> Callable[..., tuple[Array, Sequence[float | Array]]]:
    def change(self: Any, x: Array, weights: Sequence[float | Array]) -> tuple[Array, Sequence[float | Array]]:
        xp, size = self.namespace(x), 1
        for n in x.shape:
            size *= n
        meant = any(x.dtype == getattr(xp, kind, None) for kind in kinds)
        if size < LARGE or not meant or x.shape[2] < 2:
            return x, weights
        return xp.stack(
            [_first_again(self, x[n, k, ...]) for n in range(x.shape[0]) for k in range(x.shape[1])]
        ).reshape(x.shape), weights

    return change


def _negatives_lost(self: Any, conv: Any, step: LIFStep, frames: Array, state: Any, repeat: int) -> Any:
    xp = self.namespace(frames)
    if xp.isdtype(frames.dtype, "signed integer"):
        frames = xp.maximum(frames, xp.zeros_like(frames))
    return Backend.schedule(self, conv, step, frames, state, repeat)


METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "padding-swapped": ("low and high padding swapped in three dimensions", _conv(_padding_swapped)),
    "dilation-capped": ("a dilation above 2 taken for 2", _conv(_dilation_capped)),
    "dense-reused": (
        "large dense layers in two products, the second of which reads the first one's frames",
        _conv(_dense_reused),
    ),
    "parts-reused": ("large convolutions in two parts, the second of which is the first one", _conv(_parts_reused)),
    "float64-single": ("float64 computed in float32", _conv(_singles)),
    "half-sums": ("half precision summed in half precision", _conv(_half_sums)),
    "frame-dropped": ("the first of 16 or more frames of a chunk left out", _sum(_frame_dropped)),
    "bool-sums-reused": ("sums of large bool chunks: the second half is the first one", _sum(_large_reused(["bool"]))),
    "half-casts-reused": (
        "large float16 chunks cast in blocks: the second is the first",
        _sum(_large_reused(["float16"])),
    ),
    "negatives-lost": ("negative integers taken for 0", {**PLAIN, "schedule": _negatives_lost}),
    "padding-remembered": (
        "a window reused for one that differs in the sides of its padding",
        _conv(_padding_remembered),
    ),
    "weights-single": ("aggregation weights of float64 rounded to float32", _sum(_weights_single)),
}


# Mistakes of the core


def _cube_unmoved(layer: Any, spikes: Array, state: State | None, *rest: Any) -> Any:
    """A given membrane with channels first stays as it is where its sizes don't tell."""
    if state is not None and state[0].ndim > 2 and len(set(state[0].shape[1:])) == 1:
        xp, axes = layer.backend.namespace(state[0]), state[0].ndim
        state = tuple(xp.permute_dims(x, (0, axes - 1, *range(1, axes - 1))) for x in state)
    return _run_layer(layer, spikes, state, *rest)


def _signed_sum(backend: Backend, aggregation: Any, chunk_size: int, beta: Any, q: int) -> Any:
    if isinstance(aggregation, str):
        return _largest_sum(backend, aggregation, chunk_size, beta, q)
    return abs(sum(units.unit_weights(backend, aggregation, chunk_size, beta, q)))


def _clean_when_compact(layer: Any, spikes: Array, membrane: Array | None, *rest: Any) -> Any:
    train = _run_layer(layer, spikes, membrane, *rest)
    if not layer.how.compact:
        return train
    xp, after = layer.backend.namespace(train.membrane), train.membrane
    return train._replace(membrane=xp.where(abs(after) < float("inf"), after, xp.zeros_like(after)))


def _unmoved_trace(train: Any, over_time: Callable[[Array], Array], over_space: Callable[[Array], Array]) -> Any:
    return _remap(train, over_time, over_space)._replace(**({"trace": train.trace} if len(train) == 3 else {}))


def _blind_to_integers(function: str, backend: Backend, rules: Any, spikes: Array, like: Array) -> Array | None:
    if backend.namespace(spikes).isdtype(spikes.dtype, "integral"):
        return None
    return _check_inputs(function, backend, rules, spikes, like)


_remap = train.remap
_check_inputs = grid.check_inputs
_run_layer, _largest_sum = run.run_layer, units._largest_sum

PATCHES: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "cube-unmoved": (
        "a given membrane with channels first not moved where C = H = W",
        arguments,
        "run_layer",
        _cube_unmoved,
    ),
    "trace-unmoved": ("a trace left as it is where spikes are laid out anew", arguments, "remap", _unmoved_trace),
    "integers-unseen": ("integers off the grid not refused", scale, "check_inputs", _blind_to_integers),
    "single-unweighted": (
        "chunks of one frame not weighted",
        (run, aggregation),
        "is_one",
        lambda weights: len(weights) == 1,
    ),
    "bound-signed": (
        "aggregation weights of both signs cancel in the bound of the sums",
        units,
        "_largest_sum",
        _signed_sum,
    ),
}
COMPILED_PATCHES: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "compact-clean": (
        "compact results of invalid input in a trace are no NaN",
        arguments,
        "run_layer",
        _clean_when_compact,
    ),
}
"""Mistakes that show in compiled functions only."""
