"""A network fed with any number of frames at a time, as they come from a camera or a microphone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from .._backend.dispatch import backend_of
from .._backend.protocol import Array
from .._core.checks import check_flag, fail, shape_of, show
from .._core.train import SpikeTrain
from ..layers import FrozenLayer
from .forward import spikes_of
from .memory import Memory, advance, check_frames, described, memories_of
from .sequence import period_of

__all__ = ["Stream"]

Stage: TypeAlias = FrozenLayer | Callable[[Any], Any]


class Stream:
    """A network of frozen layers that is fed with any number of frames at a time.

    Every layer keeps its membrane, and the frames of a chunk that is not complete yet. The trains of all calls, one after
    the other, are those of one call of the layers with all frames: bit for bit in reproducible mode, within rounding
    otherwise. What is kept is bounded: less than a chunk of frames for each layer, whatever is fed.

    Parameters
    ----------
    layers : sequence, or mapping of str to layer
        Each a `tacops.layers.FrozenLayer`, or a function from spikes (n, B, ...) to spikes of as many frames (flattening,
        pooling), which must treat every frame alike. The last is a layer. Before anything is fed, `peek` and `flush` of a
        resumed stream call functions with NumPy arrays.
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
        self._memories: list[Memory]
        self._kind: tuple[tuple[int, ...], str] | None  # of the frames so far: shape, and what `described` says
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
        return period_of(self._stages)

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
        frames, kind = self._checked(spikes_of(spikes))
        if not frames.shape[0]:
            return None
        stages, memories = (self._placed, self._memories) if self._kind and self._placed else self._on(frames)
        train, after = self._run(stages, memories, frames, last=False)
        backend = backend_of(frames)
        if backend.lazy:  # what waits to be computed holds all of the past
            backend.synchronize(*(array for memory in after for array in memory.arrays().values()))
        self._placed, self._memories, self._kind = stages, after, kind
        return train

    def flush(self) -> SpikeTrain | None:
        """End the stream: what the last layer gives for all frames that are left, in shorter last chunks.

        Returns
        -------
        SpikeTrain or None
            None if no frames are left.
        """
        self._check_open("flush")
        train, self._memories = self._end()
        self._ended = True
        return train

    def peek(self) -> SpikeTrain | None:
        """What `flush` would return, without ending the stream: a rate that is read out so far."""
        self._check_open("peek")
        return self._end()[0]

    def reset(self) -> None:
        """Forget all frames and membranes: what is fed next is the beginning of another recording."""
        self._memories = [Memory() for _ in self._stages]
        self._kind = self._placed = None
        self._ended = False

    def state(self) -> dict[str, Any]:
        """What the stream remembers, as NumPy arrays by name, for `resume` and for ``numpy.savez``."""
        self._check_open("state")
        found: dict[str, Any] = {}
        for number, memory in enumerate(self._memories):
            found |= {f"{number}.{part}": backend_of(x).to_numpy(x) for part, x in memory.arrays().items()}
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
        self._memories = memories_of(self._stages, state)
        self._kind, self._ended = None, False

    def _check_open(self, method: str) -> None:
        if self._ended:
            raise fail(f"Stream.{method}", "the stream", "open", "one that was flushed; reset() begins another")

    def _checked(self, frames: Array) -> tuple[Array, tuple[tuple[int, ...], str]]:
        """Frames that the first layer takes, of the kind of those before; and that kind."""
        function = "Stream.feed"
        if frames is None:
            raise fail(function, "spikes", "an array", None, TypeError)
        backend, first = backend_of(frames, function=function, names=("spikes",)), self._stages[0]
        if backend.blockwise:
            rule = "frames that are at hand; layers take a recording in blocks whole, in one call"
            raise fail(function, "spikes", rule, f"a {backend.name} array", TypeError)
        shape = shape_of(frames)
        if not shape or (self._kind and self._kind[0] != shape[1:]):
            rule = f"of shape {('n', *self._kind[0])}, as those before" if self._kind else "an array (T, B, ...)"
            raise fail(function, "spikes", rule, f"shape {shape}")
        kind = shape[1:], described(backend, frames)
        if self._kind and self._kind != kind:
            rule = f"of shape {('n', *self._kind[0])}, {self._kind[1]}, as those before"
            raise fail(function, "spikes", rule, f"shape {shape}, {kind[1]}")
        if isinstance(first, FrozenLayer) and shape[0] and self._kind is None:
            check_frames(function, first, frames)
        return frames, kind

    def _on(self, like: Array) -> tuple[tuple[Any, ...], list[Memory]]:
        """Layers and memories in the library and on the device of `like`."""
        from ..backends._io.npz import place

        def placed(memory: Memory) -> Memory:
            arrays = memory.arrays().items()
            return Memory(**{part: place(x, like) for part, x in arrays}, resumed=memory.resumed)

        stages = tuple(stage.on(like) if isinstance(stage, FrozenLayer) else stage for stage in self._stages)
        return stages, [placed(memory) for memory in self._memories]

    def _end(self) -> tuple[SpikeTrain | None, list[Memory]]:
        """What is left; of a resumed stream in the library that it was fed from before, if it was."""
        stages, memories = self._placed or self._stages, self._memories
        if self._placed and self._kind is None:
            stages, memories = self._on(self._placed[-1].arrays["weight"])
        return self._run(stages, memories, None, last=True)

    def _run(
        self, stages: tuple[Any, ...], memories: list[Memory], x: Array | None, *, last: bool
    ) -> tuple[SpikeTrain | None, list[Memory]]:
        """What the last layer gives, and what all remember then; `last` leaves no frames."""
        train, after = None, []
        for number, (stage, memory) in enumerate(zip(stages, memories, strict=True)):
            if isinstance(stage, FrozenLayer):
                trace = self._trace and number == len(stages) - 1
                where = f"Stream.feed: layers[{number}]" if number else "Stream.feed"
                train, memory = advance(where, stage, memory, x, last, trace)
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
