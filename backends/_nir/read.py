"""A graph of NIR to frozen layers: `write.py` has the equations."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import nir
import numpy as np

from tacops._core.checks import fail
from tacops._core.grid import Grid
from tacops.layers import Flatten, FrozenLayer, Pool2d, Scale

__all__ = ["Reading", "read_graph"]

FUNCTION = "from_nir"
WEIGHTS = (nir.Conv1d, nir.Conv2d, nir.Affine, nir.Linear)
NEURONS = (nir.LIF, nir.IF, nir.CubaLIF)
BETWEEN = (nir.SumPool2d, nir.AvgPool2d, nir.Flatten, nir.Scale)
KNOWN = (nir.Input, nir.Output, *WEIGHTS, *NEURONS, *BETWEEN)


class Reading(NamedTuple):
    """How a graph is read: the arguments of `from_nir`, validated."""

    dt: float
    reset: str
    ties: bool
    reproducible: bool | Grid


def read_graph(graph: Any, how: Reading) -> dict[str, Any]:
    """`tacops.backends.nir_layers.from_nir`."""
    found: dict[str, Any] = {}
    chain = _chain(graph)
    shape = _frame(chain)
    pending: tuple[str, Any] | None = None
    for name, node in chain[1:-1]:
        if isinstance(node, NEURONS):
            weights = pending or (name, _identity(shape))
            found[weights[0]] = layer = _layer(name, node, *_weights(*weights, shape), how)
            shape, pending = _after(weights[1], layer, shape), None
        elif pending and isinstance(node, nir.Scale):
            pending = (pending[0], _scaled(name, node, pending[1]))
        elif pending:
            rule = f"one whose node {pending[0]!r} drives neurons"
            raise fail(FUNCTION, "graph", rule, f"a {type(node).__name__} behind it, {name!r}")
        elif isinstance(node, WEIGHTS):
            pending = (name, node)
        else:
            found[name], shape = _between(name, node, shape, chain)
    if pending:
        raise fail(FUNCTION, "graph", f"one whose node {pending[0]!r} drives neurons", "none behind it")
    return found


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
    shape = tuple(int(size) for size in np.atleast_1d(chain[0][1].input_type["input"]))
    first = chain[1][1]
    if isinstance(first, WEIGHTS) and len(shape) > 1 and shape[0] == 1:
        axes = 1 if isinstance(first, nir.Affine | nir.Linear) else np.ndim(first.weight) - 1
        return shape[1:] if len(shape) == axes + 1 else shape
    return shape


def _identity(shape: tuple[int, ...]) -> Any:
    """Weights for neurons that spikes drive directly."""
    size = shape[0]
    if len(shape) == 1:
        return nir.Linear(np.eye(size))
    ones, kind = np.ones((size, 1, *(1 for _ in shape[1:]))), nir.Conv1d if len(shape) == 2 else nir.Conv2d
    space = shape[1] if len(shape) == 2 else shape[1:]
    return kind(space, ones, 1, 0, 1, size, np.zeros(size))


def _weights(name: str, node: Any, shape: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weight, channels last, and bias in float64; options of the operator."""
    weight = np.asarray(node.weight, np.float64)
    bias = np.asarray(node.bias, np.float64) if getattr(node, "bias", None) is not None else np.zeros(len(weight))
    if bias.size == 1:
        bias = np.full(len(weight), bias.item())
    arrays = {"weight": weight, "bias": bias}
    if isinstance(node, nir.Affine | nir.Linear):
        if weight.ndim != 2 or shape != (weight.shape[1],):
            got = f"weights of shape {weight.shape} for a frame of shape {shape}"
            raise fail(FUNCTION, "graph", f"one whose node {name!r} takes vectors", got)
        return arrays, {}
    if len(shape) != weight.ndim - 1 or shape[0] != weight.shape[1] * int(node.groups):
        got = f"weights of shape {weight.shape} for a frame of shape {shape}"
        raise fail(FUNCTION, "graph", f"one whose node {name!r} fits the frames", got)
    arrays["weight"] = np.moveaxis(weight, 1, -1)
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(padding, str):
        padding = tuple((int(p), int(p)) for p in np.broadcast_to(padding, weight.ndim - 2))
    moves = {
        move: tuple(int(n) for n in np.broadcast_to(getattr(node, move), weight.ndim - 2))
        for move in ("stride", "dilation")
    }
    return arrays, {**moves, "padding": padding, "groups": int(node.groups), "layout": "channels_first"}


def _layer(name: str, node: Any, arrays: dict[str, Any], options: dict[str, Any], how: Reading) -> FrozenLayer:
    """Weights and neurons as one layer, rounded once to float32."""
    channels, dt = len(arrays["weight"]), how.dt

    def number(parameter: str) -> Any:
        return _per_channel(name, parameter, getattr(node, parameter), channels)

    def decay(parameter: str) -> Any:
        tau = number(parameter)
        if not np.all((tau >= dt) & np.isfinite(tau)):
            rule = f"one whose node {name!r} has a {parameter} of at least dt={dt:g}"
            raise fail(FUNCTION, "graph", rule, f"{tau.min():g}")
        return np.round(1.0 - dt / tau, 12)  # what was written as 1 - dt / tau comes back as it was

    if not isinstance(node, nir.IF) and np.any(number("v_leak")):
        raise fail(FUNCTION, "graph", f"one whose node {name!r} has a v_leak of 0", f"{number('v_leak').max():g}")
    if how.reset == "zero" and np.any(number("v_reset")):
        raise fail(FUNCTION, "graph", f"one whose node {name!r} has a v_reset of 0", f"{number('v_reset').max():g}")
    values: dict[str, Any] = {"beta": np.ones(channels), "threshold": _threshold(number("v_threshold"), how.ties)}
    gain = number("r")
    if isinstance(node, nir.CubaLIF):
        values |= {"beta": decay("tau_mem"), "synapse_decay": decay("tau_syn")}
        gain = gain * number("w_in") * (dt / number("tau_syn")) * (dt / number("tau_mem"))
    elif isinstance(node, nir.LIF):
        values["beta"] = decay("tau")
        gain = gain * (dt / number("tau"))
    else:
        gain = gain * dt
    if not np.all(values["threshold"] > 0.0):
        raise fail(FUNCTION, "graph", f"one whose node {name!r} has a v_threshold above 0", "another")
    found = {"weight": arrays["weight"] * gain.reshape(-1, *(1 for _ in arrays["weight"].shape[1:]))}
    if np.any(arrays["bias"]):
        found["bias"] = arrays["bias"] * gain
    for key, value in values.items():
        if np.all(value == value[0]):
            options[key] = float(value[0])
        elif key == "synapse_decay":
            raise fail(FUNCTION, "graph", f"one whose node {name!r} has one tau_syn", "several")
        else:
            found[key] = value
    options |= {"chunk_size": 1, "reset": how.reset, "reproducible": how.reproducible}
    return FrozenLayer({key: np.ascontiguousarray(value, np.float32) for key, value in found.items()}, options)


def _threshold(threshold: Any, ties: bool) -> Any:
    """The smallest float32 above, where NIR's neurons fire and not at it; tacops fires at it, too."""
    near = threshold.astype(np.float32)
    above = near >= threshold if ties else near > threshold
    return np.where(above, near, np.nextafter(near, np.float32(np.inf))).astype(np.float64)


def _per_channel(name: str, parameter: str, value: Any, channels: int) -> Any:
    """A parameter of neurons, one number for each channel."""
    value = np.asarray(value, np.float64)
    if value.size == 1:
        return np.full(channels, value.item())
    if len(value) != channels:
        rule = f"one whose node {name!r} has a {parameter} for {channels} channels"
        raise fail(FUNCTION, "graph", rule, f"shape {value.shape}")
    rows = value.reshape(channels, -1)
    if not np.all(rows == rows[:, :1]):
        raise fail(
            FUNCTION, "graph", f"one whose node {name!r} has one {parameter} for a channel", "several within one"
        )
    return rows[:, 0]


def _scaled(name: str, node: Any, weights: Any) -> Any:
    """Weights times factors that follow them."""
    factors = _per_channel(name, "scale", node.scale, len(weights.weight))
    kind = nir.Affine if isinstance(weights, nir.Linear) else type(weights)
    given = {
        key: getattr(weights, key)
        for key in ("input_shape", "stride", "padding", "dilation", "groups")
        if hasattr(weights, key)
    }
    bias = np.zeros(len(factors)) if getattr(weights, "bias", None) is None else np.asarray(weights.bias)
    rows = factors.reshape(-1, *(1 for _ in np.shape(weights.weight)[1:]))
    return kind(weight=np.asarray(weights.weight, np.float64) * rows, bias=bias * factors, **given)


def _after(node: Any, layer: FrozenLayer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a frame behind a layer."""
    channels = len(layer.arrays["weight"])
    if len(shape) == 1:
        return (channels,)
    frame = layer(np.zeros((1, 1, *shape), np.float32)).spikes
    return tuple(frame.shape[2:])


def _between(name: str, node: Any, shape: tuple[int, ...], chain: list[tuple[str, Any]]) -> tuple[Any, tuple[int, ...]]:
    if isinstance(node, nir.Scale):
        factors = np.asarray(node.scale, np.float32)
        return Scale(np.broadcast_to(factors, shape).copy() if factors.ndim else factors), shape
    if isinstance(node, nir.Flatten):
        following = dict(zip([key for key, _ in chain], [other for _, other in chain[1:]], strict=False))[name]
        whole = int(node.end_dim) in (-1, len(shape) - 1)
        # a start of 1 counts the batch, or the channels; a layer of vectors tells
        dense = isinstance(following, nir.Affine | nir.Linear) and np.shape(following.weight)[-1] == math.prod(shape)
        if not whole or not (int(node.start_dim) == 0 or dense or len(shape) == 1):
            got = f"from {int(node.start_dim)} to {int(node.end_dim)}"
            raise fail(FUNCTION, "graph", f"one whose node {name!r} flattens all axes", got)
        return Flatten("channels_first"), (math.prod(shape),)
    if len(shape) != 3:
        raise fail(FUNCTION, "graph", f"one whose node {name!r} pools two spatial axes", f"frames of shape {shape}")
    kernel, stride, padding = (
        tuple(int(n) for n in np.broadcast_to(value, 2)) for value in (node.kernel_size, node.stride, node.padding)
    )
    kind: Any = "sum" if isinstance(node, nir.SumPool2d) else "mean"
    pool = Pool2d(kind, kernel, stride, padding, "channels_first")
    return pool, (shape[0], *pool.output_shape(shape[1:]))
