"""Launching the kernels: every result is written where it is returned, and parameters are read where they are."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from .backwards import constants, lif_back
from .forwards import lif
from .layout import in_order, inner, like, per_channel, results

if TYPE_CHECKING:
    from tacops._backend.protocol import Array
    from tacops._backend.steps import Recipe

__all__ = ["OPTIONS", "back", "forth", "of_neurons", "on", "parameter"]

BLOCK = 512
"""Neurons of a program: of float32, one access of 128 bits for each of its threads. Not measured, for want of a GPU."""
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


def forth(step: Recipe, currents: Array, membrane: Array | None, repeat: int, keep: bool) -> tuple[Array, Array, Array]:
    """`Backend.scan`: spikes, the last membranes, and if `keep`, those that fire, else nothing."""
    currents = in_order(currents)
    spikes, after, kept = results(currents, repeat, step.compact, keep)
    pointers, numbers, flags = of_neurons(step, after)
    with on(currents):
        lif[_grid(after)](
            currents=currents,
            start=after if membrane is None else like(membrane, after),
            spikes=spikes.view(torch.int8) if step.compact else spikes,
            membrane=after,
            kept=kept,
            frames=len(currents),
            repeat=repeat,
            row=currents.stride(0),
            ROUNDED=step.rounded,
            STARTS=membrane is not None,
            COMPACT=step.compact,
            KEEP=keep,
            **pointers,
            **numbers,
            **flags,
            **OPTIONS,
        )
    return spikes, after, kept


def back(
    step: Recipe,
    surrogate: tuple[str, float],
    kept: Array,
    membrane: Array | None,
    repeat: int,
    to_spikes: Array | None,
    to_membrane: Array | None,
    parameters: tuple[bool, bool],
    own: Array | None = None,
) -> tuple[Array, Array | None, Array | None, Array | None]:
    """Gradients of `forth` by currents, first membrane, decay and threshold, the last two (C,) where `parameters` asks.

    Parameters
    ----------
    step : Recipe
    surrogate : tuple
        Its name and slope; "" is none.
    kept : array, shape (n * repeat, B, ..., C)
        As `forth` left it.
    membrane : array, shape (B, ..., C), or None
    repeat : int
    to_spikes : array, shape (n * repeat, B, ..., C), or None
        None is zeros.
    to_membrane : array, shape (B, ..., C), or None
    parameters : tuple of bool
    own : array, shape (n * repeat, B, ..., C) or one longer, laid out as `kept`, or None
        Derivatives of the spikes by the membranes, of the surrogate "own".
    """
    frame, frames = kept[0], len(kept) // repeat
    by_currents = torch.empty_strided((frames, *frame.shape), kept.stride(), dtype=kept.dtype, device=kept.device)
    by_start = None if membrane is None else torch.empty_like(frame)
    wide = torch.float64 if kept.dtype == torch.float64 else torch.float32
    by = [torch.empty(frame.numel(), dtype=wide, device=kept.device) if asked else None for asked in parameters]
    number, inside, outside = constants(*surrogate)
    pointers, numbers, flags = of_neurons(step, frame)
    unit, _, unit_step, units = parameter(1.0 if step.unit is None else step.unit, frame)
    alike = to_spikes is not None and to_spikes.numel() > 1 and not any(to_spikes.stride())

    def array(x: Array | None, reference: Array | None = None) -> Array:
        """The kernel reads nothing of what stands for an array that is not there."""
        return kept if x is None else x if reference is None else like(x, reference)

    with on(kept):
        lif_back[_grid(frame)](
            kept=kept,
            start=array(membrane, frame),
            units=array(unit),
            slopes=_pair(inside, outside, kept) if flags["WIDE"] else kept,
            own=array(own),
            to_spikes=array(to_spikes, None if alike else kept),
            to_membrane=array(to_membrane, frame),
            by_currents=by_currents,
            by_start=array(by_start),
            by_decays=array(by[0]),
            by_thresholds=array(by[1]),
            frames=frames,
            repeat=repeat,
            slope_inner=inside,
            slope_outer=outside,
            unit_step=unit_step,
            DETACHED=step.detach_reset,
            SURROGATE=number,
            STARTS=membrane is not None,
            UNITS=units,
            TO_SPIKES=0 if to_spikes is None else 1 if alike else 2,
            TO_MEMBRANE=to_membrane is not None,
            BY_START=by_start is not None,
            BY_DECAY=parameters[0],
            BY_THRESHOLD=parameters[1],
            **pointers,
            **numbers,
            **{**flags, "CHANNELS": flags["CHANNELS"] or bool(unit_step)},
            **OPTIONS,
        )
    return by_currents, by_start, *(None if x is None else per_channel(x, frame) for x in by)


def of_neurons(step: Recipe, frame: Array) -> tuple[dict[str, Array], dict[str, Any], dict[str, Any]]:
    """What all kernels are given of the neurons (B, ..., C): arrays, numbers and constants."""
    threshold = step.threshold
    if isinstance(threshold, float) and frame.dtype.itemsize < 4:
        threshold = float(torch.tensor(threshold, dtype=frame.dtype, device="cpu"))  # as comparisons round it
    decays, decay, decay_step, has_decays = parameter(step.decay, frame)
    thresholds, threshold, threshold_step, has_thresholds = parameter(threshold, frame)
    nothing = frame if step.poison is None else step.poison
    pointers = {"decays": frame, "thresholds": frame, "poison": nothing}
    pointers |= {name: x for name, x in (("decays", decays), ("thresholds", thresholds)) if x is not None}
    numbers = {
        "neurons": frame.numel(),
        "inner": inner(frame),
        "channels": frame.shape[-1],
        "decay": decay,
        "threshold": threshold,
        "decay_step": decay_step,
        "threshold_step": threshold_step,
    }
    flags = {
        "RESET": int(step.reset),
        "DECAYS": has_decays,
        "THRESHOLDS": has_thresholds,
        "CHANNELS": bool(decay_step or threshold_step),
        "POISON": step.poison is not None,
        "WIDE": frame.dtype == torch.float64,
        "BLOCK": BLOCK,
    }
    return pointers, numbers, flags


def parameter(value: float | Array, frame: Array) -> tuple[Array | None, float, int, bool]:
    """An array or None, else a number, how far the array's numbers lie apart, and whether there is one.

    Triton passes numbers in float32, so float64 goes by an array.
    """
    if isinstance(value, float):
        if frame.dtype != torch.float64:
            return None, value, 0, False
        value = torch.full((), value, dtype=frame.dtype, device=frame.device)
    return value, 1.0, value.stride(0) if value.ndim and value.shape[0] > 1 else 0, True


def _pair(first: float, second: float, beside: Array) -> Array:
    """Both in an array, filled where it is: a copy from the host would wait for the GPU, and can't be in a CUDA graph."""
    pair = torch.full((2,), second, dtype=beside.dtype, device=beside.device)
    pair[:1].fill_(first)
    return pair


def _grid(frame: Array) -> tuple[int]:
    return (-(-frame.numel() // BLOCK),)


def on(x: Array) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whatever its arguments'."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()
