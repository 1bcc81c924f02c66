"""The synapses of a layer: frames in, currents out."""

from __future__ import annotations

from dataclasses import dataclass

from ._aggregate import Weights, cast, merge_chunks
from ._protocol import Array, Backend, Window

__all__ = ["Convolve"]


@dataclass(frozen=True)
class Convolve:
    """``conv(frames) -> currents`` for any number of frames at once, channels last.

    Parameters
    ----------
    backend : Backend
    window : Window
    weight : array, shape (C_out, *kernel, C_in // groups)
    bias : array or None, shape (C_out,)
        Already multiplied by the sum of the aggregation weights.
    per_channel : tuple of K arrays of shape (C_out,), or None
        Aggregation weights that differ between output channels. Such frames can't be summed before the convolution,
        which the output channels share: frames are (N, K, *S, C_in), and currents are summed instead.
    exact : bool
        Reproducible mode: all numbers are integers, and only plain sums of products keep them exact.
    """

    backend: Backend
    window: Window
    weight: Array
    bias: Array | None
    per_channel: Weights | None = None
    exact: bool = False

    def __call__(self, frames: Array) -> Array:
        """Currents (N, *S_out, C_out) of frames (N, *S, C_in), or (N, K, *S, C_in) with `per_channel`."""
        xp = self.backend.namespace(self.weight)
        frames = cast(xp, frames, self.weight.dtype)
        if self.per_channel is None:
            return self._convolve(frames, self.bias)
        flat = xp.reshape(frames, (-1, *frames.shape[2:]))
        currents = merge_chunks(self.backend, self._convolve(flat, None), self.per_channel, self.weight.dtype)
        return currents if self.bias is None else currents + self.bias

    def _convolve(self, x: Array, bias: Array | None) -> Array:
        return self.backend.conv(x, self.weight, bias, self.window, exact=self.exact)
