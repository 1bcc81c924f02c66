"""Neurons as one operation of PyTorch's, for autograd and compilers; what it does is an engine's (``loops.py``, ``kernels.py``).

Gradients of gradients, and gradients that are vectorised, go by the core's own steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from tacops._backend.dispatch import backend_of
from tacops._backend.protocol import Backend
from tacops._backend.steps import Recipe, Reset
from tacops._core.neurons import LIFStep
from tacops.surrogate import Surrogate

from . import kernels, loops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tacops._backend.protocol import Array

__all__ = ["Own", "Settings", "engine_for", "gradients", "neurons"]


class Engine(Protocol):
    """A module that steps neurons, and computes their gradients."""

    def takes(self, step: Recipe, tensors: Sequence[Array]) -> bool:
        """Whether the step and the tensors, the currents first, are such as it knows."""

    def results(self, currents: Array, repeat: int, compact: bool, keep: bool) -> tuple[Array, Array, Array]:
        """Empty tensors as `forth` would return them."""

    def forth(
        self, step: Recipe, currents: Array, membrane: Array | None, repeat: int, keep: bool
    ) -> tuple[Array, Array, Array]:
        """Spikes, the last membranes, and what is kept for gradients, if it has to `keep` anything."""

    def back(
        self,
        step: Recipe,
        surrogate: tuple[str, float],
        currents: Array,
        kept: Array,
        membrane: Array | None,
        repeat: int,
        to_spikes: Array | None,
        to_membrane: Array | None,
        parameters: tuple[bool, bool],
    ) -> tuple[Array | None, ...]:
        """Gradients by currents, membrane, decay and threshold, where there are any and `parameters` asks for them."""

    def is_beyond(self, gradient: Array) -> bool:
        """Whether a gradient needs PyTorch's own operations."""


def engine_for(device: Any) -> Engine:
    """The engine of a kind of device."""
    return kernels if device.type == "cuda" else loops


class Own(Protocol):
    """A surrogate that is a function of the user's: the operation has none, since no program can hold it."""

    surrogate: Any

    def back(
        self,
        arrays: Sequence[Any],
        kept: Array,
        settings: Settings,
        to_spikes: Array | None,
        to_membrane: Array | None,
        parameters: tuple[bool, ...],
    ) -> tuple[Array | None, ...]:
        """Gradients by currents, membrane, decay and threshold."""


class Settings(NamedTuple):
    """What the operation is given beside arrays, as in its schema."""

    beta: float
    theta: float
    """Decay and threshold, where they are no arrays."""
    repeat: int
    reset: int
    rounded: bool
    detached: bool
    compact: bool
    surrogate: str
    slope: float
    keep: bool

    def recipe(self, arrays: Sequence[Any]) -> Recipe:
        """The step, of arrays (..., decay, threshold, unit, poison)."""
        decay, threshold, unit, poison = arrays[-4:]
        decay, threshold = self.beta if decay is None else decay, self.theta if threshold is None else threshold
        flags = Reset(self.reset), self.rounded, self.compact, poison, None, self.detached, unit
        return Recipe(decay, threshold, *flags)


_ARRAYS = "Tensor currents, Tensor? membrane, Tensor? decay, Tensor? threshold, Tensor? unit, Tensor? poison"
_SETTINGS = (
    "float beta, float theta, int repeat, int reset, bool rounded, bool detached, bool compact, str surrogate,"
    " float slope, bool keep"
)
_GRADIENTS = "Tensor kept, Tensor? to_spikes, Tensor? to_membrane, bool by_decay, bool by_threshold"
_COUNT = 6
"""Arrays that the operation is given."""


def _resolved(*arrays: Array | None) -> list[Any]:
    """Whatever a compiler hands on: negated views are written out."""
    return [None if x is None else x.resolve_neg() for x in arrays]


def _forth(*given: Any) -> tuple[Array, Array, Array]:
    arrays, settings = _resolved(*given[:_COUNT]), Settings(*given[_COUNT:])
    return engine_for(arrays[0].device).forth(
        settings.recipe(arrays), arrays[0], arrays[1], settings.repeat, settings.keep
    )


def _back(*given: Any) -> tuple[Array, ...]:
    arrays, settings = _resolved(*given[:_COUNT]), Settings(*given[_COUNT:-5])
    kept, to_spikes, to_membrane = _resolved(*given[-5:-2])
    currents, membrane = arrays[:2]
    surrogate, parameters = (settings.surrogate, settings.slope), given[-2:]
    state = currents, kept, membrane, settings.repeat, to_spikes, to_membrane, parameters
    found = engine_for(currents.device).back(settings.recipe(arrays), surrogate, *state)
    return tuple(currents.new_empty(0) if x is None else x for x in found)


_OPTIONS: dict[str, Any] = {"mutates_args": ()}
neurons: Any = torch.library.custom_op(
    "tacops::neurons", _forth, schema=f"({_ARRAYS}, {_SETTINGS}) -> (Tensor, Tensor, Tensor)", **_OPTIONS
)
_neurons_back: Any = torch.library.custom_op(
    "tacops::neurons_back",
    _back,
    schema=f"({_ARRAYS}, {_SETTINGS}, {_GRADIENTS}) -> (Tensor, Tensor, Tensor, Tensor)",
    **_OPTIONS,
)


@neurons.register_fake  # type: ignore[untyped-decorator]
def _fake(currents: Array, *given: Any) -> tuple[Array, Array, Array]:
    settings = Settings(*given[_COUNT - 1 :])
    return engine_for(currents.device).results(currents, settings.repeat, settings.compact, settings.keep)


@_neurons_back.register_fake  # type: ignore[untyped-decorator]
def _fake_back(currents: Array, membrane: Array | None, *given: Any) -> tuple[Array, Array, Array, Array]:
    channels, (by_decay, by_threshold) = currents.shape[-1], given[-2:]
    by_currents, by_membrane, _ = engine_for(currents.device).results(currents, 1, False, False)
    return (
        by_currents,
        currents.new_empty(0) if membrane is None else by_membrane,
        currents.new_empty(channels if by_decay else 0),
        currents.new_empty(channels if by_threshold else 0),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs[:_COUNT], output[2])
    ctx.settings = Settings(*inputs[_COUNT:])


def _gradients(ctx: Any, to_spikes: Array | None, to_membrane: Array | None, _: Any) -> tuple[Any, ...]:
    (*arrays, kept), settings = ctx.saved_tensors, ctx.settings
    found = gradients(arrays, kept, settings, to_spikes, to_membrane, ctx.needs_input_grad[:4])
    return (*found, *(None,) * (_COUNT - 4 + len(settings)))


def gradients(
    arrays: Sequence[Any],
    kept: Array,
    settings: Settings,
    to_spikes: Array | None,
    to_membrane: Array | None,
    asked: tuple[bool, ...],
    own: Own | None = None,
) -> list[Array | None]:
    """By currents, membrane, decay and threshold, where `asked`; `own` is a surrogate of the user's, and its derivatives."""
    if settings.compact:  # such spikes have no gradient
        to_spikes = None
    if to_spikes is None and not _resets_by_threshold(settings, arrays):  # nothing depends on it: None, not zeros
        asked = (*asked[:3], False)
    engine, given = engine_for(arrays[0].device), [x for x in (to_spikes, to_membrane) if x is not None]
    if torch.is_grad_enabled() or any(map(engine.is_beyond, given)):
        return _by_core(arrays, settings, to_spikes, to_membrane, asked, own and own.surrogate)
    if own is None:
        found = _neurons_back(*arrays, *settings, kept, to_spikes, to_membrane, *asked[2:4])
    else:
        found = own.back(arrays, kept, settings, to_spikes, to_membrane, asked[2:4])
    return [x if needed else None for x, needed in zip(found, asked, strict=True)]


def _resets_by_threshold(settings: Settings, arrays: Sequence[Any]) -> bool:
    """Whether the last membranes have a derivative by the threshold."""
    if settings.reset == Reset.LATE:
        return arrays[1] is not None or len(arrays[0]) * settings.repeat > 1
    learns = settings.surrogate and not settings.detached
    return settings.reset == Reset.SUBTRACT or bool(settings.reset == Reset.ZERO and learns)


def _by_core(
    arrays: Sequence[Any],
    settings: Settings,
    to_spikes: Array | None,
    to_membrane: Array | None,
    asked: tuple[bool, ...],
    own: Any,
) -> list[Array | None]:
    """The same by PyTorch's own operations, which can be differentiated again."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # views, each a place of its own in the graph: one array may have been computed from another
        views = [None if x is None else x.view_as(x) for x in arrays]
        # a tracer may have lost that they are differentiated: the gradient would be zero
        views = [
            x.detach().requires_grad_() if x is not None and needed and not x.requires_grad else x
            for x, needed in zip(views, (*asked, False, False), strict=True)
        ]
        currents, membrane, *_ = views
        step, backend = settings.recipe(views), backend_of(arrays[0])
        surrogate = own or (Surrogate(settings.surrogate, settings.slope) if settings.surrogate else None)
        options = {name: getattr(step, name) for name in ("rounded", "poison", "unit", "compact", "detach_reset")}
        lif = LIFStep(backend, step.decay, step.threshold, step.reset.name.lower(), surrogate, **options)
        spikes, (after,) = Backend.scan(
            backend, lif, currents, None if membrane is None else (membrane,), settings.repeat
        )
        pairs = [(x, grad) for x, grad in ((spikes, to_spikes), (after, to_membrane)) if grad is not None]
        pairs = [pair for pair in pairs if pair[0].requires_grad]
        wanted = [x for x, needed in zip(views[:4], asked, strict=True) if needed]
        outs, grads = zip(*pairs, strict=True) if pairs else ((), ())
        zeros = {"allow_unused": True, "materialize_grads": True}
        found = iter(torch.autograd.grad(outs, wanted, grads, create_graph=again, **zeros))
    return [next(found) if needed else None for needed in asked]


neurons.register_autograd(_gradients, setup_context=_keep)
