"""What stands between layers of neurons: flattening, pooling and scaling, on arrays of any library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .._backend.dispatch import backend_of
from .._backend.protocol import Array
from .._core.arguments import LAYOUTS
from .._core.checks import check_choice, fail, shape_of
from .._core.pool import Pool, frames_of, pooled
from .._core.train import SpikeTrain
from .._operators import Layout

__all__ = ["Flatten", "Pool2d", "Scale"]


@dataclass(frozen=True)
class Flatten:
    """Spikes (T, B, ...) to (T, B, F).

    Parameters
    ----------
    layout : {"channels_last", "channels_first"}
        Of the spikes; it changes nothing here, but says in which order the features come.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops.layers import Flatten
    >>> Flatten()(np.zeros((5, 2, 3, 3, 4))).shape
    (5, 2, 36)
    """

    layout: Layout = "channels_last"

    def __post_init__(self) -> None:
        check_choice("Flatten", "layout", self.layout, LAYOUTS)

    def __call__(self, spikes: Array | SpikeTrain) -> Array:
        x, xp, shape = frames_of("Flatten", spikes, 3)
        return xp.reshape(x, (*shape[:2], math.prod(shape[2:])))


@dataclass(frozen=True)
class Pool2d:
    """Sums, means or maxima of windows of two spatial axes: `tacops.sum_pool`, `avg_pool` and `max_pool` as a stage of a network.

    Parameters
    ----------
    kind : {"sum", "mean", "max"}
        A mean counts the zeros of the padding.
    kernel, stride : int or two ints
        A stride of None is the kernel.
    padding : int or two ints
        Of a maximum, at most half of the kernel.
    layout : {"channels_last", "channels_first"}

    Examples
    --------
    >>> import numpy as np
    >>> from tacops.layers import Pool2d
    >>> Pool2d("sum", 2)(np.ones((5, 2, 6, 6, 3), bool))[0, 0, 0, 0]
    array([4., 4., 4.], dtype=float32)
    """

    kind: Literal["sum", "mean", "max"]
    kernel: int | Sequence[int]
    stride: int | Sequence[int] | None = None
    padding: int | Sequence[int] = 0
    layout: Layout = "channels_last"

    def __post_init__(self) -> None:
        check_choice("Pool2d", "kind", self.kind, ("sum", "mean", "max"))
        check_choice("Pool2d", "layout", self.layout, LAYOUTS)
        for name, value in Pool.of("Pool2d", self.kind, 2, self.kernel, self.stride, self.padding)._asdict().items():
            object.__setattr__(self, name, value)

    def output_shape(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Spatial shape of what is returned."""
        return Pool(*self._entries()).output_shape("Pool2d", spatial)

    def __call__(self, spikes: Array | SpikeTrain) -> Array:
        x, _, shape = frames_of("Pool2d", spikes, 5)
        if len(shape) != 5:
            raise fail("Pool2d", "spikes", "an array with two spatial axes", f"shape {shape}")
        return pooled("Pool2d", self.kind, x, self._entries(), self.layout)

    def _entries(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return self.kernel, self.stride, self.padding  # type: ignore[return-value]


@dataclass(frozen=True, eq=False, repr=False)
class Scale:
    """Spikes times factors.

    Parameters
    ----------
    factors : array
        Broadcasts to the axes behind T and B. Factors that are not floating become float32.

    Raises
    ------
    TypeError
        For what is no array of real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops.layers import Scale
    >>> Scale(np.array([0.5, 2.0], np.float32))(np.ones((1, 1, 2), np.float32))
    array([[[0.5, 2. ]]], dtype=float32)
    """

    factors: Array

    def __post_init__(self) -> None:
        xp = backend_of(self.factors, function="Scale", names=("factors",)).namespace(self.factors)
        if not xp.isdtype(self.factors.dtype, ("bool", "integral", "real floating")):
            rule = "of a bool, integer or real floating dtype"
            raise fail("Scale", "factors", rule, str(self.factors.dtype), TypeError)
        if not xp.isdtype(self.factors.dtype, "real floating"):  # spikes in a narrow type of ints would wrap
            object.__setattr__(self, "factors", xp.astype(self.factors, xp.float32))

    def __call__(self, spikes: Array | SpikeTrain) -> Array:
        from ..backends._io.npz import place

        x, xp, shape = frames_of("Scale", spikes, 2)
        own = shape_of(self.factors)
        pairs = zip(reversed(own), reversed(shape[2:]), strict=False)
        if len(own) > len(shape) - 2 or any(factor not in (1, size) for factor, size in pairs):
            raise fail("Scale", "spikes", f"frames to which factors of shape {own} broadcast", f"shape {shape}")
        factors = place(backend_of(self.factors).to_numpy(self.factors), x)
        return factors * (x if xp.isdtype(x.dtype, "real floating") else xp.astype(x, factors.dtype))

    def __repr__(self) -> str:
        return f"Scale(factors {shape_of(self.factors)})"
