"""Layers one after the other: spikes are passed on, and the membranes of all of them are one state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .._backend.dispatch import backend_of
from .._backend.protocol import Array
from .._core.checks import as_list, check_flag, fail, show
from .._core.train import SpikeTrain, TracedSpikeTrain
from .forward import spikes_of
from .spec import LayerSpec

__all__ = ["Chain", "Sequential", "Wrapped", "check_stages", "is_chain", "keeps_membrane", "period_of"]

NAME = "Sequential"


class Wrapped:
    """A function as a framework holds it in a list of modules."""

    function: Any


class Chain:
    """What the networks of all frameworks share."""

    layers: Iterable[Any]

    @property
    def stages(self) -> tuple[Any, ...]:
        """The layers, and functions as they were given."""
        return tuple(stage.function if isinstance(stage, Wrapped) else stage for stage in self.layers)

    def run(self, spikes: Any, membrane: Any = None, lengths: Any = None, trace: bool = False) -> SpikeTrain:
        """The last layer's spikes, and what all layers remember, in a tuple."""
        stages = self.stages
        check_flag(NAME, "trace", trace)
        if trace and not _has_trace(self):
            raise fail(NAME, "trace", "False where the last of the layers is a function, which has no membrane", trace)
        before = _states(membrane, len(stages))
        train: SpikeTrain | None = None
        after: list[Any] = []
        x = spikes_of(spikes)
        for stage, state in zip(stages, before, strict=True):
            if not keeps_membrane(stage):
                train, x = None, spikes_of(stage(x))
                after.append(None)
                continue
            train = stage(x, membrane=state, lengths=lengths, trace=trace and stage is stages[-1])
            lengths, x = _lengths(stage, lengths), train.spikes
            after.append(train.membrane)
        if isinstance(train, TracedSpikeTrain):
            return train._replace(membrane=tuple(after))
        return SpikeTrain(x, tuple(after))


class Sequential(Chain):
    """Frozen layers one after the other, on arrays of any library; ``frozen()`` of a trainable one makes it.

    Parameters
    ----------
    *layers : FrozenLayer, Sequential, or callable
        A function, from spikes to spikes, stands between layers: `Flatten`, `Pool2d`, `Scale`, or one of your own. `tacops.Stream`
        takes the whole.

    Raises
    ------
    TypeError
        For other objects.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops.layers import Flatten, FrozenLayer, Sequential
    >>> dense = FrozenLayer({"weight": np.full((4, 6), 0.25, np.float32)}, {"chunk_size": 1})
    >>> net = Sequential(Flatten(), dense)
    >>> frames = np.ones((6, 2, 3, 2), dtype=bool)
    >>> first = net(frames[:3])
    >>> rest = net(frames[3:], membrane=first.membrane)  # goes on where the first ended
    >>> rest.spikes.shape, len(rest.membrane)  # an entry for each of the layers
    ((3, 2, 4), 2)
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        for layer in check_stages(layers):
            if hasattr(layer, "spec") or (isinstance(layer, Chain) and not isinstance(layer, Sequential)):
                rule = "frozen (`layer.frozen()`); trainable ones go into the Sequential of their framework"
                raise fail("Sequential", "layers", rule, type(layer).__name__, TypeError)
        self.layers = layers

    def __call__(
        self, spikes: Array | SpikeTrain, *, membrane: Any = None, lengths: Any = None, trace: bool = False
    ) -> SpikeTrain:
        """The last layer's spikes, and the membranes of all, a tuple, from `membrane` or from zero.

        Parameters
        ----------
        spikes : array or SpikeTrain
            As the first of the layers takes them.
        membrane : tuple, optional
            That of the train before; None for functions.
        lengths, trace
            As of the operators; the trace is the last layer's.
        """
        return self.run(spikes, membrane, lengths, trace)

    def __iter__(self) -> Iterator[Any]:
        """All layers and functions, those of inner ones too."""
        for layer in self.layers:
            yield from layer if isinstance(layer, Sequential) else (layer,)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def on(self, like: Array) -> Sequential:
        """The same layers with their arrays in the library, and on the device, of `like`.

        Parameters
        ----------
        like : array
        """
        return Sequential(*(x.on(like) if keeps_membrane(x) else x for x in self.layers))


def keeps_membrane(stage: Any) -> bool:
    """Whether it is a layer, trainable or frozen, or layers one after the other; else it is a function of spikes."""
    return is_chain(stage) or _time(stage) is not None


def is_chain(stage: Any) -> bool:
    """Whether it is layers one after the other, perhaps in a framework's wrapper that shows what it wraps."""
    return isinstance(stage, Chain) or isinstance(getattr(stage, "stages", None), tuple)


def period_of(stages: Iterable[Any]) -> int:
    """Frames after whose multiples no layer holds any back: K1 K2 ... where layers collapse time."""
    frames, period = 1, 1  # frames of the input that make one of this layer's
    for size, preserve in _times(stages):
        period = math.lcm(period, frames * size)
        frames = frames if preserve else frames * size
    return period


def _times(stages: Iterable[Any]) -> Iterator[tuple[int, bool]]:
    """`_time` of all layers, of inner ones too."""
    for stage in stages:
        if is_chain(stage):
            yield from _times(stage.stages)
        elif time := _time(stage):
            yield time


def _has_trace(stage: Any) -> bool:
    """Whether the last of the layers, of inner ones too, has a membrane."""
    return _has_trace(stage.stages[-1]) if is_chain(stage) else keeps_membrane(stage)


def check_stages(layers: tuple[Any, ...]) -> tuple[Any, ...]:
    """At least one, and each can be called."""
    if not layers:
        raise fail(NAME, "layers", "at least one layer", "none", TypeError)
    for stage in layers:
        if not callable(stage) or isinstance(stage, type):
            got = f"{show(stage)}" if not isinstance(stage, type) else f"the class {stage.__name__}, not called"
            raise fail(NAME, "layers", "layers, and functions of spikes, given one by one", got, TypeError)
    return layers


def _states(membrane: Any, count: int) -> tuple[Any, ...]:
    if membrane is None:
        return (None,) * count
    if not isinstance(membrane, (tuple, list)) or len(membrane) != count:
        rule = f"the membrane of a train that these layers have returned, a tuple of {count}"
        raise fail(NAME, "membrane", rule, show(membrane), TypeError)
    return tuple(membrane)


def _time(stage: Any) -> tuple[int, bool] | None:
    """Frames of a chunk, and whether as many leave the layer; None if it is none."""
    spec, options = getattr(stage, "spec", None), getattr(stage, "options", None)
    if isinstance(spec, LayerSpec):
        return spec.time.chunk_size, spec.time.preserve
    if isinstance(options, Mapping) and "chunk_size" in options:
        return options["chunk_size"], options.get("mode") == "preserve"
    return None


def _lengths(stage: Any, lengths: Array | None) -> Any:
    """Of each sample, the frames that a layer gives."""
    if is_chain(stage):
        for inner in stage.stages:
            lengths = _lengths(inner, lengths)
        return lengths
    size, preserve = _time(stage) or (1, True)
    if lengths is None or preserve or size == 1:
        return lengths
    if isinstance(lengths, (tuple, list)):
        return [-(-length // size) for length in as_list(lengths)]
    xp = backend_of(lengths).namespace(lengths)
    return (xp.astype(lengths, xp.int32) + (size - 1)) // size  # in narrow dtypes, the sum would wrap
