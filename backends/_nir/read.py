"""A graph of NIR to frozen layers: `write.py` has the equations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import nir
import numpy as np

from tacops._core.checks import fail
from tacops._core.grid import Grid
from tacops._core.window import check_window
from tacops._layers.frozen import check_values
from tacops.layers import Flatten, FrozenLayer, Pool2d, Scale

from .numbers import FUNCTION, ints, naming, per_channel, reals, refuse

__all__ = ["Reading", "read_graph"]

WEIGHTS = (nir.Conv1d, nir.Conv2d, nir.Affine, nir.Linear)
NEURONS = (nir.LIF, nir.IF, nir.CubaLIF)
BETWEEN = (nir.SumPool2d, nir.AvgPool2d, nir.Flatten, nir.Scale)
LARGEST = float(np.finfo(np.float32).max)
MOST_DIRECT = 8192
"""Neurons of vectors without weights, which become a matrix."""
KNOWN = (nir.Input, nir.Output, *WEIGHTS, *NEURONS, *BETWEEN)


class Reading(NamedTuple):
    """How a graph is read: the arguments of `from_nir`, validated."""

    dt: float
    reset: str
    ties: bool
    reproducible: bool | Grid


@dataclass
class _Walk:
    """Where reading has come to: the shape of a frame, and weights whose neurons are still to come."""

    how: Reading
    shape: tuple[int, ...]
    following: dict[str, Any]
    """The node behind each."""
    found: dict[str, Any] = field(default_factory=dict)
    pending: tuple[str, Any] | None = None


def read_graph(graph: Any, how: Reading) -> dict[str, Any]:
    """`tacops.backends.nir_layers.from_nir`."""
    chain = _chain(graph)
    with np.errstate(all="ignore"):  # what overflows is refused
        with naming(chain[0][0]):
            shape = _frame(chain)
        walk = _Walk(how, shape, {name: node for (name, _), (_, node) in pairwise(chain)})
        for name, node in chain[1:-1]:
            with naming(name):
                _step(walk, name, node)
    if walk.pending:
        raise refuse(walk.pending[0], "drives neurons", "none behind it")
    return walk.found


def _step(walk: _Walk, name: str, node: Any) -> None:
    """One node further."""
    pending, shape = walk.pending, walk.shape
    if isinstance(node, NEURONS):
        first, weights = pending or (name, _identity(name, shape))
        with naming(first):
            arrays, options = _weights(first, weights, shape)
        given = _neurons(name, node, arrays, options, walk.how)
        with naming(first):
            layer = FrozenLayer(*given)
            check_values(layer.arrays)
            walk.found[first], walk.shape, walk.pending = layer, _after(layer, shape), None
    elif pending and isinstance(node, nir.Scale):
        walk.pending = (pending[0], _scaled(name, node, *pending))
    elif pending:
        raise refuse(pending[0], "drives neurons", f"a {type(node).__name__} behind it, {name!r}")
    elif isinstance(node, WEIGHTS):
        walk.pending = (name, node)
    else:
        walk.found[name], walk.shape = _between(name, node, shape, walk.following[name])


def _chain(graph: Any) -> list[tuple[str, Any]]:
    """The nodes from Input to Output, of a graph without branches and cycles."""
    for name, node in graph.nodes.items():
        if not isinstance(node, KNOWN):
            rule = "a graph of " + ", ".join(kind.__name__ for kind in KNOWN)
            raise fail(FUNCTION, "graph", rule, f"a {type(node).__name__}, {name!r}", TypeError)
    after: dict[str, str] = {}
    before: dict[str, str] = {}
    for source, target in dict.fromkeys(map(tuple, graph.edges)):
        for ends, start, end, words in ((after, source, target, "leads to"), (before, target, source, "follows")):
            if start in ends:
                got = f"node {start!r}, which {words} {ends[start]!r} and {end!r}"
                raise fail(FUNCTION, "graph", "a chain, without branches and recurrence", got)
            ends[start] = end
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        raise fail(FUNCTION, "graph", "one with a single Input", f"{len(starts)}")
    names = starts
    while names[-1] in after and len(names) <= len(graph.nodes):
        names.append(after[names[-1]])
    if set(names) != set(graph.nodes) or not isinstance(graph.nodes[names[-1]], nir.Output):
        lost = sorted(set(graph.nodes) - set(names))
        got = f"node {lost[0]!r} apart" if lost else f"an end at {names[-1]!r}"
        raise fail(FUNCTION, "graph", "a chain from Input to Output", got)
    return [(name, graph.nodes[name]) for name in names]


def _frame(chain: list[tuple[str, Any]]) -> tuple[int, ...]:
    """Shape of the input; without the batch of one that norse writes, where the first weights tell."""
    name, node = chain[0]
    shape = ints(name, "shape", node.input_type["input"])
    if not shape or min(shape) < 1:
        raise refuse(name, "has a shape of one or more positive sizes", f"{shape}")
    first = chain[1][1]
    if isinstance(first, WEIGHTS) and len(shape) > 1 and shape[0] == 1:
        axes = 1 if isinstance(first, (nir.Affine, nir.Linear)) else np.ndim(first.weight) - 1
        return shape[1:] if len(shape) == axes + 1 else shape
    return shape


def _identity(name: str, shape: tuple[int, ...]) -> Any:
    """Weights for neurons that spikes drive directly."""
    size = shape[0]
    if len(shape) == 1:
        if size > MOST_DIRECT:
            raise refuse(name, f"has weights before it, or at most {MOST_DIRECT} neurons", size)
        return nir.Linear(np.eye(size))
    ones, kind = np.ones((size, 1, *(1 for _ in shape[1:]))), nir.Conv1d if len(shape) == 2 else nir.Conv2d
    space = shape[1] if len(shape) == 2 else shape[1:]
    return kind(space, ones, 1, 0, 1, size, np.zeros(size))


def _weights(name: str, node: Any, shape: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weight, channels last, and bias in float64; options of the operator."""
    weight = reals(name, "weight", node.weight)
    vectors = isinstance(node, (nir.Affine, nir.Linear))
    if 0 in weight.shape or (weight.ndim != 2 if vectors else weight.ndim < 3):
        rule = f"has a nonempty weight of {'two' if vectors else 'three or four'} axes"
        raise refuse(name, rule, f"shape {weight.shape}")
    arrays = {"weight": weight, "bias": _bias(name, node, len(weight))}
    got = f"weights of shape {weight.shape} for a frame of shape {shape}"
    if vectors:
        if shape != (weight.shape[1],):
            raise refuse(name, "takes vectors", got)
        return arrays, {}
    [groups] = ints(name, "groups", node.groups, 1)
    if len(shape) != weight.ndim - 1 or shape[0] != weight.shape[1] * groups:
        raise refuse(name, "fits the frames", got)
    arrays["weight"] = np.moveaxis(weight, 1, -1)
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(padding, str):
        padding = tuple((p, p) for p in ints(name, "padding", padding, weight.ndim - 2))
    moves = {move: ints(name, move, getattr(node, move), weight.ndim - 2) for move in ("stride", "dilation")}
    return arrays, {**moves, "padding": padding, "groups": groups, "layout": "channels_first"}


def _bias(name: str, node: Any, channels: int) -> Any:
    """One number for each channel."""
    if getattr(node, "bias", None) is None:
        return np.zeros(channels)
    bias = reals(name, "bias", node.bias)
    if bias.size != 1 and bias.shape != (channels,):
        raise refuse(name, f"has a bias for {channels} channels", f"shape {bias.shape}")
    return np.broadcast_to(bias.reshape(-1), channels)


def _neurons(
    name: str, node: Any, arrays: dict[str, Any], options: dict[str, Any], how: Reading
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and neurons as arrays and options of one layer, rounded once to float32."""
    channels, dt = len(arrays["weight"]), how.dt

    def number(parameter: str) -> Any:
        return per_channel(name, parameter, getattr(node, parameter), channels)

    def decay(parameter: str) -> Any:
        tau = number(parameter)
        if not np.all(tau >= dt):
            raise refuse(name, f"has a {parameter} of at least dt={dt:g}", f"{tau.min():g}")
        # what was written as dt / (1 - beta) comes back as it was: three roundings are less than half of the last of 15 digits
        return np.round(1.0 - dt / tau, 15)

    if not isinstance(node, nir.IF) and np.any(number("v_leak")):
        raise refuse(name, "has a v_leak of 0", f"{number('v_leak').max():g}")
    if how.reset == "zero" and np.any(number("v_reset")):
        raise refuse(name, "has a v_reset of 0", f"{number('v_reset').max():g}")
    values: dict[str, Any] = {"beta": np.ones(channels), "threshold": _threshold(name, number("v_threshold"), how.ties)}
    gain = number("r")
    if isinstance(node, nir.CubaLIF):
        values |= {"beta": decay("tau_mem"), "synapse_decay": decay("tau_syn")}
        gain = gain * number("w_in") * (dt / number("tau_syn")) * (dt / number("tau_mem"))
    elif isinstance(node, nir.LIF):
        values["beta"] = decay("tau")
        gain = gain * (dt / number("tau"))
    else:
        gain = gain * dt
    found = {"weight": arrays["weight"] * gain.reshape(-1, *(1 for _ in arrays["weight"].shape[1:]))}
    if np.any(arrays["bias"]):
        found["bias"] = arrays["bias"] * gain
    for key, value in values.items():
        if np.all(value == value[0]):
            options[key] = float(value[0])
        elif key == "synapse_decay":
            raise refuse(name, "has one tau_syn", "several")
        else:
            found[key] = value
    options |= {"chunk_size": 1, "reset": how.reset, "reproducible": how.reproducible}
    return {key: np.ascontiguousarray(value, np.float32) for key, value in found.items()}, options


def _threshold(name: str, threshold: Any, ties: bool) -> Any:
    """The smallest float32 above, where NIR's neurons fire and not at it; tacops fires at it, too."""
    near = threshold.astype(np.float32)
    above = near >= threshold if ties else near > threshold
    found = np.where(above, near, np.nextafter(near, np.float32(np.inf))).astype(np.float64)
    if not np.all((threshold > 0.0) & (found >= 4.0 / LARGEST) & (found <= LARGEST)):
        rule = "has a v_threshold above 0, and normal and finite in float32"
        raise refuse(name, rule, f"{threshold.min():g} to {threshold.max():g}")
    return found


def _scaled(name: str, node: Any, before: str, weights: Any) -> Any:
    """Weights times factors that follow them."""
    with naming(before):
        weight = reals(before, "weight", weights.weight)
        bias = _bias(before, weights, len(weight))
    factors = reals(name, "scale", node.scale)
    if factors.size != 1 and factors.ndim != weight.ndim - 1:
        raise refuse(name, f"has a scale of {weight.ndim - 1} axes, a frame's", f"shape {factors.shape}")
    factors = per_channel(name, "scale", factors, len(weight))
    kind = nir.Affine if isinstance(weights, nir.Linear) else type(weights)
    given = {
        key: getattr(weights, key)
        for key in ("input_shape", "stride", "padding", "dilation", "groups")
        if hasattr(weights, key)
    }
    rows = factors.reshape(-1, *(1 for _ in weight.shape[1:]))
    return kind(weight=weight * rows, bias=bias * factors, **given)


def _after(layer: FrozenLayer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a frame behind a layer."""
    channels, *kernel = layer.arrays["weight"].shape[:-1]
    if len(shape) == 1:
        return (channels,)
    moves = {move: layer.options[move] for move in ("stride", "padding", "dilation", "groups")}
    window = check_window("FrozenLayer", shape[1:], tuple(kernel), **moves)
    return (channels, *window.output_shape(shape[1:], tuple(kernel)))


def _between(name: str, node: Any, shape: tuple[int, ...], following: Any) -> tuple[Any, tuple[int, ...]]:
    if isinstance(node, nir.Scale):
        factors = reals(name, "scale", node.scale).astype(np.float32)
        check_values({"weight": factors})
        fits = factors.ndim == len(shape) and all(n in (1, size) for n, size in zip(factors.shape, shape, strict=True))
        if factors.size != 1 and not fits:
            raise refuse(name, f"has a scale for frames of shape {shape}", f"shape {factors.shape}")
        return Scale(np.broadcast_to(factors, shape).copy() if factors.ndim else factors), shape
    if isinstance(node, nir.Flatten):
        [start], [end] = (ints(name, key, getattr(node, key), 1) for key in ("start_dim", "end_dim"))
        whole = end in (-1, len(shape) - 1)
        # a start of 1 counts the batch, or the channels; a layer of vectors tells
        dense = isinstance(following, (nir.Affine, nir.Linear)) and np.shape(following.weight)[-1:] == (
            math.prod(shape),
        )
        if not whole or not (start == 0 or dense or len(shape) == 1):
            raise refuse(name, "flattens all axes", f"from {start} to {end}")
        return Flatten("channels_first"), (math.prod(shape),)
    if len(shape) != 3:
        raise refuse(name, "pools two spatial axes", f"frames of shape {shape}")
    kernel, stride, padding = (ints(name, key, getattr(node, key), 2) for key in ("kernel_size", "stride", "padding"))
    kind: Any = "sum" if isinstance(node, nir.SumPool2d) else "mean"
    pool = Pool2d(kind, kernel, stride, padding, "channels_first")
    return pool, (shape[0], *pool.output_shape(shape[1:]))
