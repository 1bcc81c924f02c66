"""Argument validation: ``<function>: <argument> must be <rule>; got <value or shape>``, before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .._backend.protocol import Array, Backend
from .._values import (
    as_float,
    as_int,
    as_list,
    check_choice,
    check_count,
    check_flag,
    fail,
    is_array,
    is_number,
    shape_of,
    show,
)
from .hints import layout_hint, uncalled
from .rules import RULES

__all__ = [
    "Derivative",
    "as_float",
    "as_int",
    "as_list",
    "check_aggregation",
    "check_callable",
    "check_choice",
    "check_compact",
    "check_count",
    "check_current",
    "check_decay",
    "check_flag",
    "check_frames",
    "check_groups",
    "check_lengths",
    "check_like",
    "check_spikes",
    "check_surrogate",
    "check_threshold",
    "check_weight",
    "fail",
    "is_array",
    "is_number",
    "shape_of",
    "show",
]

# By library first: torch.compile, which follows every look-up, can't compare another library's dtypes with its own.
_kinds: dict[Any, dict[tuple[Any, str | tuple[str, ...]], bool]] = {}
_largest_numbers: dict[Any, dict[Any, float]] = {}

AGGREGATIONS = tuple(RULES)


def check_groups(function: str, value: object, channels_out: int) -> int:
    """Groups that divide C_out (that they divide C_in shows in the shape of `spikes`)."""
    groups = check_count(function, "groups", value)
    if channels_out % groups:
        raise fail(function, "groups", f"a divisor of the {channels_out} output channels", groups)
    return groups


def check_weight(function: str, xp: Any, weight: Array, dims: range) -> None:
    """(C_out, *kernel, C_in // groups), real floating."""
    if not is_dtype(xp, weight.dtype, "real floating"):
        raise fail(function, "weight", "of a real floating dtype", str(weight.dtype), TypeError)
    if weight.ndim - 2 not in dims:
        allowed = " or ".join(str(2 + d) for d in dims)
        raise fail(function, "weight", f"an array of {allowed} dimensions", f"shape {shape_of(weight)}")
    if 0 in weight.shape:
        raise fail(function, "weight", "nonempty", f"shape {shape_of(weight)}")


def check_frames(function: str, xp: Any, x: Array) -> None:
    """Frames to aggregate: (T, ...), T >= 1, real floating."""
    if not is_dtype(xp, x.dtype, "real floating"):
        raise fail(function, "x", "of a real floating dtype", str(x.dtype), TypeError)
    if x.ndim < 1 or x.shape[0] < 1:
        raise fail(function, "x", "an array (T, ...) with T at least 1", f"shape {shape_of(x)}")


def check_spikes(
    function: str,
    xp: Any,
    spikes: Array,
    channels: int,
    axes: str,
    ndim: int | None,
    weight: tuple[int, ...] = (),
    groups: int = 1,
) -> None:
    """bool, integer or floating spikes of the stated axes with `channels` channels on the axis called C_in or F_in.

    The shape of a convolution's `weight` tells which layout was meant.
    """
    if not is_dtype(xp, spikes.dtype, ("bool", "integral", "real floating")):
        raise fail(function, "spikes", "of a bool, integer or real floating dtype", str(spikes.dtype), TypeError)
    shape = shape_of(spikes)
    if spikes.ndim < 3 or (ndim is not None and spikes.ndim != ndim):
        raise fail(function, "spikes", f"an array {axes}", f"shape {shape}")
    if 0 in shape:
        raise fail(function, "spikes", f"a nonempty array {axes}", f"shape {shape}")
    axis = 2 if axes.startswith("(T, B, C_in") else -1
    if shape[axis] != channels:
        hint = layout_hint(shape, channels, axis, weight, groups) if ndim is not None and ndim > 3 else ""
        raise fail(function, "spikes", f"an array {axes} with {channels} channels", f"shape {shape}{hint}")


def check_current(function: str, xp: Any, current: Array) -> None:
    """(T, B, ..., C) or (T, C), real floating."""
    if not is_dtype(xp, current.dtype, "real floating"):
        raise fail(function, "current", "of a real floating dtype", str(current.dtype), TypeError)
    if current.ndim < 2 or 0 in current.shape:
        raise fail(function, "current", "a nonempty array (T, B, ..., C) or (T, C)", f"shape {shape_of(current)}")


def check_like(
    function: str, argument: str, value: Array | None, like: Array, shape: tuple[int, ...], source: str = "weight"
) -> None:
    """An optional array of the given shape and of the same dtype as `like`, which errors call `source`."""
    if value is None:
        return
    if value.dtype != like.dtype:
        raise fail(function, argument, f"of {source}'s dtype {like.dtype}", str(value.dtype), TypeError)
    if shape_of(value) != shape:
        raise fail(function, argument, f"of shape {shape}", f"shape {shape_of(value)}")


def check_decay(function: str, backend: Backend, like: Array, name: str, decay: object, channels: int) -> float | Array:
    """Decay in [0, 1]: a float, a 0-d array or an array of shape (channels,)."""
    return _parameter(function, backend, like, name, decay, channels, "in [0, 1]", lambda b: 0.0 <= b <= 1.0)


def check_threshold(function: str, backend: Backend, like: Array, threshold: object, channels: int) -> float | Array:
    """Firing threshold, positive and finite in the computing dtype too: a subnormal one could become 0."""
    largest = _largest(backend.namespace(like), like.dtype)
    rule = "positive and finite in {dtype}"
    return _parameter(
        function, backend, like, "threshold", threshold, channels, rule, lambda t: 4.0 / largest <= t <= largest
    )


def _largest(xp: Any, dtype: Any) -> float:
    """The largest number of a dtype, remembered as in `is_dtype`."""
    known = _largest_numbers.setdefault(_name(xp), {})
    if dtype not in known:
        known[dtype] = float(xp.finfo(dtype).max)
    return known[dtype]


def _name(xp: Any) -> Any:
    """A namespace as a key: by its name, because torch.compile can't compare modules."""
    return getattr(xp, "__name__", xp)


def is_dtype(xp: Any, dtype: Any, kind: str | tuple[str, ...]) -> bool:
    """``xp.isdtype``, remembered: it is slow enough to show in the time of a small layer."""
    known = _kinds.setdefault(_name(xp), {})  # no lru_cache, which torch.compile warns of
    if (dtype, kind) not in known:
        known[dtype, kind] = bool(xp.isdtype(dtype, kind))
    return known[dtype, kind]


def _parameter(
    function: str,
    backend: Backend,
    like: Array,
    name: str,
    value: object,
    channels: int,
    rule: str,
    holds: Callable[[float], bool],
) -> float | Array:
    """A neuron parameter; `holds` is false for NaN; `rule` may name the ``{dtype}`` (printing one takes microseconds)."""
    if type(value) is float and holds(value):
        return value
    if is_number(value):
        number = as_float(value)
        if not holds(number):
            raise fail(function, name, rule.format(dtype=like.dtype), value)
        return number
    if isinstance(value, (bool, str)) or value is None:
        raise fail(function, name, "a number or an array", show(value), TypeError)
    array = _array_like(function, backend, like, name, value)
    if shape_of(array) not in ((), (1,), (channels,)):
        raise fail(function, name, f"a number or an array broadcastable to ({channels},)", f"shape {shape_of(array)}")
    for number in backend.read(array) or ():
        if not holds(number):
            raise fail(function, name, rule.format(dtype=like.dtype), f"an array that holds {number}")
    xp = backend.namespace(like)
    return xp.reshape(array, ()) if shape_of(array) == (1,) else array


def _array_like(function: str, backend: Backend, like: Array, name: str, value: Any) -> Array:
    """An array of the same library and dtype as `like` (the caller has checked the device)."""
    if not backend.owns(value):
        rule = f"a number or an array of the same library as the other arrays ({backend.name})"
        raise fail(function, name, rule, f"{type(value).__module__}.{type(value).__qualname__}", TypeError)
    value = backend.number(value, like.dtype)
    if value.dtype != like.dtype:
        raise fail(function, name, f"of the other arrays' dtype {like.dtype}", str(value.dtype), TypeError)
    return value


def check_aggregation(
    function: str, backend: Backend, like: Array, value: Any, chunk_size: int
) -> str | tuple[Array, ...]:
    """A rule's name, or K weights, which are returned as a tuple of 0-d arrays."""
    if isinstance(value, str):
        return check_choice(function, "aggregation", value, AGGREGATIONS)
    if not backend.owns(value):
        words = ", ".join(map(repr, AGGREGATIONS))
        rule = f"one of {words} or an array of the same library as the other arrays ({backend.name})"
        raise fail(function, "aggregation", rule, f"{type(value).__module__}.{type(value).__qualname__}", TypeError)
    check_like(function, "aggregation", value, like, (chunk_size,), "the other arrays")
    return tuple(value[k, ...] for k in range(chunk_size))


@dataclass(frozen=True)
class Derivative:
    """A surrogate whose results are checked; equal to another of an equal surrogate."""

    function: str
    backend: Backend
    surrogate: Callable[[Array], Array]

    def __hash__(self) -> int:
        """Of the fields that there are: torch.compile asks before there are any (PyTorch 2.11)."""
        return hash(tuple(vars(self).values()))

    def __call__(self, x: Array) -> Array:
        """The derivative at x, which may be one number for all."""
        slope = self.surrogate(x)
        if type(slope) in (int, float):
            return slope
        like = f"a function that returns an array of its argument's shape {shape_of(x)} and dtype {x.dtype}"
        if not self.backend.owns(slope) or slope.dtype != x.dtype:
            got = (
                f"{slope.dtype}" if self.backend.owns(slope) else f"{type(slope).__module__}.{type(slope).__qualname__}"
            )
            raise fail(self.function, "surrogate", like, f"one that returns {got}", TypeError)
        if shape_of(slope) != shape_of(x):
            raise fail(self.function, "surrogate", like, f"one that returns shape {shape_of(slope)}")
        return slope


def check_callable(function: str, surrogate: Any) -> Callable[[Array], Array] | None:
    """None, or a function; a class is none, though it can be called, nor is what makes surrogates."""
    if name := uncalled(surrogate):
        rule = f"called: surrogate=tacops.surrogate.{name}()"
        raise fail(function, "surrogate", rule, f"{name} itself, which makes surrogates", TypeError)
    if surrogate is not None and (not callable(surrogate) or isinstance(surrogate, type)):
        raise fail(function, "surrogate", "None or a function of the centred membrane", show(surrogate), TypeError)
    return surrogate


def check_surrogate(function: str, backend: Backend, surrogate: Any) -> Derivative | None:
    """None, or a function of the centred membrane on a backend that differentiates."""
    if check_callable(function, surrogate) is None:
        return None
    if not backend.differentiable:
        rule = "None on arrays that have no gradients (JAX, MLX and PyTorch arrays have)"
        raise fail(function, "surrogate", rule, f"one with {backend.name} arrays")
    return Derivative(function, backend, surrogate)


def check_compact(function: str, compact: object, surrogate: object) -> None:
    """A flag, and False where gradients have to flow."""
    if check_flag(function, "compact", compact) and surrogate is not None:
        raise fail(function, "compact", "False with a surrogate, because bool spikes carry no gradient", compact)


def check_lengths(function: str, backend: Backend, lengths: Any, frames: Array) -> Array | None:
    """Frames of each sample, 0 to T: None, integers, or an integer array of shape (B,); an array with the dtype of indices."""
    if lengths is None:
        return None
    xp, (T, B) = backend.namespace(frames), tuple(frames.shape[:2])
    # a batch of unknown size is a symbol, which can't be compared
    dtype = xp.int64 if isinstance(B, int) and T * B >= 2**31 else xp.int32
    if isinstance(lengths, (tuple, list)):
        counts = [as_int(n) for n in lengths]
        if None in counts:
            raise fail(function, "lengths", "integers", show(lengths), TypeError)
        _check_lengths(function, (len(counts),), counts, B, T)
        if backend.blockwise:  # whose blocks make arrays of them
            return tuple(counts)
        zero = xp.astype(xp.zeros_like(xp.reshape(frames, (-1,))[0, ...]), dtype)
        return xp.stack([zero + n for n in counts], axis=0)
    if not backend.owns(lengths) or not is_dtype(xp, lengths.dtype, "integral"):
        rule = f"integers, or an integer array of the same library as the other arrays ({backend.name})"
        raise fail(function, "lengths", rule, getattr(lengths, "dtype", type(lengths).__name__), TypeError)
    known = backend.read(lengths) if shape_of(lengths) == (B,) else None
    _check_lengths(function, shape_of(lengths), known or (), B, T)
    # blocks check what they hold, which a narrower dtype would change
    return lengths if backend.blockwise else xp.astype(lengths, dtype)


def _check_lengths(function: str, shape: tuple[int, ...], counts: Iterable[Any], B: int, T: int) -> None:
    if shape != (B,):
        raise fail(function, "lengths", f"one for each of the {B} samples", f"shape {shape}")
    for count in counts:
        if not 0 <= count <= T:
            raise fail(function, "lengths", f"from 0 to the {T} frames", count)
