"""Frozen layers to a graph of NIR.

NIR's neurons are equations in time; its readers take steps of forward Euler. A leaky neuron becomes
``u + dt / tau * (r * i - u)``, so beta = 1 - dt / tau, and weights are divided by 1 - beta with r = 1, which every reader
takes. (r = tau / dt with the weights as they are is the other way to write it; norse passes over r.) Neurons without a
leak, and those with a synaptic current, are written with r = 1 / dt and r = tau / dt, as their readers ask.

NIR fires above the threshold, tacops at it, too: what is written is the largest float32 below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import nir
import numpy as np

from tacops._backend.dispatch import backend_of
from tacops._core.checks import fail, show
from tacops._core.window import check_window
from tacops._layers.frozen import check_values
from tacops.layers import Flatten, FrozenLayer, Pool2d, Scale

__all__ = ["write_graph"]

FUNCTION = "to_nir"


@dataclass
class _Walk:
    """Where the graph has come to: the shape of a frame, channels first, and the layout of the spikes."""

    dt: float
    shape: tuple[int, ...]
    layout: str | None
    nodes: dict[str, Any]
    flattened: tuple[int, ...] | None = None
    """The shape, channels first, that was flattened channels last: the order of the next layer's columns."""
    frames: int = 1

    def add(self, name: str, node: Any) -> None:
        """Put a node at the end, under a name of its own."""
        plain = "".join(c if c.isalnum() or c == "_" else "_" for c in name) or "layer"
        number, own = 0, plain
        while own in self.nodes:
            number += 1
            own = f"{plain}_{number}"
        self.nodes[own] = node


def write_graph(layers: Any, input_shape: Sequence[int], dt: float) -> Any:
    """`tacops.backends.nir_layers.to_nir`, its `dt` and `input_shape` validated."""
    stages = _named(layers)
    layout = next((found for _, stage in stages if (found := _layout(stage))), None)
    shape = tuple(input_shape)
    if layout == "channels_last" and len(shape) > 1:
        shape = (shape[-1], *shape[:-1])
    walk = _Walk(dt, shape, layout, {"input": nir.Input(np.array(shape))})
    for number, (name, stage) in enumerate(stages):
        where = f"layers[{name!r}]" if isinstance(layers, Mapping) else f"layers[{number}]"
        if (found := _layout(stage)) and found != walk.layout:
            raise fail(FUNCTION, where, f"{walk.layout}, as the layers before it", found)
        if isinstance(stage, FrozenLayer):
            _layer(walk, name, where, stage)
        else:
            _between(walk, name, where, stage)
    walk.add("output", nir.Output(np.array(walk.shape)))
    names = list(walk.nodes)
    metadata = {
        "writer": "tacops",
        "discretisation": "forward Euler",
        "dt": walk.dt * walk.frames,
        "frames_per_step": walk.frames,
    }
    try:
        return nir.NIRGraph(walk.nodes, list(pairwise(names)), metadata=metadata)
    except ValueError as error:
        raise fail(FUNCTION, "layers", "such that the nir package's own check of shapes passes", str(error)) from error


def _named(layers: Any) -> list[tuple[str, Any]]:
    if isinstance(layers, Mapping):
        stages = [(str(name), stage) for name, stage in layers.items()]
    elif isinstance(layers, (list, tuple)):
        stages = [(f"layer{number}", stage) for number, stage in enumerate(layers)]
    else:
        raise fail(FUNCTION, "layers", "a sequence or a mapping of layers", type(layers).__name__, TypeError)
    for _, stage in stages:
        if not isinstance(stage, FrozenLayer | Flatten | Pool2d | Scale):
            raise fail(FUNCTION, "layers", "FrozenLayers, Flatten, Pool2d and Scale", type(stage).__name__, TypeError)
    if not any(isinstance(stage, FrozenLayer) for _, stage in stages):
        raise fail(FUNCTION, "layers", "at least one FrozenLayer", "none")
    return stages


def _layout(stage: Any) -> str | None:
    """The layout that a layer takes, if it says one."""
    if isinstance(stage, FrozenLayer):
        return str(stage.options.get("layout", "channels_last")) if stage.arrays["weight"].ndim > 2 else None
    return None if isinstance(stage, Scale) else str(stage.layout)


def _between(walk: _Walk, name: str, where: str, stage: Any) -> None:
    if isinstance(stage, Flatten):
        _flatten(walk, name)
        return
    if walk.flattened:
        raise fail(FUNCTION, where, "a dense layer, behind features flattened channels last", type(stage).__name__)
    if isinstance(stage, Scale):
        walk.add(name, nir.Scale(_factors(walk, where, stage)))
        return
    if len(walk.shape) != 3:
        raise fail(FUNCTION, where, "behind spikes with two spatial axes", f"a frame of shape {walk.shape}")
    if stage.kind == "max":
        raise fail(FUNCTION, where, "a pool of sums or means, because NIR has no maximum", "Pool2d of kind 'max'")
    kind = nir.SumPool2d if stage.kind == "sum" else nir.AvgPool2d
    walk.add(name, kind(*(np.array(value) for value in (stage.kernel, stage.stride, stage.padding))))
    walk.shape = (walk.shape[0], *stage.output_shape(walk.shape[1:]))


def _factors(walk: _Walk, where: str, stage: Scale) -> Any:
    """Factors of a whole frame, channels first."""
    last = walk.layout == "channels_last"
    frame = (*walk.shape[1:], walk.shape[0]) if last else walk.shape
    with np.errstate(over="ignore"):  # refused below
        factors = np.asarray(backend_of(stage.factors).to_numpy(stage.factors)).astype(np.float32)
    if not np.all(np.isfinite(factors)):
        raise fail(FUNCTION, where, "of factors that are finite in float32", "NaN or infinity")
    try:
        whole = np.broadcast_to(factors, frame)
    except ValueError:
        got = f"factors of shape {factors.shape}"
        raise fail(FUNCTION, where, f"of factors that broadcast to frames of shape {frame}", got) from None
    return np.moveaxis(whole, -1, 0).copy() if last else whole.copy()


def _flatten(walk: _Walk, name: str) -> None:
    if len(walk.shape) > 1:
        walk.add(name, nir.Flatten({"input": np.array(walk.shape)}, 0, -1))
        walk.flattened = walk.shape if walk.layout == "channels_last" else None
        walk.shape = (math.prod(walk.shape),)


def _layer(walk: _Walk, name: str, where: str, layer: FrozenLayer) -> None:
    """Weights, then neurons."""
    try:
        check_values(layer.arrays)
    except ValueError as error:
        raise fail(FUNCTION, where, "a layer of finite numbers, in the ranges of neurons", str(error)) from error
    arrays = {key: np.asarray(backend_of(a).to_numpy(a), np.float64) for key, a in layer.arrays.items()}
    first = not any(isinstance(node, (nir.LIF, nir.IF, nir.CubaLIF)) for node in walk.nodes.values())
    frames = _check_said(where, layer, arrays, first)
    walk.frames *= frames
    decays = {
        name: np.float64(layer.options.get(name, start)) for name, start in (("beta", 0.9), ("synapse_decay", np.nan))
    }
    beta = arrays.get("beta", decays["beta"]) ** frames
    synapse, dt = decays["synapse_decay"] ** frames, walk.dt * walk.frames
    _check_decays(where, beta, synapse)
    channels = len(arrays["weight"])
    leaky = bool(np.isnan(synapse)) and bool(np.all(beta < 1.0))
    gain = np.broadcast_to(1.0 / (1.0 - beta) if leaky else np.float64(1.0), channels)
    bias = arrays.get("bias", np.zeros(channels)) * frames * gain
    weight = arrays["weight"] * gain.reshape(-1, *(1 for _ in arrays["weight"].shape[1:]))
    if not leaky:  # exact as they are; divided, they keep the bits that bring them back
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    if weight.ndim > 2:
        _convolution(walk, name, where, layer, weight, bias)
    else:
        _dense(walk, name, where, weight, bias)
    with np.errstate(over="ignore"):  # refused below
        threshold = np.asarray(arrays.get("threshold", layer.options.get("threshold", 1.0))).astype(np.float32)
    below = np.nextafter(threshold, np.float32(0.0))
    if not np.all((below >= np.finfo(np.float32).tiny) & np.isfinite(threshold)):
        raise fail(FUNCTION, where, "with thresholds above the smallest normal float32, and finite", "others")
    walk.add(f"{name}_neurons", _neurons(walk.shape, dt, beta, synapse, below))


def _check_said(where: str, layer: FrozenLayer, arrays: Mapping[str, Any], first: bool) -> int:
    """Frames that make one step of the layer, which has nothing that NIR can't say."""
    options = layer.options
    reset, size = options.get("reset", "subtract"), int(options["chunk_size"])
    if reset != "zero":
        raise fail(FUNCTION, where, "with reset='zero', the only one that NIR has", show(reset))
    if "aggregation" in arrays:
        raise fail(FUNCTION, where, "without learned aggregation weights, which NIR has no node for", "some")
    if size == 1:
        return 1
    if options.get("mode", "collapse") != "collapse" or options.get("aggregation") != "sum":
        rule = "with chunk_size=1, or collapse time with aggregation='sum': NIR has no node that aggregates"
        raise fail(FUNCTION, where, rule, f"chunk_size={size}, mode={options.get('mode', 'collapse')!r}")
    if not first:
        raise fail(
            FUNCTION, where, "the first layer, to collapse time: all nodes of NIR take one step", f"chunk_size={size}"
        )
    return size


def _check_decays(where: str, beta: Any, synapse: Any) -> None:
    if np.any(beta == 1.0) and not np.all(beta == 1.0):
        raise fail(FUNCTION, where, "with betas that are all 1, or all below", "both")
    if not np.isnan(synapse) and (synapse == 1.0 or np.any(beta == 1.0)):
        raise fail(FUNCTION, where, "with a beta and a synapse_decay below 1, which are time constants in NIR", "1")


def _convolution(walk: _Walk, name: str, where: str, layer: FrozenLayer, weight: Any, bias: Any) -> None:
    options, kernel = layer.options, weight.shape[1:-1]
    groups = int(options.get("groups", 1))
    if len(kernel) > 2:
        raise fail(FUNCTION, where, "of one or two dimensions, as NIR has them", f"{len(kernel)}")
    if len(walk.shape) != len(kernel) + 1 or walk.shape[0] != weight.shape[-1] * groups:
        rule = f"a layer of frames of shape {walk.shape} (channels first)"
        raise fail(FUNCTION, where, rule, f"weights for {weight.shape[-1] * groups} channels and {len(kernel)} axes")
    moves = {move: options.get(move, start) for move, start in (("stride", 1), ("padding", 0), ("dilation", 1))}
    window = check_window(FUNCTION, walk.shape[1:], kernel, groups=groups, **moves)
    if any(low != high for low, high in window.padding):
        raise fail(FUNCTION, where, "padded alike on both sides, as NIR has it", f"padding {window.padding}")
    if groups > 1:
        raise fail(FUNCTION, where, "of one group: the nir package refuses the shapes of others", f"groups={groups}")
    given = (window.stride, tuple(low for low, _ in window.padding), window.dilation)
    weight, space = np.ascontiguousarray(np.moveaxis(weight, -1, 1)), walk.shape[1:]
    if len(kernel) == 1:
        node = nir.Conv1d(space[0], weight, *(entries[0] for entries in given), groups, bias)
    else:
        node = nir.Conv2d(space, weight, *given, groups, bias)
    walk.add(name, node)
    walk.shape = (len(weight), *window.output_shape(space, kernel))


def _dense(walk: _Walk, name: str, where: str, weight: Any, bias: Any) -> None:
    if math.prod(walk.shape) != weight.shape[1] or (len(walk.shape) > 1 and walk.layout is None):
        raise fail(
            FUNCTION, where, f"a layer of frames of shape {walk.shape}", f"weights for {weight.shape[1]} features"
        )
    _flatten(walk, f"{name}_flatten")
    if walk.flattened:  # from channels last to first
        channels, *space = walk.flattened
        weight = np.moveaxis(weight.reshape(-1, *space, channels), -1, 1).reshape(weight.shape)
        walk.flattened = None
    walk.add(name, nir.Affine(np.ascontiguousarray(weight), bias))
    walk.shape = (len(weight),)


def _neurons(shape: tuple[int, ...], dt: float, beta: Any, synapse: Any, threshold: Any) -> Any:
    """A node of neurons; every parameter in the shape of a frame."""

    def full(value: Any, dtype: Any = np.float64) -> Any:
        value = np.broadcast_to(value, shape[0]).reshape(-1, *(1 for _ in shape[1:]))
        return np.broadcast_to(value, shape).astype(dtype)

    zero, rest = full(0.0), {"v_threshold": full(threshold, np.float32), "v_reset": full(0.0)}
    if not np.isnan(synapse):
        slow, fast = dt / (1.0 - beta), dt / (1.0 - synapse)
        return nir.CubaLIF(full(fast), full(slow), full(slow / dt), zero, w_in=full(fast / dt), **rest)
    if np.all(beta == 1.0):
        return nir.IF(full(1.0 / dt), **rest)
    return nir.LIF(full(dt / (1.0 - beta)), full(1.0), zero, **rest)
