"""Layers for PyTorch: a `torch.nn.Module` for each operator, with the same options as those for Flax and MLX.

`tacops.layers` says what they share; docs/layers.md tells how to use them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from tacops._layers.need import lacking

try:
    import torch
    from torch import nn
except ImportError as error:
    raise lacking(__name__, "torch", error) from error

from tacops._backend.dispatch import backend_of
from tacops._core.checks import fail, show
from tacops._core.grid import Grid
from tacops._core.train import SpikeTrain
from tacops._layers.forward import run, spikes_of
from tacops._layers.mapping import check_module, collect, distribute, freeze_all, freeze_layer, freeze_stages
from tacops._layers.sequence import Chain, Wrapped, check_stages
from tacops._layers.spec import (
    STATISTICS,
    ConvLIFOptions,
    Initial,
    LayerSpec,
    TACConvOptions,
    TACLinearOptions,
    conv_lif_spec,
    tac_conv_spec,
    tac_linear_spec,
)
from tacops.layers import FrozenLayer
from tacops.layers import Sequential as Frozen

from ._torch.pytree import name_trains

__all__ = ["ConvLIF", "Sequential", "TACConv", "TACLinear", "freeze", "load_mapping", "to_mapping"]

for _type in (torch.Tensor, nn.Parameter):
    backend_of(_type(torch.empty(0)))  # the first call loads the backend, and torch.compile can't follow an import


name_trains()

OWN = ("norm_scale", *STATISTICS, "beta_logit", "threshold_log", "aggregation_logits")
"""Names that the arrays of a layer may have beside those of PyTorch's convolutions, `weight` and `bias`."""


class _Norm(nn.modules.batchnorm._BatchNorm):  # type: ignore[misc]
    """What PyTorch's tools look for in a layer with batch statistics, `torch.optim.swa_utils.update_bn` first of all.

    It holds no array: the statistics are its layer's. Its mode and its momentum are those that count.
    """

    def __init__(self, layer: _Layer) -> None:
        self._layer = (layer,)  # in a tuple, because a module's attributes that are modules are its children
        self.batches = 0
        spec = layer.spec
        norm = spec.norm
        assert norm is not None
        super().__init__(spec.channels_out, norm.epsilon, norm.momentum, affine=False, track_running_stats=False)

    def reset_running_stats(self) -> None:
        """Forget all batches."""
        self.batches = 0
        for name, initial in self._layer[0].spec.initial().items():
            if name in STATISTICS:
                self._layer[0].array(name).fill_(initial.values)

    def share(self) -> float:
        """Share of the running statistics that this batch replaces; without momentum, of all batches alike."""
        if self.momentum is not None:
            return float(self.momentum)
        self.batches += 1
        return 1.0 / self.batches

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (PyTorch's name)
        """No layer of its own."""
        raise NotImplementedError("a layer's norm is computed by the layer; it can't be called")


class _Layer(nn.Module):  # type: ignore[misc]
    """Parameters and buffers of a `LayerSpec`."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        for name, initial in spec.initial().items():
            value = self._initial(initial)
            if name in STATISTICS:
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))
        if spec.norm:
            self.norm = _Norm(self)

    def _initial(self, initial: Initial) -> torch.Tensor:
        if initial.values is None:
            return torch.empty(initial.shape).uniform_(-self.spec.limit, self.spec.limit)
        return torch.tensor(initial.values).expand(initial.shape).clone()

    def array(self, name: str) -> torch.Tensor:
        """A parameter or buffer; whole, where FSDP has cut it and not put it together for a forward pass."""
        value = getattr(self, name)
        return value.full_tensor() if hasattr(value, "full_tensor") else value

    def assign(self, name: str, value: Any) -> None:
        """Copy a NumPy array into it."""
        own, whole = getattr(self, name), torch.from_numpy(np.array(value))
        if hasattr(own, "full_tensor"):
            from torch.distributed.tensor import distribute_tensor

            whole = distribute_tensor(whole.to(own.device), own.device_mesh, own.placements)
        with torch.no_grad():
            own.copy_(whole)

    def forward(
        self,
        spikes: torch.Tensor | SpikeTrain,
        *,
        membrane: torch.Tensor | None = None,
        lengths: Any = None,
        trace: bool = False,
    ) -> SpikeTrain:
        """Spikes and membrane of spikes (T, B, ...), or of another layer's train, from `membrane` or from zero.

        `lengths` and `trace` are the operators'.
        """
        arrays = {name: self.array(name) for name in self.spec.initial()}
        training, momentum = self._mode() if self.spec.norm else (False, None)
        options = {"training": training, "momentum": momentum, "lengths": lengths, "trace": trace}
        train, statistics = run(self.spec, arrays, spikes_of(spikes), membrane, **options)
        for name, value in statistics.items():
            self.array(name).copy_(value)
        return train

    def _mode(self) -> tuple[bool, float | None]:
        """Whether statistics are those of the batch, and the share of the running ones that they replace."""
        norm = self.norm
        if not isinstance(norm, _Norm):
            rule = "the layer's own; SyncBatchNorm has no place in it (each process has statistics of its own batch)"
            raise fail(self.spec.layer, "norm", rule, type(norm).__name__, TypeError)
        return norm.training, norm.share() if norm.training else None

    _version = 2  # what a state_dict says of this module; PyTorch's own, and ours of old, are 1

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local: dict[str, Any], *args: Any) -> None:
        """As of every module; a ``Conv2d``'s too, and files from before `beta_logit` and `threshold_log` had a dimension."""
        weight, own = state_dict.get(prefix + "weight"), self.weight.shape
        ours = any(prefix + name in state_dict for name in OWN)  # what no convolution of PyTorch's has
        if isinstance(weight, torch.Tensor) and weight.ndim == len(own) > 2 and not ours:
            foreign = (own[0], own[-1], *own[1:-1])
            # a shape may be both, of three channels and a 3 x 3 kernel
            if weight.shape == foreign and (foreign != own or local.get("version") == 1):
                state_dict[prefix + "weight"] = weight.movedim(1, -1)
        for name, initial in self.spec.initial().items():
            value = state_dict.get(prefix + name)
            if initial.shape == (1,) and isinstance(value, torch.Tensor) and value.ndim == 0:
                state_dict[prefix + name] = value.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, local, *args)

    def frozen(self, *, reproducible: bool | Grid | None = None) -> FrozenLayer:
        """The layer for inference, on arrays of any library."""
        return freeze_layer(self, reproducible)

    def extra_repr(self) -> str:
        """Sizes, and how time is treated."""
        return self.spec.summary


class TACConv(_Layer):
    """`tacops.tac_conv` with learned weights.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel_size : int or sequence of int
        An int is a square; one to three ints are as many dimensions.
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
        **options: Unpack[TACConvOptions],
    ) -> None:
        super().__init__(tac_conv_spec(channels_in, channels_out, kernel_size, **options))


class TACLinear(_Layer):
    """`tacops.tac_linear` with learned weights.

    Parameters
    ----------
    features_in : int or sequence of int
        A shape says what is flattened before the layer, in its ``layout``: networks of the other layout can be loaded then.
    features_out : int
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
        self, features_in: int | Sequence[int], features_out: int, **options: Unpack[TACLinearOptions]
    ) -> None:
        super().__init__(tac_linear_spec(features_in, features_out, **options))


class ConvLIF(_Layer):
    """`tacops.conv_lif` with learned weights: `TACConv` of single frames.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel_size : int or sequence of int
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
        **options: Unpack[ConvLIFOptions],
    ) -> None:
        super().__init__(conv_lif_spec(channels_in, channels_out, kernel_size, **options))


class _Function(Wrapped, nn.Module):  # type: ignore[misc]
    """A function in a list of modules."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, spikes: Any) -> Any:
        """What the function makes of spikes."""
        return self.function(spikes)

    def extra_repr(self) -> str:
        """Which one."""
        return show(self.function)


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
        self.layers = nn.ModuleList(x if isinstance(x, nn.Module) else _Function(x) for x in stages)

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


def _layers(function: str, module: nn.Module) -> dict[str, _Layer]:
    check_module(function, module, nn.Module)
    named = _original(module).named_modules(remove_duplicate=False)
    return {name: layer for name, layer in named if isinstance(layer, _Layer)}


def _original(module: nn.Module) -> nn.Module:
    """The module that `torch.compile` has wrapped."""
    return getattr(module, "_orig_mod", module)
