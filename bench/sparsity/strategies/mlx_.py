"""MLX, whose functions know no number that depends on the data: places are listed by NumPy, in the memory both share."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from bench.sparsity.strategies.arrays import Library


class MLX(Library):
    """`mlx.core.array`."""

    name = "mlx"

    def locate(self, mask: Any, size: int) -> Any:
        """Exactly as many as there are, but one at least: MLX refuses empty arrays. Waits for the mask."""
        found = np.flatnonzero(np.array(mask)).astype(np.int32)
        return mx.array(found if found.size else np.array([mask.size], np.int32))

    def put(self, count: int, at: Any, rows: Any) -> Any:
        """A row more, which nobody reads."""
        out = mx.zeros((count + 1, rows.shape[1]))
        out[at] = rows
        return out[:count]

    def add(self, count: int, at: Any, rows: Any) -> Any:
        """`at[].add`."""
        return mx.zeros((count + 1, rows.shape[1])).at[at].add(rows)[:count]
