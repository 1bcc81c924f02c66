"""Currents without neurons, for what stands between a convolution and its neurons."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ._backend.dispatch import undisturbed
from ._backend.protocol import Array
from ._core.arguments import Given, channel_from_last, channel_to_last, conv_layer
from ._core.blocks import whole_layer
from ._core.grid import Grid
from ._core.layer import Layer
from ._core.options import GeometryOptions, HowOptions, NeuronOptions, TimeOptions
from ._core.run import run_synapses
from ._core.window import check_padded, check_size
from ._operators import Layout, Padding
from ._values import shape_of

__all__ = ["conv"]

NEVER, NEVER_HALF = 2.0**62, 2.0**15
"""Thresholds that are on every layer's grid; float16 ends at 65504."""


@undisturbed
def conv(
    spikes: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    layout: Layout = "channels_last",
    reproducible: bool | Grid = False,
) -> Array:
    r"""The convolution of every frame, without neurons: currents to be pooled before they drive some.

    .. math:: i_t = w * x_t + b

    `lif` of it is `conv_lif`. With a pool between them it is what other libraries build of a convolution, a pool and neurons.
    Frames are aggregated before: ``conv(aggregate(x, K, beta=beta), w)``, pooled, drives ``lif(..., beta=beta**K)`` in the
    place of `tac_conv` with ``mode="collapse"``, and ``lif(..., beta=beta, repeat=K)`` of frames aggregated by
    "normalized_decay" in that of ``mode="preserve"``.

    Parameters
    ----------
    spikes, weight, bias, stride, padding, dilation, groups, layout
        As in `tac_conv`.
    reproducible : bool or Grid
        Currents that are equal bit for bit on every backend, see `Grid`; pools of them are too, and so are the spikes of
        ``lif(..., reproducible=True)``.

    Returns
    -------
    array, shape (T, B, *S_out, C_out) or (T, B, C_out, *S_out)

    Raises
    ------
    TypeError, ValueError
        As `tac_conv`.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> current = tacops.conv(np.ones((4, 1, 8, 8, 2), dtype=bool), np.full((3, 3, 3, 2), 0.05), padding=1)
    >>> tacops.lif(tacops.max_pool(current, 2)).spikes.shape
    (4, 1, 4, 4, 3)
    """
    function = "conv"
    threshold = NEVER_HALF if str(getattr(weight, "dtype", None)).endswith("float16") else NEVER
    layer, first = conv_layer(
        function,
        Given(spikes, weight, bias, None, None),
        TimeOptions(chunk_size=1),
        NeuronOptions(1.0, threshold, "none", None, None, False),
        GeometryOptions(stride, padding, dilation, groups, layout),
        HowOptions(False, False, False, reproducible),
    )
    shape = shape_of(spikes)
    shape = (*shape[:2], *shape[3:], shape[2]) if first else shape
    check_padded(function, shape, layer.window)
    space = layer.window.output_shape(shape[2:-1], shape_of(layer.weight)[1:-1])
    check_size(function, "spikes", (*shape[:2], *space, layer.weight.shape[0]))
    if layer.backend.blockwise:
        whole = whole_layer(partial(_currents, first=first), layer, spikes, first, currents=True)
        return layer.backend.run_blocks(whole, spikes, None, None)
    return _currents(layer, spikes, first=first)


def _currents(layer: Layer, spikes: Array, *_: Any, first: bool) -> Array:
    """Of spikes in the layout of the call."""
    xp = layer.backend.namespace(layer.weight)
    if not first:
        return run_synapses(layer, spikes)
    return channel_from_last(xp, run_synapses(layer, channel_to_last(xp, spikes, 2)), 2)
