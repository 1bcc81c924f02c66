"""What a layer of a stream remembers between two pieces, and how it goes on with the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._backend.dispatch import backend_of
from .._backend.protocol import Array, Backend, sum_dtype
from .._core.checks import check_spikes, fail, is_dtype, shape_of, show
from .._core.grid import as_grid, check_inputs
from .._core.train import SpikeTrain
from .._core.window import check_window
from ..layers import FrozenLayer

__all__ = ["PARTS", "Memory", "advance", "check_frames", "described", "memories_of"]

PARTS = ("frames", "membrane", "current")
"""Of what a layer remembers, in the names of a saved state."""
RESUME = "Stream.resume"


@dataclass(frozen=True)
class Memory:
    """What one layer remembers: frames of a chunk that is not complete, membrane and synaptic current."""

    frames: Array | None = None
    membrane: Array | None = None
    current: Array | None = None
    resumed: bool = False
    """Whether the frames come from a saved state, in which those of half precision are float32."""

    @property
    def state(self) -> Any:
        """As the operators take it."""
        return self.membrane if self.current is None else (self.membrane, self.current)

    def arrays(self) -> dict[str, Array]:
        """What there is, by name."""
        return {part: array for part in PARTS if (array := getattr(self, part)) is not None}


def advance(
    where: str, layer: FrozenLayer, memory: Memory, x: Array | None, last: bool, trace: bool
) -> tuple[SpikeTrain | None, Memory]:
    """What a layer gives for the chunks that are complete with frames `x`, and what it remembers."""
    have = _joined(memory, x)
    if have is None:
        return None, memory
    whole = have.shape[0] if last else have.shape[0] - have.shape[0] % layer.options["chunk_size"]
    rest = have[whole:, ...]
    if rest.shape[0]:  # what waits is refused at once, rather than with its chunk
        if memory.frames is None:
            check_frames(where, layer, rest)
        _check_grid(where, layer, rest)
    kept = _kept(rest) if rest.shape[0] else None
    if not whole:
        return None, Memory(kept, memory.membrane, memory.current)
    train = layer(have if kept is None else have[:whole, ...], membrane=memory.state, trace=trace)
    state = train.membrane if isinstance(train.membrane, tuple) else (train.membrane,)
    return train, Memory(kept, *map(_kept, state))


def check_frames(where: str, layer: FrozenLayer, frames: Array) -> None:
    """Frames that the layer's operator takes: their type, axes and channels, and room for the kernel."""
    weight, given = layer.arrays["weight"], layer.options
    dims, groups = weight.ndim - 2, given.get("groups", 1)
    first = given.get("layout") == "channels_first"
    axes = ("(T, B, C_in, *S)" if first else "(T, B, *S, C_in)") if dims > 0 else "(T, B, ..., F_in)"
    xp = backend_of(frames, function=where, names=("spikes",)).namespace(frames)
    check_spikes(where, xp, frames, weight.shape[-1] * groups, axes, dims + 3 if dims > 0 else None)
    if dims > 0:
        spatial, kernel = shape_of(frames)[3:] if first else shape_of(frames)[2:-1], shape_of(weight)[1:-1]
        moves = {name: given.get(name, start) for name, start in (("stride", 1), ("padding", 0), ("dilation", 1))}
        check_window(where, spatial, kernel, groups=groups, **moves)


def described(backend: Backend, x: Array) -> str:
    """Type, library and device, in words."""
    return f"{x.dtype}, {backend.name}, {backend.device_of(x)}"


def memories_of(stages: tuple[Any, ...], state: Mapping[str, Any]) -> list[Memory]:
    """What a saved state says that the layers remember, each array copied."""
    if not isinstance(state, Mapping):
        raise fail(RESUME, "state", "a mapping of names to NumPy arrays", type(state).__name__, TypeError)
    layers = {number: stage for number, stage in enumerate(stages) if isinstance(stage, FrozenLayer)}
    known = {f"{number}.{part}": (number, part) for number in layers for part in PARTS}
    found: list[dict[str, Any]] = [{} for _ in stages]
    for name, array in state.items():
        if name not in known:
            raise fail(RESUME, "state", "that of a stream of the same layers", f"the key {show(name)}")
        number, part = known[name]
        if backend_of(array, function=RESUME, names=(f"state[{name!r}]",)).name != "numpy":
            raise fail(RESUME, f"state[{name!r}]", "a NumPy array", type(array).__name__, TypeError)
        found[number].update({part: array})
    for number, layer in layers.items():
        _check_state(number, layer, found[number])
    return [Memory(**{part: _kept(array) for part, array in arrays.items()}, resumed=True) for arrays in found]


def _check_state(number: int, layer: FrozenLayer, arrays: Mapping[str, Any]) -> None:
    """Arrays that the layer may have left."""
    names = {part: f"state['{number}.{part}']" for part in PARTS}
    synaptic = layer.options.get("synapse_decay") is not None
    for part, has in (("membrane", "current" in arrays), ("current", synaptic and "membrane" in arrays)):
        if has and part not in arrays:
            raise fail(RESUME, "state", f"one with the key '{number}.{part}'", "none")
    if "current" in arrays and not synaptic:
        raise fail(RESUME, "state", f"without {names['current']}: the layer has no synaptic current", "one")
    if (frames := arrays.get("frames")) is not None:
        size = layer.options["chunk_size"]
        if not (frames.ndim > 1 and 0 < frames.shape[0] < size):
            raise fail(RESUME, names["frames"], f"fewer than the {size} frames of a chunk", f"shape {frames.shape}")
        check_frames(f"{RESUME}: {names['frames']}", layer, frames)
        _check_grid(f"{RESUME}: {names['frames']}", layer, frames)
    for part in PARTS[1:]:
        if part in arrays:
            _check_potential(names[part], layer, arrays[part], arrays)


def _check_potential(name: str, layer: FrozenLayer, array: Any, arrays: Mapping[str, Any]) -> None:
    """A membrane or a current, with as many samples as what else the layer remembers."""
    weight, first = layer.arrays["weight"], layer.options.get("layout") == "channels_first"
    if array.dtype.kind != "f":
        raise fail(RESUME, name, "of a real floating dtype", str(array.dtype), TypeError)
    axis, axes = (1, "(B, C, *S)") if first and weight.ndim > 2 else (-1, "(B, ..., C)")
    ndim, fits = weight.ndim if weight.ndim > 2 else None, array.ndim >= 2 and 0 not in array.shape
    if not fits or (ndim and array.ndim != ndim) or array.shape[axis] != weight.shape[0]:
        rule = f"an array {axes} with {weight.shape[0]} channels" + (f" and {ndim} axes" if ndim else "")
        raise fail(RESUME, name, rule, f"shape {array.shape}")
    frames, membrane = arrays.get("frames"), arrays["membrane"]
    if frames is not None and frames.shape[1] != array.shape[0]:
        raise fail(RESUME, name, f"of {frames.shape[1]} samples, as the frames", f"shape {array.shape}")
    if membrane.shape != array.shape or membrane.dtype != array.dtype:
        rule = f"of shape {membrane.shape} and {membrane.dtype}, as the membrane"
        raise fail(RESUME, name, rule, f"shape {array.shape} and {array.dtype}")
    if not bool((abs(array) < math.inf).all()):
        raise fail(RESUME, name, "finite", "NaN or infinity")


def _joined(memory: Memory, x: Array | None) -> Array | None:
    before = memory.frames
    if before is None or x is None:
        return x if before is None else before
    backend = backend_of(before, x, function="Stream.feed", names=("spikes before", "spikes"))
    if memory.resumed:
        before = _as_saved(backend, before, x)
    kinds = [(shape_of(a)[1:], described(backend, a)) for a in (before, x)]
    if kinds[0] != kinds[1]:
        got = f"shape {shape_of(x)}, {kinds[1][1]}"
        raise fail("Stream.feed", "spikes", f"of shape {('n', *kinds[0][0])}, {kinds[0][1]}, as those before", got)
    return backend.namespace(x).concat([before, x], axis=0)


def _as_saved(backend: Backend, before: Array, x: Array) -> Array:
    """Resumed frames in the half precision of `x`, which a saved state doesn't have, if they are exact in it."""
    xp = backend.namespace(x)
    if before.dtype != xp.float32 or not is_dtype(xp, x.dtype, "real floating"):
        return before
    if x.dtype == xp.float32 or sum_dtype(xp, x.dtype) != xp.float32:
        return before
    half = xp.astype(before, x.dtype)
    return half if bool(xp.all(xp.astype(half, xp.float32) == before)) else before


def _check_grid(where: str, layer: FrozenLayer, frames: Array) -> None:
    """Values that reproducible mode takes."""
    weight = layer.arrays["weight"]
    backend = backend_of(weight)
    grid = as_grid("Stream", layer.options.get("reproducible", False), backend.namespace(weight), weight)
    if grid is not None and backend is backend_of(frames):
        check_inputs(where, backend, grid, frames, weight)


def _kept(x: Array) -> Array:
    """A copy, which nobody else writes to, without gradients, which would keep all of the past."""
    backend = backend_of(x)
    return backend.stop_gradient(backend.namespace(x).concat([x], axis=0))
