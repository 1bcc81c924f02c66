"""Gradients in each library's own way, for the conformance checks; the operators need none of this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tacops._protocol import Array, Backend

__all__ = ["gradient"]


def gradient(backend: Backend, function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array] | None:
    """Gradients of a scalar function with respect to each array, or None if this backend's way is not known.

    A backend that is not built in says its way with a method ``gradient(function, arrays) -> list of arrays``.
    """
    own = getattr(backend, "gradient", None)
    if own is not None:
        return list(own(function, arrays))
    known = {"jax": _jax, "mlx": _mlx, "torch": _torch}.get(backend.name)
    return None if known is None else known(function, arrays)


def _jax(function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
    import jax

    return list(jax.jit(jax.grad(function, tuple(range(len(arrays)))))(*arrays))  # eager, it takes twice as long


def _mlx(function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
    import mlx.core as mx

    gradients: Any = mx.grad(function, tuple(range(len(arrays))))(*arrays)
    return list(gradients) if isinstance(gradients, tuple | list) else [gradients]


def _torch(function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
    import torch

    leaves = [array.detach().clone().requires_grad_() for array in arrays]
    return list(torch.autograd.grad(function(*leaves), leaves, allow_unused=True, materialize_grads=True))
