"""A network fed with any number of frames at a time, as they come from a camera or a microphone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .._backend.dispatch import backend_of
from .._backend.protocol import Array
from .._core.checks import check_flag, check_spikes, fail, shape_of, show
from .._core.grid import as_grid, check_inputs
from .._core.train import SpikeTrain
from ..layers import FrozenLayer
from .forward import spikes_of

__all__ = ["Stream"]

Stage: TypeAlias = FrozenLayer | Callable[[Any], Any]
PARTS = ("frames", "membrane", "current")
"""Of what a layer remembers, in the names of a saved state."""


@dataclass(frozen=True)
class _Memory:
    """What one layer remembers: frames of a chunk that is not complete, membrane and synaptic current."""

    frames: Array | None = None
    membrane: Array | None = None
    current: Array | None = None

    @property
    def state(self) -> Any:
        """As the operators take it."""
        return self.membrane if self.current is None else (self.membrane, self.current)


class Stream:
    """A network of frozen layers that is fed with any number of frames at a time.

    Every layer keeps its membrane, and the frames of a chunk that is not complete yet. The trains of all calls, one after
    the other, are those of one call of the layers with all frames: bit for bit in reproducible mode, within rounding
    otherwise. What is kept is bounded: less than a chunk of frames for each layer, whatever is fed.

    Parameters
    ----------
    layers : sequence, or mapping of str to layer
        Each a `tacops.layers.FrozenLayer`, or a function from spikes (n, B, ...) to spikes of as many frames (flattening,
        pooling), which must treat every frame alike. The last is a layer.
    trace : bool
        Whether the trains have the membranes of every step of the last layer, as with ``trace=True`` of the operators.

    Raises
    ------
    TypeError, ValueError
        For other layers.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops import Stream
    >>> from tacops.layers import FrozenLayer
    >>> weight = np.full((4, 3), 0.5, np.float32)
    >>> stream = Stream([FrozenLayer({"weight": weight}, {"chunk_size": 4})])
    >>> frames = np.ones((6, 2, 3), dtype=bool)  # six frames of a batch of two
    >>> stream.feed(frames[:3])  # no chunk is complete
    >>> stream.feed(frames[3:]).spikes.shape
    (1, 2, 4)
    >>> stream.flush().spikes.shape  # the last two frames
    (1, 2, 4)
    """

    def __init__(self, layers: Iterable[Stage] | Mapping[str, Stage], *, trace: bool = False) -> None:
        self._stages = _stages(layers)
        self._trace = check_flag("Stream", "trace", trace)
        self._memories: list[_Memory]
        self._shape: tuple[int, ...] | None
        self._placed: tuple[Any, ...] | None
        self.reset()

    @property
    def period(self) -> int:
        """Frames after whose multiples no layer holds any back: K1 K2 ... where layers collapse time.

        Examples
        --------
        >>> import numpy as np
        >>> from tacops import Stream
        >>> from tacops.layers import FrozenLayer
        >>> weight = np.full((3, 3), 0.5, np.float32)
        >>> layers = [FrozenLayer({"weight": weight}, {"chunk_size": size}) for size in (4, 3)]
        >>> Stream(layers).period
        12
        """
        frames, period = 1, 1  # frames of the input that make one of this layer's
        for layer in self._layers():
            span = frames * layer.options["chunk_size"]
            period = math.lcm(period, span)
            frames = frames if layer.options.get("mode") == "preserve" else span
        return period

    def feed(self, spikes: Array) -> SpikeTrain | None:
        """Take frames, and return what the last layer gives for the chunks that they complete.

        Parameters
        ----------
        spikes : array, shape (n, B, ...)
            As the first layer takes them; n is any number, 0 included.

        Returns
        -------
        SpikeTrain or None
            None if the last layer has no complete chunk.

        Raises
        ------
        TypeError, ValueError
            For frames of another shape, type or library than those before, and after `flush`. The stream is as it was.
        """
        self._check_open("feed")
        frames = self._checked(spikes_of(spikes))
        stages, memories = self._ready(frames)
        train, after = self._run(stages, memories, frames if frames.shape[0] else None, last=False)
        self._placed, self._memories, self._shape = stages, after, shape_of(frames)[1:]
        return train

    def flush(self) -> SpikeTrain | None:
        """End the stream: what the last layer gives for all frames that are left, in shorter last chunks.

        Returns
        -------
        SpikeTrain or None
            None if no frames are left.
        """
        self._check_open("flush")
        train, self._memories = self._run(self._placed or self._stages, self._memories, None, last=True)
        self._ended = True
        return train

    def peek(self) -> SpikeTrain | None:
        """What `flush` would return, without ending the stream: a rate that is read out so far."""
        self._check_open("peek")
        return self._run(self._placed or self._stages, self._memories, None, last=True)[0]

    def reset(self) -> None:
        """Forget all frames and membranes: what is fed next is the beginning of another recording."""
        self._memories = [_Memory() for _ in self._stages]
        self._shape = self._placed = None
        self._ended = False

    def state(self) -> dict[str, Any]:
        """What the stream remembers, as NumPy arrays by name, for `resume` and for ``numpy.savez``."""
        self._check_open("state")
        found: dict[str, Any] = {}
        for number, memory in enumerate(self._memories):
            arrays = {f"{number}.{part}": getattr(memory, part) for part in PARTS}
            found |= {name: backend_of(x).to_numpy(x) for name, x in arrays.items() if x is not None}
        return found

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, on arrays of any library.

        Parameters
        ----------
        state : mapping of str to NumPy array
            Of a stream of the same layers.

        Raises
        ------
        TypeError, ValueError
            For what is no such state. The stream is as it was.
        """
        function = "Stream.resume"
        if not isinstance(state, Mapping):
            raise fail(function, "state", "a mapping of names to NumPy arrays", type(state).__name__, TypeError)
        sizes = {
            n: stage.options["chunk_size"] for n, stage in enumerate(self._stages) if isinstance(stage, FrozenLayer)
        }
        known = {f"{number}.{part}": (number, part) for number in sizes for part in PARTS}
        memories: list[dict[str, Any]] = [{} for _ in self._stages]
        for name, array in state.items():
            if name not in known:
                raise fail(function, "state", "that of a stream of the same layers", f"the key {show(name)}")
            number, part = known[name]
            if backend_of(array, function=function, names=(f"state[{name!r}]",)).name != "numpy":
                raise fail(function, f"state[{name!r}]", "a NumPy array", type(array).__name__, TypeError)
            if part == "frames" and not (array.ndim > 1 and 0 < array.shape[0] < sizes[number]):
                rule = f"fewer than the {sizes[number]} frames of a chunk"
                raise fail(function, f"state[{name!r}]", rule, f"shape {shape_of(array)}")
            memories[number].update({part: _kept(array)})
        self._memories = [_Memory(**memory) for memory in memories]
        self._shape, self._placed, self._ended = None, None, False

    def _layers(self) -> list[FrozenLayer]:
        return [stage for stage in self._stages if isinstance(stage, FrozenLayer)]

    def _check_open(self, method: str) -> None:
        if self._ended:
            raise fail(f"Stream.{method}", "the stream", "open", "one that was flushed; reset() begins another")

    def _checked(self, frames: Array) -> Array:
        """Frames that the first layer takes, of the shape of those before."""
        if frames is None:
            raise fail("Stream.feed", "spikes", "an array", None, TypeError)
        backend, first = backend_of(frames, function="Stream.feed", names=("spikes",)), self._stages[0]
        shape = shape_of(frames)
        if not shape or self._shape not in (None, shape[1:]):
            rule = "an array (T, B, ...)" if self._shape is None else f"of shape {('n', *self._shape)}, as those before"
            raise fail("Stream.feed", "spikes", rule, f"shape {shape}")
        if not isinstance(first, FrozenLayer) or not shape[0]:
            return frames
        xp = backend.namespace(frames)
        weight, given = first.arrays["weight"], first.options
        dims, channels = weight.ndim - 2, weight.shape[-1] * given.get("groups", 1)
        axes = "(T, B, C_in, *S)" if given.get("layout") == "channels_first" else "(T, B, *S, C_in)"
        axes, ndim = (axes, weight.ndim + 1) if dims else ("(T, B, ..., F_in)", None)
        check_spikes("Stream.feed", xp, frames, channels, axes, ndim)
        return frames

    def _ready(self, frames: Array) -> tuple[tuple[Any, ...], list[_Memory]]:
        """Layers, and where a state was resumed memories, in the library and on the device of the frames."""
        if self._placed is not None:
            return self._placed, self._memories
        from ..backends._io.npz import place

        def placed(memory: _Memory) -> _Memory:
            arrays = {part: getattr(memory, part) for part in PARTS}
            return _Memory(**{part: place(x, frames) for part, x in arrays.items() if x is not None})

        stages = tuple(stage.on(frames) if isinstance(stage, FrozenLayer) else stage for stage in self._stages)
        return stages, [placed(memory) for memory in self._memories]

    def _run(
        self, stages: tuple[Any, ...], memories: list[_Memory], x: Array | None, *, last: bool
    ) -> tuple[SpikeTrain | None, list[_Memory]]:
        """What the last layer gives, and what all remember then; `last` leaves no frames."""
        train, after = None, []
        for number, (stage, memory) in enumerate(zip(stages, memories, strict=True)):
            if isinstance(stage, FrozenLayer):
                trace = self._trace and number == len(stages) - 1
                train, memory = _advance(stage, memory, x, last, trace)
                x = None if train is None else train.spikes
            elif x is not None:
                x = _applied(number, stage, x)
            after.append(memory)
        return train, after


def _stages(layers: Any) -> tuple[Any, ...]:
    """The layers of a stream, in order."""
    if not isinstance(layers, Iterable) or isinstance(layers, str):
        raise fail("Stream", "layers", "a sequence or a mapping of layers", type(layers).__name__, TypeError)
    stages = tuple(layers.values() if isinstance(layers, Mapping) else layers)
    for stage in stages:
        if hasattr(stage, "spec") and hasattr(stage, "frozen"):
            raise fail("Stream", "layers", "frozen (`layer.frozen()`)", type(stage).__name__, TypeError)
        if not isinstance(stage, FrozenLayer) and not callable(stage):
            raise fail("Stream", "layers", "FrozenLayers, and functions of spikes", type(stage).__name__, TypeError)
    if not stages or not isinstance(stages[-1], FrozenLayer):
        rule = "at least one FrozenLayer, the last of all"
        raise fail("Stream", "layers", rule, type(stages[-1]).__name__ if stages else "none", TypeError)
    return stages


def _applied(number: int, function: Callable[[Any], Any], x: Array) -> Array:
    out = spikes_of(function(x))
    if not getattr(out, "shape", ()) or out.shape[0] != x.shape[0]:
        got = f"shape {shape_of(out)}" if hasattr(out, "shape") else show(out)
        raise fail(
            "Stream", f"layers[{number}]", f"a function that returns {x.shape[0]} frames, as many as it is given", got
        )
    return out


def _advance(
    layer: FrozenLayer, memory: _Memory, x: Array | None, last: bool, trace: bool
) -> tuple[SpikeTrain | None, _Memory]:
    """What a layer gives for the chunks that are complete with frames `x`, and what it remembers."""
    have = _joined(memory.frames, x)
    if have is None:
        return None, memory
    whole = have.shape[0] if last else have.shape[0] - have.shape[0] % layer.options["chunk_size"]
    rest = have[whole:, ...]
    if rest.shape[0]:
        _check_grid(layer, rest)
    kept = _kept(rest) if rest.shape[0] else None
    if not whole:
        return None, _Memory(kept, memory.membrane, memory.current)
    train = layer(have if kept is None else have[:whole, ...], membrane=memory.state, trace=trace)
    state = train.membrane if isinstance(train.membrane, tuple) else (train.membrane,)
    return train, _Memory(kept, *map(_kept, state))


def _joined(before: Array | None, x: Array | None) -> Array | None:
    if before is None or x is None:
        return x if before is None else before
    backend = backend_of(before, x, function="Stream.feed", names=("spikes before", "spikes"))
    kinds = [(shape_of(a)[1:], str(a.dtype), str(backend.device_of(a))) for a in (before, x)]
    if kinds[0] != kinds[1]:
        shape, dtype, device = kinds[0]
        got = f"shape {shape_of(x)}, {kinds[1][1]}, {kinds[1][2]}"
        raise fail("Stream.feed", "spikes", f"of shape {('n', *shape)}, {dtype}, {device}, as those before", got)
    return backend.namespace(x).concat([before, x], axis=0)


def _check_grid(layer: FrozenLayer, frames: Array) -> None:
    """Frames that wait for their chunk are refused at once, rather than with it, where reproducible mode would."""
    weight = layer.arrays["weight"]
    backend = backend_of(weight)
    grid = as_grid("Stream", layer.options.get("reproducible", False), backend.namespace(weight), weight)
    if grid is not None and backend is backend_of(frames):
        check_inputs("Stream.feed", backend, grid, frames, weight)


def _kept(x: Array) -> Array:
    """A copy, which nobody else writes to, without gradients, which would keep all of the past."""
    backend = backend_of(x)
    return backend.stop_gradient(backend.namespace(x).concat([x], axis=0))
