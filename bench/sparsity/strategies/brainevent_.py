"""brainevent's event-driven operators, by their CPU kernels, which Numba compiles; compiled into a JAX function.

A convolution is two of them: the weights as a dense matrix and the unfolded spikes as events, or the whole convolution as
a CSR matrix (weights alone, so made once) and the frames as events.
"""

from __future__ import annotations

from typing import Any

import brainevent
import jax
import jax.numpy as jnp
import numpy as np

from bench.shared.machine import cores
from bench.sparsity.strategies.arrays import Convolution, same
from bench.timing.cases import Floats
from tacops.backends._unfold import pad, unfold

brainevent.config.set_numba_parallel(True, cores())
MOST = 1 << 25
"""Entries of a convolution's CSR matrix."""


def convolutions(weight: Floats, space: tuple[int, ...]) -> dict[str, Convolution]:
    """Both ways, by name; the second where its matrix is not too large."""
    found = {"dense weights": _unfolded(weight)}
    if np.prod(space) * weight.size <= MOST:
        found["CSR weights"] = _by_matrix(weight, space)
    return found


def _unfolded(weight: Floats) -> Convolution:
    k, width = weight.shape[1], weight.shape[0]
    matrix = jnp.asarray(np.ascontiguousarray(weight.reshape(width, -1).T))

    def run(x: Any, matrix: Any) -> Any:
        def frame(x: Any) -> Any:
            columns = unfold(jnp, pad(jnp, x[None], same(k)), (k, k), x.shape[:2], same(k))
            events = brainevent.BinaryArray(columns.reshape(len(columns), -1))
            return (events @ matrix).reshape(*x.shape[:2], width)

        return jax.lax.map(frame, x)

    compiled = jax.jit(run)
    return lambda x: compiled(x, matrix)


def _by_matrix(weight: Floats, space: tuple[int, ...]) -> Convolution:
    width = weight.shape[0]
    data, indices, starts = map(jnp.asarray, csr(weight, space))
    matrix = brainevent.CSR((data, indices, starts), shape=(len(starts) - 1, int(np.prod(space)) * width))

    def run(x: Any, matrix: Any) -> Any:
        events = brainevent.BinaryArray(x.reshape(x.shape[0], -1))
        return (events @ matrix).reshape(*x.shape[:3], width)

    compiled = jax.jit(run)
    return lambda x: compiled(x, matrix)


def csr(weight: Floats, space: tuple[int, ...]) -> tuple[Floats, Any, Any]:
    """The convolution as a matrix (H * W * C_in, H * W * C_out): data, column indices, row starts."""
    (H, W), (width, k, _, channels) = space, weight.shape
    half = k // 2
    row, column, dy, dx = np.meshgrid(np.arange(H), np.arange(W), np.arange(k), np.arange(k), indexing="ij")
    y, x = row + half - dy, column + half - dx
    inside = (y >= 0) & (y < H) & (x >= 0) & (x < W)
    taps = inside.reshape(H * W, -1).sum(axis=1)
    starts = np.concatenate([[0], np.cumsum(np.repeat(taps * width, channels))]).astype(np.int32)
    data = np.empty(starts[-1], np.float32)
    indices = np.empty(starts[-1], np.int32)
    by_tap = weight.transpose(3, 1, 2, 0)  # C_in, k, k, C_out
    for site in range(H * W):
        at = np.unravel_index(site, (H, W))
        targets = (y[at] * W + x[at])[inside[at]]
        places = (targets[:, None] * width + np.arange(width)).reshape(-1)
        low, high = starts[site * channels], starts[(site + 1) * channels]
        indices[low:high] = np.tile(places, channels)
        data[low:high] = by_tap[:, inside[at]].reshape(-1)
    return data, indices, starts
