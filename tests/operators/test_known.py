"""What a call is remembered by: the next one like it is validated no more, and one that only looks like it is."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tacops import conv_lif, tac_conv, tac_linear
from tacops._core import known
from tacops.backends import Backend

SPIKES = np.ones((4, 1, 6, 6, 2), np.float32)
WEIGHT = np.full((3, 3, 3, 2), 0.125, np.float32)
GOOD: dict[str, Any] = {"chunk_size": 1, "beta": 1.0, "stride": 1, "dilation": (1, 1), "trace": False}


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    known.forget()


@pytest.fixture(params=["numpy", "torch"])
def library(request: pytest.FixtureRequest, need: Any) -> Backend:
    """Those that remember."""
    backend: Backend = need(request.param)
    return backend


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("chunk_size", True),
        ("chunk_size", 1.0),
        ("beta", True),
        ("stride", True),
        ("stride", 1.0),
        ("dilation", (1, True)),
        ("trace", 0),
        ("reproducible", 0),
        ("mode", "collapsed"),
    ],
)
def test_equal_is_not_alike(library: Backend, option: str, value: Any) -> None:
    """True equals 1, and 1.0 does: what is refused of a first call is refused of a later one, in the same words."""
    x, w = library.from_numpy(SPIKES), library.from_numpy(WEIGHT)
    bad = {**GOOD, option: value}
    with pytest.raises((TypeError, ValueError)) as first:
        tac_conv(x, w, **bad)
    for _ in range(2):
        tac_conv(x, w, **{**GOOD, "dilation": 1})
        tac_conv(x, w, **GOOD)
    with pytest.raises(first.type) as later:
        tac_conv(x, w, **bad)
    assert str(later.value) == str(first.value)


def test_arrays_are_looked_at_every_time(library: Backend) -> None:
    """Shapes and dtypes of all arrays of a call."""
    x, w = library.from_numpy(SPIKES), library.from_numpy(WEIGHT)
    bias, membrane = (library.from_numpy(np.zeros(shape, np.float32)) for shape in ((3,), (1, 6, 6, 3)))
    for _ in range(2):
        tac_conv(x, w, bias, chunk_size=2, padding=1, membrane=membrane)
    assert len(known._known) == 1
    for changed, match in (
        ({"spikes": x[..., :1]}, "spikes must be an array"),
        ({"bias": bias[:2]}, "bias must be of shape"),
        ({"bias": library.from_numpy(np.zeros(3))}, "bias must be of weight's dtype"),
        ({"membrane": membrane[:, :5]}, "membrane must be of shape"),
        ({"weight": library.from_numpy(WEIGHT.astype(np.int32))}, "weight must be of a real floating dtype"),
    ):
        given = {"spikes": x, "weight": w, "bias": bias, "membrane": membrane, **changed}
        with pytest.raises((TypeError, ValueError), match=match):
            tac_conv(**given, chunk_size=2, padding=1)


def test_a_known_call_is_the_same(library: Backend) -> None:
    """Every layout and operator, from rest and from a membrane: bit for bit what the first call gave."""
    x, w = library.from_numpy(SPIKES), library.from_numpy(WEIGHT)
    first: dict[str, Any] = {"layout": "channels_first", "padding": (0, 2)}
    x_first, w_first = (library.from_numpy(np.moveaxis(a, -1, n)) for a, n in ((SPIKES, 2), (WEIGHT, 1)))
    calls: tuple[Callable[..., Any], ...] = (
        lambda **more: conv_lif(x, w, padding="same", **more),
        lambda **more: tac_conv(x_first, w_first, chunk_size=3, mode="preserve", **first, **more),
        lambda **more: tac_linear(x, w[:, 0, 0], chunk_size=2, synapse_decay=0.5, **more),
        lambda **more: tac_conv(x, w, chunk_size=2, reproducible=True, beta=-0.0, **more),
    )
    for call in calls:
        trains = [call() for _ in range(3)]
        trains += [call(membrane=trains[0].membrane) for _ in range(2)]
        for train, like in zip(trains, [*[trains[0]] * 3, *[trains[3]] * 2], strict=True):
            for got, want in zip(_flat(train), _flat(like), strict=True):
                assert library.to_numpy(got).tobytes() == library.to_numpy(want).tobytes()


def _flat(train: Any) -> list[Any]:
    return [train[0], *(train[1] if isinstance(train[1], tuple) else train[1:])]


def test_no_decay_is_not_remembered() -> None:
    """0.0 and -0.0 are equal, but not alike: membranes of 0 can have either sign."""
    for beta in (0.0, -0.0):
        tac_linear(SPIKES, WEIGHT[:, 0, 0], chunk_size=1, beta=beta)
        tac_linear(SPIKES, WEIGHT[:, 0, 0], chunk_size=1, synapse_decay=beta)
    assert not known._known


def test_few_are_remembered_and_nobody_s_arrays() -> None:
    """Bounded, and without a reference to what a caller gave."""
    for T in range(1, known.MOST + 40):
        tac_linear(np.ones((T, 1, 2), np.float32), np.ones((1, 2), np.float32), chunk_size=1)
    assert 0 < len(known._known) <= known.MOST
    x, w = np.ones((3, 1, 2), np.float32), np.ones((1, 2), np.float32)
    gone: list[Any] = [weakref.ref(x), weakref.ref(w)]
    tac_linear(x, w, chunk_size=1)
    del x, w
    gc.collect()
    assert all(ref() is None for ref in gone)
