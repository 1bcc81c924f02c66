r"""From what the last layer fires to a decision, and the usual loss; on arrays of any library, differentiable where they are.

The two losses of most networks are `cross_entropy` of the spikes (a loss on rates) and of the membranes:

* ``cross_entropy(train.spikes, labels)``: of every step's spikes, snnTorch's ``ce_rate_loss``;
* ``cross_entropy(rate(train.spikes), labels)``: of the firing rate, as in SpikingJelly's examples;
* ``cross_entropy(train.trace, labels)``: of every step's membrane, of a layer called with ``trace=True``;
* ``cross_entropy(train.membrane, labels)``: of the last membrane, of a layer with ``reset="none"``.
"""

from __future__ import annotations

from typing import Any

from ._backend.dispatch import backend_of, undisturbed
from ._backend.protocol import Array, Backend, sum_dtype
from ._core.aggregation import cast
from ._core.checks import is_dtype
from ._core.pool import frames_of
from ._core.train import SpikeTrain
from ._values import fail, shape_of

__all__ = ["cross_entropy", "rate"]

MOST_CLASSES = 2**24
"""Whole numbers that float32 holds."""


@undisturbed
def rate(spikes: Array | SpikeTrain) -> Array:
    r"""The share of the steps in which each neuron fires.

    .. math:: r = \frac{1}{T} \sum_t s_t

    Parameters
    ----------
    spikes : array, shape (T, B, ...), or SpikeTrain

    Returns
    -------
    array, shape (B, ...)
        In the dtype of the spikes, float32 of bool and integers. The class that a network chooses is its argmax.

    Raises
    ------
    TypeError, ValueError
        For what is no such array.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops import readout
    >>> readout.rate(np.array([[[True, False]], [[True, True]]]))
    array([[1. , 0.5]], dtype=float32)
    """
    x, xp, shape = frames_of("rate", spikes, 2)
    if 0 in shape:
        raise fail("rate", "spikes", "a nonempty array (T, B, ...)", f"shape {shape}")
    x, dtype = _numbers("rate", "spikes", xp, x)
    return cast(xp, xp.sum(x, axis=0) * (1.0 / shape[0]), dtype)


@undisturbed
def cross_entropy(logits: Array | SpikeTrain, labels: Array) -> Array:
    r"""Cross-entropy of labels, the mean over time steps and samples.

    .. math:: -\frac{1}{T B} \sum_{t,b} \log \frac{e^{x_{t,b,y_b}}}{\sum_c e^{x_{t,b,c}}}

    Parameters
    ----------
    logits : array, shape (T, B, C) or (B, C), or SpikeTrain
        Spikes or membranes of the last layer, or their mean over time; of a train, its spikes.
    labels : integer array, shape (B,)
        From 0 to C - 1, of the same library.

    Returns
    -------
    array, shape ()
        In the dtype of the logits, float32 of bool and integers.

    Raises
    ------
    TypeError, ValueError
        For other shapes and dtypes, and, where they can be read, labels of no class; others make the loss NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops import readout
    >>> spikes = np.array([[[1.0, 0.0]], [[1.0, 1.0]]])
    >>> float(readout.cross_entropy(spikes, np.array([0])).round(4))
    0.5032
    """
    function = "cross_entropy"
    x, xp, shape = frames_of(function, logits, 0, "logits")
    backend = backend_of(x, labels, function=function, names=("logits", "labels"))
    if not 2 <= len(shape) <= 3 or 0 in shape:
        raise fail(function, "logits", "a nonempty array (T, B, C) or (B, C)", f"shape {shape}")
    x, dtype = _numbers(function, "logits", xp, x)
    _check_labels(function, backend, xp, labels, shape)
    steps = xp.reshape(x, (-1, *shape[-2:]))
    shifted = steps - backend.stop_gradient(xp.max(steps, axis=-1, keepdims=True))
    logs = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    # no indices, which differ between libraries; sums of ones are the classes' numbers
    classes = xp.cumulative_sum(xp.ones_like(steps[0, ...]), axis=-1) - 1.0
    right = classes == xp.reshape(xp.astype(labels, x.dtype), (-1, 1))
    picked = xp.sum(xp.where(right, logs, 0.0), axis=-1)
    known = xp.sum(xp.astype(right, x.dtype), axis=-1)
    loss = -xp.sum(picked / known) * (1.0 / (picked.shape[0] * picked.shape[1]))
    return cast(xp, loss, dtype)


def _numbers(function: str, argument: str, xp: Any, x: Array) -> tuple[Array, Any]:
    """Numbers as floating ones, of half precision as float32, and the dtype of what is made of them."""
    if not is_dtype(xp, x.dtype, ("bool", "integral", "real floating")):
        raise fail(function, argument, "of a bool, integer or real floating dtype", str(x.dtype), TypeError)
    dtype = x.dtype if is_dtype(xp, x.dtype, "real floating") else xp.float32
    return cast(xp, x, sum_dtype(xp, dtype)), dtype


def _check_labels(function: str, backend: Backend, xp: Any, labels: Array, shape: tuple[int, ...]) -> None:
    if labels is None:
        raise fail(function, "labels", "an array", None, TypeError)
    if not is_dtype(xp, labels.dtype, "integral"):
        raise fail(function, "labels", "of an integer dtype", str(labels.dtype), TypeError)
    if shape_of(labels) != shape[-2:-1]:
        raise fail(function, "labels", f"of shape {shape[-2:-1]}, one for each sample", f"shape {shape_of(labels)}")
    if shape[-1] > MOST_CLASSES:
        raise fail(function, "logits", f"of at most {MOST_CLASSES} classes", f"shape {shape}")
    for label in backend.read(labels) or ():
        if not 0 <= label < shape[-1]:
            raise fail(function, "labels", f"from 0 to {shape[-1] - 1}", f"an array that holds {label:.0f}")
