"""More rules of tiers 1 and 4: each holds a mistake that was planted by hand and that nothing else found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import tacops

from .._backend.protocol import Array, Backend, Window
from .._core.train import SpikeTrain
from ._check import Check, NotApplicable
from ._golden import keeps_dtype
from ._host import assert_same, assert_train, native, np, on_host
from ._large import Numbers
from ._reference import Chunk, chunks, convolve, currents_of, draw, simulate

__all__ = ["more_checks"]

_TIERS: dict[str, int] = {"bitwise": 1, "behaviour": 4}
_RULES: dict[str, Callable[[Backend], str | None]] = {}
_RESETS = ("subtract", "zero", "none", "late")


def more_checks() -> Iterator[Check]:
    """Every rule of this file."""
    for name, rule in _RULES.items():
        yield Check(name, _TIERS[name.partition("-")[0]], rule)


def _rule(tier: str) -> Callable[[Callable[[Backend], str | None]], Callable[[Backend], str | None]]:
    def register(function: Callable[[Backend], str | None]) -> Callable[[Backend], str | None]:
        _RULES[f"{tier}-{function.__name__.strip('_').replace('_', '-')}"] = function
        return function

    return register


def _call(backend: Backend, function: str, *arrays: Array, **options: Any) -> Any:
    given = [native(backend, array) for array in arrays]
    return getattr(tacops, function)(*given, **native(backend, options))


# Tier 1


@_rule("bitwise")
def _large_neurons(backend: Backend) -> None:
    """Every reset, per channel and not, rounded: so many neurons that loops for many step them.

    And a number of channels that divides no power of two, in which such loops might write parameters out.
    """
    numbers, channels = Numbers("large-neurons"), np.arange(250)
    current = (numbers.whole((20, 66, 250), 160) - 60.0).astype(np.float32) / np.float32(64)
    start = (numbers.whole((66, 250), 200) - 60.0).astype(np.float32) / np.float32(64)
    each = np.array([0.5, 0.9, 0.25, 1.0], np.float32)[channels % 4], (1 + channels % 5 / 4).astype(np.float32)
    for reset, membrane, (beta, threshold) in (("subtract", None, (0.5, 1.0)), *((r, start, each) for r in _RESETS)):
        options: dict[str, Any] = {"beta": beta, "threshold": threshold, "reset": reset, "reproducible": True}
        got = on_host(backend, _call(backend, "lif", current, membrane=membrane, **options))
        assert_train(f"reset {reset}", got, _in_units(current, beta, threshold, reset, membrane))


def _in_units(current: Array, beta: Any, threshold: Any, reset: str = "subtract", membrane: Any = None) -> SpikeTrain:
    """`lif` in reproducible mode: the definition in integers."""
    threshold, decay = np.asarray(threshold, np.float32), np.asarray(beta, np.float32)
    per_one = 2.0 ** np.floor(np.log2(2.0**16 / threshold))  # the most for which a threshold is at most 2^16 units
    level, fired = np.round(threshold * per_one), []
    u = np.zeros(current.shape[1:]) if membrane is None else np.round(membrane * per_one)
    for i in np.round(current * per_one):
        v = np.round((decay * u.astype(np.float32)).astype(np.float64)) + i
        v = v - (u >= level) * level if reset == "late" else v
        spikes = v >= level
        u = {"subtract": v - spikes * level, "zero": np.where(spikes, 0.0, v)}.get(reset, v)
        fired.append(spikes)
    return SpikeTrain(np.stack(fired).astype(np.float32), (u / per_one).astype(np.float32))


@_rule("bitwise")
def _neurons_in_units(backend: Backend) -> None:
    """`lif` alone in reproducible mode, by thresholds that are no multiple of a unit: the definition in integers."""
    threshold, current = np.array([0.7, 0.3, 1.1], np.float32), draw("units-current", (12, 2, 3), 0.3, 0.2)
    got = _call(backend, "lif", current, beta=float(np.float32(0.9)), threshold=threshold, reproducible=True)
    assert_train("thresholds 0.7, 0.3 and 1.1", on_host(backend, got), _in_units(current, 0.9, threshold))


@_rule("bitwise")
def _single_frames(backend: Backend) -> None:
    """Chunks of one frame, all of them or the last, keep the weight that is given for it."""
    numbers = Numbers("single-frames")
    spikes = (numbers.whole((5, 3, 6), 8) < 4).astype(np.float32)
    weight = (numbers.whole((4, 6), 13) - 5.0).astype(np.float32) / np.float32(16)
    currents = spikes.astype(np.float64) @ weight.T
    four = [1.0, 0.25, -0.5, 0.5]
    for mode, given, grids in (
        ("collapse", [2.0], (False, True)),
        ("collapse", four, (True,)),
        ("preserve", four, (False,)),
    ):
        parts = chunks(currents, 0.0, len(given), mode=mode, aggregation=given, beta=0.5)
        fired, membrane, *_ = simulate(parts, 0.0, threshold=0.5, reset="subtract")
        want = SpikeTrain(fired.astype(np.float32), membrane.astype(np.float32))
        options: dict[str, Any] = {"chunk_size": len(given), "aggregation": np.array(given, np.float32)}
        options |= {"mode": mode, "beta": 0.5, "threshold": 0.5}
        for reproducible in grids:
            got = _call(backend, "tac_linear", spikes, weight, **options, reproducible=reproducible)
            assert_train(f"{mode}, aggregation {given}, reproducible={reproducible}", on_host(backend, got), want)


@_rule("bitwise")
def _float64_sums(backend: Backend) -> None:
    """Aggregation in float64 has weights of float64: 0.9 is not float32's."""
    if not keeps_dtype(backend, "float64"):
        raise NotApplicable(f"{backend.name} keeps no float64 here")
    spikes = (draw("float64-x", (7, 2, 6), 1.0) > 0.0).astype(np.float64)
    weight = draw("float64-w", (4, 6), 0.4).astype(np.float64)
    for mode, aggregation in (("collapse", "decay"), ("preserve", "normalized_decay"), ("collapse", "mean")):
        options: dict[str, Any] = {"mode": mode, "aggregation": aggregation, "beta": 0.9}
        parts = chunks(spikes @ weight.T, 0.0, 3, **options)
        want = simulate(parts, 0.0, threshold=1.0, reset="none")[1]
        got = _call(backend, "tac_linear", spikes, weight, chunk_size=3, reset="none", **options)
        error = float(np.max(np.abs(backend.to_numpy(got.membrane) - want)))
        if not error <= 1e-13:
            raise AssertionError(f"{mode}, {aggregation}: membrane off by {error:.2g}, as if computed in float32")


# Tier 4


@_rule("behaviour")
def _busy_threads(backend: Backend) -> None:
    """Threads that call one layer after the other, each with weights of its own, don't meet in any memory."""
    x = (draw("busy-x", (4, 2, 16, 16, 4), 1.0) > 0.0).astype(np.float32)
    weights = [draw(f"busy-{n}", (8, 3, 3, 4), 0.3, 0.05) for n in range(8)]
    options: dict[str, Any] = {"chunk_size": 1, "padding": 1, "reproducible": True}
    alone = [on_host(backend, _call(backend, "tac_conv", x, weight, **options)) for weight in weights]

    def work(n: int) -> None:
        given = native(backend, x), native(backend, weights[n])
        for _ in range(60):
            got = on_host(backend, tacops.tac_conv(*given, **options))
            assert_train(f"thread {n} of 8", got, alone[n])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


@_rule("behaviour")
def _windows_alike(backend: Backend) -> None:
    """Windows that differ in little, one after the other, with nothing kept of the last; under every setting."""
    for setting in (nullcontext, *backend.ambient().values()):
        for kernel, window in _WINDOWS if setting is nullcontext else _WINDOWS[:1]:
            x = np.round(draw("windows-x", (2, 7, 6, 3), 2.0))
            weight = np.round(draw("windows-w", (4, *kernel, 3), 2.0))
            want = convolve(x.astype(np.float64), weight.astype(np.float64), window).astype(np.float32)
            given = native(backend, x), native(backend, weight)
            with setting():
                got = backend.conv(*given, None, window, exact=True)
            assert_same(f"conv, kernel {kernel}, {window}", backend.to_numpy(got), want)


_SPLITS = (((1, 1), (0, 1)), ((2, 0), (1, 0)), ((0, 2), (0, 1)))
_WINDOWS = [
    ((3, 2), Window((1, 1), ((2, 2), (0, 1)), (2, 1), 1)),
    ((3, 2), Window((2, 1), ((2, 2), (0, 1)), (1, 2), 1)),
    *(((3, 2), Window((1, 1), padding, (1, 1), 1)) for padding in _SPLITS),
    *((kernel, Window((2, 3), ((1, 1), (0, 2)), (1, 1), 1)) for kernel in ((3, 1), (1, 1))),
    ((3, 1), Window((2, 3), ((1, 1), (0, 0)), (1, 1), 1)),
    ((1, 3), Window((2, 3), ((0, 0), (0, 2)), (1, 1), 1)),
    *(((3, 2), Window((1, 1), ((0, 0), (0, 0)), (1, dilation), 1)) for dilation in (1, 2)),
]


@_rule("behaviour")
def _lengths_everywhere(backend: Backend) -> None:
    """Samples of different length, from a given membrane, by every operator and in both layouts: each as defined, alone."""
    x, w = (draw("ends-x", (4, 3, 2, 5), 1.0) > 0.2).astype(np.float32), _sixteenths("ends-w", (4, 5), 0.5, 0.1)
    image, kernel = draw("ends-i", (4, 3, 2, 3, 4), 1.0) > 0.2, _sixteenths("ends-k", (3, 2, 2, 2), 0.4, 0.1)
    current = _sixteenths("ends-c", (4, 3, 2, 4), 0.6, 0.4)
    start, place = (_sixteenths("ends-u", shape, 0.4) for shape in ((3, 2, 4), (3, 3, 2, 3)))
    window = Window((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    seen = currents_of(image.transpose(0, 1, 3, 4, 2).astype(np.float64), kernel.transpose(0, 2, 3, 1), window)
    calls: list[tuple[str, list[Array], dict[str, Any], Array]] = [
        ("tac_linear", [x, w], {"membrane": start, "chunk_size": 2, "compact": True}, x.astype(np.float64) @ w.T),
        (
            "tac_conv",
            [image, kernel],
            {"membrane": place, "chunk_size": 2, "layout": "channels_first"},
            np.moveaxis(seen, -1, 2),
        ),
        ("lif", [current], {"membrane": start, "repeat": 2, "reset": "late"}, current.astype(np.float64)),
    ]
    ends = (3, 0, 3)
    for function, arrays, options, currents in calls:
        train = on_host(backend, _call(backend, function, *arrays, lengths=list(ends), beta=0.5, **options))
        for b, length in enumerate(ends):
            alone, u = currents[:length, b], options["membrane"][b].astype(np.float64)
            if function == "lif":
                parts = [Chunk(frame, 0.5, options["repeat"]) for frame in alone]
            else:
                parts = chunks(alone, 0.0, options["chunk_size"], mode="collapse", aggregation="decay", beta=0.5)
            own = SpikeTrain(train.spikes[:0, b], u.astype(np.float32))
            if parts:
                fired, after, *_ = simulate(parts, u, threshold=1.0, reset=options.get("reset", "subtract"))
                own = SpikeTrain(fired.astype(bool if options.get("compact") else np.float32), after.astype(np.float32))
            got = SpikeTrain(train.spikes[: len(own.spikes), b], train.membrane[b])
            assert_train(f"{function}, sample of {length} frames", got, own)
            if train.spikes[len(own.spikes) :, b].any():
                raise AssertionError(f"{function}, sample of {length} frames: spikes beyond its end")


def _sixteenths(seed: str, shape: tuple[int, ...], scale: float, mean: float = 0.0) -> Array:
    """Multiples of 1/16, of which few sums are rounded anywhere."""
    return np.round(16 * draw(seed, shape, scale, mean)) / np.float32(16)


@_rule("behaviour")
def _traces_everywhere(backend: Backend) -> None:
    """A trace has the layout of its spikes, whatever the operator, and ends in the membrane."""
    image, kernel = draw("trace-i", (3, 2, 2, 5, 4), 1.0) > 0.2, draw("trace-k", (3, 2, 2, 2), 0.4, 0.1)
    x, w = draw("trace-x", (3, 2, 4, 5), 1.0) > 0.2, draw("trace-w", (6, 5), 0.4)
    current = draw("trace-c", (3, 7), 0.5, 0.5)
    calls: list[tuple[str, list[Array], dict[str, Any]]] = [
        ("tac_conv", [image, kernel], {"chunk_size": 1, "layout": "channels_first"}),
        ("conv_lif", [image.transpose(0, 1, 3, 4, 2), kernel.transpose(0, 2, 3, 1)], {}),
        ("tac_linear", [x, w], {"chunk_size": 2, "mode": "preserve"}),
        ("lif", [current], {"repeat": 2}),
    ]
    for function, arrays, options in calls:
        arrays = [np.ascontiguousarray(array) for array in arrays]
        train = _call(backend, function, *arrays, trace=True, **options)
        spikes, trace = backend.to_numpy(train.spikes), backend.to_numpy(train.trace)
        if trace.shape != spikes.shape:
            raise AssertionError(f"{function}, {options}: trace has shape {trace.shape}, spikes {spikes.shape}")
        assert_same(f"{function}, {options}: last of trace", trace[-1], backend.to_numpy(train.membrane))


@_rule("behaviour")
def _errors_everywhere(backend: Backend) -> None:
    """Errors that another argument, or another operator, could let slip."""
    x, w = np.ones((2, 3, 4), np.float32), np.ones((5, 4), np.float32)
    turned = np.zeros((5, 3), np.float32)  # as many numbers as there should be
    calls: list[tuple[type[Exception], str, str, list[Array], dict[str, Any]]] = [
        (ValueError, "tac_linear", "membrane", [x, w], {"chunk_size": 1, "membrane": turned}),
        (ValueError, "lif", "membrane", [x], {"membrane": np.zeros((4, 3), np.float32)}),
        (ValueError, "tac_linear", "aggregation", [x, w], {"chunk_size": 2, "aggregation": np.ones(3, np.float32)}),
        (ValueError, "tac_linear", "lengths", [x, w], {"chunk_size": 1, "lengths": [1, 2, 3]}),
        (ValueError, "lif", "lengths", [x], {"lengths": [1, 2]}),
        (ValueError, "lif", "threshold", [x], {"threshold": 0.0}),
        (ValueError, "lif", "threshold", [x], {"threshold": float("nan")}),
        (ValueError, "lif", "beta", [x], {"beta": float("nan")}),
        (ValueError, "tac_linear", "synapse_decay", [x, w], {"chunk_size": 1, "synapse_decay": float("nan")}),
    ]
    if backend.differentiable:
        smooth = {"compact": True, "surrogate": tacops.surrogate.arctan()}
        calls += [(ValueError, "tac_linear", "compact", [x, w], {"chunk_size": 1, **smooth})]
        calls += [(ValueError, "lif", "compact", [x], smooth)]
    for kind, function, argument, arrays, options in calls:
        start = f"{function}: {argument}"
        try:
            _call(backend, function, *arrays, **options)
        except kind as error:
            if not str(error).startswith(start):
                raise AssertionError(f"the message must start with {start!r}; got {str(error)!r}") from error
            continue
        raise AssertionError(f"{start}: {options} must raise {kind.__name__}; nothing was raised")


@_rule("behaviour")
def _integers_off_the_grid(backend: Backend) -> None:
    """Counts and signs that the grid has no room for are seen in arrays of integers, too."""
    weight = draw("off-w", (4, 6), 0.4)
    for what, value, dtype in (
        ("a count of 2", 2, "uint8"),
        ("-2", -2, "int8"),
        ("70000", 70000, "int32"),
        ("65535", 65535, "uint16"),
        ("2^32 - 1", 2**32 - 1, "uint32"),
    ):
        spikes = np.zeros((3, 2, 6), dtype)
        spikes[1, 1, 2] = value
        try:
            train = on_host(backend, _call(backend, "tac_linear", spikes, weight, chunk_size=1, reproducible=True))
        except ValueError as error:
            if "reproducible" not in str(error):
                raise AssertionError(f"{what}: unclear message {error}") from error
            continue
        if not (np.all(np.isnan(train.spikes)) and np.all(np.isnan(train.membrane))):
            raise AssertionError(f"{what} in {dtype}: off the grid, yet neither an error nor NaN")
