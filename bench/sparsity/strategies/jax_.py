"""JAX: compiled, with sizes rounded up to powers of two, and `jax.experimental.sparse`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import sparse

from bench.sparsity.strategies.arrays import Convolution, Library, same
from bench.timing.cases import Floats
from tacops._backend.protocol import Window
from tacops.backends._unfold import pad, unfold

SMALLEST = 8
FRAMES = 8
"""Convolved at a time, so that what is unfolded stays in cache."""


class JAX(Library):
    """`jax.Array`."""

    name = "jax"

    def locate(self, mask: Any, size: int) -> Any:
        """Rounded up."""
        return jnp.nonzero(mask, size=min(size, mask.size), fill_value=mask.size)[0]

    def put(self, count: int, at: Any, rows: Any) -> Any:
        """`at[].set`, dropping what lies outside."""
        return jnp.zeros((count, rows.shape[1]), rows.dtype).at[at].set(rows, mode="drop")

    def add(self, count: int, at: Any, rows: Any) -> Any:
        """`at[].add`, dropping what lies outside."""
        return jnp.zeros((count, rows.shape[1]), rows.dtype).at[at].add(rows, mode="drop")

    def conv(self, x: Any, weight: Any, window: Window) -> Any:
        """A few frames at a time."""
        if x.shape[0] % FRAMES or jax.default_backend() != "cpu":
            return super().conv(x, weight, window)
        parts = x.reshape(-1, FRAMES, *x.shape[1:])
        out = lax.map(lambda part: super(JAX, self).conv(part, weight, window), parts)
        return out.reshape(-1, *out.shape[2:])

    def staged(self, counts: Callable[[Any], Sequence[Any]], run: Callable[..., Any], *constants: Any) -> Convolution:
        """Count, wait, and run what is compiled for the next power of two."""
        count, compiled = jax.jit(lambda x: counts(x)), jax.jit(run, static_argnums=0)

        def both(x: Any) -> Any:
            sizes = tuple(max(SMALLEST, 1 << (int(size) - 1).bit_length()) for size in count(x))
            return compiled(sizes, x, *constants)

        return both

    def matrices(self, weight: Floats) -> dict[str, Convolution]:
        """Unfolded spikes as BCOO, a few frames at a time."""
        k = weight.shape[1]

        def groups(x: Any) -> Any:
            return x.reshape(-1, FRAMES if x.shape[0] % FRAMES == 0 else x.shape[0], *x.shape[1:])

        def unfolded(part: Any) -> Any:
            columns = unfold(jnp, pad(jnp, part, same(k)), (k, k), part.shape[1:3], same(k))
            return columns.reshape(len(columns), -1)

        def counts(x: Any) -> Sequence[Any]:
            return [jnp.max(jnp.sum(groups(x).astype(jnp.int32), axis=(1, 2, 3, 4))) * k * k]

        def run(sizes: Sequence[int], x: Any, matrix: Any) -> Any:
            def product(part: Any) -> Any:
                rows = unfolded(part).astype(matrix.dtype)
                return sparse.BCOO.fromdense(rows, nse=min(sizes[0], rows.size)) @ matrix

            return lax.map(product, groups(x)).reshape(*x.shape[:3], -1)

        matrix = np.ascontiguousarray(weight.reshape(weight.shape[0], -1).T)
        return {"BCOO": self.staged(counts, run, self.backend.from_numpy(matrix))}
