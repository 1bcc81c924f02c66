"""Arrays cut along time, by views, with gradients of their own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import mlx.core as mx

if TYPE_CHECKING:
    from tacops._backend.protocol import Array

__all__ = ["cut", "unstack"]

# Squeezed slices, which are views; an index copies.
unstack: Any = mx.custom_function(lambda x: [mx.squeeze(x[n : n + 1], 0) for n in range(x.shape[0])])


@unstack.vjp  # type: ignore[untyped-decorator]
def _stack(_: Array, cotangents: Sequence[Array], __: Any) -> Array:
    return mx.stack(list(cotangents))


@lru_cache(maxsize=16)
def cut(size: int) -> Any:
    """Pieces of `size` steps, the last one shorter."""
    function: Any = mx.custom_function(lambda x: [x[n : n + size] for n in range(0, x.shape[0], size)])

    @function.vjp  # type: ignore[untyped-decorator]
    def join(_: Array, cotangents: Sequence[Array], __: Any) -> Array:
        return mx.concatenate(list(cotangents))

    return function
