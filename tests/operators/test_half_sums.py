"""Half precision is summed in float32 by the convolutions of JAX and MLX, and so are their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tacops
from tacops.backends import Backend

SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "linear": ((), 1),
    "1-D": ((9,), 1),
    "1-D, groups": ((9,), 2),
    "2-D": ((3, 3), 1),
    "2-D, groups": ((3, 3), 2),
    "3-D": ((3, 1, 3), 1),
    "3-D, groups": ((3, 1, 3), 2),
    "depth-wise": ((48, 48), 3),
}


@pytest.mark.parametrize(("dtype", "frames"), [("float16", 1), ("bfloat16", 2)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["jax", "mlx"])
def test_ones(need: Callable[[str], Backend], name: str, dtype: str, shape: str, frames: int) -> None:
    """A sum of 2304 ones is 2304, where a running sum in half precision stays at 256 or 2048; its gradient alike."""
    backend = need(name)
    xp = backend.namespace(backend.from_numpy(np.ones(1, np.float32)))
    kind, (kernel, groups) = getattr(xp, dtype), SHAPES[shape]
    channels = 1 if shape == "depth-wise" else 256 if kernel else 2304
    ones = (backend.from_numpy(np.ones(s, np.float32)) for s in _sizes(kernel, groups, channels, frames))
    x, weight = (one.astype(kind) for one in ones)

    def membrane(weight: Any) -> Any:
        if not kernel:
            return tacops.tac_linear(x, weight, chunk_size=1, beta=0.0, reset="none").membrane
        return tacops.conv_lif(x, weight, groups=groups, beta=0.0, reset="none").membrane

    out = membrane(weight)
    assert out.dtype == kind
    assert set(backend.to_numpy(out).ravel().tolist()) == {2304.0}
    (gradient,) = backend.gradient(lambda w: membrane(w).sum(), [weight])
    assert gradient.dtype == kind
    assert set(backend.to_numpy(gradient).ravel().tolist()) == {2304.0}


def _sizes(kernel: tuple[int, ...], groups: int, channels: int, frames: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of 2304 samples, which the gradient sums over, and of the weight."""
    return (frames, 2304, *kernel, channels * groups), (2 * groups, *kernel, channels)
