"""A training step of a layer in each library that differentiates: spikes forwards, gradients backwards, both returned."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["STEPS", "jax_step", "mlx_step", "torch_step"]

Layer = Callable[[Any, Any], Any]
"""From input and weight to spikes."""
Step = Callable[[Any, Any, Any], tuple[Any, ...]]
"""From input, weight and the spikes' gradients to the spikes and the gradients of the weight and, if asked for, the input."""


def torch_step(layer: Layer, both: bool) -> Step:
    """By `torch.autograd.grad`, whose leaves are the very arrays: nothing is copied."""
    grad = importlib.import_module("torch").autograd.grad

    def step(x: Any, w: Any, g: Any) -> tuple[Any, ...]:
        leaves = [w.detach().requires_grad_()]
        x = x.detach()
        if both:
            leaves.append(x.requires_grad_())
        spikes = layer(x, leaves[0])
        return spikes.detach(), *grad(spikes, leaves, g)

    return step


def jax_step(layer: Layer, both: bool) -> Step:
    """By `jax.vjp`, compiled."""
    jax = importlib.import_module("jax")

    def step(x: Any, w: Any, g: Any) -> tuple[Any, ...]:
        if both:
            spikes, pull = jax.vjp(lambda w, x: layer(x, w), w, x)
        else:
            spikes, pull = jax.vjp(lambda w: layer(x, w), w)
        return spikes, *pull(g)

    compiled: Step = jax.jit(step)
    return compiled


def mlx_step(layer: Layer, both: bool) -> Step:
    """By `mx.vjp`, compiled."""
    mx = importlib.import_module("mlx.core")

    def step(x: Any, w: Any, g: Any) -> tuple[Any, ...]:
        if both:
            spikes, gradients = mx.vjp(lambda w, x: layer(x, w), [w, x], [g])
        else:
            spikes, gradients = mx.vjp(lambda w: layer(x, w), [w], [g])
        return spikes[0], *gradients

    compiled: Step = mx.compile(step)
    return compiled


STEPS: dict[str, Callable[[Layer, bool], Step]] = {"torch": torch_step, "jax": jax_step, "mlx": mlx_step}
"""By backend."""
