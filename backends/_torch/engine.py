"""PyTorch's layers on CPUs by the engine of NumPy's (``_cpu/``), where nothing is differentiated or traced, and Numba is there.

Small layers keep PyTorch's products. Threads are as many as PyTorch would take, and nothing that is set is changed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .._cpu import choose
from .._cpu.frames import Frames
from .._cpu.neurons import COMPILE, compiled
from .._cpu.tiles import all_on_grid, rescale_in_place, scan_tiles
from .convolution import is_onednn_s
from .host import as_arrays, is_watched

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Synapses
    from tacops._backend.steps import Recipe

__all__ = ["on_grid", "rescale", "run_layer", "run_neurons"]

ONE_STEP = 1 << 20
"""Neurons of a single step from which the loop is taken: PyTorch's few operations on a small frame are sooner done."""
FEW, OFTEN = 1 << 13, 8
"""Neurons of a frame up to which, and steps from which, NumPy's operations are sooner done than PyTorch's."""
SILENT = 0.02
"""Share of events up to which the loops over them keep up with oneDNN's products in a layer with groups."""


def run_layer(
    conv: Synapses, step: Recipe, frames: Array, membrane: Array | None, repeat: int
) -> tuple[Array, Array] | None:
    """`Backend.schedule`; None where the layer goes PyTorch's way."""
    shape = (len(frames) // conv.chunk_size, *frames.shape[1:])
    layer = shape, tuple(conv.weight.shape), conv.window
    # PyTorch's threads would go on spinning after its products, in the way of the neurons' loop: up to four times as slow
    if choose.count_steps(*layer) * repeat < COMPILE and not choose.is_large(*layer):
        return None
    weights = conv.aggregation or ()
    arrays = as_arrays(frames, conv.weight, conv.bias, membrane, step.decay, step.threshold, *weights)
    if arrays is None or conv.per_channel or compiled() is None:
        return None
    x, weight, bias, start, decay, threshold, *sums = arrays
    chunk = np.array(sums, dtype=weight.dtype) if sums else None
    if conv.window.groups > 1 and _is_sooner_multiplied(conv, frames, Frames(x, chunk), weight):
        return None
    recipe = step._replace(decay=decay, threshold=threshold)
    with np.errstate(all="ignore"):
        given = x, chunk, weight, bias, conv.window, recipe, start, repeat
        return _tensors(*choose.run_layer(*given, torch.get_num_threads(), conv.due))


def _is_sooner_multiplied(conv: Synapses, frames: Array, summed: Frames, weight: Any) -> bool:
    """Whether a layer with groups is one for oneDNN, which multiplies those twice to four times as fast as the engine's tiles."""
    if conv.weight.dtype != torch.float32 or choose.forced() is not None:
        return False
    if not is_onednn_s(frames[0], conv.weight, conv.window):
        return False
    way, events = choose.find_way(summed, weight, conv.window)
    return way == "dense" or events > SILENT * math.prod(summed.shape)


def run_neurons(step: Recipe, currents: Array, membrane: Array | None, repeat: int) -> tuple[Array, Array] | None:
    """`Backend.scan` by the compiled loop, or of few neurons by NumPy; None where it is not worth while, or can't be."""
    steps, neurons = len(currents) * repeat, currents.numel() // max(1, len(currents))
    few = neurons <= FEW and steps >= OFTEN
    if not few and neurons * steps < (COMPILE if steps > 1 else ONE_STEP):
        return None
    arrays = as_arrays(currents, membrane, step.decay, step.threshold)
    if arrays is None or not (few or compiled() is not None):
        return None
    x, start, decay, threshold = arrays
    recipe = step._replace(decay=decay, threshold=threshold)
    with np.errstate(all="ignore"):
        return _tensors(*scan_tiles(x, recipe, start, repeat, torch.get_num_threads()))


def on_grid(x: Array, low: float, high: float, step: float) -> Array | None:
    """`Backend.on_grid` of plain floats, in one pass; None where it is PyTorch's."""
    if is_watched(x) or x.dtype not in (torch.float32, torch.float64) or (arrays := as_arrays(x)) is None:
        return None
    with np.errstate(all="ignore"):
        return torch.tensor(all_on_grid(arrays[0], low, high, step, torch.get_num_threads()))


def rescale(x: Array, factor: Array) -> bool:
    """`Backend.rescale`, if it can be done in place by NumPy.

    After an operation of many numbers PyTorch's threads wait for the next one by spinning, for some milliseconds, and the
    engine of the next layer would share its cores with them.
    """
    arrays = as_arrays(x, factor)
    if arrays is None or x.dtype != factor.dtype or factor.numel() not in (1, x.shape[-1]):
        return False
    if not x.is_contiguous() or x.untyped_storage().nbytes() >= 2 * x.nbytes:
        return False
    with np.errstate(all="ignore"):
        rescale_in_place(*arrays)
    return True


def _tensors(*arrays: Array) -> tuple[Array, Array]:
    """Results as tensors, which own their memory."""
    spikes, membrane = map(torch.from_numpy, arrays)
    return spikes, membrane
