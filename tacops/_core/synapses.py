"""The synapses of a layer: frames in, currents out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from .._backend.steps import Due
from .._backend.window import Array, Window
from .aggregation import Sums, Weights, cast, merge_chunks

__all__ = ["Convolve"]


class Products(Sums, Protocol):
    """The functions of arrays that synapses take; a backend has them."""

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """A convolution, channels last."""


@dataclass(frozen=True)
class Convolve:
    """``conv(conv.aggregate(frames)) -> currents``, one for each chunk of K frames, channels last.

    Parameters
    ----------
    products : Products
        Of the arrays' library: its backend.
    window : Window
    weight : array, shape (C_out, *kernel, C_in // groups)
    bias : array or None, shape (C_out,)
        Already multiplied by the sum of the aggregation weights.
    aggregation : tuple of K floats or arrays, or None
        Weights of a chunk's frames: 0-d arrays, or arrays of shape (C_out,), see `per_channel`. None: every frame is a
        chunk by itself, of weight 1.
    exact : bool
        Reproducible mode: all numbers are integers, and only plain sums of products keep them exact.
    fits_half : bool
        The integers that are multiplied are of a magnitude up to 2048, so float16 and TF32 hold them.
    due : Due or None
        What is still to be checked of the frames.
    """

    products: Products
    window: Window
    weight: Array
    bias: Array | None
    aggregation: Weights | None = None
    exact: bool = False
    fits_half: bool = False
    due: Due | None = None

    arrays: ClassVar[tuple[str, ...]] = ("weight", "bias", "aggregation")

    def __hash__(self) -> int:
        """Of the fields that there are, as of a step."""
        return hash(tuple(vars(self).values()))

    @property
    def chunk_size(self) -> int:
        """Frames that share one convolution."""
        return 1 if self.aggregation is None else len(self.aggregation)

    @property
    def per_channel(self) -> bool:
        """Whether aggregation differs between output channels.

        The output channels share the convolution, so such frames can't be summed before it; currents are summed instead.
        """
        return self.aggregation is not None and any(not isinstance(a, float) and a.ndim for a in self.aggregation)

    def aggregate(self, frames: Array) -> Array:
        """What the convolution takes of every chunk: (n * K, B, *S, C_in) to (n, B, *S, C_in).

        The weighted sum of the frames, or as they are with `per_channel`, as (n, B, K, *S, C_in).
        """
        if self.aggregation is None:
            return frames
        if not self.per_channel:
            return merge_chunks(self.products, frames, self.aggregation, self.weight.dtype)
        xp, size = self.products.namespace(frames), self.chunk_size
        chunks = xp.reshape(frames, (frames.shape[0] // size, size, *frames.shape[1:]))
        return xp.permute_dims(chunks, (0, 2, 1, *range(3, chunks.ndim)))

    def __call__(self, frames: Array) -> Array:
        """Currents (N, *S_out, C_out) of any number of aggregated frames, (N, *S, C_in) or (N, K, *S, C_in)."""
        xp = self.products.namespace(self.weight)
        frames = cast(xp, frames, self.weight.dtype)
        if self.aggregation is None or not self.per_channel:
            return self._convolve(frames, self.bias)
        flat = xp.reshape(frames, (-1, *frames.shape[2:]))
        currents = merge_chunks(self.products, self._convolve(flat, None), self.aggregation, self.weight.dtype)
        return currents if self.bias is None else currents + self.bias

    def _convolve(self, x: Array, bias: Array | None) -> Array:
        return self.products.conv(x, self.weight, bias, self.window, exact=self.exact)
