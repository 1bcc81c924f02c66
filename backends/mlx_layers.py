"""Layers for MLX: an `mlx.nn.Module` for each operator, with the same options as those for PyTorch and Flax.

`tacops.layers` says what they share; docs/layers.md tells how to use them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from tacops._layers.need import lacking

try:
    import mlx.core as mx
    from mlx import nn
    from mlx.utils import tree_flatten
except ImportError as error:
    raise lacking(__name__, "mlx", error) from error

from tacops._core.grid import Grid
from tacops._core.train import SpikeTrain
from tacops._layers.explain import explained
from tacops._layers.forward import run, spikes_of
from tacops._layers.mapping import check_module, collect, distribute, freeze_all, freeze_layer, freeze_stages
from tacops._layers.sequence import Chain, check_stages
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

__all__ = ["ConvLIF", "Sequential", "TACConv", "TACLinear", "freeze", "load_mapping", "to_mapping"]


class _Layer(nn.Module):  # type: ignore[misc]
    """Parameters and running statistics of a `LayerSpec`."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        for name, initial in spec.initial().items():
            self[name] = self._initial(initial)
        self.unfreeze()

    def _initial(self, initial: Initial) -> mx.array:
        if initial.values is None:
            return mx.random.uniform(-self.spec.limit, self.spec.limit, initial.shape)
        return mx.broadcast_to(mx.array(initial.values, mx.float32), initial.shape)

    def unfreeze(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Let parameters be trained; running statistics never are."""
        super().unfreeze(*args, **kwargs)
        return self.freeze(keys=[name for name in STATISTICS if name in self], recurse=False)

    def array(self, name: str) -> mx.array:
        """A parameter or running statistic."""
        value: mx.array = self[name]
        return value

    def assign(self, name: str, value: Any) -> None:
        """Copy a NumPy array into it."""
        self[name] = mx.array(value).astype(self[name].dtype)

    def __call__(
        self,
        spikes: mx.array | SpikeTrain,
        *,
        membrane: mx.array | None = None,
        lengths: Any = None,
        trace: bool = False,
    ) -> SpikeTrain:
        """Spikes and membrane of spikes (T, B, ...), or of another layer's train, from `membrane` or from zero.

        `lengths` and `trace` are the operators'.
        """
        arrays = {name: self[name] for name in self.spec.initial()}
        options = {"training": self.training, "lengths": lengths, "trace": trace}
        train, statistics = run(self.spec, arrays, spikes_of(spikes), membrane, **options)
        self.update(statistics)
        return train

    def frozen(self, *, reproducible: bool | Grid | None = None) -> FrozenLayer:
        """The layer for inference, on arrays of any library."""
        return freeze_layer(self, reproducible)

    def _extra_repr(self) -> str:
        return self.spec.summary


@explained(TACConvOptions)
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
    >>> import mlx.core as mx
    >>> from tacops.backends.mlx_layers import TACConv
    >>> layer = TACConv(2, 8, 3, chunk_size=4, padding=1, batch_norm=True, learn=("beta", "aggregation"))
    >>> out = layer(mx.random.bernoulli(0.2, (16, 5, 12, 12, 2)))
    >>> out.spikes.shape, out.membrane.shape
    ((4, 5, 12, 12, 8), (5, 12, 12, 8))
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int | tuple[int, ...],
        **options: Unpack[TACConvOptions],
    ) -> None:
        super().__init__(tac_conv_spec(channels_in, channels_out, kernel_size, **options))


@explained(TACLinearOptions)
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
    >>> import mlx.core as mx
    >>> from tacops.backends.mlx_layers import TACLinear
    >>> layer = TACLinear(20, 10, chunk_size=4, mode="preserve")
    >>> layer(mx.random.bernoulli(0.2, (16, 5, 20))).spikes.shape
    (16, 5, 10)
    """

    def __init__(
        self, features_in: int | Sequence[int], features_out: int, **options: Unpack[TACLinearOptions]
    ) -> None:
        super().__init__(tac_linear_spec(features_in, features_out, **options))


@explained(ConvLIFOptions)
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
    >>> import mlx.core as mx
    >>> from tacops.backends.mlx_layers import ConvLIF
    >>> layer = ConvLIF(2, 8, (3, 3), layout="channels_first")
    >>> layer(mx.random.bernoulli(0.2, (16, 5, 2, 12, 12))).spikes.shape
    (16, 5, 8, 10, 10)
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int | tuple[int, ...],
        **options: Unpack[ConvLIFOptions],
    ) -> None:
        super().__init__(conv_lif_spec(channels_in, channels_out, kernel_size, **options))


class Sequential(Chain, nn.Module):  # type: ignore[misc]
    """Layers one after the other: the spikes of each go to the next, and the membranes of all are one state.

    Parameters
    ----------
    *layers : layer, Sequential, or callable
        Layers of this file; functions from spikes to spikes between them, such as `tacops.layers.Pool2d` and `Flatten`, or
        of your own.

    Examples
    --------
    >>> import mlx.core as mx
    >>> from tacops.backends.mlx_layers import ConvLIF, Sequential, TACLinear
    >>> frames = mx.random.bernoulli(0.2, (8, 5, 8, 8, 2))
    >>> from tacops.layers import Flatten, Pool2d
    >>> net = Sequential(
    ...     ConvLIF(2, 8, 3, padding=1), Pool2d("max", 2), Flatten(), TACLinear(128, 10, chunk_size=4)
    ... )
    >>> train = net(frames)
    >>> more = net(frames, membrane=train.membrane)  # goes on where the first ended
    >>> more.spikes.shape, len(more.membrane)
    ((2, 5, 10), 4)
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        self.layers = list(check_stages(layers))

    def __call__(
        self, spikes: mx.array | SpikeTrain, *, membrane: Any = None, lengths: Any = None, trace: bool = False
    ) -> SpikeTrain:
        """The last layer's spikes, and the membranes of all, a tuple, from `membrane` or from zero (None: a function).

        `lengths` and `trace` are the operators'; the trace is the last layer's.
        """
        return self.run(spikes, membrane, lengths, trace)

    def frozen(self, *, reproducible: bool | Grid | None = None) -> Frozen:
        """The layers for inference, on arrays of any library; functions stay as they are."""
        return freeze_stages(self, reproducible)


def to_mapping(module: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    """NumPy copies of a module's parameters and running statistics, by name, and the order of flattened features.

    Parameters
    ----------
    module : mlx.nn.Module
        A layer of this file, or a module whose parameters are all in such layers.

    Examples
    --------
    >>> from tacops.backends.mlx_layers import TACLinear, to_mapping
    >>> sorted(to_mapping(TACLinear(20, 10, chunk_size=4, learn="beta")))
    ['beta_logit', 'bias', 'weight']
    """
    return collect(_layers("to_mapping", module), dict(tree_flatten(module.parameters())))


def load_mapping(module: nn.Module, mapping: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Replace a module's parameters and running statistics; nothing changes if `mapping` does not fit.

    Parameters
    ----------
    module : mlx.nn.Module
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
    module : mlx.nn.Module
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
    return freeze_all(layers, dict(tree_flatten(module.parameters())), reproducible, leave_out)


def _layers(function: str, module: nn.Module) -> dict[str, _Layer]:
    check_module(function, module, nn.Module)
    found = {name: layer for name, layer in module.named_modules() if isinstance(layer, _Layer)}
    order = dict.fromkeys(name.rpartition(".")[0] for name, _ in tree_flatten(module.parameters()))  # as it was made
    return {name: found[name] for name in order if name in found}
