"""Arrays, and how a kernel moves over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Array", "Window"]

Array: TypeAlias = Any
"""An array of any library; all arrays of one call belong to the same one."""


@dataclass(frozen=True)
class Window:
    """How a kernel moves over its input, one entry per spatial dimension."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    def output_shape(self, spatial: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
        """Spatial shape of the convolution's output.

        Parameters
        ----------
        spatial, kernel : sequence of int
            Spatial shapes of the input and of the kernel.
        """
        axes = zip(spatial, kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple([(size + low + high - d * (k - 1) - 1) // s + 1 for size, k, s, (low, high), d in axes])
