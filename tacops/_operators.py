"""The public operators: what they mean. ``_core/arguments.py`` makes layers of arguments, ``_core/run.py`` runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from ._backend.dispatch import undisturbed
from ._backend.protocol import Array
from ._core.alone import run_lif
from ._core.arguments import Given, run_conv
from ._core.grid import Grid
from ._core.options import GeometryOptions, HowOptions, NeuronOptions, TimeOptions
from ._core.train import SpikeTrain

__all__ = ["conv_lif", "lif", "tac_conv", "tac_linear"]

Aggregation: TypeAlias = Literal["decay", "normalized_decay", "sum", "mean"] | Array
Layout: TypeAlias = Literal["channels_last", "channels_first"]
Mode: TypeAlias = Literal["collapse", "preserve"]
Padding: TypeAlias = int | Sequence[int] | Sequence[tuple[int, int]] | Literal["same", "valid"]
Reset: TypeAlias = Literal["subtract", "zero", "none", "late"]


@undisturbed
def tac_conv(
    spikes: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    chunk_size: int,
    mode: Mode = "collapse",
    beta: float | Array = 0.9,
    threshold: float | Array = 1.0,
    reset: Reset = "subtract",
    synapse_decay: float | Array | None = None,
    aggregation: Aggregation | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    layout: Layout = "channels_last",
    membrane: Array | tuple[Array, Array] | None = None,
    lengths: Sequence[int] | Array | None = None,
    trace: bool = False,
    surrogate: Callable[[Array], Array] | None = None,
    detach_reset: bool = False,
    remat: bool = False,
    compact: bool = False,
    reproducible: bool | Grid = False,
) -> SpikeTrain:
    r"""Temporal aggregated convolution followed by leaky integrate-and-fire neurons.

    Every chunk c of K consecutive frames is summed with weights and convolved once:

    .. math:: i_c = w * \sum_k a_k x_{cK+k} + b \sum_k a_k

    ``mode="collapse"`` then takes one step per chunk, :math:`v = \beta^{K_c} u + i_c`, and returns ceil(T / K) frames:
    right where frames are samples of one rate. ``mode="preserve"`` takes :math:`K_c` steps
    :math:`v = \beta u + i_c` with the same current and returns T frames: right where frames carry motion.
    A step fires, ``s = 1 if v >= threshold else 0``, and resets.

    Parameters
    ----------
    spikes : array, shape (T, B, *S, C_in), or (T, B, C_in, *S) with ``layout="channels_first"``
        One to three spatial dimensions S. bool, integer (spike counts) or floating; cast to `weight`'s dtype.
    weight : array, shape (C_out, *kernel, C_in // groups), or (C_out, C_in // groups, *kernel)
        Its floating dtype is the computing and output dtype.
    bias : array, shape (C_out,), optional
        Added once per frame, hence aggregated too.
    chunk_size : int
        K, at least 1; the last chunk may be shorter (:math:`K_c` frames). K >= T is one chunk.
    mode : {"collapse", "preserve"}
    beta : float or array broadcastable to (C_out,)
        Decay of the membrane per frame, in [0, 1]; 1 is integrate-and-fire.
    threshold : float or array broadcastable to (C_out,)
        Positive. A tie fires.
    reset : {"subtract", "zero", "none", "late"}
        After a spike u = v - threshold, or 0, or v. "late" (snnTorch's default) subtracts the threshold one step late and
        undecayed: :math:`v = \beta u + i_c - \vartheta [u \ge \vartheta]` and u = v.
    synapse_decay : float or array broadcastable to (C_out,), optional
        Put a synaptic current before the membrane, which decays by this much per frame, :math:`j = \alpha j + i_c` (by
        :math:`\alpha^{K_c}` in collapse), and drives the neuron in the place of :math:`i_c`.
    aggregation : {"decay", "normalized_decay", "sum", "mean"} or array of shape (K,), optional
        Weights :math:`a_k`, see `aggregate`; "decay" for collapse and "normalized_decay" for preserve unless given.
        With a beta per channel the two decays differ per output channel, so their frames can't be summed before the
        convolution: such a layer is right but saves nothing; another aggregation, or a scalar beta, saves.
    stride, dilation : int or sequence of int
    padding : int, sequence of int, sequence of (low, high) pairs, "same" or "valid"
        Zeros around the input, which may make it at most 64 times as large. "same" keeps the spatial shape (stride 1
        only; an odd zero goes to the high side).
    groups : int
        Divides C_in and C_out.
    layout : {"channels_last", "channels_first"}
        Of `spikes`, `weight`, `membrane` and the result.
    membrane : array, shape (B, *S_out, C_out) or (B, C_out, *S_out), optional
        Membrane before the first frame, 0 unless given: a simulation cut at chunk boundaries continues exactly. With
        `synapse_decay` a pair: membrane and synaptic current.
    lengths : sequence of int, or integer array, shape (B,), optional
        Frames of each sample, where they differ. What lies beyond a sample's end changes nothing: it does not fire there,
        and its membrane is that after its own last frame. Lengths that are no multiples of K cost up to K - 1 more
        convolutions.
    trace : bool
        Return the membrane of every step too, for losses on membranes and for plots: a `TracedSpikeTrain`.
    surrogate : callable, optional
        Derivative of the spike, one of `tacops.surrogate`, or a function of the membrane minus the threshold that returns
        an array of its shape and dtype, or one number; None lets no gradient through spikes: it is 0
        in JAX and MLX, and an error in PyTorch's ``backward`` that says so.
    detach_reset : bool
        Let no gradient through the reset.
    remat : bool
        Rematerialise: the backward pass computes the layer again, in about sqrt(T / K) parts, instead of keeping what
        happened between input and spikes. Equal results (on the default path but for rounding),
        less memory, more time.
    compact : bool
        Return spikes as bool, a quarter of the memory of float32 and as good an input for the next layer.
    reproducible : bool or Grid
        Spikes and membranes that are equal bit for bit on every backend, see `Grid`.

    Returns
    -------
    SpikeTrain
        ``spikes`` (ceil(T / K), B, *S_out, C_out) or (T, B, *S_out, C_out), and ``membrane`` (B, *S_out, C_out); with
        ``trace=True`` a `TracedSpikeTrain`, with ``trace`` of the spikes' shape.

    Raises
    ------
    TypeError
        For arrays of several libraries, or dtypes that don't fit.
    ValueError
        For shapes and values outside the rules above.

    References
    ----------
    Temporal Aggregated Convolution (TAC and TAC-TP), arXiv:2603.13810.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> spikes = np.ones((8, 1, 5, 5, 1), dtype=bool)
    >>> weight = np.full((2, 3, 3, 1), 0.125, dtype=np.float32)
    >>> out = tacops.tac_conv(spikes, weight, chunk_size=4, padding=1)
    >>> out.spikes.shape, out.membrane.shape
    ((2, 1, 5, 5, 2), (1, 5, 5, 2))
    """
    return run_conv(
        "tac_conv",
        Given(spikes, weight, bias, membrane, lengths),
        TimeOptions(chunk_size, mode, aggregation),
        NeuronOptions(beta, threshold, reset, synapse_decay, surrogate, detach_reset),
        GeometryOptions(stride, padding, dilation, groups, layout),
        HowOptions(trace, remat, compact, reproducible),
    )


@undisturbed
def tac_linear(
    spikes: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    chunk_size: int,
    mode: Mode = "collapse",
    beta: float | Array = 0.9,
    threshold: float | Array = 1.0,
    reset: Reset = "subtract",
    synapse_decay: float | Array | None = None,
    aggregation: Aggregation | None = None,
    membrane: Array | tuple[Array, Array] | None = None,
    lengths: Sequence[int] | Array | None = None,
    trace: bool = False,
    surrogate: Callable[[Array], Array] | None = None,
    detach_reset: bool = False,
    remat: bool = False,
    compact: bool = False,
    reproducible: bool | Grid = False,
) -> SpikeTrain:
    r"""Temporal aggregated matrix product followed by leaky integrate-and-fire neurons.

    The convolution of `tac_conv` without a spatial dimension: :math:`i_c = W \\sum_k a_k x_{cK+k} + b \\sum_k a_k`.

    Parameters
    ----------
    spikes : array, shape (T, B, ..., F_in)
    weight : array, shape (F_out, F_in)
    bias : array, shape (F_out,), optional
    chunk_size, mode, beta, threshold, reset, synapse_decay, aggregation, lengths, trace, surrogate, detach_reset, remat, compact, reproducible
        As in `tac_conv`.
    membrane : array, shape (B, ..., F_out), optional

    Returns
    -------
    SpikeTrain
        ``spikes`` (ceil(T / K) or T, B, ..., F_out) and ``membrane`` (B, ..., F_out).

    Raises
    ------
    TypeError, ValueError
        As `tac_conv`.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> spikes = np.ones((6, 2, 3), dtype=bool)
    >>> out = tacops.tac_linear(spikes, np.full((4, 3), 0.1, dtype=np.float32), chunk_size=2, mode="preserve")
    >>> out.spikes.shape, out.membrane.shape
    ((6, 2, 4), (2, 4))
    """
    return run_conv(
        "tac_linear",
        Given(spikes, weight, bias, membrane, lengths),
        TimeOptions(chunk_size, mode, aggregation),
        NeuronOptions(beta, threshold, reset, synapse_decay, surrogate, detach_reset),
        None,
        HowOptions(trace, remat, compact, reproducible),
    )


@undisturbed
def conv_lif(
    spikes: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    beta: float | Array = 0.9,
    threshold: float | Array = 1.0,
    reset: Reset = "subtract",
    synapse_decay: float | Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    layout: Layout = "channels_last",
    membrane: Array | tuple[Array, Array] | None = None,
    lengths: Sequence[int] | Array | None = None,
    trace: bool = False,
    surrogate: Callable[[Array], Array] | None = None,
    detach_reset: bool = False,
    remat: bool = False,
    compact: bool = False,
    reproducible: bool | Grid = False,
) -> SpikeTrain:
    r"""Convolution followed by leaky integrate-and-fire neurons, every frame on its own: the exact baseline.

    :math:`v_t = \\beta u_{t-1} + w * x_t + b`; then fire and reset, as in `tac_conv`, of which this is the case
    ``chunk_size=1``.

    Parameters
    ----------
    spikes, weight, bias, beta, threshold, reset, synapse_decay : array, float, str
        As in `tac_conv`.
    stride, padding, dilation, groups, layout, membrane, lengths, trace, surrogate, detach_reset, remat, compact, reproducible
        As in `tac_conv`.

    Returns
    -------
    SpikeTrain
        ``spikes`` (T, B, *S_out, C_out) and ``membrane`` (B, *S_out, C_out).

    Raises
    ------
    TypeError, ValueError
        As `tac_conv`.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> out = tacops.conv_lif(np.ones((4, 1, 6, 3)), np.full((1, 3, 3), 0.1), beta=0.5)
    >>> out.spikes[:, 0, 0, 0]
    array([0., 1., 1., 0.])
    """
    return run_conv(
        "conv_lif",
        Given(spikes, weight, bias, membrane, lengths),
        TimeOptions(chunk_size=1),
        NeuronOptions(beta, threshold, reset, synapse_decay, surrogate, detach_reset),
        GeometryOptions(stride, padding, dilation, groups, layout),
        HowOptions(trace, remat, compact, reproducible),
    )


@undisturbed
def lif(
    current: Array,
    *,
    beta: float | Array = 0.9,
    threshold: float | Array = 1.0,
    reset: Reset = "subtract",
    synapse_decay: float | Array | None = None,
    repeat: int = 1,
    layout: Layout = "channels_last",
    membrane: Array | tuple[Array, Array] | None = None,
    lengths: Sequence[int] | Array | None = None,
    trace: bool = False,
    surrogate: Callable[[Array], Array] | None = None,
    detach_reset: bool = False,
    remat: bool = False,
    compact: bool = False,
    reproducible: bool | Grid = False,
) -> SpikeTrain:
    r"""Leaky integrate-and-fire neurons driven by given currents.

    .. math:: v = \beta u + i, \quad s = [v \ge \vartheta], \quad u = v - s \vartheta \;(\text{subtract}),\;
        v (1 - s) \;(\text{zero}),\; v \;(\text{none})

    Parameters
    ----------
    current : array, shape (T, B, ..., C) or (T, C), or (T, B, C, ...) with ``layout="channels_first"``
        Real floating.
    beta, threshold, reset, synapse_decay, trace, surrogate, detach_reset, remat, compact, reproducible
        As in `tac_conv`; arrays are broadcastable to (C,).
    repeat : int
        Steps for which each current is held, at most 2^20.
    layout : {"channels_last", "channels_first"}
        Of `current`, `membrane` and the result: where the channels are for which there are betas and thresholds.
    membrane : array, shape (B, ..., C) or (B, C, ...), optional
        Membrane before the first step, 0 unless given.
    lengths : sequence of int, or integer array, shape (B,), optional
        Currents of each sample of a batch.

    Returns
    -------
    SpikeTrain
        ``spikes`` (T * repeat, B, ..., C) and ``membrane`` (B, ..., C), or in the layout of the currents.

    Raises
    ------
    TypeError, ValueError
        As `tac_conv`.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> out = tacops.lif(np.full((4, 1, 1), 0.75), beta=0.5)
    >>> out.spikes[:, 0, 0], out.membrane
    (array([0., 1., 0., 1.]), array([[0.15625]]))
    """
    return run_lif(
        current,
        repeat,
        membrane,
        lengths,
        layout,
        NeuronOptions(beta, threshold, reset, synapse_decay, surrogate, detach_reset),
        HowOptions(trace, remat, compact, reproducible),
    )
