"""A network as one function of frames and a flat state, which exporters take: no None, no memory, no NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn

from tacops._core.checks import fail, show
from tacops._layers.sequence import is_chain, keeps_membrane, period_of
from tacops.layers import FrozenLayer
from tacops.layers import Sequential as Frozen

from .torch_norm import Norm

__all__ = ["Step"]

_MOODY = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
"""Modules that compute something else in training; `Norm` is one of them."""


class Step(nn.Module):  # type: ignore[misc]
    """A network for deployment: called for ever with some frames and its state, it returns spikes and the next state.

    Call after call gives what one call of the network gives for all frames: bit for bit in reproducible mode, within rounding
    otherwise. ``torch.export``, AOTInductor and ONNX take it, where the number of frames is that of the example. What is not
    frozen is differentiated: call it inside ``torch.no_grad()``, or every call's state holds on to all calls before.

    Parameters
    ----------
    net : layer, Sequential, FrozenLayer or tacops.layers.Sequential
        Of this file, in evaluation mode, or frozen: what is frozen gives equal bits outside of PyTorch, too.

    Raises
    ------
    TypeError, ValueError
        For what is no such network, and for one with a norm or a dropout in training. For frames and a state in a call that are none.

    Examples
    --------
    >>> import torch
    >>> from tacops.backends.torch_layers import ConvLIF, Sequential, Step, TACLinear
    >>> from tacops.layers import Flatten
    >>> net = Sequential(ConvLIF(2, 8, 3), Flatten(), TACLinear(8 * 16, 10, chunk_size=4))
    >>> step = Step(net.frozen(reproducible=True))
    >>> frames = torch.rand(4, 1, 6, 6, 2) < 0.2  # a whole number of chunks
    >>> state = step.initial(frames)
    >>> spikes, state = step(frames, state)
    >>> spikes.shape, [tuple(x.shape) for x in state]
    (torch.Size([1, 1, 10]), [(1, 4, 4, 8), (1, 10)])
    >>> program = torch.export.export(step, (frames, state))
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        if isinstance(net, (FrozenLayer, Frozen)):
            net = _as_tensors(net)
        elif not isinstance(net, nn.Module) or not keeps_membrane(net):
            raise fail("Step", "net", "a layer, or layers one after the other (Sequential)", show(net), TypeError)
        self.net = net
        self._check_mode()

    @property
    def period(self) -> int:
        """Frames of which every call takes a whole number: K1 K2 ... where layers collapse time."""
        return period_of((self.net,))

    def _check_mode(self) -> None:
        """What other modules do is not known; these are known to do another thing in training."""
        for x in self.net.modules() if isinstance(self.net, nn.Module) else ():
            if x.training and isinstance(x, _MOODY):
                got = (
                    "one whose batch_norm is being trained"
                    if isinstance(x, Norm)
                    else f"a {type(x).__name__} in training"
                )
                raise fail("Step", "net", "in evaluation mode: net.eval()", got)

    def initial(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The state before the first frames: zeros, on their device, a tensor for each membrane and synaptic current.

        Parameters
        ----------
        frames : tensor, shape (T, B, ...)
            Such as the calls are given; their values don't matter.
        """
        _check_frames(frames)
        with torch.no_grad():
            train = self.net(torch.zeros_like(frames[: self.period]))
        return tuple(torch.zeros_like(x, memory_format=torch.contiguous_format) for x in _flat(train.membrane))

    def forward(
        self, frames: torch.Tensor, state: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Spikes and the state after the frames.

        Parameters
        ----------
        frames : tensor, shape (n * period, B, ...)
        state : sequence of tensors
            `initial` of the first frames, then what the call before has returned.
        """
        _check_frames(frames)
        self._check_mode()
        if not isinstance(state, (tuple, list)):
            raise fail("Step", "state", "a tuple of tensors, as of `initial`", _kind(state), TypeError)
        if len(state) != _count(self.net):
            raise fail("Step", "state", f"of {_count(self.net)} tensors, as of `initial`", f"{len(state)}")
        if frames.shape[0] % self.period:
            raise fail("Step", "frames", f"a multiple of {self.period}, in whole chunks", f"{frames.shape[0]} of them")
        train = self.net(frames, membrane=_filled(self.net, iter(state)))
        # a compiled program reads the state by the example's strides, whatever those that it gets are
        return train.spikes, tuple(x.contiguous() for x in _flat(train.membrane))


def _check_frames(frames: Any) -> None:
    if not isinstance(frames, torch.Tensor) or not frames.ndim:
        raise fail("Step", "frames", "a tensor (T, B, ...)", _kind(frames), TypeError)


def _kind(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


def _as_tensors(net: FrozenLayer | Frozen) -> FrozenLayer | Frozen:
    """Frozen layers with tensors, on the CPU unless they have some already."""
    if isinstance(net, Frozen):
        return Frozen(*(_as_tensors(x) if isinstance(x, (FrozenLayer, Frozen)) else x for x in net.layers))
    return net if isinstance(net.arrays["weight"], torch.Tensor) else net.on(torch.empty(0))


def _parts(layer: Any) -> int:
    """Arrays that a layer remembers: the membrane, and a synaptic current where there is one."""
    decay = layer.spec.neurons.synapse_decay if hasattr(layer, "spec") else layer.options.get("synapse_decay")
    return 1 if decay is None else 2


def _count(stage: Any) -> int:
    if is_chain(stage):
        return sum(map(_count, stage.stages))
    return _parts(stage) if keeps_membrane(stage) else 0


def _filled(stage: Any, arrays: Iterator[torch.Tensor]) -> Any:
    """What the network takes as its membrane, of arrays one after the other."""
    if is_chain(stage):
        return tuple(_filled(x, arrays) for x in stage.stages)
    found = tuple(islice(arrays, _parts(stage) if keeps_membrane(stage) else 0))
    return found if len(found) > 1 else found[0] if found else None


def _flat(membrane: Any) -> list[torch.Tensor]:
    if isinstance(membrane, tuple):
        return [array for part in membrane for array in _flat(part)]
    return [] if membrane is None else [membrane]
