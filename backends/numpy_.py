"""NumPy: tiles that stay in cache, unfolded by a strided copy and multiplied by BLAS (``_cpu/tiles.py``)."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tacops._backend.protocol import Array, Backend, Window
from tacops._backend.steps import membrane_of

from ._cpu.choose import CROSSINGS, run_layer
from ._cpu.neurons import COMPILE, compiled
from ._cpu.tiles import (
    TILE,
    TRANSPOSE,
    all_on_grid,
    convolve_tiles,
    rescale_in_place,
    scale_and_round,
    scan_tiles,
    sum_blocks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from tacops._backend.steps import State, Step, Synapses

__all__ = ["BACKEND", "NumPyBackend"]


_FOREIGN = 2
"""What NumPy calls a type that another package has registered, of which bfloat16 is the one that is taken."""


def _isdtype(dtype: Any, kind: str | tuple[str, ...]) -> bool:
    if dtype.isbuiltin != _FOREIGN:
        return bool(np.isdtype(dtype, kind))
    return "real floating" in ((kind,) if isinstance(kind, str) else kind)


def _finfo(dtype: Any) -> Any:
    """ml_dtypes has been imported by whoever made the array."""
    return (np if dtype.isbuiltin != _FOREIGN else sys.modules["ml_dtypes"]).finfo(dtype)


def _where(condition: Array, x: Any, y: Any) -> Array:
    if isinstance(x, float) and isinstance(y, np.ndarray) and y.dtype.isbuiltin == _FOREIGN:
        x = y.dtype.type(x)
    return np.where(condition, x, y)


_NAMESPACE = ModuleType("numpy")
"""NumPy, which computes with bfloat16 but neither knows what kind of type that is nor keeps it beside a plain number."""
vars(_NAMESPACE).update(vars(np), isdtype=_isdtype, finfo=_finfo, where=_where)


class NumPyBackend(Backend):
    """NumPy arrays."""

    name = "numpy"

    def owns(self, array: object) -> bool:
        """Arrays, not NumPy's scalars, nor subclasses that mean something else: masked arrays, matrices, quantities."""
        return type(array) is np.ndarray or type(array) is np.memmap

    def unfit(self, array: Array) -> str | None:
        """Arrays of something else than numbers."""
        dtype = array.dtype
        return None if dtype.kind in "biufc" or dtype.name == "bfloat16" else f"an array of {dtype}"

    def namespace(self, array: Array) -> Any:
        """NumPy's, which from version 2.1 follow the standard."""
        return _NAMESPACE

    def is_eager(self, *arrays: Array | None) -> bool:
        """Always."""
        return True

    def undisturbed(self) -> AbstractContextManager[Any]:
        """Floating-point errors are neither raised nor warned of: numbers that overflow are results, as in every library."""
        return np.errstate(all="ignore")

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """Unfold in tiles, one matrix product each; half precision is summed in float32."""
        if _is_half(x.dtype):
            dtype, x, weight = x.dtype, x.astype(np.float32), weight.astype(np.float32)
            bias = None if bias is None else bias.astype(np.float32)
            return self.conv(x, weight, bias, window, exact=exact).astype(dtype)
        return convolve_tiles(x, weight, bias, window)

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """A product over the chunk axis, of blocks that stay in cache while they are cast."""
        if any(np.ndim(weight) for weight in weights):
            return super().weighted_sum(x, weights, dtype)
        wide = np.float32 if _is_half(dtype) else dtype
        sums = sum_blocks(x.reshape(*x.shape[:2], math.prod(x.shape[2:])), np.array(weights, dtype=wide))
        return sums.reshape(x.shape[0], *x.shape[2:]).astype(dtype, copy=False)

    def on_grid(self, x: Array, low: float, high: float, step: float) -> Array:
        """On all cores."""
        if x.dtype.kind != "f" or x.dtype == np.float16:
            return super().on_grid(x, low, high, step)
        return np.asarray(all_on_grid(x, low, high, step))

    def scan(self, step: Step, currents: Array, state: State | None, repeat: int) -> tuple[Array, State]:
        """In place, tile by tile."""
        recipe = step.recipe
        if currents.dtype.name == "bfloat16":  # beside which Python's floats are promoted
            step = _narrowed(step, currents.dtype)
        if recipe is None or recipe.poison is not None or _is_half(currents.dtype):
            return super().scan(step, currents, state, repeat)
        spikes, membrane = scan_tiles(currents, recipe, membrane_of(state), repeat)
        return spikes, (membrane,)

    def reads_frames(self, frames: Array) -> bool:
        """Events are read one by one."""
        return True

    def schedule(
        self, conv: Synapses, step: Step, frames: Array, state: State | None, repeat: int
    ) -> tuple[Array, State]:
        """Tile by tile through all of time, by products or by spikes; see ``_cpu/choose.py``."""
        recipe = step.recipe
        if recipe is None or recipe.poison is not None or conv.per_channel or _is_half(conv.weight.dtype):
            if conv.due is not None:
                conv.due.look()
            return super().schedule(conv, step, frames, state, repeat)
        weights = None if conv.aggregation is None else np.array(conv.aggregation, dtype=conv.weight.dtype)
        layer = frames, weights, conv.weight, conv.bias, conv.window
        spikes, membrane = run_layer(*layer, recipe, membrane_of(state), repeat, None, conv.due)
        return spikes, (membrane,)

    def round_rows(self, x: Array, factors: Array) -> Array:
        """With one new array."""
        return scale_and_round(x, factors)

    def rescale(self, x: Array, factor: Array) -> Array:
        """In place, unless that would keep a larger array alive."""
        whole = x.base is None or x.base.nbytes < 2 * x.nbytes
        if not whole or not x.flags.c_contiguous or x.dtype != factor.dtype or factor.size not in (1, x.shape[-1]):
            return super().rescale(x, factor)
        rescale_in_place(x, factor)
        return x

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None = None) -> Array:
        """A copy."""
        return np.array(array)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy."""
        return np.array(array)

    def devices(self) -> Sequence[str]:
        """There is one."""
        return ("cpu",)

    def crossings(self) -> Sequence[tuple[tuple[int, ...], tuple[int, ...], int]]:
        """Compiled loops, tiles, few channels, dense layers of several frames at once, and layers that follow their spikes."""
        dense = [((n, 32, 64), (64, 64), 1) for n in (TRANSPOSE - 1, TRANSPOSE)]
        loops = [((n, 4, 16, 16, 2), (16, 3, 3, 2), k) for n in (COMPILE >> 14, (COMPILE >> 14) + 4) for k in (1, 4)]
        tiles = [((2, n, 24, 24, 8), (8, 3, 3, 8), 1) for n in (1, 2, 2 * TILE // (24 * 24 * 80))]
        return (*dense, *loops, *tiles, *CROSSINGS)

    def ambient(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Floating-point errors that are raised."""
        return {"np.errstate(all='raise')": lambda: np.errstate(all="raise")}

    def describe(self) -> Mapping[str, str]:
        """Version, and what steps the neurons; NumPy computes at full precision always."""
        loops = compiled()
        neurons = (
            "NumPy's operations (tacops[numba] is faster)" if loops is None else f"compiled by Numba {loops.VERSION}"
        )
        return {"version": np.__version__, "device": "cpu", "precision": "full float32", "neurons": neurons}

    def read(self, array: Array) -> list[float] | None:
        """Always at hand."""
        values: list[float] = np.ravel(array).tolist()
        return values


def _narrowed(step: Step, dtype: Any) -> Step:
    """The step with its plain numbers as arrays of this dtype."""
    numbers = {name: value for name in step.arrays if isinstance(value := getattr(step, name), float)}
    made: Any = step  # a dataclass
    changed: Step = replace(made, **{name: np.asarray(value, dtype) for name, value in numbers.items()})
    return changed


def _is_half(dtype: Any) -> bool:
    """float16, or ml_dtypes' bfloat16: summed in float32, and no loop is compiled for them."""
    dtype = np.dtype(dtype)
    return dtype.itemsize == 2 and dtype.name in ("float16", "bfloat16")  # a name takes microseconds to make


BACKEND = NumPyBackend()
