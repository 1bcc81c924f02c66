"""JAX: products and convolutions at the precisions that XLA can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["routes"]

Call = Callable[[Any, Any], Any]
WAYS: dict[str, tuple[Any, Any]] = {
    "highest precision": (jnp.float32, lax.Precision.HIGHEST),
    "default precision": (jnp.float32, lax.Precision.DEFAULT),
    "float16, summed in float32": (jnp.float16, lax.Precision.DEFAULT),
}
"""Dtype of the operands and precision."""


def routes(device: str) -> tuple[dict[str, Call], dict[str, Call]]:
    """Products and convolutions of NumPy arrays on `device`."""
    platform, _, number = device.partition(":")
    found = next(one for one in jax.local_devices(backend=platform) if one.id == int(number or 0))
    return (
        {name: partial(_run, _product, found, *way) for name, way in WAYS.items()},
        {name: partial(_run, _convolution, found, *way) for name, way in WAYS.items()},
    )


def _run(function: Any, device: Any, dtype: Any, precision: Any, x: Any, w: Any) -> Any:
    a, b = (jax.device_put(jnp.asarray(array, dtype), device) for array in (x, w))
    return np.asarray(jax.jit(function, static_argnums=2)(a, b, precision))


def _product(a: Any, b: Any, precision: Any) -> Any:
    return jnp.matmul(a, b, precision=precision, preferred_element_type=jnp.float32)


def _convolution(a: Any, b: Any, precision: Any) -> Any:
    return lax.conv_general_dilated(
        a, b, (1, 1), [(1, 1), (1, 1)], precision=precision, preferred_element_type=jnp.float32
    )
