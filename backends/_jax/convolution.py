"""Convolutions in JAX: unfolded frames and one product, or XLA's convolution, always at highest precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import product
from operator import add
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from .._unfold import sums_taps, taps
from .cut import on_mesh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tacops._backend.window import Array, Window

__all__ = ["PRECISION", "Products", "conv", "conv_by_unfolding", "conv_in_half", "conv_one_frame", "halved", "wide"]

# The default precision of float32 products is TF32 on recent NVIDIA GPUs and bfloat16 on TPUs; HIGHEST is float32.
PRECISION = lax.Precision.HIGHEST
SPACE = "DHW"


def conv(x: Array, weight: Array, bias: Array | None, window: Window, exact: bool, *, cpu: bool) -> Array:
    """A product of unfolded frames on CPUs and in exact mode (XLA may choose Winograd), else XLA's convolution."""
    if exact or not window.stride or (cpu and window.groups == 1):
        return conv_by_unfolding(x, weight, bias, window)
    space = SPACE[-len(window.stride) :]
    out = lax.conv_general_dilated(
        x,
        weight,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=(f"N{space}C", f"O{space}I", f"N{space}C"),
        feature_group_count=window.groups,
        precision=PRECISION,
    )
    return out if bias is None else out + bias


def conv_one_frame(x: Array, weight: Array, bias: Array | None, window: Window, exact: bool) -> Array:
    """On a CPU, where no loop repeats it, and XLA compiles in its own way.

    The padded frame is kept apart, in memory: XLA would sum its chunk again for every tap that is unfolded from it.
    Depth-wise tap by tap, which outside a loop takes a fifth of XLA's convolution (inside, its takes two thirds of ours).
    """
    x = lax.optimization_barrier(jnp.pad(x, ((0, 0), *window.padding, (0, 0))))
    window = replace(window, padding=((0, 0),) * len(window.padding))
    if window.groups == 1 or sums_taps(jnp, weight, window):
        return conv_by_unfolding(x, weight, bias, window, looped=False)
    return conv(x, weight, bias, window, exact, cpu=True)


def conv_in_half(x: Array, weight: Array, bias: Array | None, window: Window, exact: bool) -> Array:
    """Of integers that float16 holds, with sums that float32 holds: exact, and on NVIDIA's GPUs for tensor cores.

    Other dtypes, and depth-wise convolutions, whose taps are no matrix product, are multiplied as they are.
    """
    if x.dtype != jnp.float32 or weight.dtype != jnp.float32 or sums_taps(jnp, weight, window):
        return conv_by_unfolding(x, weight, bias, window)
    out = _exactly(x, weight, window)
    return out if bias is None else out + bias


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _exactly(x: Array, weight: Array, window: Window) -> Array:
    """The platform is known when the program is compiled for it, and then it has one of both ways."""
    return lax.platform_dependent(
        x,
        weight,
        cuda=lambda x, weight: halved(x, weight, window),
        default=lambda x, weight: conv_by_unfolding(x, weight, None, window),
    )


@_exactly.defjvp  # type: ignore[untyped-decorator]
def _tangent(window: Window, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """Of float32 products, since tangents, and gradients, are no integers."""
    _, tangent = jax.jvp(lambda x, w: conv_by_unfolding(x, w, None, window), primals, tangents)
    return _exactly(*primals, window), tangent


def halved(x: Array, weight: Array, window: Window) -> Array:
    """Products of float16, summed in float32."""
    return conv_by_unfolding(x.astype(jnp.float16), weight.astype(jnp.float16), None, window, dtype=jnp.float32)


def conv_by_unfolding(
    x: Array, weight: Array, bias: Array | None, window: Window, *, looped: bool = True, dtype: Any = None
) -> Array:
    """As the generic one, in the form that XLA fuses best: inside a loop taps side by side, elsewhere on an axis of their own.

    No axis is merged with the batch, which may be cut by a mesh or of unknown size, and no work area counts on its size.
    The result is of `dtype`, that of `x` unless given.
    """
    dtype = x.dtype if dtype is None else dtype
    kernel, groups = weight.shape[1:-1], window.groups
    space = window.output_shape(x.shape[1:-1], kernel)
    if on_mesh(x):
        places = list(moved_taps(x, kernel, space, window))
    else:
        places = list(taps(jnp.pad(x, ((0, 0), *window.padding, (0, 0))), kernel, space, window))
    if groups == 1:
        columns = jnp.concatenate(places, axis=-1) if looped else jnp.stack(places, axis=-2)
        columns = columns.reshape(*places[0].shape[:-1], -1)
        out = _matmul(columns, weight.reshape(len(weight), -1).T, dtype)
    elif sums_taps(jnp, weight, window):
        terms = zip(places, product(*map(range, kernel)), strict=True)
        out = reduce(add, [tap * weight[(slice(None), *place, 0)] for tap, place in terms])
    else:
        columns = jnp.concatenate([tap.reshape(*tap.shape[:-1], groups, -1) for tap in places], axis=-1)
        flat = weight.reshape(groups, len(weight) // groups, -1)
        kind = wide(x.dtype)
        out = jnp.einsum("...gk,gok->...go", columns, flat, precision=PRECISION, preferred_element_type=kind)
        out = out.astype(dtype).reshape(*out.shape[:-2], -1)
    return out if bias is None else out + bias


def moved_taps(x: Array, kernel: tuple[int, ...], space: tuple[int, ...], window: Window) -> Iterator[Array]:
    """As `taps` of padded inputs, for an axis that a mesh may cut: what devices exchange are borders, once for each axis.

    Rows are put in blocks, and next to each block its neighbours, which hold all that its taps reach: one exchange to each
    side, whatever the kernel. Where that can't be, all taps along an axis are one array, moved once for each, and each move
    is an exchange. Of `taps`, XLA cuts every tap anew from padded inputs, which it cuts into pieces of another size.
    """
    moves = zip(kernel, space, window.stride, window.padding, window.dilation, strict=True)
    for axis, (size, n, stride, (low, _), dilation) in enumerate(moves, start=1):
        starts = [tap * dilation - low for tap in range(size)]
        if rows := _block(x.shape[axis], n, stride, starts, on_mesh(x)):
            moved = _of_blocks(x, axis, rows, stride, starts)
        else:
            reach = stride * (n - 1) + 1
            moved = [
                lax.slice_in_dim(_shifted(x, axis, start, start + reach), 0, reach, stride, axis) for start in starts
            ]
        x = jnp.stack(moved, axis=-2)
    flat = x.reshape(*x.shape[: 1 + len(kernel)], -1, x.shape[-1])
    return (flat[..., n, :] for n in range(flat.shape[-2]))


def _block(length: int, n: int, stride: int, starts: list[int], devices: int) -> int:
    """Rows of the smallest block that is as large as the borders, and of which every device has a whole number; 0: none."""
    if not isinstance(length, int) or length != n * stride or n % devices:
        return 0
    border, piece = max(-starts[0], starts[-1] - stride + 1), n // devices
    fits = (size * stride for size in range(1, piece + 1) if piece % size == 0 and size * stride >= border)
    return next(fits, 0)


def _of_blocks(x: Array, axis: int, rows: int, stride: int, starts: list[int]) -> list[Array]:
    """Every tap along an axis, cut of blocks of rows beside their neighbours."""
    blocks = x.reshape(*x.shape[:axis], x.shape[axis] // rows, rows, *x.shape[axis + 1 :])
    count, before = blocks.shape[axis], starts[0] < 0
    near = [*([-1] if before else []), 0, *([1] if starts[-1] >= stride else [])]
    beside = [_shifted(blocks, axis, move, move + count) for move in near]
    wide, parts = jnp.concatenate(beside, axis + 1), []
    for start in starts:
        first = start + rows * before
        part = lax.slice_in_dim(wide, first, first + rows - stride + 1, stride, axis + 1)
        parts.append(part.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :]))
    return parts


def _shifted(x: Array, axis: int, start: int, stop: int) -> Array:
    """From `start` to `stop` of an axis; beyond its ends there are zeros."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (-start, stop - x.shape[axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def wide(dtype: Any) -> Any:
    """The dtype of sums: float32 for half precision."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def _matmul(a: Array, b: Array, dtype: Any) -> Array:
    """Full precision; half-precision products are summed in float32 (this is what the hardware does, where it has them)."""
    return jnp.matmul(a, b, precision=PRECISION, preferred_element_type=wide(a.dtype)).astype(dtype)


@dataclass(frozen=True)
class Products:
    """What synapses take, with a convolution for the place it is called in."""

    convolve: Callable[..., Array]
    sums: Callable[..., Array]

    def namespace(self, array: Array) -> Any:
        """jax.numpy."""
        return jnp

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """The backend's."""
        return self.sums(x, weights, dtype)

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """The one that was given."""
        return self.convolve(x, weight, bias, window, exact)
