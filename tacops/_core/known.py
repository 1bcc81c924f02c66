"""Calls that repeat: what was validated of their shapes, dtypes and options is remembered, which is most of a small layer's time."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._backend.protocol import Array, Backend, Window
from .layer import Layer
from .options import How, NeuronOptions, Neurons, Time

__all__ = ["Known", "forget", "key_of", "recall", "remember"]

MOST = 256
"""Kinds of calls that are remembered; then all are forgotten."""
_PLAIN = frozenset((int, float, str, bool, type(None)))
_known: dict[Any, Known] = {}


class Known(NamedTuple):
    """A validated layer without its arrays.

    Parameters
    ----------
    window, time, neurons, how
        As of `Layer`.
    first : bool
        The call's layout is channels first.
    shape : tuple of int
        Of a membrane, in the layout of the call.
    """

    window: Window
    time: Time
    neurons: Neurons
    how: How
    first: bool
    shape: tuple[int, ...]

    def layer(self, function: str, backend: Backend, weight: Array, bias: Array | None) -> Layer:
        """The layer with a call's arrays, channels last."""
        return Layer(function, backend, weight, bias, self.window, self.time, self.neurons, self.how)


def key_of(
    function: str, backend: Backend, arrays: tuple[Array | None, ...], neurons: NeuronOptions, options: tuple[Any, ...]
) -> Any:
    """What a call is known by; None if it can't be: for options that are no plain values, and in traces.

    Types are part of it, because True equals 1, which may be refused where the other isn't.
    """
    kinds = tuple(map(type, options))
    if not _PLAIN.issuperset(kinds) or not backend.is_eager(*arrays):
        return None
    if neurons.beta == 0 or neurons.synapse_decay == 0:  # 0.0 and -0.0 are equal, but not alike
        return None
    described = [None if array is None else (tuple(array.shape), array.dtype) for array in arrays]
    return function, backend, options, kinds, *described


def recall(key: Any) -> Known | None:
    """What is known of a call."""
    return None if key is None else _known.get(key)


def remember(key: Any, known: Known) -> None:
    """Of a call that has been validated."""
    if key is None:
        return
    if len(_known) >= MOST:
        _known.clear()
    _known[key] = known


def forget() -> None:
    """All of it: for tests that change the rules."""
    _known.clear()
