"""Where the channels of an array are."""

from __future__ import annotations

from typing import Any

from .._backend.window import Array

__all__ = ["channel_from_last", "channel_to_last"]


def channel_to_last(xp: Any, x: Array, axis: int) -> Array:
    """The channel axis to the end."""
    return xp.permute_dims(x, (*range(axis), *range(axis + 1, x.ndim), axis))


def channel_from_last(xp: Any, x: Array, axis: int) -> Array:
    """And back."""
    return xp.permute_dims(x, (*range(axis), x.ndim - 1, *range(axis, x.ndim - 1)))
