"""Reproducible mode: the same bits everywhere, by the documented rule, and an error where that can't be."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tacops import Grid, SpikeTrain, conv_lif, lif, tac_conv, tac_linear
from tacops.backends import Backend, get_backend
from tacops.testing import run_checks
from tacops.testing._cases import Case, inputs_of
from tacops.testing._host import assert_train
from tests import make_golden
from tests.cases import as_numpy, to_backend

Array = NDArray[Any]


def run(backend: Backend, *arrays: Array, function: Callable[..., Any] = tac_conv, **options: Any) -> SpikeTrain:
    """Call in reproducible mode, and bring the answer to the host."""
    given = {"reproducible": True, **{name: to_backend(backend, value) for name, value in options.items()}}
    return as_numpy(backend, function(*(to_backend(backend, a) for a in arrays), **given))


def layer(
    seed: int = 0,
    *,
    steps: int = 6,
    batch: int = 3,
    size: int = 8,
    c_in: int = 8,
    c_out: int = 8,
    dtype: str = "float32",
) -> tuple[Array, Array, Array]:
    """Binary spikes and Gaussian weights and biases."""
    rng = np.random.default_rng(seed)
    x = (rng.random((steps, batch, size, size, c_in)) < 0.3).astype(dtype)
    w = (rng.normal(0.1, 1.0, (c_out, 3, 3, c_in)) / np.sqrt(4 * c_in)).astype(dtype)
    return x, w, rng.normal(0.0, 0.1, c_out).astype(dtype)


# The rule, against the independent simulation


def fraction(value: float) -> Fraction:
    """The float32 nearest to a number."""
    return Fraction(float(np.float32(value)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Layers of every kind."""
    size = draw(st.integers(1, 7))
    steps = draw(st.integers(1, 7))
    linear = draw(st.booleans())
    channels = draw(st.sampled_from([1, 4]))
    options: dict[str, Any] = {
        "chunk_size": size,
        "mode": draw(st.sampled_from(["collapse", "preserve"])),
        "reset": draw(st.sampled_from(["subtract", "zero", "none"])),
        "beta": draw(st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]) | st.floats(0, 1)),
        "threshold": draw(st.floats(0.2, 3.0)),
        "aggregation": draw(st.sampled_from(["decay", "normalized_decay", "sum", "mean", None])),
        "reproducible": Grid(weight_bits=draw(st.integers(5, 12)), aggregation_bits=draw(st.integers(3, 8))),
    }
    if draw(st.booleans()):
        options["aggregation"] = tuple(float(fraction(draw(st.floats(-1, 1.5)))) for _ in range(size))
    if draw(st.booleans()):
        options["beta"] = tuple(float(fraction(draw(st.floats(0, 1)))) for _ in range(channels))
        options["threshold"] = tuple(float(fraction(draw(st.floats(0.2, 3.0)))) for _ in range(channels))
    shape: dict[str, Any] = {"spikes": (steps, 2, 9), "weight": (channels, 9)}
    if not linear:
        shape = {"spikes": (steps, 2, 4, 3, 2), "weight": (channels, 2, 2, 2)}
        options["padding"] = draw(st.integers(0, 1))
    more: dict[str, Any] = {"bias": draw(st.booleans()), "membrane": draw(st.booleans())}
    values = draw(st.sampled_from(["any", "coarse", "wide"]))
    name = f"seed-{draw(st.integers(0, 10**6))}"
    return Case(name, "tac_linear" if linear else "tac_conv", **shape, options=options, values=values, **more)


def arguments(case: Case) -> tuple[list[Array], dict[str, Any]]:
    """Host arrays of a case, and its options."""
    arrays = {
        name: np.array([float(v) for v in values], case.dtype).reshape(shape)
        for name, (shape, values) in inputs_of(case).items()
    }
    positional = [arrays.pop(key) for key in ("current", "spikes", "weight", "bias") if key in arrays]
    return positional, {**case.options, **arrays}


def simulated(case: Case) -> SpikeTrain:
    """What the independent simulation says."""
    spikes, membrane = make_golden.simulate(case, inputs_of(case))
    shape = (case.spikes[1], *case.space(), case.channels)
    last = np.array([float(v) for v in membrane]).astype(case.dtype).reshape(shape)
    return SpikeTrain(np.array(spikes, case.dtype).reshape(-1, *shape), last)


def follows_the_rule(backend: Backend, case: Case) -> None:
    arrays, options = arguments(case)
    function: Any = {"tac_conv": tac_conv, "tac_linear": tac_linear, "lif": lif}[case.function]
    assert_train(case.name, run(backend, *arrays, function=function, **options), simulated(case))


@given(case=cases())
def test_follows_the_documented_rule(need: Callable[[str], Backend], case: Case) -> None:
    """Any layer, on the libraries that need no compiling: what integers give, bit for bit."""
    for name in ("numpy", "array_api", "mlx", "torch"):
        try:
            backend = need(name)
        except pytest.skip.Exception:
            continue
        follows_the_rule(backend, case)


@settings(max_examples=5)
@given(case=cases())
def test_jax_follows_the_documented_rule(need: Callable[[str], Backend], case: Case) -> None:
    """The same where every layer is compiled anew."""
    follows_the_rule(need("jax"), case)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9, 1.0])
def test_neurons_alone(beta: float, dtype: str) -> None:
    """`lif` follows its rule, float64 too."""
    options = {"beta": beta, "threshold": 0.7, "reproducible": Grid(threshold_bits=9)}
    follows_the_rule(get_backend("numpy"), Case("alone", "lif", (9, 2, 5), (), options, membrane=True, dtype=dtype))


# The same everywhere: shapes and numbers that libraries would otherwise treat differently


def _hard_cases() -> dict[str, tuple[tuple[Array, ...], dict[str, Any]]]:
    x, w, b = layer(2, size=5, c_in=4, c_out=4)
    zero, uneven, nearly = w.copy(), w.copy(), w.copy()
    zero[1] = 0
    faint = np.where(np.arange(4).reshape(-1, 1, 1, 1) == 2, np.float32(1e-20), np.float32(1)) * w
    uneven *= np.float32([1e-3, 1, 1e3, 1e-5]).reshape(-1, 1, 1, 1)  # type: ignore[arg-type]
    # half units and their neighbours, where rounding to even and rounding up part
    nearly = ((np.round(nearly * 1024) + 0.5) / 1024).astype(np.float32)
    big = layer(1, batch=4, size=12, c_in=32, c_out=32, steps=8)
    last = np.float32([1.0, 0.0, 0.9999999, 1e-6])  # type: ignore[arg-type]
    return {
        "collapse": (big, {"chunk_size": 4, "padding": 1}),
        "preserve": (big, {"chunk_size": 3, "mode": "preserve", "padding": 1}),
        "integrate-unbounded": (big, {"chunk_size": 1, "beta": 1.0, "reset": "none"}),
        "many-frames": ((x[np.arange(70) % 6], w, b), {"chunk_size": 64}),
        "huge": ((x, w * np.float32(2.0**30), b * np.float32(2.0**30)), {"chunk_size": 2, "threshold": 2.0**30}),
        "tiny": ((x, w * np.float32(2.0**-20), b * np.float32(2.0**-20)), {"chunk_size": 2, "threshold": 2.0**-20}),
        "zero-channel": ((x, zero, b), {"chunk_size": 2}),
        "uneven-channels": ((x, uneven), {"chunk_size": 2}),
        "faint-channel": ((x, faint), {"chunk_size": 2}),
        "half-units": ((x, nearly), {"chunk_size": 2, "threshold": 0.70001}),
        "decays": ((x, w, b), {"chunk_size": 3, "beta": last, "reset": "none"}),
        "threshold-of-any-size": ((x, w, b), {"chunk_size": 2, "threshold": last * np.float32(1e4) + np.float32(1e-3)}),
        "negative-inputs": ((-x, w, b), {"chunk_size": 2}),
        "no-aggregation-at-all": ((x, w, b), {"chunk_size": 3, "aggregation": np.zeros(3, np.float32)}),
        "counts": (((255 * x).astype(np.uint8), w), {"chunk_size": 2, "reproducible": Grid(input_max=300)}),
    }


HARD = _hard_cases()


@pytest.mark.parametrize("name", HARD)
def test_hard_cases_agree_with_numpy(backend: Backend, name: str) -> None:
    """Large and ill-scaled layers, ties of the rounding itself, bounds of the parameters."""
    arrays, options = HARD[name]
    assert_train(name, run(backend, *arrays, **options), run(get_backend("numpy"), *arrays, **options))


def test_wide_fan_in(backend: Backend) -> None:
    """Above 2^24 / 2^11 inputs the rule's sums are replaced by a bound."""
    rng = np.random.default_rng(3)
    x = (rng.random((4, 2, 9000)) < 0.5).astype(np.float32)
    w = (rng.normal(size=(3, 9000)) / 50).astype(np.float32)
    options: dict[str, Any] = {"function": tac_linear, "chunk_size": 2}
    got = run(backend, x, w, **options)
    assert_train("fan-in 9000", got, run(get_backend("numpy"), x, w, **options))
    backwards = run(backend, x[..., ::-1].copy(), w[..., ::-1].copy(), **options)
    assert_train("summed backwards", backwards, got)


@pytest.mark.parametrize("mode", ["collapse", "preserve"])
def test_compiled_agrees(need: Callable[[str], Backend], mode: str) -> None:
    """jax.jit and mx.compile, with every parameter traced."""
    x, w, b = layer(4, c_in=16, c_out=16)
    beta, threshold = np.linspace(0.2, 1, 16, dtype=np.float32), np.linspace(0.3, 2, 16, dtype=np.float32)
    options: dict[str, Any] = {"chunk_size": 4, "mode": mode, "padding": 1}
    want = run(get_backend("numpy"), x, w, b, beta=beta, threshold=threshold, **options)
    for name in ("jax", "mlx"):
        try:
            backend = need(name)
        except pytest.skip.Exception:
            continue

        def function(x: Any, w: Any, b: Any, beta: Any, threshold: Any) -> tuple[Any, Any]:
            train = tac_conv(x, w, b, beta=beta, threshold=threshold, reproducible=True, **options)
            return train.spikes, train.membrane

        given = [backend.from_numpy(a) for a in (x, w, b, beta, threshold)]
        got = SpikeTrain(*backend.compile(function)(*given))
        assert_train(f"{name}, compiled", as_numpy(backend, got), want)


def test_float64_agrees(need: Callable[[str], Backend]) -> None:
    """Where a library keeps float64."""
    arrays = layer(5, dtype="float64")
    want = run(get_backend("numpy"), *arrays, chunk_size=4)
    assert want.membrane.dtype == np.float64
    for name in ("array_api", "torch"):
        try:
            backend = need(name)
        except pytest.skip.Exception:
            continue
        assert_train(name, run(backend, *arrays, chunk_size=4), want)


# No dependence on what should not matter


@pytest.mark.parametrize("mode", ["collapse", "preserve"])
def test_numpy_memory_layouts(mode: str) -> None:
    """Fortran order, read-only, backwards, every other element, not aligned: the same bits."""
    arrays = layer(6)
    options = {"chunk_size": 4, "mode": mode, "padding": 1, "reproducible": True}
    want = tac_conv(*arrays, **options)  # type: ignore[arg-type]

    def backwards(a: Array) -> Array:
        flip = (slice(None, None, -1),) * a.ndim
        return np.ascontiguousarray(a[flip])[flip]

    def strided(a: Array) -> Array:
        return np.repeat(a, 2, axis=-1)[..., ::2]

    def read_only(a: Array) -> Array:
        a = a.copy()
        a.flags.writeable = False
        return a

    def unaligned(a: Array) -> Array:
        raw = np.zeros(a.nbytes + 1, np.uint8)[1:]
        raw[...] = np.frombuffer(a.tobytes(), np.uint8)
        return raw.view(a.dtype).reshape(a.shape)

    for change in (np.asfortranarray, backwards, strided, read_only, unaligned):
        assert_train(change.__name__, tac_conv(*map(change, arrays), **options), want)  # type: ignore[arg-type]


def test_tiles_do_not_matter(backend: Backend) -> None:
    """One sample or sixteen, whole or cut in four, in any order."""
    x, w, b = layer(7, batch=16, size=6)
    whole = run(backend, x, w, b, chunk_size=2)
    order = np.random.default_rng(0).permutation(16)
    moved = run(backend, x[:, order], w, b, chunk_size=2)
    assert_train("permuted", moved, SpikeTrain(whole.spikes[:, order], whole.membrane[order]))
    parts = [run(backend, x[:, n : n + 4], w, b, chunk_size=2) for n in range(0, 16, 4)]
    joined = SpikeTrain(
        np.concatenate([p.spikes for p in parts], axis=1), np.concatenate([p.membrane for p in parts], axis=0)
    )
    assert_train("in four parts", joined, whole)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_threads_do_not_matter(need: Callable[[str], Backend], name: str) -> None:
    """One thread, or as many as there are, of BLAS and of the library's own."""
    from threadpoolctl import threadpool_limits

    backend, arrays = need(name), layer(13, batch=8, size=12, c_in=16, c_out=16)
    want = run(backend, *arrays, chunk_size=2)
    with threadpool_limits(1):
        assert_train("one thread", run(backend, *arrays, chunk_size=2), want)


@given(cut=st.integers(1, 4), size=st.integers(1, 4), mode=st.sampled_from(["collapse", "preserve"]))
def test_streaming(cut: int, size: int, mode: str) -> None:
    """Cut at any chunk's end, with the membrane passed on as a potential."""
    x, w, b = layer(8, steps=11, size=5)
    options: dict[str, Any] = {"chunk_size": size, "mode": mode, "reset": "zero"}
    backend = get_backend("numpy")
    at = min(cut * size, 10 - 10 % size)
    whole, head = run(backend, x, w, b, **options), run(backend, x[:at], w, b, **options)
    tail = run(backend, x[at:], w, b, membrane=head.membrane, **options)
    assert_train("in two calls", SpikeTrain(np.concatenate([head.spikes, tail.spikes]), tail.membrane), whole)


# Exactness, by construction


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 16),
    scale=st.floats(-6, 6),
    bits=st.integers(4, 20),
    aggregation=st.sampled_from(["decay", "normalized_decay", "sum", "mean"]),
    top=st.sampled_from([1, 15, 255]),
)
def test_no_sum_reaches_the_limit(seed: int, size: int, scale: float, bits: int, aggregation: str, top: int) -> None:
    """What is handed to the convolution: integers, whose largest possible sum, bias included, is below 2^24."""
    rng = np.random.default_rng(seed)
    w = (rng.normal(size=(4, 12)) * 10**scale).astype(np.float32)
    b = (rng.normal(size=4) * 10**scale).astype(np.float32)
    seen: list[tuple[Array, Array, Array]] = []

    class Spy(type(get_backend("array_api"))):  # type: ignore[misc]
        def conv(self, x: Any, weight: Any, bias: Any, window: Any, *, exact: bool) -> Any:
            assert exact
            seen.append(tuple(self.to_numpy(a).astype(np.float64) for a in (x, weight, bias)))
            return super().conv(x, weight, bias, window, exact=exact)

    from tacops.testing._host import dispatched_to

    spy = Spy()
    grid = Grid(weight_bits=bits, input_max=top)
    full = np.full((size, 1, 12), top, np.float32)
    options = {"chunk_size": size, "aggregation": aggregation, "threshold": 10.0**scale, "reproducible": grid}
    with dispatched_to(spy):
        try:
            tac_linear(*(spy.from_numpy(a) for a in (full, w, b)), **options)
        except ValueError as error:
            assert "too far apart" in str(error)  # noqa: PT017 (a grid may be too coarse)
            return
    [(frames, weight, bias)] = seen
    for array in (frames, weight, bias):
        assert np.array_equal(array, np.round(array))
    worst = np.sum(np.abs(weight), axis=1) * np.max(frames) + np.abs(bias)
    assert np.all(worst < 2**24)
    assert np.max(np.abs(weight)) <= 2**bits


@pytest.mark.parametrize("bits", [8, 11])
def test_error_of_the_rounding_is_bounded(bits: int) -> None:
    """A membrane without resets is as far from the default path as half units, summed up, allow."""
    x, w, b = layer(9, steps=32)
    beta = 0.9
    plain = tac_conv(x, w, b, chunk_size=1, beta=beta, reset="none")
    grid = Grid(weight_bits=bits)
    rounded = tac_conv(x, w, b, chunk_size=1, beta=beta, reset="none", reproducible=grid)
    unit = np.array([unit_of(rounded.membrane[..., c]) for c in range(w.shape[0])])
    widest = np.max(np.abs(w), axis=(1, 2, 3))
    assert np.all(unit >= widest / 2**bits)  # the rule: so many bits, no more
    # one half unit for every input that can be active, one for the bias, one for the decay, in every step
    bound = 0.5 * unit * (w[0].size + 2) / (1 - beta)
    error = np.max(np.abs(rounded.membrane - plain.membrane), axis=(0, 1, 2))
    assert np.all(error <= bound)
    assert np.all(error > 0)


def unit_of(potentials: Array) -> float:
    """The largest power of two that divides all numbers."""
    exponent = 40
    while not np.array_equal(potentials * 2.0**-exponent, np.round(potentials * 2.0**-exponent)):
        exponent -= 1
    return 2.0**exponent


def test_eleven_bits_survive_tf32_and_winograd() -> None:
    """Why the default is 11 bits: rounded weights have no more than a TF32 operand holds."""
    x, w, _ = layer(10, c_in=64, c_out=4)
    membrane = tac_conv(x[:1], w, chunk_size=1, reset="none", reproducible=True).membrane
    units = np.max(np.abs(w), axis=(1, 2, 3)) / np.array([unit_of(membrane[..., c]) for c in range(4)])
    assert np.all(units <= 2**11)


# What can't be exact is refused


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"x": 2.0}, {}, "spikes must be multiples of 1.0 between -1.0 and 1.0"),
        ({"x": 0.5}, {}, "spikes must be multiples of 1.0"),
        ({"x": float("nan")}, {}, "spikes must be multiples of 1.0"),
        ({"x": 16.0}, {"reproducible": Grid(input_max=15)}, "between -15 and 15"),
        ({"x": 0.25}, {"reproducible": Grid(input_step=0.5)}, "multiples of 0.5"),
        ({"w": 1e30}, {}, "too far apart"),
        ({"w": 1e-30}, {}, "too far apart"),
        ({"w": float("nan")}, {}, "too far apart"),
        ({"b": 1e9}, {}, "too far apart"),
        ({"b": float("inf")}, {}, "too far apart"),
        ({}, {"threshold": 1e-9}, "too far apart"),
        ({}, {"reproducible": Grid(input_max=1e6)}, "too far apart"),
        ({}, {"aggregation": np.full(2, 1e6, np.float32)}, "too far apart"),
    ],
)
def test_refusals(backend: Backend, change: dict[str, float], options: dict[str, Any], message: str) -> None:
    """Inputs off the grid and numbers too far apart for one: an error that names the argument and the remedy."""
    arrays = dict(zip("xwb", layer(11, size=4, c_in=2, c_out=2), strict=True))
    for name, factor in change.items():
        arrays[name] = (arrays[name] * np.float32(factor)).astype(np.float32)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message) as caught:
        run(backend, *arrays.values(), **{"chunk_size": 2, **options})
    assert "tac_conv: " in str(caught.value)


@pytest.mark.parametrize("options", [{"weight_bits": 3}, {"weight_bits": 2.5}, {"input_step": 0.3}, {"input_max": 0}])
def test_grids_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"Grid: {next(iter(options))} must be"):
        Grid(**options)


def test_half_precision_is_refused() -> None:
    """Its integers end at 2^11."""
    x, w, _ = (a.astype(np.float16) for a in layer())
    with pytest.raises(TypeError, match="weight must be float32 or float64 in reproducible mode"):
        tac_conv(x, w, chunk_size=2, reproducible=True)
    with pytest.raises(TypeError, match=r"reproducible must be True, False or a tacops\.Grid"):
        tac_conv(x, w, chunk_size=2, reproducible=1)  # type: ignore[arg-type]


def test_the_default_path_differs_where_this_one_does_not() -> None:
    """The reason for all this: another order of summation changes membranes on the default path alone."""
    x, w, b = layer(12, c_in=32)
    turn: tuple[Any, ...] = (..., slice(None, None, -1))
    for reproducible in (False, True):
        one = conv_lif(x, w, b, reproducible=reproducible)
        other = conv_lif(x[turn].copy(), w[turn].copy(), b, reproducible=reproducible)
        assert np.array_equal(one.membrane, other.membrane) == reproducible


def test_the_suite_looks_at_this_mode() -> None:
    """The bitwise tier has the cases that third parties rely on."""
    from tacops.testing import conformance_checks

    checks = [check for check in conformance_checks() if check.id.startswith("bitwise-reproducible")]
    assert len(checks) >= 35
    assert all(outcome.status == "passed" for outcome in run_checks(get_backend("numpy"), checks))
