"""Tier 4, sequences: samples of different length, membranes of every step, the late reset and the detached one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tacops

from .. import surrogate
from .._backend.protocol import Array, Backend
from .._core.train import SpikeTrain
from .._operators import Reset
from ._check import NotApplicable
from ._host import assert_same, assert_train, native, np, on_host
from ._reference import draw

__all__ = ["SEQUENCES"]

_OPTIONS: dict[str, Any] = {"padding": 1, "reproducible": True}
_LENGTHS = (7, 4, 0, 1, 6)
_RESETS: tuple[Reset, ...] = ("subtract", "zero", "late")


def _arrays(drive: float = 0.3) -> list[Array]:
    """Spikes (7, 5, 4, 3, 2), whatever lies beyond the ends, and weights."""
    spikes = (draw("sequences-x", (7, 5, 4, 3, 2), 1.0) > 1.0 - 2 * drive).astype(np.float32)
    return [spikes, draw("sequences-w", (3, 3, 3, 2), 0.4, 0.1)]


def _run(backend: Backend, spikes: Array, weight: Array, **options: Any) -> Any:
    given = {name: native(backend, value) for name, value in options.items()}
    return tacops.tac_conv(native(backend, spikes), native(backend, weight), **{**_OPTIONS, **given})


def lengths(backend: Backend) -> None:
    """Every sample of a batch gives what it gives alone, whatever lies beyond its end."""
    spikes, weight = _arrays()
    padded = spikes.copy()
    for b, length in enumerate(_LENGTHS):
        padded[length:, b] = np.nan
    for K, mode, reset in ((1, "collapse", "zero"), (3, "preserve", "late"), (20, "collapse", "subtract")):
        options: dict[str, Any] = {"chunk_size": K, "mode": mode, "reset": reset}
        given = list(_LENGTHS) if K == 3 else np.asarray(_LENGTHS, np.int32)
        train = _run(backend, padded, weight, lengths=given, **options)
        _as_alone(backend, on_host(backend, train), spikes, weight, _LENGTHS, options)
    options = {"chunk_size": 20}  # a batch without a frame, of which no chunk is whole
    train = _run(backend, padded, weight, lengths=[0] * len(_LENGTHS), **options)
    _as_alone(backend, on_host(backend, train), spikes, weight, [0] * len(_LENGTHS), options)


def _as_alone(
    backend: Backend, train: SpikeTrain, spikes: Array, weight: Array, ends: Sequence[int], options: dict[str, Any]
) -> None:
    for b, length in enumerate(ends):
        what, mine = f"{options}, sample of {length} frames", train.spikes[:, b]
        own = SpikeTrain(mine[:0], np.zeros_like(train.membrane[b]))
        if length:
            alone = on_host(backend, _run(backend, spikes[:length, b : b + 1], weight, **options))
            own = SpikeTrain(alone.spikes[:, 0], alone.membrane[0])
        assert_train(what, SpikeTrain(mine[: len(own.spikes)], train.membrane[b]), own)
        if mine[len(own.spikes) :].any():
            raise AssertionError(f"{what}: spikes beyond its end")


def lengths_compiled(backend: Backend) -> None:
    """Lengths that only a compiled function's caller knows."""
    if not backend.compiles_fast:
        raise NotApplicable(f"{backend.name} compiles slowly or not at all")
    (spikes, weight), ends = _arrays(), (3, 1, 0, 2)
    spikes = spikes[:3, :4]
    options: dict[str, Any] = {"chunk_size": 2}
    options |= _OPTIONS
    compiled = backend.compile(lambda x, w, ends: tuple(tacops.tac_conv(x, w, lengths=ends, **options)))
    given = (native(backend, array) for array in (spikes, weight, np.asarray(ends, np.int32)))
    _as_alone(backend, on_host(backend, SpikeTrain(*compiled(*given))), spikes, weight, ends, options)


def trace(backend: Backend) -> None:
    """The membrane of every step is that with which a simulation of so many frames ends; spikes are as without."""
    spikes, weight = _arrays()
    for reset, compact in (("subtract", False), ("zero", True), ("late", False)):
        options: dict[str, Any] = {"chunk_size": 1, "reset": reset, "compact": compact}
        train = _run(backend, spikes, weight, trace=True, **options)
        kept = backend.to_numpy(train.trace)
        assert_train(
            f"{reset}, traced", on_host(backend, train), on_host(backend, _run(backend, spikes, weight, **options))
        )
        for T in (1, 4, 7):
            part = on_host(backend, _run(backend, spikes[:T], weight, **options))
            assert_same(f"{reset}: trace after {T} frames", kept[T - 1], part.membrane)
    for mode, steps in (("collapse", 3), ("preserve", 7)):
        train = _run(backend, spikes, weight, trace=True, chunk_size=3, mode=mode, layout="channels_last")
        shape = tuple(train.trace.shape)
        if shape != (steps, 5, 4, 3, 3):
            raise AssertionError(f"{mode}: trace has shape {shape}, must be {(steps, 5, 4, 3, 3)}")
        assert_same(f"{mode}: last of trace", backend.to_numpy(train.trace)[-1], backend.to_numpy(train.membrane))


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
