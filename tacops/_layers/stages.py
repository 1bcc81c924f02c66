"""Networks of frozen layers, and functions between them, as what is counted or timed takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from .._core.checks import fail
from ..layers import FrozenLayer
from .sequence import Chain, Sequential

__all__ = ["Stage", "stages_of"]

Stage: TypeAlias = FrozenLayer | Callable[[Any], Any]


def stages_of(function: str, layers: Any) -> list[tuple[str, Stage]]:
    """Layers and functions, with their names."""
    if isinstance(layers, FrozenLayer | Chain) or hasattr(layers, "spec"):
        layers = [layers]
    if not isinstance(layers, Iterable) or isinstance(layers, str):
        rule = "a FrozenLayer, or a sequence or a mapping of layers"
        raise fail(function, "layers", rule, type(layers).__name__, TypeError)
    if isinstance(layers, Mapping):
        pairs = [pair for name, layer in layers.items() for pair in _named(name, layer)]
    else:
        pairs = [(str(n), layer) for n, layer in enumerate(inner for layer in layers for _, inner in _named("", layer))]
    for _, stage in pairs:
        if isinstance(stage, Chain) or (hasattr(stage, "spec") and hasattr(stage, "frozen")):
            raise fail(function, "layers", "frozen (`layer.frozen()`)", type(stage).__name__, TypeError)
        if not isinstance(stage, FrozenLayer) and not callable(stage):
            raise fail(function, "layers", "FrozenLayers, and functions of spikes", type(stage).__name__, TypeError)
    if not any(isinstance(stage, FrozenLayer) for _, stage in pairs):
        raise fail(function, "layers", "at least one FrozenLayer", "none")
    return pairs


def _named(name: str, layer: Stage) -> list[tuple[str, Stage]]:
    """The layers within a Sequential, which would else be a function that is not counted; others as they are."""
    if not isinstance(layer, Sequential):
        return [(name, layer)]
    return [(f"{name}.{n}", inner) for n, inner in enumerate(layer)]
