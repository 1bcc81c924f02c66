"""Tier 4, where two features meet: layouts with pairs, grids with values that can't be read, compilers with surrogates."""

from __future__ import annotations

from copy import copy
from typing import Any

import tacops

from .. import surrogate
from .._backend.protocol import Array, Backend
from .._core.train import SpikeTrain
from ._check import NotApplicable
from ._host import assert_train, dispatched_to, native, np, on_host
from ._reference import draw

__all__ = ["INTERPLAY"]


def channels_first_pair(backend: Backend) -> None:
    """Membrane and synaptic current, given with channels first where C = H = W: the definition, with channels last."""
    spikes = draw("pair-x", (2, 2, 3, 3, 3), 1.0) > 0.2
    weight, u, j = (
        np.round(16 * draw(f"pair-{name}", shape, 0.4, 0.1)) / np.float32(16)
        for name, shape in (("w", (3, 1, 1, 3)), ("u", (2, 3, 3, 3)), ("j", (2, 3, 3, 3)))
    )
    first = [np.moveaxis(spikes, -1, 2), *(np.moveaxis(array, -1, 1) for array in (weight, u, j))]
    given = [native(backend, np.ascontiguousarray(array)) for array in first]
    options: dict[str, Any] = {"beta": 0.5, "synapse_decay": 0.5, "layout": "channels_first"}
    got = on_host(backend, tacops.conv_lif(*given[:2], membrane=tuple(given[2:]), **options))
    fired = []
    for frame in spikes.astype(np.float32):
        j = np.float32(0.5) * j + frame @ weight[:, 0, 0].T
        v = np.float32(0.5) * u + j
        fired.append((v >= 1).astype(np.float32))
        u = v - fired[-1]
    back = SpikeTrain(np.moveaxis(got.spikes, 2, -1), tuple(np.moveaxis(x, 1, -1) for x in got.membrane))
    assert_train("channels first", back, SpikeTrain(np.stack(fired), (u, j)))


def unread_inputs(backend: Backend) -> None:
    """Where no value can be read in time, a membrane that came of an input off the grid is NaN, and others are right."""
    if backend.blockwise:
        raise NotApplicable(f"{backend.name} leaves it to the library of its blocks")
    spikes = (draw("unread-x", (3, 2, 5), 1.0) > 0.2).astype(np.float32)
    weight = native(backend, draw("unread-w", (4, 5), 0.4))

    def run(backend: Backend, factor: float) -> SpikeTrain:
        x = native(backend, spikes * np.float32(factor))
        return on_host(backend, tacops.tac_linear(x, weight, chunk_size=1, reproducible=True))

    want, blind = run(backend, 1.0), copy(backend)
    hidden: dict[str, Any] = {
        "read": lambda array: None,
        "reads_frames": lambda frames: False,
        "lends": lambda values: None,
    }
    vars(blind).update(name=f"{backend.name}, unread", **hidden)
    with dispatched_to(blind):
        got, wrong = run(blind, 1.0), run(blind, 0.5)
    assert_train("values not read", got, want)
    if not np.all(np.isnan(wrong.membrane)):
        raise AssertionError("values not read: halves are off the grid, yet the membrane is not NaN")


def surrogates_apart(backend: Backend) -> None:
    """Surrogates of other slopes are others, and equal ones equal: programs are compiled, and kept, for each."""
    for make in (surrogate.arctan, surrogate.fast_sigmoid, surrogate.sigmoid, surrogate.triangular):
        name = make.__name__
        if make(2.0) == make(8.0):
            raise AssertionError(f"{name}(2.0) == {name}(8.0)")
        if make(2.0) != make(2.0) or hash(make(2.0)) != hash(make(2.0)):
            raise AssertionError(f"{name}(2.0) is not equal to another, or has another hash")
    if not backend.differentiable:
        return
    current = native(backend, np.array([[[0.5, 1.5]]], np.float32))
    for slope in (2.0, 8.0):
        made = surrogate.triangular(slope / 8)

        def loss(given: Array, made: Any = made) -> Array:
            return backend.namespace(given).sum(tacops.lif(given, surrogate=made).spikes)

        [got] = backend.gradient(loss, [current])
        if not np.all(np.abs(backend.to_numpy(got) - (1.0 - slope / 16)) <= 1e-6):
            raise AssertionError(f"triangular({slope / 8}): gradient {backend.to_numpy(got)}, must be {1 - slope / 16}")


INTERPLAY = (channels_first_pair, unread_inputs, surrogates_apart)
