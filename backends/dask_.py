"""Dask arrays, whose blocks are arrays of another library: whole calls, block by block, when they are asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import array_api_compat.dask.array as namespace
import dask
import dask.array as da
import numpy as np

from tacops._backend.dispatch import backend_of
from tacops._backend.protocol import Array, Backend, Window
from tacops._backend.whole import Move, Whole

from ._dask.graph import blocks_of
from ._dask.window import Convolution, convolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tacops._backend.protocol import State

__all__ = ["BACKEND", "DaskBackend"]


class DaskBackend(Backend):
    """Arrays of arrays."""

    name = "dask"
    blockwise = True
    lazy = True

    def owns(self, array: object) -> bool:
        """Dask's arrays."""
        return isinstance(array, da.Array)

    def unfit(self, array: Array) -> str | None:
        """Unknown sizes, and blocks that are no arrays of ours."""
        if any(math.isnan(size) for size in array.shape):
            return "a Dask array of unknown chunk sizes (its compute_chunk_sizes() finds them)"
        try:
            backend = backend_of(array._meta)
        except TypeError:
            return f"a Dask array with blocks of {type(array._meta).__module__}.{type(array._meta).__qualname__}"
        reason = backend.unfit(array._meta)
        return None if reason is None else f"a Dask array with blocks that are {reason}"

    def namespace(self, array: Array) -> Any:
        """Dask's, under the names of the standard."""
        return namespace

    def device_of(self, array: Array) -> str | None:
        """The library of the blocks."""
        return f"blocks of {backend_of(array._meta).name}"

    def device_name(self, array: Array) -> str:
        """Where the workers are."""
        return self.device_of(array) or ""

    def run_blocks(self, whole: Whole, frames: Array, state: State | None, lengths: Any) -> Any:
        """See ``_dask/graph.py``."""
        return blocks_of(whole, frames, state, lengths)

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """Block by block."""
        moves = zip(weight.shape[1:-1], window.stride, window.dilation, window.padding, strict=True)
        axes = {n: Move(*move) for n, move in enumerate(moves, start=1)}
        described = Convolution(None, weight, bias, window, exact)
        last, filters = x.ndim - 1, weight.shape[0]
        whole = Whole(convolve, described, "conv", "x", weight.dtype, 1, int, axes, last, filters)
        return blocks_of(whole, x, None, None)

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None = None) -> Array:
        """One block, a copy."""
        return da.from_array(np.array(array), chunks=-1)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Computed here, by Dask's scheduler."""
        value = array.compute()
        return (
            np.array(backend_of(value).to_numpy(value)) if hasattr(value, "shape") and value.shape else np.array(value)
        )

    def beside(self, array: np.ndarray[Any, Any], like: Array) -> Array:
        """One block in the library of the blocks of `like`."""
        backend = backend_of(like._meta)
        if backend.name == "numpy":
            return self.from_numpy(array)
        return da.from_array(backend.from_numpy(array), chunks=-1, asarray=False)

    def describe(self) -> Mapping[str, str]:
        """Versions."""
        return {"version": dask.__version__, "device": "cpu", "precision": "that of the blocks' library"}


BACKEND = DaskBackend()
