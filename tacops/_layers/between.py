"""What stands between layers of neurons: flattening, pooling and scaling, on arrays of any library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .._backend.dispatch import backend_of
from .._backend.protocol import Array
from .._core.arguments import LAYOUTS
from .._core.checks import check_choice, fail, shape_of
from .._core.train import SpikeTrain
from .._core.window import check_window
from .._operators import Layout
from .forward import spikes_of

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
        x, xp, shape = _given("Flatten", spikes, 3)
        return xp.reshape(x, (*shape[:2], math.prod(shape[2:])))


@dataclass(frozen=True)
class Pool2d:
    """Sums or means of windows of two spatial axes.

    Parameters
    ----------
    kind : {"sum", "mean"}
        A mean counts the zeros of the padding.
    kernel, stride : int or two ints
        A stride of None is the kernel.
    padding : int or two ints
    layout : {"channels_last", "channels_first"}

    Examples
    --------
    >>> import numpy as np
    >>> from tacops.layers import Pool2d
    >>> Pool2d("sum", 2)(np.ones((5, 2, 6, 6, 3), bool))[0, 0, 0, 0]
    array([4., 4., 4.], dtype=float32)
    """

    kind: Literal["sum", "mean"]
    kernel: int | Sequence[int]
    stride: int | Sequence[int] | None = None
    padding: int | Sequence[int] = 0
    layout: Layout = "channels_last"

    def __post_init__(self) -> None:
        check_choice("Pool2d", "kind", self.kind, ("sum", "mean"))
        check_choice("Pool2d", "layout", self.layout, LAYOUTS)
        for name, value in (("kernel", self.kernel), ("stride", self.kernel if self.stride is None else self.stride)):
            moves: dict[str, Any] = {"dilation": 1, "padding": 0, "groups": 1}
            object.__setattr__(self, name, check_window("Pool2d", (2**31,) * 2, (1, 1), stride=value, **moves).stride)
        window = check_window("Pool2d", (2**31,) * 2, self.kernel, stride=1, padding=self.padding, dilation=1, groups=1)  # type: ignore[arg-type]
        if any(low != high for low, high in window.padding):
            raise fail("Pool2d", "padding", "an int or two ints", self.padding)
        object.__setattr__(self, "padding", tuple(low for low, _ in window.padding))

    def output_shape(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Spatial shape of what is returned."""
        kernel, stride, padding = self._entries()
        sizes = zip(spatial, kernel, stride, padding, strict=True)
        out = tuple((size + 2 * p - k) // s + 1 for size, k, s, p in sizes)
        if min(out) < 1:
            raise fail("Pool2d", "spikes", f"at least as large as the kernel {kernel}", f"spatial shape {spatial}")
        return out

    def __call__(self, spikes: Array | SpikeTrain) -> Array:
        x, xp, shape = _given("Pool2d", spikes, 5)
        if len(shape) != 5:
            raise fail("Pool2d", "spikes", "an array with two spatial axes", f"shape {shape}")
        first = 3 if self.layout == "channels_first" else 2
        if not xp.isdtype(x.dtype, "real floating"):
            x = xp.astype(x, xp.float32)
        kernel, stride, padding = self._entries()
        out = self.output_shape(shape[first : first + 2])
        for n, (k, s, p, size) in enumerate(zip(kernel, stride, padding, out, strict=True)):
            x = _summed(xp, x, first + n, k, s, p, size)
        return x if self.kind == "sum" else x * (1.0 / math.prod(kernel))

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

        x, xp, shape = _given("Scale", spikes, 2)
        own = shape_of(self.factors)
        pairs = zip(reversed(own), reversed(shape[2:]), strict=False)
        if len(own) > len(shape) - 2 or any(factor not in (1, size) for factor, size in pairs):
            raise fail("Scale", "spikes", f"frames to which factors of shape {own} broadcast", f"shape {shape}")
        factors = place(backend_of(self.factors).to_numpy(self.factors), x)
        return factors * (x if xp.isdtype(x.dtype, "real floating") else xp.astype(x, factors.dtype))

    def __repr__(self) -> str:
        return f"Scale(factors {shape_of(self.factors)})"


def _given(function: str, spikes: Any, least: int) -> tuple[Array, Any, tuple[int, ...]]:
    """Spikes, their namespace and shape."""
    x = spikes_of(spikes)
    if x is None:
        raise fail(function, "spikes", "an array", None, TypeError)
    xp = backend_of(x, function=function, names=("spikes",)).namespace(x)
    if x.ndim < least:
        raise fail(function, "spikes", f"an array (T, B, ...) of {least} axes or more", f"shape {shape_of(x)}")
    return x, xp, shape_of(x)


def _summed(xp: Any, x: Array, axis: int, kernel: int, stride: int, padding: int, size: int) -> Array:
    """Sums of windows of one axis."""
    before = (slice(None),) * axis
    if padding:
        zeros = xp.zeros_like(xp.concat([x[(*before, slice(0, 1), ...)]] * padding, axis=axis))
        x = xp.concat([zeros, x, zeros], axis=axis)
    reach = (size - 1) * stride + 1
    parts = [x[(*before, slice(n, n + reach, stride), ...)] for n in range(kernel)]
    return sum(parts[1:], parts[0])
