"""The options of trainable layers, as type checkers know them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Required, TypedDict

from .._backend.window import Array
from .._core.grid import Grid
from .._operators import Aggregation, Layout, Mode, Padding, Reset

__all__ = ["ConvLIFOptions", "TACConvOptions", "TACLinearOptions"]


class _NeuronOptions(TypedDict, total=False):
    """Options of every layer; docs/layers.md has their meaning."""

    beta: float | Sequence[float]
    threshold: float | Sequence[float]
    reset: Reset
    synapse_decay: float | None
    learn: str | Collection[str]
    bias: bool
    batch_norm: bool
    momentum: float
    epsilon: float
    surrogate: Callable[[Array], Array] | None
    detach_reset: bool
    remat: bool
    reproducible: bool | Grid
    layout: Layout


class TACLinearOptions(_NeuronOptions, total=False):
    """Options of layers that aggregate."""

    chunk_size: Required[int]
    mode: Mode
    aggregation: Aggregation | None


class _WindowOptions(TypedDict, total=False):
    """Options of layers that convolve."""

    stride: int | Sequence[int]
    padding: Padding
    dilation: int | Sequence[int]
    groups: int


class ConvLIFOptions(_NeuronOptions, _WindowOptions, total=False):
    """Options of layers that convolve every frame."""


class TACConvOptions(TACLinearOptions, _WindowOptions, total=False):
    """Options of layers that aggregate and convolve."""
