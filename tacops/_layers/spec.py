"""What a trainable layer is, apart from its arrays: options, validated once, and the arrays that they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Required, TypedDict, Unpack

from .. import surrogate as surrogates
from .._backend.protocol import Array, Window
from .._core.aggregation import chunk_weights
from .._core.arguments import DEFAULT_AGGREGATION, LAYOUTS, MODES, RESETS
from .._core.checks import AGGREGATIONS, check_callable, check_choice, check_count, check_flag, check_groups, fail, show
from .._core.grid import Grid
from .._core.window import check_window
from .._operators import Aggregation, Layout, Mode, Padding, Reset
from .checks import PerChannel, check_constant, check_kernel, check_learn, check_share, plain

__all__ = [
    "STATISTICS",
    "ConvLIFOptions",
    "Initial",
    "LayerSpec",
    "TACConvOptions",
    "TACLinearOptions",
    "conv_lif_spec",
    "layer_spec",
    "tac_conv_spec",
    "tac_linear_spec",
]

MOST_WEIGHTS = 2**31 - 1
MOST_LEARNED = 4096
"""Aggregation weights; a frozen layer may hold as many for every length of a chunk."""
STATISTICS = ("norm_mean", "norm_var")
"""Arrays that training estimates rather than learns."""


class _NeuronOptions(TypedDict, total=False):
    """Options of every layer; `layer_spec` has their meaning and defaults."""

    beta: float | Sequence[float]
    threshold: float | Sequence[float]
    reset: Reset
    learn: str | Collection[str]
    bias: bool
    batch_norm: bool
    momentum: float
    epsilon: float
    surrogate: Callable[[Array], Array] | None
    detach_reset: bool
    remat: bool
    reproducible: bool | Grid


class TACLinearOptions(_NeuronOptions, total=False):
    """Options of layers that aggregate."""

    chunk_size: Required[int]
    mode: Mode
    aggregation: Aggregation | None


class _WindowOptions(TypedDict, total=False):
    """Options of layers that convolve."""

    stride: int | Sequence[int]
    padding: Padding
    dilation: int | Sequence[int]
    groups: int
    layout: Layout


class ConvLIFOptions(_NeuronOptions, _WindowOptions, total=False):
    """Options of layers that convolve every frame."""


class TACConvOptions(TACLinearOptions, _WindowOptions, total=False):
    """Options of layers that aggregate and convolve."""


class Initial(NamedTuple):
    """How an array starts: numbers, or None for weights uniform in ±`LayerSpec.limit`."""

    shape: tuple[int, ...]
    values: float | tuple[float, ...] | None


@dataclass(frozen=True)
class LayerSpec:
    """A layer's options, validated; `layer_spec` makes it. Hashable, so that compilers can take it for a constant."""

    layer: str
    channels_in: int
    channels_out: int
    kernel: tuple[int, ...]
    window: Window
    chunk_size: int
    mode: Mode
    beta: PerChannel
    threshold: PerChannel
    reset: Reset
    aggregation: str
    learn: tuple[str, ...]
    bias: bool
    batch_norm: bool
    momentum: float
    epsilon: float
    layout: Layout
    surrogate: Callable[[Array], Array] | None
    detach_reset: bool
    remat: bool
    reproducible: bool | Grid

    @property
    def limit(self) -> float:
        """Weights are drawn uniformly within ±sqrt(6 / fan-in)."""
        return math.sqrt(6.0 / (math.prod(self.kernel) * self.channels_in // self.window.groups))

    @property
    def normalised(self) -> bool:
        """Whether the aggregation weights of every chunk, a shorter one too, sum to one."""
        return self.aggregation in ("normalized_decay", "mean")

    @property
    def start(self) -> tuple[float, ...]:
        """Aggregation weights of a full chunk before training; decay by the mean of the channels' betas."""
        beta = self.beta if isinstance(self.beta, float) else sum(self.beta) / len(self.beta)
        return tuple(float(a) for a in chunk_weights(self.aggregation, self.chunk_size, beta))

    @property
    def summary(self) -> str:
        """One line for a framework's ``repr``."""
        sizes = [
            str(self.channels_in),
            str(self.channels_out),
            *(("x".join(map(str, self.kernel)),) if self.kernel else ()),
        ]
        words = [*sizes, f"chunk_size={self.chunk_size}", f"mode={self.mode!r}", f"learn={self.learn}"]
        return ", ".join([*words, "batch_norm=True"] if self.batch_norm else words)

    def initial(self) -> dict[str, Initial]:
        """Names, shapes and first values of the layer's arrays: the keys of its mapping."""
        channels = (self.channels_out,)
        arrays = {"weight": Initial((*channels, *self.kernel, self.channels_in // self.window.groups), None)}
        if self.bias:
            arrays["bias"] = Initial(channels, 0.0)
        if self.batch_norm:
            arrays |= {name: Initial(channels, float(name != "norm_mean")) for name in ("norm_scale", *STATISTICS)}
        if "beta" in self.learn:
            arrays["beta_logit"] = _per_channel(self.beta, lambda beta: math.log(beta / (1.0 - beta)))
        if "threshold" in self.learn:
            arrays["threshold_log"] = _per_channel(self.threshold, math.log)
        if "aggregation" in self.learn:
            floor = max(self.start) * 2.0**-24 / self.chunk_size  # for those that are 0: all together within rounding
            arrays["aggregation_logits"] = Initial(
                (self.chunk_size,), tuple(math.log(max(weight, floor)) for weight in self.start)
            )
        return arrays


def layer_spec(
    layer: str,
    channels_in: int,
    channels_out: int,
    kernel: tuple[int, ...],
    *,
    chunk_size: int,
    mode: Any = "collapse",
    beta: Any = 0.9,
    threshold: Any = 1.0,
    reset: Any = "subtract",
    aggregation: Any = None,
    learn: str | Collection[str] = (),
    bias: bool = True,
    batch_norm: bool = False,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    layout: Any = "channels_last",
    surrogate: Any = surrogates.arctan(),  # noqa: B008 (a constant)
    detach_reset: bool = False,
    remat: bool = False,
    reproducible: bool | Grid = False,
) -> LayerSpec:
    """Validate the options of a layer.

    Parameters
    ----------
    layer : str
        What error messages call the layer.
    channels_in, channels_out : int
    kernel : tuple of int
        One to three entries are as many dimensions; none is a matrix product.
    chunk_size, mode, reset, stride, padding, dilation, groups, layout, detach_reset, remat, reproducible
        As in `tacops.tac_conv`.
    beta, threshold : float, or sequence of channels_out floats where learned
    aggregation : {"decay", "normalized_decay", "sum", "mean"}, optional
        The mode's default unless given; where learned, what learning starts from.
    learn : collection of {"beta", "threshold", "aggregation"}
        Which of these are parameters; the others are constants.
    bias : bool
        Whether there is one; with `batch_norm` it is the norm's offset.
    batch_norm : bool
    momentum : float
        Share of the running statistics that a batch replaces.
    epsilon : float
        Added to variances.
    surrogate : callable or None
    """
    kind = "channels" if kernel else "features"
    channels_in = check_count(layer, f"{kind}_in", channels_in)
    channels_out = check_count(layer, f"{kind}_out", channels_out)
    chunk_size = check_count(layer, "chunk_size", chunk_size)
    groups = check_groups(layer, groups, channels_out)
    if channels_in % groups:
        raise fail(layer, "groups", f"a divisor of the {channels_in} input channels", groups)
    weights = channels_out * math.prod(kernel) * (channels_in // groups)
    if weights > MOST_WEIGHTS:
        raise fail(layer, f"{kind}_in", f"so few that there are at most {MOST_WEIGHTS} weights", f"{weights} weights")
    window = check_window(
        layer, (2**31,) * len(kernel), kernel, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    check_choice(layer, "mode", mode, MODES)
    rule = DEFAULT_AGGREGATION[mode] if aggregation is None else aggregation
    check_choice(layer, "aggregation", rule, AGGREGATIONS)
    learned = check_learn(layer, learn, chunk_size)
    if "aggregation" in learned and chunk_size > MOST_LEARNED:
        raise fail(layer, "chunk_size", f"at most {MOST_LEARNED} with learned aggregation weights", chunk_size)
    decay = check_constant(layer, "beta", beta, channels_out if "beta" in learned else None, 0.0, 1.0)
    if not isinstance(decay, float) and chunk_size > 1 and "aggregation" not in learned and "decay" in rule:
        raise fail(layer, "aggregation", "learned, 'sum' or 'mean' with a beta per channel", show(rule))
    for name, flag in (("bias", bias), ("batch_norm", batch_norm), ("detach_reset", detach_reset), ("remat", remat)):
        check_flag(layer, name, flag)
    if not isinstance(reproducible, bool | Grid):
        raise fail(layer, "reproducible", "True, False or a tacops.Grid", show(reproducible), TypeError)
    return LayerSpec(
        layer,
        channels_in,
        channels_out,
        kernel,
        window,
        chunk_size,
        mode,
        decay,
        check_constant(layer, "threshold", threshold, channels_out if "threshold" in learned else None, 0.0, math.inf),
        check_choice(layer, "reset", reset, RESETS),  # type: ignore[arg-type]
        rule,
        learned,
        bias,
        batch_norm,
        check_share(layer, "momentum", momentum),
        check_share(layer, "epsilon", epsilon),
        check_choice(layer, "layout", layout, LAYOUTS),  # type: ignore[arg-type]
        check_callable(layer, surrogate),
        detach_reset,
        remat,
        reproducible,
    )


def tac_conv_spec(
    channels_in: int, channels_out: int, kernel_size: int | Sequence[int], **options: Unpack[TACConvOptions]
) -> LayerSpec:
    """The options of a ``TACConv``."""
    layer = "TACConv"
    given = _known(layer, options, TACConvOptions)
    return layer_spec(layer, plain(channels_in), plain(channels_out), check_kernel(layer, plain(kernel_size)), **given)


def conv_lif_spec(
    channels_in: int, channels_out: int, kernel_size: int | Sequence[int], **options: Unpack[ConvLIFOptions]
) -> LayerSpec:
    """The options of a ``ConvLIF``."""
    layer = "ConvLIF"
    given = _known(layer, options, ConvLIFOptions)
    kernel = check_kernel(layer, plain(kernel_size))
    return layer_spec(layer, plain(channels_in), plain(channels_out), kernel, chunk_size=1, **given)


def tac_linear_spec(features_in: int, features_out: int, **options: Unpack[TACLinearOptions]) -> LayerSpec:
    """The options of a ``TACLinear``."""
    layer = "TACLinear"
    given = _known(layer, options, TACLinearOptions)
    return layer_spec(layer, plain(features_in), plain(features_out), (), **given)


def _known(layer: str, options: Mapping[str, Any], allowed: Any) -> dict[str, Any]:
    """`options`, if they are all among those allowed, with Python's numbers for NumPy's."""
    names = sorted(allowed.__annotations__)
    for name in options:
        if name not in names:
            raise fail(layer, "options", "among " + ", ".join(names), show(name), TypeError)
    if "chunk_size" in names and "chunk_size" not in options:
        raise fail(layer, "chunk_size", "given", "none", TypeError)
    return {name: plain(value) for name, value in options.items()}


def _per_channel(value: PerChannel, transform: Callable[[float], float]) -> Initial:
    if isinstance(value, float):
        return Initial((1,), transform(value))  # no scalar, which FSDP can't cut
    return Initial((len(value),), tuple(map(transform, value)))
