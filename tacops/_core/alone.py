"""From the arguments of `tacops.lif` to neurons without synapses."""

from __future__ import annotations

from typing import Any

from .._backend.protocol import Array
from . import checks as check
from .arguments import (
    LAYOUTS,
    _arrays,
    _as_how,
    _as_neurons,
    _as_state,
    _backend,
    _check_shapes,
    _named,
)
from .axes import channel_from_last, channel_to_last
from .layer import Driven
from .options import HowOptions, NeuronOptions
from .run import run_currents
from .train import SpikeTrain, remap
from .window import check_size

__all__ = ["run_lif"]

MOST_STEPS = 2**20
"""Steps for which `lif` holds a current."""


def run_lif(
    current: Array,
    repeat: Any,
    membrane: Any,
    lengths: Any,
    layout: Any,
    neurons: NeuronOptions,
    how: HowOptions,
    axis: int | None = None,
) -> SpikeTrain:
    """`tacops.lif`; `axis` is where the channels were before they were moved to the end."""
    function = "lif"
    if check.check_choice(function, "layout", layout, LAYOUTS) == "channels_first" and _axes(current) > 3:
        return _run_lif_first(current, repeat, membrane, lengths, neurons, how)
    state = _as_state(function, membrane, neurons.synapse_decay)
    arrays = {"current": current, **_named(state), **_arrays(neurons, None, lengths)}
    backend = _backend(function, arrays)
    xp = backend.namespace(current)
    check.check_current(function, xp, current)
    kept = _as_how(function, xp, current, how, neurons.surrogate, "current")
    lif = _as_neurons(function, backend, current, current.shape[-1], neurons)
    steps = check.check_count(function, "repeat", repeat)
    if steps > MOST_STEPS:
        raise check.fail(function, "repeat", f"at most {MOST_STEPS}", steps)
    check_size(function, "repeat", (current.shape[0] * steps, *current.shape[1:]))
    _check_shapes(function, state, current, tuple(current.shape[1:]), "current")
    backend.check_time(function, current.shape[0], 1, lengths is None and not kept.remat)
    moved = (1 if current.ndim == 2 else axis) if backend.blockwise else None
    driven = Driven(function, backend, lif, kept, steps, moved)
    if current.ndim > 2:
        return run_currents(driven, current, state, check.check_lengths(function, backend, lengths, current))
    if lengths is not None:
        raise check.fail(function, "lengths", "None for currents (T, C), which have no batch", lengths)
    start = None if state is None else tuple(xp.reshape(x, (1, -1)) for x in state)
    train = run_currents(driven, xp.reshape(current, (-1, 1, current.shape[1])), start)
    return remap(train, lambda x: x[:, 0, ...], lambda x: x[0, ...])


def _run_lif_first(
    current: Array, repeat: Any, membrane: Any, lengths: Any, neurons: NeuronOptions, how: HowOptions
) -> SpikeTrain:
    """Currents (T, B, C, *S): channels to the end, and back."""
    state = _as_state("lif", membrane, neurons.synapse_decay)
    xp = _backend("lif", {"current": current, **_named(state)}).namespace(current)
    check.check_current("lif", xp, current)
    _check_shapes("lif", state, current, tuple(current.shape[1:]), "current")
    moved: Any = None if state is None else tuple(channel_to_last(xp, x, 1) for x in state)
    start = moved[0] if moved and neurons.synapse_decay is None else moved
    train = run_lif(channel_to_last(xp, current, 2), repeat, start, lengths, LAYOUTS[0], neurons, how, axis=2)
    return remap(train, lambda x: channel_from_last(xp, x, 2), lambda x: channel_from_last(xp, x, 1))


def _axes(x: Any) -> int:
    """Of what may be no array."""
    axes = getattr(x, "ndim", 0)
    return axes if isinstance(axes, int) else 0
