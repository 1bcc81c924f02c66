"""What a trainable layer is, apart from its arrays: options, validated once, and the arrays that they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Unpack

from .. import surrogate as surrogates
from .._backend.protocol import Window
from .._core.aggregation import chunk_weights
from .._core.arguments import DEFAULT_AGGREGATION, LAYOUTS, MODES, RESETS
from .._core.checks import AGGREGATIONS, check_callable, check_choice, check_count, check_flag, check_groups, fail, show
from .._core.grid import Grid
from .._core.options import Neurons, Time
from .._core.rules import RULES
from .._core.window import check_window
from .._operators import Layout
from .checks import PerChannel, check_constant, check_features, check_kernel, check_learn, check_share, plain
from .options import ConvLIFOptions, TACConvOptions, TACLinearOptions

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


class Initial(NamedTuple):
    """How an array starts: numbers, or None for weights uniform in ±`LayerSpec.limit`."""

    shape: tuple[int, ...]
    values: float | tuple[float, ...] | None


@dataclass(frozen=True)
class Norm:
    """Batch normalisation: the share of the running statistics that a batch replaces, and what is added to variances."""

    momentum: float
    epsilon: float


@dataclass(frozen=True)
class LayerSpec:
    """A layer's options, validated; `layer_spec` makes it. Hashable, so that compilers can take it for a constant.

    Parameters
    ----------
    layer : str
        What error messages call the layer.
    channels_in, channels_out : int
    kernel : tuple of int
        One to three entries are as many dimensions; none is a matrix product.
    window : Window
    layout : {"channels_last", "channels_first"}
    time : Time
        The rule of aggregation by name; where it is learned, what learning starts from.
    neurons : Neurons
        Numbers, or tuples of them; where they are learned, what learning starts from.
    learn : tuple of str
    bias : bool
    norm : Norm or None
    remat : bool
    reproducible : bool or Grid
    features : tuple of int
        Of matrix products: the shape that their input had before it was flattened, in `layout`, where it was given.
    """

    layer: str
    channels_in: int
    channels_out: int
    kernel: tuple[int, ...]
    window: Window
    layout: Layout
    time: Time
    neurons: Neurons
    learn: tuple[str, ...]
    bias: bool
    norm: Norm | None
    remat: bool
    reproducible: bool | Grid
    features: tuple[int, ...] = ()

    @property
    def channels_first(self) -> bool:
        """Whether spikes and membranes have their channels before their spatial axes."""
        return bool(self.kernel) and self.layout == "channels_first"

    @property
    def limit(self) -> float:
        """Weights are drawn uniformly within ±sqrt(6 / fan-in)."""
        return math.sqrt(6.0 / (math.prod(self.kernel) * self.channels_in // self.window.groups))

    @property
    def normalised(self) -> bool:
        """Whether the aggregation weights of every chunk, a shorter one too, sum to one."""
        return RULES[self.rule].shared

    @property
    def rule(self) -> str:
        """The name of the rule of aggregation."""
        return str(self.time.aggregation)

    @property
    def start(self) -> tuple[float, ...]:
        """Aggregation weights of a full chunk before training; decay by the mean of the channels' betas."""
        beta = self.neurons.beta
        mean = beta if isinstance(beta, float) else sum(beta) / len(beta)
        return tuple(float(a) for a in chunk_weights(self.rule, self.time.chunk_size, mean))

    @property
    def summary(self) -> str:
        """One line for a framework's ``repr``."""
        sizes = [
            str(self.channels_in),
            str(self.channels_out),
            *(("x".join(map(str, self.kernel)),) if self.kernel else ()),
        ]
        mode = MODES[self.time.preserve]
        words = [*sizes, f"chunk_size={self.time.chunk_size}", f"mode={mode!r}", f"learn={self.learn}"]
        return ", ".join([*words, "batch_norm=True"] if self.norm else words)

    def initial(self) -> dict[str, Initial]:
        """Names, shapes and first values of the layer's arrays: the keys of its mapping."""
        channels = (self.channels_out,)
        arrays = {"weight": Initial((*channels, *self.kernel, self.channels_in // self.window.groups), None)}
        if self.bias:
            arrays["bias"] = Initial(channels, 0.0)
        if self.norm:
            arrays |= {name: Initial(channels, float(name != "norm_mean")) for name in ("norm_scale", *STATISTICS)}
        if "beta" in self.learn:
            arrays["beta_logit"] = _per_channel(self.neurons.beta, lambda beta: math.log(beta / (1.0 - beta)))
        if "threshold" in self.learn:
            arrays["threshold_log"] = _per_channel(self.neurons.threshold, math.log)
        if "aggregation" in self.learn:
            size = self.time.chunk_size
            floor = max(self.start) * 2.0**-24 / size  # for those that are 0: all together within rounding
            arrays["aggregation_logits"] = Initial(
                (size,), tuple(math.log(max(weight, floor)) for weight in self.start)
            )
        return arrays


DEFAULTS: dict[str, Any] = {
    "mode": "collapse",
    "beta": 0.9,
    "threshold": 1.0,
    "reset": "subtract",
    "synapse_decay": None,
    "aggregation": None,
    "learn": (),
    "bias": True,
    "batch_norm": False,
    "momentum": 0.1,
    "epsilon": 1e-5,
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "layout": "channels_last",
    "surrogate": surrogates.arctan(),
    "detach_reset": False,
    "remat": False,
    "reproducible": False,
}
"""Of the options of every layer, as `tacops.tac_conv` and docs/layers.md explain them."""


def layer_spec(
    layer: str, channels_in: int, channels_out: int, kernel: tuple[int, ...], options: Mapping[str, Any]
) -> LayerSpec:
    """Validate the options of a layer.

    Parameters
    ----------
    layer : str
        What error messages call the layer.
    channels_in, channels_out : int
    kernel : tuple of int
        One to three entries are as many dimensions; none is a matrix product.
    options : mapping
        ``chunk_size`` and some of `DEFAULTS`.
    """
    given = DEFAULTS | dict(options)
    kind = "channels" if kernel else "features"
    channels_in = check_count(layer, f"{kind}_in", channels_in)
    channels_out = check_count(layer, f"{kind}_out", channels_out)
    chunk_size = check_count(layer, "chunk_size", given["chunk_size"])
    window = _window(layer, kind, (channels_in, channels_out), kernel, given)
    check_choice(layer, "mode", given["mode"], MODES)
    rule = DEFAULT_AGGREGATION[given["mode"]] if given["aggregation"] is None else given["aggregation"]
    check_choice(layer, "aggregation", rule, AGGREGATIONS)
    learned = check_learn(layer, given["learn"], chunk_size)
    if "aggregation" in learned and chunk_size > MOST_LEARNED:
        raise fail(layer, "chunk_size", f"at most {MOST_LEARNED} with learned aggregation weights", chunk_size)
    neurons = _neurons(layer, channels_out, learned, given)
    fixed = chunk_size > 1 and "aggregation" not in learned
    if not isinstance(neurons.beta, float) and fixed and RULES[rule].decays:
        raise fail(layer, "aggregation", "learned, 'sum' or 'mean' with a beta per channel", show(rule))
    for name in ("bias", "batch_norm", "remat"):
        check_flag(layer, name, given[name])
    if not isinstance(given["reproducible"], (bool, Grid)):
        raise fail(layer, "reproducible", "True, False or a tacops.Grid", show(given["reproducible"]), TypeError)
    norm = Norm(*(check_share(layer, name, given[name]) for name in ("momentum", "epsilon")))
    return LayerSpec(
        layer,
        channels_in,
        channels_out,
        kernel,
        window,
        check_choice(layer, "layout", given["layout"], LAYOUTS),  # type: ignore[arg-type]
        Time(chunk_size, given["mode"] == "preserve", rule),
        neurons,
        learned,
        given["bias"],
        norm if given["batch_norm"] else None,
        given["remat"],
        given["reproducible"],
    )


def _window(
    layer: str, kind: str, channels: tuple[int, int], kernel: tuple[int, ...], given: Mapping[str, Any]
) -> Window:
    groups = check_groups(layer, given["groups"], channels[1])
    if channels[0] % groups:
        raise fail(layer, "groups", f"a divisor of the {channels[0]} input channels", groups)
    weights = channels[1] * math.prod(kernel) * (channels[0] // groups)
    if weights > MOST_WEIGHTS:
        raise fail(layer, f"{kind}_in", f"so few that there are at most {MOST_WEIGHTS} weights", f"{weights} weights")
    moves = {name: given[name] for name in ("stride", "padding", "dilation")}
    return check_window(layer, (2**31,) * len(kernel), kernel, groups=groups, **moves)


def _neurons(layer: str, channels: int, learned: Collection[str], given: Mapping[str, Any]) -> Neurons:
    def constant(name: str, high: float) -> PerChannel:
        return check_constant(layer, name, given[name], channels if name in learned else None, 0.0, high)

    return Neurons(
        constant("beta", 1.0),
        constant("threshold", math.inf),
        check_choice(layer, "reset", given["reset"], RESETS),
        None if given["synapse_decay"] is None else constant("synapse_decay", 1.0),
        check_callable(layer, given["surrogate"]),
        check_flag(layer, "detach_reset", given["detach_reset"]),
    )


def tac_conv_spec(
    channels_in: int, channels_out: int, kernel_size: int | Sequence[int], **options: Unpack[TACConvOptions]
) -> LayerSpec:
    """The options of a ``TACConv``."""
    layer = "TACConv"
    given = _known(layer, options, TACConvOptions)
    return layer_spec(layer, plain(channels_in), plain(channels_out), check_kernel(layer, plain(kernel_size)), given)


def conv_lif_spec(
    channels_in: int, channels_out: int, kernel_size: int | Sequence[int], **options: Unpack[ConvLIFOptions]
) -> LayerSpec:
    """The options of a ``ConvLIF``."""
    layer = "ConvLIF"
    given = _known(layer, options, ConvLIFOptions)
    kernel = check_kernel(layer, plain(kernel_size))
    return layer_spec(layer, plain(channels_in), plain(channels_out), kernel, {"chunk_size": 1, **given})


def tac_linear_spec(
    features_in: int | Sequence[int], features_out: int, **options: Unpack[TACLinearOptions]
) -> LayerSpec:
    """The options of a ``TACLinear``."""
    layer = "TACLinear"
    given = _known(layer, options, TACLinearOptions)
    shape = check_features(layer, plain(features_in), given.get("layout"))
    size = math.prod(shape) if shape else plain(features_in)
    return replace(layer_spec(layer, size, plain(features_out), (), given), features=shape)


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
