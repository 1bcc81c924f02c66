"""Layers for PyTorch: a `torch.nn.Module` for each operator, with the same options as those for Flax and MLX.

`tacops.layers` says what they share; docs/layers.md tells how to use them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from tacops._layers.need import lacking

try:
    import torch
    from torch import nn
except ImportError as error:
    raise lacking(__name__, "torch", error) from error

from tacops._core.grid import Grid
from tacops._core.train import SpikeTrain
from tacops._layers.explain import explained
from tacops._layers.mapping import check_module, collect, distribute, freeze_all, freeze_stages
from tacops._layers.sequence import Chain, check_stages
from tacops._layers.spec import (
    ConvLIFOptions,
    TACConvOptions,
    TACLinearOptions,
    conv_lif_spec,
    tac_conv_spec,
    tac_linear_spec,
)
from tacops.layers import FrozenLayer
from tacops.layers import Sequential as Frozen

from ._modules.torch_ import Function, Layer
from ._modules.torch_step import Step

__all__ = ["ConvLIF", "Sequential", "Step", "TACConv", "TACLinear", "freeze", "load_mapping", "to_mapping"]


@explained(TACConvOptions)
class TACConv(Layer):
    """`tacops.tac_conv` with learned weights.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel_size : int or sequence of int
        An int is a square; one to three ints are as many dimensions.
    sync : bool
        With ``batch_norm``: in training the statistics are those of all processes of ``torch.distributed``.
    **options
        ``chunk_size`` and the other options of `tacops.tac_conv`; ``learn``, ``bias``, ``batch_norm``, ``momentum``,
        ``epsilon``: see docs/layers.md.

    Examples
    --------
    >>> import torch
    >>> from tacops.backends.torch_layers import TACConv
    >>> layer = TACConv(2, 8, 3, chunk_size=4, padding=1, batch_norm=True, learn=("beta", "aggregation"))
    >>> out = layer(torch.rand(16, 5, 12, 12, 2) < 0.2)
    >>> out.spikes.shape, out.membrane.shape
    (torch.Size([4, 5, 12, 12, 8]), torch.Size([5, 12, 12, 8]))
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int | tuple[int, ...],
        *,
        sync: bool = False,
        **options: Unpack[TACConvOptions],
    ) -> None:
        super().__init__(tac_conv_spec(channels_in, channels_out, kernel_size, **options), sync)


@explained(TACLinearOptions)
class TACLinear(Layer):
    """`tacops.tac_linear` with learned weights.

    Parameters
    ----------
    features_in : int or sequence of int
        A shape says what is flattened before the layer, in its ``layout``: networks of the other layout can be loaded then.
    features_out : int
    sync : bool
        As of `TACConv`.
    **options
        As of `TACConv`, without those of a convolution.

    Examples
    --------
    >>> import torch
    >>> from tacops.backends.torch_layers import TACLinear
    >>> layer = TACLinear(20, 10, chunk_size=4, mode="preserve")
    >>> layer(torch.rand(16, 5, 20) < 0.2).spikes.shape
    torch.Size([16, 5, 10])
    """

    def __init__(
        self,
        features_in: int | Sequence[int],
        features_out: int,
        *,
        sync: bool = False,
        **options: Unpack[TACLinearOptions],
    ) -> None:
        super().__init__(tac_linear_spec(features_in, features_out, **options), sync)


@explained(ConvLIFOptions)
class ConvLIF(Layer):
    """`tacops.conv_lif` with learned weights: `TACConv` of single frames.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel_size : int or sequence of int
    sync : bool
        As of `TACConv`.
    **options
        As of `TACConv`, without ``chunk_size``, ``mode`` and ``aggregation``.

    Examples
    --------
    >>> import torch
    >>> from tacops.backends.torch_layers import ConvLIF
    >>> layer = ConvLIF(2, 8, (3, 3), layout="channels_first")
    >>> layer(torch.rand(16, 5, 2, 12, 12) < 0.2).spikes.shape
    torch.Size([16, 5, 8, 10, 10])
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int | tuple[int, ...],
        *,
        sync: bool = False,
        **options: Unpack[ConvLIFOptions],
    ) -> None:
        super().__init__(conv_lif_spec(channels_in, channels_out, kernel_size, **options), sync)


class Sequential(Chain, nn.Module):  # type: ignore[misc]
    """Layers one after the other: the spikes of each go to the next, and the membranes of all are one state.

    Parameters
    ----------
    *layers : layer, Sequential, or callable
        Layers of this file; functions from spikes to spikes between them, such as `tacops.layers.Pool2d` and `Flatten`, or
        modules of PyTorch.

    Examples
    --------
    >>> import torch
    >>> from tacops.backends.torch_layers import ConvLIF, Sequential, TACLinear
    >>> from tacops.layers import Flatten, Pool2d
    >>> net = Sequential(
    ...     ConvLIF(2, 8, 3, padding=1), Pool2d("max", 2), Flatten(), TACLinear(128, 10, chunk_size=4)
    ... )
    >>> train = net(torch.rand(8, 5, 8, 8, 2) < 0.2)
    >>> more = net(torch.rand(8, 5, 8, 8, 2) < 0.2, membrane=train.membrane)  # goes on where the first ended
    >>> more.spikes.shape, len(more.membrane)
    (torch.Size([2, 5, 10]), 4)
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        stages = check_stages(layers)
        self.layers = nn.ModuleList(x if isinstance(x, nn.Module) else Function(x) for x in stages)

    def forward(
        self, spikes: torch.Tensor | SpikeTrain, *, membrane: Any = None, lengths: Any = None, trace: bool = False
    ) -> SpikeTrain:
        """The last layer's spikes, and the membranes of all, a tuple, from `membrane` or from zero (None: a function).

        `lengths` and `trace` are the operators'; the trace is the last layer's.
        """
        return self.run(spikes, membrane, lengths, trace)

    def frozen(self, *, reproducible: bool | Grid | None = None) -> Frozen:
        """The layers for inference, on arrays of any library; functions stay as they are."""
        return freeze_stages(self, reproducible)


def to_mapping(module: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    """NumPy copies of a module's parameters and running statistics, by name: its `state_dict`, and the order of flattened features.

    Parameters
    ----------
    module : torch.nn.Module
        A layer of this file, or a module whose parameters are all in such layers.

    Examples
    --------
    >>> from tacops.backends.torch_layers import TACLinear, to_mapping
    >>> sorted(to_mapping(TACLinear(20, 10, chunk_size=4, learn="beta")))
    ['beta_logit', 'bias', 'weight']
    """
    return collect(_layers("to_mapping", module), _original(module).state_dict())


def load_mapping(module: nn.Module, mapping: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Replace a module's parameters and running statistics; nothing changes if `mapping` does not fit.

    Parameters
    ----------
    module : torch.nn.Module
    mapping : mapping of str to NumPy array
        From ``to_mapping`` of this framework or of another, in either layout.

    Raises
    ------
    TypeError, ValueError
        For a missing or unknown key, an array of another shape, or features in an order that can't be told.
    """
    distribute(_layers("load_mapping", module), mapping)


def freeze(
    module: nn.Module, *, reproducible: bool | Grid | None = None, leave_out: str | Sequence[str] = ()
) -> dict[str, FrozenLayer]:
    """The layers of a module for inference, by name.

    Parameters
    ----------
    module : torch.nn.Module
    reproducible : bool or Grid, optional
        As of `tacops.tac_conv`; None leaves every layer as it is.
    leave_out : str or sequence of str, optional
        Parts of the module with parameters that are none of its tacops layers', by name: what is not named is refused.

    Raises
    ------
    TypeError, ValueError
        For parameters of others, and names of nothing.
    """
    layers = _layers("freeze", module)
    return freeze_all(layers, _original(module).state_dict(), reproducible, leave_out)


def _layers(function: str, module: nn.Module) -> dict[str, Layer]:
    check_module(function, module, nn.Module)
    named = _original(module).named_modules(remove_duplicate=False)
    return {name: layer for name, layer in named if isinstance(layer, Layer)}


def _original(module: nn.Module) -> nn.Module:
    """The module that `torch.compile` has wrapped."""
    return getattr(module, "_orig_mod", module)
