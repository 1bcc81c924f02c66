"""What ``help`` says of a layer: each option by its name, with its default and its meaning, in the place of ``**options``."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from .spec import DEFAULTS

__all__ = ["MEANINGS", "explained"]

Kind = TypeVar("Kind", bound=type)

MEANINGS = {
    "chunk_size": "K frames are summed before they are convolved once; `ConvLIF` has 1",
    "mode": 'one step per chunk, T / K frames out; or `"preserve"`: K steps, T frames out',
    "aggregation": 'rule of the weights of a chunk\'s frames; None is `"decay"` for collapse, '
    '`"normalized_decay"` for preserve; or `"sum"`, `"mean"`',
    "beta": "decay of the membrane per frame; a list is one per channel",
    "threshold": "from which a neuron fires; a list is one per channel",
    "reset": 'after a spike; or `"zero"`, `"none"` (never fires, a read-out\'s), `"late"` (snnTorch\'s default)',
    "synapse_decay": "decay of a synaptic current before the membrane; None is no such current",
    "learn": 'which of `"beta"`, `"threshold"`, `"aggregation"` are parameters; the others are constants',
    "bias": "with `batch_norm` it is the norm's offset",
    "batch_norm": "normalise currents, see below",
    "momentum": "share of the running statistics that a batch replaces (Flax's own layers count the share that stays)",
    "epsilon": "added to variances",
    "stride": "of the convolution, one number or one per dimension",
    "padding": 'pixels on each side, or `"same"`, `"valid"`, or pairs',
    "dilation": "distance of a kernel's taps",
    "groups": "of channels that don't see each other",
    "layout": 'of spikes and membranes; or `"channels_first"`',
    "surrogate": "the derivative that a spike gets in training",
    "detach_reset": "no gradient through the reset",
    "remat": "keep less for the backward pass and compute it again",
    "reproducible": "the same spikes everywhere, bit for bit; or a `Grid`",
}
"""As docs/layers.md has them."""


def explained(options: Any) -> Callable[[Kind], Kind]:
    """A class whose ``__init__`` takes `options`, a typed dictionary, with a signature and a docstring that name each of them."""
    names = [name for name in MEANINGS if name in options.__annotations__]

    def explain(layer: Kind) -> Kind:
        init: Any = vars(layer)["__init__"]
        own = inspect.signature(init)
        kept = [x for x in own.parameters.values() if x.kind is not x.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS.get(name, inspect.Parameter.empty))
            for name in names
        ]
        init.__signature__ = own.replace(parameters=[*kept, *more])
        if layer.__doc__:  # python -OO has none
            layer.__doc__ = re.sub(
                r"^( *)\*\*options\n(?:\1 +\S.*\n)+", _entries(names), layer.__doc__, flags=re.MULTILINE
            )
        return layer

    return explain


def _entries(names: list[str]) -> Callable[[re.Match[str]], str]:
    """What stands in the place of the docstring's ``**options``."""

    def entries(found: re.Match[str]) -> str:
        lines = []
        for name in names:
            default = f" : default {_shown(DEFAULTS[name])}" if name in DEFAULTS else " : must be given"
            meaning = f"{MEANINGS[name][0].upper()}{MEANINGS[name][1:]}.".replace(", see below", ": see docs/layers.md")
            lines += [f"{name}{default}", *textwrap.wrap(meaning, 100, initial_indent="    ", subsequent_indent="    ")]
        return textwrap.indent("\n".join(lines) + "\n", found[1])

    return entries


def _shown(default: Any) -> str:
    name = getattr(default, "name", None)  # of a surrogate
    return f"{name}()" if name else repr(default)
