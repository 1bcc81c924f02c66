"""Tier 4, sequences: samples of different length, membranes of every step, the late reset and the detached one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tacops

from .. import surrogate
from .._backend.protocol import Array, Backend, Window
from .._core.train import SpikeTrain
from .._operators import Reset
from ._check import NotApplicable
from ._host import assert_same, assert_train, native, np, on_host
from ._reference import Run, chunks, currents_of, draw, simulate

__all__ = ["SEQUENCES"]

_LENGTHS = (7, 4, 0, 1, 6)
_RESETS: tuple[Reset, ...] = ("subtract", "zero", "late")
_WINDOW = Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
_HALF: dict[str, Any] = {"beta": 0.5}
_WHOLE: dict[str, Any] = {"beta": 1.0, "aggregation": "sum", "reproducible": True}
"""Two ways in which nothing is rounded, so that every result is the definition's, bit for bit."""


def _arrays() -> list[Array]:
    """Spikes (7, 5, 4, 3, 2), and weights that are multiples of 1/16."""
    spikes = (draw("sequences-x", (7, 5, 4, 3, 2), 1.0) > 0.4).astype(np.float32)
    return [spikes, np.round(16 * draw("sequences-w", (3, 3, 3, 2), 0.4, 0.1)) / np.float32(16)]


def _run(backend: Backend, spikes: Array, weight: Array, **options: Any) -> Any:
    given = {name: native(backend, value) for name, value in options.items()}
    return tacops.tac_conv(native(backend, spikes), native(backend, weight), padding=1, **given)


def _defined(
    spikes: Array, weight: Array, *, chunk_size: int, mode: str = "collapse", reset: str = "subtract", **options: Any
) -> Run:
    currents = currents_of(spikes.astype(np.float64), weight.astype(np.float64), _WINDOW)
    aggregation = options.get("aggregation", {"collapse": "decay", "preserve": "normalized_decay"}[mode])
    parts = chunks(currents, 0.0, chunk_size, mode=mode, aggregation=aggregation, beta=options["beta"])
    return simulate(parts, np.zeros(currents.shape[1:]), threshold=1.0, reset=reset)


def lengths(backend: Backend) -> None:
    """Every sample of a batch gives what the definition gives for its frames alone, whatever lies beyond its end."""
    spikes, weight = _arrays()
    padded = spikes.copy()
    for b, length in enumerate(_LENGTHS):
        padded[length:, b] = np.nan
    cases: list[tuple[dict[str, Any], Any]] = [
        ({**_HALF, "chunk_size": 1, "reset": "zero"}, np.asarray(_LENGTHS, np.int32)),
        ({**_WHOLE, "chunk_size": 3, "mode": "preserve", "reset": "late"}, list(_LENGTHS)),
        ({**_HALF, "chunk_size": 20}, np.asarray(_LENGTHS, np.int32)),
        ({**_WHOLE, "chunk_size": 20}, [0] * len(_LENGTHS)),  # a batch without a frame, of which no chunk is whole
    ]
    for options, given in cases:
        train = on_host(backend, _run(backend, padded, weight, lengths=given, **options))
        _as_alone(train, spikes, weight, list(given), options)


def _as_alone(train: SpikeTrain, spikes: Array, weight: Array, ends: Sequence[int], options: dict[str, Any]) -> None:
    for b, length in enumerate(ends):
        what, mine = f"{options}, sample of {length} frames", train.spikes[:, b]
        own = SpikeTrain(mine[:0], np.zeros_like(train.membrane[b]))
        if length:
            alone = _defined(spikes[:length, b : b + 1], weight, **options)
            own = SpikeTrain(alone.spikes[:, 0].astype(np.float32), alone.membrane[0].astype(np.float32))
        assert_train(what, SpikeTrain(mine[: len(own.spikes)], train.membrane[b]), own)
        if mine[len(own.spikes) :].any():
            raise AssertionError(f"{what}: spikes beyond its end")


def lengths_compiled(backend: Backend) -> None:
    """Lengths that only a compiled function's caller knows."""
    if not backend.compiles_fast:
        raise NotApplicable(f"{backend.name} compiles slowly or not at all")
    (spikes, weight), ends = _arrays(), (3, 1, 0, 2)
    spikes = spikes[:3, :4]
    options: dict[str, Any] = {**_WHOLE, "chunk_size": 2}
    compiled = backend.compile(lambda x, w, ends: tuple(tacops.tac_conv(x, w, lengths=ends, padding=1, **options)))
    given = (native(backend, array) for array in (spikes, weight, np.asarray(ends, np.int32)))
    _as_alone(on_host(backend, SpikeTrain(*compiled(*given))), spikes, weight, ends, options)


def trace(backend: Backend) -> None:
    """The membrane after every step is the definition's; so are the spikes beside it."""
    spikes, weight = _arrays()
    cases: list[dict[str, Any]] = [
        {**_HALF, "chunk_size": 1},
        {**_HALF, "chunk_size": 1, "reset": "zero", "compact": True},
        {**_WHOLE, "chunk_size": 1, "reset": "late"},
        {**_HALF, "chunk_size": 3},
        {**_WHOLE, "chunk_size": 3, "mode": "preserve", "layout": "channels_last"},
    ]
    for options in cases:
        train = _run(backend, spikes, weight, trace=True, **options)
        want = _defined(spikes, weight, **options)
        fired = want.spikes.astype(bool if options.get("compact") else np.float32)
        membrane = want.membrane.astype(np.float32)
        assert_train(f"{options}, traced", on_host(backend, train), SpikeTrain(fired, membrane))
        assert_same(f"{options}: trace", backend.to_numpy(train.trace), want.trace.astype(np.float32))


def late_reset(backend: Backend) -> None:
    """Reset "late": one step late and undecayed, from a membrane that is above the threshold already."""
    current = np.round(draw("sequences-late", (80, 2, 33), 16.0, 8.0)) / 16
    start = np.round(draw("sequences-start", (2, 33), 24.0)) / 16
    for threshold in (1.0, np.linspace(0.5, 2.5, 33, dtype=np.float32)):
        u, fired = start.astype(np.float64), []
        for i in current.astype(np.float64):
            # multiples of 2^-4 by a beta of 0 or 1: exact
            u = u * (np.arange(33) % 2) + i - threshold * (u >= threshold)
            fired.append(u >= threshold)
        beta = (np.arange(33) % 2).astype(np.float32)
        given = {"beta": beta, "threshold": threshold, "membrane": start, "reset": "late"}
        options = {name: native(backend, value) for name, value in given.items()}
        want = SpikeTrain(np.stack(fired).astype(np.float32), u.astype(np.float32))
        assert_train(f"threshold {threshold}", on_host(backend, tacops.lif(native(backend, current), **options)), want)


def detached_reset(backend: Backend) -> None:
    """``detach_reset=True``: the gradient that back-propagation by hand gives when no reset is looked through."""
    if not backend.differentiable:
        raise NotApplicable(f"{backend.name} has no gradients")
    current = draw("sequences-current", (6, 2, 5), 0.6, 0.4)
    for reset in _RESETS:

        def loss(given: Array, reset: Reset = reset) -> Array:
            train = tacops.lif(
                given,
                beta=0.5,
                reset=reset,
                surrogate=surrogate.fast_sigmoid(2.0),
                detach_reset=True,
            )
            return backend.namespace(given).sum(train.spikes) + backend.namespace(given).sum(train.membrane)

        (got,) = backend.gradient(loss, [native(backend, current)])
        u, potentials = np.zeros((2, 5)), []
        for i in current.astype(np.float64):
            v = 0.5 * u + i - (reset == "late") * (u >= 1.0)
            potentials.append(v)
            u = v - (v >= 1.0) if reset == "subtract" else np.where(v >= 1.0, 0.0, v) if reset == "zero" else v
        to_u, want = np.ones((2, 5)), np.zeros((6, 2, 5))
        for t in reversed(range(6)):
            v = potentials[t]
            kept = to_u * (v < 1.0) if reset == "zero" else to_u
            want[t] = kept + 1.0 / (1.0 + 2.0 * np.abs(v - 1.0)) ** 2
            to_u = 0.5 * want[t]
        error = float(np.max(np.abs(backend.to_numpy(got) - want)))
        if not error <= 1e-5:
            raise AssertionError(f"{reset}: gradient off by {error:.2g}")


SEQUENCES = (lengths, lengths_compiled, trace, late_reset, detached_reset)
