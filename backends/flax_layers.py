"""Layers for Flax: an `nnx.Module` for each operator, with the same options as those for PyTorch and MLX.

`tacops.layers` says what they share; docs/layers.md tells how to use them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from tacops._layers.need import lacking

try:
    import jax
    from flax import nnx
except ImportError as error:
    raise lacking(__name__, "flax", error) from error

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

from ._modules.flax_ import Layer, check_unpacked, last_train

__all__ = ["ConvLIF", "Sequential", "TACConv", "TACLinear", "freeze", "load_mapping", "to_mapping"]


@explained(TACConvOptions)
class TACConv(Layer):
    """`tacops.tac_conv` with learned weights.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel_size : int or sequence of int
        An int is a square; one to three ints are as many dimensions.
    rngs : flax.nnx.Rngs
        Its stream ``params`` draws the weights.
    **options
        ``chunk_size`` and the other options of `tacops.tac_conv`; ``learn``, ``bias``, ``batch_norm``, ``momentum``,
        ``epsilon``: see docs/layers.md.

    Examples
    --------
    >>> import jax
    >>> from flax import nnx
    >>> from tacops.backends.flax_layers import TACConv
    >>> layer = TACConv(2, 8, 3, chunk_size=4, padding=1, batch_norm=True, learn="beta", rngs=nnx.Rngs(0))
    >>> out = layer(jax.random.bernoulli(jax.random.key(0), 0.2, (16, 5, 12, 12, 2)))
    >>> out.spikes.shape, out.membrane.shape
    ((4, 5, 12, 12, 8), (5, 12, 12, 8))
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int | tuple[int, ...],
        *,
        rngs: nnx.Rngs,
        **options: Unpack[TACConvOptions],
    ) -> None:
        super().__init__(tac_conv_spec(channels_in, channels_out, kernel_size, **options), rngs)


@explained(TACLinearOptions)
class TACLinear(Layer):
    """`tacops.tac_linear` with learned weights.

    Parameters
    ----------
    features_in : int or sequence of int
        A shape says what is flattened before the layer, in its ``layout``: networks of the other layout can be loaded then.
    features_out : int
    rngs : flax.nnx.Rngs
        Its stream ``params`` draws the weights.
    **options
        As of `TACConv`, without those of a convolution.

    Examples
    --------
    >>> import jax
    >>> from flax import nnx
    >>> from tacops.backends.flax_layers import TACLinear
    >>> layer = TACLinear(20, 10, chunk_size=4, mode="preserve", rngs=nnx.Rngs(0))
    >>> layer(jax.random.bernoulli(jax.random.key(0), 0.2, (16, 5, 20))).spikes.shape
    (16, 5, 10)
    """

    def __init__(
        self,
        features_in: int | Sequence[int],
        features_out: int,
        *,
        rngs: nnx.Rngs,
        **options: Unpack[TACLinearOptions],
    ) -> None:
        super().__init__(tac_linear_spec(features_in, features_out, **options), rngs)


@explained(ConvLIFOptions)
class ConvLIF(Layer):
    """`tacops.conv_lif` with learned weights: `TACConv` of single frames.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel_size : int or sequence of int
    rngs : flax.nnx.Rngs
        Its stream ``params`` draws the weights.
    **options
        As of `TACConv`, without ``chunk_size``, ``mode`` and ``aggregation``.

    Examples
    --------
    >>> import jax
    >>> from flax import nnx
    >>> from tacops.backends.flax_layers import ConvLIF
    >>> layer = ConvLIF(2, 8, (3, 3), layout="channels_first", rngs=nnx.Rngs(0))
    >>> layer(jax.random.bernoulli(jax.random.key(0), 0.2, (16, 5, 2, 12, 12))).spikes.shape
    (16, 5, 8, 10, 10)
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int | tuple[int, ...],
        *,
        rngs: nnx.Rngs,
        **options: Unpack[ConvLIFOptions],
    ) -> None:
        super().__init__(conv_lif_spec(channels_in, channels_out, kernel_size, **options), rngs)


class Sequential(Chain, nnx.Module):  # type: ignore[misc]
    """Layers one after the other: the spikes of each go to the next, and the membranes of all are one state.

    Parameters
    ----------
    *layers : layer, Sequential, or callable
        Layers of this file; functions from spikes to spikes between them, such as `tacops.layers.Pool2d` and `Flatten`, or
        of your own.

    Examples
    --------
    >>> import jax
    >>> from flax import nnx
    >>> from tacops.backends.flax_layers import ConvLIF, Sequential, TACLinear
    >>> frames = jax.random.bernoulli(jax.random.key(0), 0.2, (8, 5, 8, 8, 2))
    >>> rngs = nnx.Rngs(0)
    >>> from tacops.layers import Flatten, Pool2d
    >>> net = Sequential(
    ...     ConvLIF(2, 8, 3, padding=1, rngs=rngs), Pool2d("max", 2), Flatten(), TACLinear(128, 10, chunk_size=4, rngs=rngs)
    ... )
    >>> train = net(frames)
    >>> more = net(frames, membrane=train.membrane)  # goes on where the first ended
    >>> more.spikes.shape, len(more.membrane)
    ((2, 5, 10), 4)
    """

    def __init__(self, *layers: Any) -> None:
        stages = check_stages(layers)
        self.layers = nnx.List(stages) if hasattr(nnx, "List") else list(stages)

    def __call__(
        self,
        spikes: jax.Array | SpikeTrain,
        *unpacked: Any,
        membrane: Any = None,
        lengths: Any = None,
        trace: bool = False,
    ) -> SpikeTrain:
        """The last layer's spikes, and the membranes of all, a tuple, from `membrane` or from zero (None: a function).

        `lengths` and `trace` are the operators'; the trace is the last layer's. `unpacked` is for `nnx.Sequential`.
        """
        check_unpacked("Sequential", (spikes, *unpacked))
        train = self.run(spikes, membrane, lengths, trace)
        last_train.keep(train)
        return train

    def frozen(self, *, reproducible: bool | Grid | None = None) -> Frozen:
        """The layers for inference, on arrays of any library; functions stay as they are."""
        return freeze_stages(self, reproducible)


def to_mapping(module: nnx.Module) -> dict[str, np.ndarray[Any, Any]]:
    """NumPy copies of a module's parameters and running statistics, by name, and the order of flattened features.

    Parameters
    ----------
    module : flax.nnx.Module
        A layer of this file, or a module whose parameters are all in such layers.

    Examples
    --------
    >>> from flax import nnx
    >>> from tacops.backends.flax_layers import TACLinear, to_mapping
    >>> sorted(to_mapping(TACLinear(20, 10, chunk_size=4, learn="beta", rngs=nnx.Rngs(0))))
    ['beta_logit', 'bias', 'weight']
    """
    return collect(_layers("to_mapping", module), _names(module))


def load_mapping(module: nnx.Module, mapping: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Replace a module's parameters and running statistics; nothing changes if `mapping` does not fit.

    Parameters
    ----------
    module : flax.nnx.Module
    mapping : mapping of str to NumPy array
        From ``to_mapping`` of this framework or of another, in either layout.

    Raises
    ------
    TypeError, ValueError
        For a missing or unknown key, an array of another shape, or features in an order that can't be told.
    """
    distribute(_layers("load_mapping", module), mapping)


def freeze(
    module: nnx.Module, *, reproducible: bool | Grid | None = None, leave_out: str | Sequence[str] = ()
) -> dict[str, FrozenLayer]:
    """The layers of a module for inference, by name.

    Parameters
    ----------
    module : flax.nnx.Module
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
    return freeze_all(layers, _names(module), reproducible, leave_out)


def _layers(function: str, module: nnx.Module) -> dict[str, Layer]:
    check_module(function, module, nnx.Module)
    modules = nnx.iter_modules(module) if hasattr(nnx, "iter_modules") else module.iter_modules()  # before Flax 0.12.1
    found = {path: layer for path, layer in modules if isinstance(layer, Layer)}
    return {_dotted(path): found[path] for path in sorted(found, key=lambda path: _place(module, path))}


def _place(module: Any, path: tuple[Any, ...]) -> list[int]:
    """Where a path comes in the order in which the module was made; Flax has them by name."""
    places, node = [], module
    for key in path:
        inner = {key: n for n, key in enumerate(map(str, vars(node)))} if hasattr(node, "__dict__") else {}
        places.append(key if isinstance(key, int) else inner.get(key, 0))
        node = node[key] if isinstance(node, (list, tuple, dict)) or isinstance(key, int) else getattr(node, key)
    return places


def _names(module: nnx.Module) -> list[str]:
    """Of all parameters and batch statistics."""
    return [_dotted(path) for path in dict(nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))))]


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
