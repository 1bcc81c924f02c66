"""Tier 4, behaviour: what a call may and may not do beside computing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tacops

from .._backend.protocol import Array, Backend
from .._core.train import SpikeTrain
from ._check import Check, NotApplicable
from ._contract import CONTRACT
from ._golden import arguments_of, call, keeps_dtype
from ._helpers import HELPERS
from ._host import assert_same, assert_train, native, np, on_host
from ._interplay import INTERPLAY
from ._reference import draw
from ._sequences import SEQUENCES

__all__ = ["behaviour_checks"]

_RULES: dict[str, Callable[[Backend], str | None]] = {}


def behaviour_checks() -> Iterator[Check]:
    """The backend's contract, and all rules of this file."""
    contract = {
        function.__name__.replace("_", "-"): function for function in (*CONTRACT, *SEQUENCES, *INTERPLAY, *HELPERS)
    }
    for name, rule in (contract | _RULES).items():
        yield Check(f"behaviour-{name}", 4, rule)


def _rule(function: Callable[[Backend], str | None]) -> Callable[[Backend], str | None]:
    _RULES[function.__name__.strip("_").replace("_", "-")] = function
    return function


def _layer(steps: int = 6, batch: int = 4) -> list[Array]:
    """Spikes, arbitrary weights and a bias; neurons fire."""
    spikes = (draw("behaviour-x", (steps, batch, 6, 5, 3), 1.0) > 0.4).astype(np.float32)
    return [spikes, draw("behaviour-w", (4, 3, 3, 3), 0.4, 0.08), draw("behaviour-b", (4,), 0.1)]


_OPTIONS: dict[str, Any] = {"chunk_size": 2, "padding": 1, "beta": 0.9}


def _run(backend: Backend, arrays: list[Array], **options: Any) -> SpikeTrain:
    train = tacops.tac_conv(*(native(backend, a) for a in arrays), **{**_OPTIONS, **native(backend, options)})
    return on_host(backend, train)


# Calls


@_rule
def _results(backend: Backend) -> None:
    """Type, shape and device of results."""
    arrays = [native(backend, array) for array in _layer()]
    for mode, frames in (("collapse", 3), ("preserve", 6)):
        train = tacops.tac_conv(*arrays, **{**_OPTIONS, "mode": mode})
        for name, shape in (("spikes", (frames, 4, 6, 5, 4)), ("membrane", (4, 6, 5, 4))):
            array = getattr(train, name)
            if not backend.owns(array):
                raise AssertionError(f"{mode}: {name} is a {type(array).__module__}.{type(array).__qualname__}")
            if tuple(array.shape) != shape:
                raise AssertionError(f"{mode}: {name} has shape {tuple(array.shape)}, must be {shape}")
            if array.dtype != arrays[1].dtype:
                raise AssertionError(f"{mode}: {name} has dtype {array.dtype}, must be {arrays[1].dtype}")
            if backend.device_of(array) != backend.device_of(arrays[1]):
                raise AssertionError(f"{mode}: {name} is on {backend.device_of(array)}")
        values = backend.to_numpy(train.spikes)
        if set(np.unique(values).tolist()) != {0.0, 1.0}:
            raise AssertionError(f"{mode}: spikes hold {np.unique(values).tolist()}, must be 0 and 1")


@_rule
def _float64(backend: Backend) -> None:
    """float64 in, float64 out."""
    if not keeps_dtype(backend, "float64"):
        raise NotApplicable(f"{backend.name} keeps no float64 here")
    train = _run(backend, [array.astype(np.float64) for array in _layer()])
    if (train.spikes.dtype, train.membrane.dtype) != (np.float64, np.float64):
        raise AssertionError(f"dtypes {train.spikes.dtype} and {train.membrane.dtype}, must be float64")


@_rule
def _input_types(backend: Backend) -> None:
    """bool, integer and floating spikes give one answer."""
    spikes, *rest = _layer()
    for reproducible, dtypes in ((False, ["int32"]), (True, ["bool", "uint8", "int8", "int32"])):
        want = _run(backend, [spikes, *rest], reproducible=reproducible)
        for dtype in dtypes:  # tier 1 has the others on the default path
            got = _run(backend, [spikes.astype(dtype), *rest], reproducible=reproducible)
            assert_train(f"{dtype} spikes, reproducible={reproducible}", got, want)


@_rule
def _inputs_unchanged(backend: Backend) -> None:
    """No argument is written to."""
    start = draw("behaviour-u", (4, 6, 5, 4), 0.3)
    arrays = [*_layer(), start, np.linspace(0.5, 1, 4, dtype=np.float32)]
    given = [native(backend, array) for array in arrays]
    for mode in ("collapse", "preserve"):
        for reproducible in (False, True):
            more = {"mode": mode, "reproducible": reproducible, "beta": given[4], "threshold": given[4]}
            train = tacops.tac_conv(*given[:3], membrane=given[3], **{**_OPTIONS, **more})
            on_host(backend, train)
            for name, array, before in zip(
                ("spikes", "weight", "bias", "membrane", "beta"), given, arrays, strict=True
            ):
                assert_same(f"{name} after a call ({mode})", backend.to_numpy(array), before)


@_rule
def _same_twice(backend: Backend) -> None:
    """A call leaves nothing behind that changes the next, of another shape or the same."""
    first = _run(backend, _layer(), reproducible=True)
    spikes, weight, bias = _layer()
    _run(backend, [spikes[:3, :1], weight[:2], bias[:2]], reproducible=True)
    assert_train("a second call", _run(backend, _layer(), reproducible=True), first)


@_rule
def _streaming(backend: Backend) -> None:
    """Cut at a chunk's end and continued from the membrane, a simulation gives what it gives in one call."""
    spikes, weight, bias = _layer(steps=7)
    for mode in ("collapse", "preserve"):
        options = {"mode": mode, "reproducible": True}
        whole = _run(backend, [spikes, weight, bias], **options)
        head = _run(backend, [spikes[:4], weight, bias], **options)
        tail = _run(backend, [spikes[4:], weight, bias], membrane=head.membrane, **options)
        joined = SpikeTrain(np.concatenate([head.spikes, tail.spikes]), tail.membrane)
        assert_train(f"{mode}, in two calls", joined, whole)


@_rule
def _batch(backend: Backend) -> None:
    """No sample depends on its batch: neither on the other samples, nor on their number or order."""
    spikes, weight, bias = _layer()
    for mode in ("collapse", "preserve"):
        options = {"mode": mode, "reproducible": True}
        whole = _run(backend, [spikes, weight, bias], **options)
        order = [2, 0, 3, 1]
        moved = _run(backend, [spikes[:, order], weight, bias], **options)
        assert_train(f"{mode}, permuted batch", moved, SpikeTrain(whole.spikes[:, order], whole.membrane[order]))
        alone = _run(backend, [spikes[:, 1:2], weight, bias], **options)
        assert_train(f"{mode}, one sample alone", alone, SpikeTrain(whole.spikes[:, 1:2], whole.membrane[1:2]))


@_rule
def _memory_layout(backend: Backend) -> None:
    """Inputs that are views: permuted axes, every other sample."""
    spikes, weight, bias = _layer()
    want = _run(backend, [spikes, weight, bias], reproducible=True)
    given = [native(backend, array) for array in (spikes, weight, bias)]
    xp = backend.namespace(given[0])
    back = (4, 3, 2, 1, 0)
    permuted = xp.permute_dims(native(backend, np.ascontiguousarray(spikes.transpose(back))), back)
    kernel = xp.permute_dims(native(backend, np.ascontiguousarray(weight.transpose(3, 0, 2, 1))), (1, 3, 2, 0))
    twice = native(backend, np.repeat(spikes, 2, axis=1))[:, ::2, ...]
    for what, x, w in (("permuted axes", permuted, kernel), ("every other sample", twice, given[1])):
        train = tacops.tac_conv(x, w, given[2], reproducible=True, **_OPTIONS)
        assert_train(what, on_host(backend, train), want)


@_rule
def _threads(backend: Backend) -> None:
    """Four threads at once, each with arrays of its own, get what one alone gets."""
    names = (
        "reproducible-collapse-subtract",
        "reproducible-preserve-mean",
        "reproducible-conv-lif",
        "reproducible-groups",
    )
    alone = {name: call(backend, name) for name in names}

    def work(n: int) -> list[tuple[str, SpikeTrain]]:
        return [(name, call(backend, name)) for name in (*names[n:], *names[:n])]

    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(work, range(4)):
            for name, got in answers:
                assert_train(f"{name}, in a thread", got, alone[name])


@_rule
def _ambient_settings(backend: Backend) -> str:
    """Reproducible mode gives the same bits under every setting of the library that the backend names."""
    settings = backend.ambient()
    if not settings:
        raise NotApplicable(f"{backend.name} names no settings")
    spikes = draw("ambient-x", (3, 16, 12, 12, 8), 1.0) > 0.4
    arrays = [spikes, draw("ambient-w", (16, 3, 3, 8), 0.2, 0.02), draw("ambient-b", (16,), 0.1)]
    want = _run(backend, arrays, reproducible=True)
    for name, setting in settings.items():
        with setting():
            got = _run(backend, arrays, reproducible=True)
        assert_train(name, got, want)
    return ", ".join(settings)


@_rule
def _other_devices(backend: Backend) -> str:
    """What the first device computes, every other one does, and results stay there."""
    first, *others = backend.devices() or ("",)
    others = [name for name in others if name != backend.device and name.partition(":")[0] != first.partition(":")[0]]
    if not others:
        raise NotApplicable(f"{backend.name} has one kind of device here")
    arrays = _layer()
    want = _run(backend, arrays, reproducible=True)
    try:
        for name in others:
            placed = backend.on(name)
            given = [placed.from_numpy(array) for array in arrays]
            train = tacops.tac_conv(*given, **_OPTIONS, reproducible=True)
            there = placed.device_name(given[0])
            if placed.device_name(train.spikes) != there:
                raise AssertionError(f"{name}: spikes are on {placed.device_name(train.spikes)}, must be on {there}")
            assert_train(name, on_host(placed, train), want)
    finally:
        backend.on(backend.device or first)  # where that is a setting of the process
    return ", ".join(others)


# Errors


@_rule
def _errors(backend: Backend) -> None:
    """Wrong arguments are refused before any work, by function and argument."""
    spikes, weight, bias = (native(backend, array) for array in _layer())
    narrow = native(backend, np.zeros((6, 4, 6, 5, 2), np.float32))
    wrong: list[tuple[type[Exception], str, list[Any], dict[str, Any]]] = [
        (ValueError, "chunk_size", [spikes, weight], {"chunk_size": 0}),
        (TypeError, "chunk_size", [spikes, weight], {"chunk_size": 1.5}),
        (ValueError, "mode", [spikes, weight], {"mode": "skip"}),
        (ValueError, "reset", [spikes, weight], {"reset": "hard"}),
        (ValueError, "beta", [spikes, weight], {"beta": 1.5}),
        (ValueError, "threshold", [spikes, weight], {"threshold": 0.0}),
        (ValueError, "spikes", [narrow, weight], {}),
        (ValueError, "bias", [spikes, weight, native(backend, np.zeros(3, np.float32))], {}),
        (ValueError, "membrane", [spikes, weight, bias], {"membrane": native(backend, np.zeros((4, 4), np.float32))}),
        (TypeError, "weight", [spikes, native(backend, np.ones((4, 3, 3, 3), np.int32))], {}),
        (TypeError, "weight", [spikes, [[1.0]]], {}),
        (ValueError, "padding", [spikes, weight], {"padding": -1}),
    ]
    for kind, argument, arrays, options in wrong:
        _refused(kind, f"tac_conv: {argument}", arrays, {**_OPTIONS, **options})


def _refused(kind: type[Exception], start: str, arrays: list[Any], options: dict[str, Any]) -> None:
    try:
        tacops.tac_conv(*arrays, **options)
    except kind as error:
        if not str(error).startswith(start):
            raise AssertionError(f"the message must start with {start!r}; got {str(error)!r}") from error
        return
    raise AssertionError(f"{start}: {options} must raise {kind.__name__}; nothing was raised")


@_rule
def _off_the_grid(backend: Backend) -> str:
    """What reproducible mode can't hold exactly is an error; where values can't be read in time, every result is NaN."""
    spikes, weight, bias = _layer()
    coarse = weight.copy()
    coarse[0] *= np.float32(2.0**-60)
    remark = ""
    for what, arrays in (
        ("counts", [2 * spikes, weight]),
        ("halves", [spikes / 2, weight]),
        ("coarse", [spikes, coarse, bias]),
    ):
        given = [native(backend, array.astype(np.float32)) for array in arrays]
        try:
            train = on_host(backend, tacops.tac_conv(*given, reproducible=True, **_OPTIONS))
        except ValueError as error:
            if "reproducible" not in str(error):
                raise AssertionError(f"{what}: unclear message {error}") from error
            continue
        remark = "values are not read here: NaN"
        if not (np.all(np.isnan(train.spikes)) and np.all(np.isnan(train.membrane))):
            raise AssertionError(f"{what}: off the grid, yet neither an error nor NaN")
    return remark


@_rule
def _off_the_grid_compiled(backend: Backend) -> None:
    """Inside a compiled function no error can be raised: every result is NaN."""
    if not backend.compiles_fast:
        raise NotApplicable(f"{backend.name} compiles slowly or not at all")
    (spikes, weight), options = arguments_of("reproducible-bool")
    spikes = 2 * spikes.astype(np.float32)
    for compact in (False, True):
        compiled = backend.compile(lambda x, w, c=compact: tuple(tacops.tac_conv(x, w, compact=c, **options)))
        train = on_host(backend, SpikeTrain(*compiled(native(backend, spikes), native(backend, weight))))
        share = [
            float(np.mean(np.isnan(array))) for array in (train.membrane, *((train.spikes,) if not compact else ()))
        ]
        if not all(math.isclose(s, 1.0) for s in share):
            raise AssertionError(f"compiled, off the grid, compact={compact}: shares of NaN {share}, must be 1")
