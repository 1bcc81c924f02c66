"""PyTorch: its scatter, its CSR matrices, and embedding bags, which are sums of table rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from bench.sparsity.strategies.arrays import Convolution, Library, same
from bench.timing.cases import Floats
from tacops.backends._unfold import pad

STEP = 1 << 23
"""Numbers of unfolded frames at a time."""


class Torch(Library):
    """Tensors on the device where spikes are made."""

    name = "torch"

    def locate(self, mask: Any, size: int) -> Any:
        """Exactly as many as there are, but one at least: convolutions refuse empty batches."""
        found = mask.nonzero().flatten()
        return found if len(found) else found.new_full((1,), mask.numel())

    def put(self, count: int, at: Any, rows: Any) -> Any:
        """A row more, so that nothing must be selected."""
        out = rows.new_zeros((count + 1, rows.shape[1]))
        out[at] = rows
        return out[:count]

    def add(self, count: int, at: Any, rows: Any) -> Any:
        """`Tensor.index_add_`."""
        out = rows.new_zeros((count + 1, rows.shape[1]))
        return out.index_add_(0, at, rows)[:count]

    def look_up(self, table: Any, at: Any) -> Any:
        """One embedding bag per place."""
        return F.embedding_bag(at.to(torch.int64), table, mode="sum")

    def matrices(self, weight: Floats) -> dict[str, Convolution]:
        """The unfolded spikes as a CSR matrix, and as embedding bags: the rows of the weights, summed for each place."""
        warnings.filterwarnings("ignore", "Sparse ", UserWarning)  # CSR is young, and its indices are not checked
        matrix = self.backend.from_numpy(np.ascontiguousarray(weight.reshape(weight.shape[0], -1).T))

        def csr(starts: Any, columns: Any) -> Any:
            shape = (len(starts) - 1, len(matrix))
            ones = torch.ones(len(columns), device=columns.device)
            whole = torch.sparse_csr_tensor(starts, columns, ones, shape, check_invariants=False)
            return whole @ matrix

        def bags(starts: Any, columns: Any) -> Any:
            return F.embedding_bag(columns, matrix, starts, mode="sum", include_last_offset=True)

        return {"CSR": self._in_parts(weight, csr), "embedding bags": self._in_parts(weight, bags)}

    def _in_parts(self, weight: Floats, product: Callable[[Any, Any], Any]) -> Convolution:
        """Frames in parts that fit a cache; `product` takes row starts and column indices of their unfolded spikes."""
        width, k, _, channels = weight.shape

        def run(x: Any) -> Any:
            N, H, W, _ = x.shape
            out = torch.empty((N, H, W, width), device=x.device)
            count = max(1, STEP // (H * W * k * k * channels))
            for start in range(0, N, count):
                padded = pad(self.xp, x[start : start + count], same(k))
                unfolded = padded.unfold(1, k, 1).unfold(2, k, 1).permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
                ends = torch.cumsum(unfolded.sum(1, dtype=torch.int32), 0, dtype=torch.int32)
                columns = unfolded.nonzero()[:, 1].to(torch.int32)
                out[start : start + count] = product(F.pad(ends, (1, 0)), columns).reshape(-1, H, W, width)
            return out

        return run
