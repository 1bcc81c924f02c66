r"""Pooling and flattening of frames (T, B, ...): what stands between layers of neurons.

Every rule is made of comparisons, of sums in one order and of one product, so results are the same on every backend:
a maximum is exact, a sum is where the numbers are whole (below 2^24 in float32), and a mean is the sum times 1 / n, rounded
once unless n is a power of two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._backend.dispatch import backend_of, undisturbed
from .._backend.protocol import Array, Window
from .._backend.whole import Move, Whole
from .._values import check_choice, fail, shape_of
from .arguments import LAYOUTS
from .checks import is_dtype
from .train import SpikeTrain, TracedSpikeTrain
from .window import check_padded, check_per_axis, check_window
from .windows import Windows, run_windows

__all__ = ["Pool", "avg_pool", "flatten", "frames_of", "max_pool", "pooled", "sum_pool"]


KERNEL = ("kernel_size", "kernel")
"""What the functions call it, and NIR and the stage of a network."""


class Pool(NamedTuple):
    """How windows move, an entry for every spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @classmethod
    def of(cls, function: str, kind: str, dims: int, kernel: Any, stride: Any, padding: Any) -> Pool:
        """Of one number for all axes, or one for each; a stride of None is the kernel."""
        sizes = check_per_axis(function, KERNEL[function == "Pool2d"], kernel, dims)
        strides = sizes if stride is None else check_per_axis(function, "stride", stride, dims)
        space, one = (2**31,) * dims, (1,) * dims
        window = check_window(function, space, one, stride=1, padding=padding, dilation=1, groups=1)
        if any(low != high for low, high in window.padding):
            raise fail(function, "padding", "an int or an int for each axis", padding)
        pads = tuple(low for low, _ in window.padding)
        if kind == "max" and any(pad > size // 2 for pad, size in zip(pads, sizes, strict=True)):
            raise fail(function, "padding", f"at most half of the kernel {sizes}", f"{pads}")
        return cls(sizes, strides, pads)

    def output_shape(self, function: str, spatial: Sequence[int]) -> tuple[int, ...]:
        """Spatial shape of what is returned."""
        axes = zip(spatial, *self, strict=True)
        out = tuple((size + 2 * p - k) // s + 1 for size, k, s, p in axes)
        if min(out) < 1:
            rule = f"at least as large as the kernel {self.kernel}"
            raise fail(function, "spikes", rule, f"spatial shape {tuple(spatial)}")
        return out


@undisturbed
def max_pool(
    spikes: Array | SpikeTrain,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    layout: str = "channels_last",
) -> Array:
    r"""The largest number of every window of space: of spikes, whether any fired; of currents, the strongest.

    .. math:: y_{t,b,i,c} = \max_k x_{t,b,is+k,c}

    Parameters
    ----------
    spikes : array, shape (T, B, *S, C), or (T, B, C, *S) with ``layout="channels_first"``
        One to three spatial axes; spikes or currents of any real dtype, which is that of the result. Of a `SpikeTrain`, its
        spikes.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        That of the kernel unless given.
    padding : int or sequence of int
        At most half of the kernel; what is added is smaller than any number. (Of the other pools, any number of zeros.)
    layout : {"channels_last", "channels_first"}

    Returns
    -------
    array, shape (T, B, *S_out, C) or (T, B, C, *S_out)
        The gradient of a window goes to the first of equal numbers, as in PyTorch, on every backend.

    Raises
    ------
    TypeError, ValueError
        For other shapes, dtypes and numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> spikes = np.zeros((1, 1, 4, 4, 1), dtype=bool)
    >>> spikes[0, 0, 0, 3] = True
    >>> tacops.max_pool(spikes, 2)[0, 0, :, :, 0]
    array([[False,  True],
           [False, False]])
    """
    return pooled("max_pool", "max", spikes, (kernel_size, stride, padding), layout)


@undisturbed
def avg_pool(
    spikes: Array | SpikeTrain,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    layout: str = "channels_last",
) -> Array:
    r"""The mean of every window of space.

    .. math:: y_{t,b,i,c} = \frac{1}{n} \sum_k x_{t,b,is+k,c}

    with the n numbers of the kernel, zeros of the padding among them. Sums of spikes are exact, and so is the mean where n is
    a power of two: layers with ``reproducible=Grid(input_step=1 / n)`` take it. Other means are the sum times 1 / n,
    rounded once and equal on every backend, but on no grid: use `sum_pool` there.

    Parameters
    ----------
    spikes, kernel_size, stride, padding, layout
        As of `max_pool`; bool and integers give float32.

    Returns
    -------
    array, shape (T, B, *S_out, C) or (T, B, C, *S_out)

    Raises
    ------
    TypeError, ValueError
        As `max_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> spikes = np.zeros((1, 1, 4, 4, 1), dtype=bool)
    >>> spikes[0, 0, 0, 3] = True
    >>> tacops.avg_pool(spikes, 2)[0, 0, :, :, 0]
    array([[0.  , 0.25],
           [0.  , 0.  ]], dtype=float32)
    """
    return pooled("avg_pool", "mean", spikes, (kernel_size, stride, padding), layout)


@undisturbed
def sum_pool(
    spikes: Array | SpikeTrain,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    layout: str = "channels_last",
) -> Array:
    r"""The sum of every window of space, which of spikes is exact: their number.

    .. math:: y_{t,b,i,c} = \sum_k x_{t,b,is+k,c}

    Parameters
    ----------
    spikes, kernel_size, stride, padding, layout
        As of `avg_pool`.

    Returns
    -------
    array, shape (T, B, *S_out, C) or (T, B, C, *S_out)
        Layers take it with ``reproducible=Grid(input_max=n)``, n the numbers of the kernel.

    Raises
    ------
    TypeError, ValueError
        As `max_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> tacops.sum_pool(np.ones((1, 1, 5, 3), dtype=bool), 2, stride=1)[0, 0, :, 0]
    array([2., 2., 2., 2.], dtype=float32)
    """
    return pooled("sum_pool", "sum", spikes, (kernel_size, stride, padding), layout)


def flatten(spikes: Array | SpikeTrain) -> Array:
    """Frames (T, B, ...) as vectors (T, B, F), for a dense layer; their order is that of the layout.

    Parameters
    ----------
    spikes : array, shape (T, B, ...), or SpikeTrain

    Returns
    -------
    array, shape (T, B, F)

    Raises
    ------
    TypeError, ValueError
        For what is no such array.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> tacops.flatten(np.zeros((5, 2, 3, 3, 4))).shape
    (5, 2, 36)
    """
    x, xp, shape = frames_of("flatten", spikes, 3)
    return xp.reshape(x, (*shape[:2], math.prod(shape[2:])))


def frames_of(function: str, spikes: Any, least: int, argument: str = "spikes") -> tuple[Array, Any, tuple[int, ...]]:
    """Frames, or those of a train; their namespace and shape."""
    x = spikes.spikes if isinstance(spikes, (SpikeTrain, TracedSpikeTrain)) else spikes
    if x is None:
        raise fail(function, argument, "an array", None, TypeError)
    xp = backend_of(x, function=function, names=(argument,)).namespace(x)
    if x.ndim < least:
        raise fail(function, argument, f"an array (T, B, ...) of {least} axes or more", f"shape {shape_of(x)}")
    return x, xp, shape_of(x)


def pooled(function: str, kind: str, spikes: Any, moves: tuple[Any, Any, Any], layout: str) -> Array:
    """Windows of frames by one of three rules: "max", "mean" or "sum"."""
    first = 3 if check_choice(function, "layout", layout, LAYOUTS) == "channels_first" else 2
    x, xp, shape = frames_of(function, spikes, 4)
    axes = "(T, B, C, *S)" if first == 3 else "(T, B, *S, C)"
    if len(shape) > 6 or 0 in shape:
        rule = f"a nonempty array {axes} with one to three spatial axes"
        raise fail(function, "spikes", rule, f"shape {shape}")
    if not is_dtype(xp, x.dtype, ("bool", "integral", "real floating")):
        raise fail(function, "spikes", "of a bool, integer or real floating dtype", str(x.dtype), TypeError)
    pool = Pool.of(function, kind, len(shape) - 3, *moves)
    space = shape[first : first + len(pool.kernel)]
    pool.output_shape(function, space)
    pads = tuple((pad, pad) for pad in pool.padding)
    check_padded(function, (*shape[:2], *space, shape[2 if first == 3 else -1]), Window(pool.stride, pads, (), 1))
    backend = backend_of(x)
    windows = Windows(backend, function, kind, pool.kernel, pool.stride, pads, first)
    if not backend.blockwise:
        return run_windows(windows, x)
    dtype = x.dtype if kind == "max" or is_dtype(xp, x.dtype, "real floating") else xp.float32
    moves_of = {first + n: Move(k, s, 1, pads[n]) for n, (k, s, _) in enumerate(zip(*pool, strict=True))}
    whole = Whole(run_windows, windows, function, "spikes", dtype, 1, int, moves_of, None, 0)
    return backend.run_blocks(whole, x, None, None)
