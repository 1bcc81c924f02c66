"""Arrays of networks: the libraries agree, with each other and with a smooth network that is differentiated by numbers.

That reference is NumPy in double precision and shares no code with the operators. Where an operator with surrogate g fires
s = [x >= 0] at the excess x = v - threshold, it fires s0 + G(x) - G(x0): G is an antiderivative of g, x0 and s0 are excess
and spike of the unperturbed network. There it equals the spiking network, and it is smooth: complex steps differentiate it
to rounding, central differences nearly so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tacops
from tacops import surrogate
from tacops.backends import Backend, Window
from tacops.testing._reference import chunks, convolve
from tests.operators.test_transforms import DIFFERENTIABLE

Numbers = NDArray[Any]
Arrays = dict[str, Numbers]
Need = Callable[[str], Backend]
Smooth = Callable[[Numbers], Numbers]

MARGIN = 2e-3
"""No excess comes closer to 0, so every precision fires the same spikes, nor to the triangle's ends, which are not smooth."""
TRIANGLE = 0.8
"""Slope: the ends are at 1 / 0.8."""
RESETS = ["subtract", "zero", "none", "late"]
PADDING = ((1, 0), (0, 0))
EXACT = {"function": "conv_lif", "padding": PADDING}
COLLAPSE = {"function": "tac_conv", "padding": PADDING, "chunk_size": 2}
PRESERVE = {"function": "tac_conv", "padding": PADDING, "chunk_size": 3, "mode": "preserve"}
LINEAR = {"function": "tac_linear", "chunk_size": 2}
GIVEN = {"aggregation": "given"}
NETWORKS: dict[str, Sequence[Mapping[str, Any]]] = {
    "collapse-exact": (COLLAPSE | GIVEN, EXACT),
    "preserve-collapse": (PRESERVE | GIVEN, COLLAPSE | {"aggregation": "decay"}),
    "exact-preserve": (EXACT, PRESERVE | {"aggregation": "normalized_decay"}),
    "linear-linear": (LINEAR | GIVEN, LINEAR | {"chunk_size": 3, "mode": "preserve", "aggregation": "mean"}),
    # each operator alone
    "conv_lif": (EXACT,),
    "tac_conv-collapse": (COLLAPSE | GIVEN,),
    "tac_conv-preserve": (PRESERVE | GIVEN,),
    "tac_linear": (LINEAR | GIVEN | {"chunk_size": 4},),
    "lif": ({"function": "lif"},),
}
"""Layer by layer: the first one's spikes drive the second."""
OPERATORS = list(NETWORKS)[4:]


def magnitude(x: Numbers) -> Numbers:
    """|x| with its derivative, which complex steps need."""
    return np.where(x.real < 0, -x, x)


def triangle(x: Numbers) -> Numbers:
    """Integral of max(0, 1 - k |x|)."""
    k = TRIANGLE
    return np.where(k * np.abs(x.real) < 1, x - 0.5 * k * x * magnitude(x), np.sign(x.real) / (2 * k))


SURROGATES: dict[str, tuple[Any, Smooth]] = {
    "fast_sigmoid": (surrogate.fast_sigmoid(slope=3.0), lambda x: x / (1 + 3 * magnitude(x))),
    "arctan": (surrogate.arctan(slope=2.0), lambda x: np.arctan(np.pi * x) / np.pi),
    "sigmoid": (surrogate.sigmoid(slope=4.0), lambda x: 1 / (1 + np.exp(-4 * x))),
    "triangular": (surrogate.triangular(slope=TRIANGLE), triangle),
    "straight_through": (surrogate.straight_through(slope=0.5), lambda x: 0.5 * x),
    "one's own": (lambda x: 1.0 / (1.0 + x * x), np.arctan),
}
"""Surrogates and their antiderivatives, worked out by hand."""
PAIRS = [("fast_sigmoid", "arctan"), ("sigmoid", "triangular"), ("straight_through", "one's own")]


def of_layer(arrays: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The arrays of layer n by argument."""
    return {key[:-1]: array for key, array in arrays.items() if key.endswith(str(n))}


def smoothed(
    net: str, reset: str, smooth: Sequence[Smooth], arrays: Arrays, base: list[Numbers] | None = None
) -> tuple[list[Numbers], list[Numbers]]:
    """Results (last membranes, and the last layer's spikes) and excesses of the network smoothed around excesses `base`."""
    x = arrays["input"]
    results: list[Numbers] = []
    excesses: list[Numbers] = []

    def fire(excess: Numbers, n: int) -> Numbers:
        at = excess.real if base is None else base[len(excesses)]
        excesses.append(excess)
        return (at >= 0) + smooth[n](excess) - smooth[n](at)

    for n, layer in enumerate(NETWORKS[net]):
        own = of_layer(arrays, n)
        if "weight" in own:
            dims = own["weight"].ndim - 2
            window = Window((1,) * dims, PADDING[:dims], (1,) * dims, 1)
            flat = convolve(x.reshape(-1, *x.shape[2:]), own["weight"], window)
            x = flat.reshape(*x.shape[:2], *flat.shape[1:])
        rule = own.get("aggregation", layer.get("aggregation", "sum"))
        more = {"mode": layer.get("mode", "collapse"), "aggregation": rule, "beta": own["beta"]}
        u, spikes = own["membrane"], []
        for current, decay, steps in chunks(x, own.get("bias", 0.0), layer.get("chunk_size", 1), **more):
            for _ in range(steps):
                v = decay * u + current
                if reset == "late":
                    v = v - fire(u - own["threshold"], n) * own["threshold"]
                s = fire(v - own["threshold"], n)
                u = {"subtract": v - s * own["threshold"], "zero": v * (1 - s), "none": v, "late": v}[reset]
                spikes.append(s)
        x = np.stack(spikes)
        results.append(u)
    return [*results, x], excesses


def single(x: Numbers) -> Numbers:
    """The nearest numbers that float32 holds too."""
    return x.astype(np.float32).astype(np.float64)


def drawn(net: str, rng: np.random.Generator) -> Arrays:
    """Every array of a network; T = 6, so a second chunk of four frames is short."""
    flat = NETWORKS[net][0]["function"] in ("tac_linear", "lif")
    space, kernel = ((), ()) if flat else ((3, 3), (2, 1))
    C = 2
    found = {"input": rng.uniform(0, 1, (6, 2, *space, C))}
    for n, layer in enumerate(NETWORKS[net]):
        if layer["function"] != "lif":
            found[f"weight{n}"] = rng.normal(0.15, 0.4, (3, *kernel, C))
            found[f"bias{n}"] = rng.normal(0.1, 0.1, 3)
            C = 3
        found[f"beta{n}"] = np.linspace(0.7, 0.9, C)
        found[f"threshold{n}"] = np.linspace(0.9, 1.1, C)
        found[f"membrane{n}"] = rng.normal(0.3, 0.4, (2, *space, C))
        if layer.get("aggregation") == "given":
            found[f"aggregation{n}"] = np.linspace(0.5, 1, layer["chunk_size"])
    return {key: single(array) for key, array in found.items()}


@cache
def problem(net: str, reset: str) -> tuple[Arrays, list[Numbers]]:
    """A network's arrays, and the factors of its results in the loss: in a plain sum errors could cancel.

    The first that are drawn with a margin, and spikes both fired and not.
    """
    for seed in range(100):
        rng = np.random.default_rng(seed)
        arrays = drawn(net, rng)
        results, excesses = smoothed(net, reset, [np.zeros_like] * 2, arrays)
        margin = min(np.abs(np.abs(x) - edge).min() for x in excesses for edge in (0, 1 / TRIANGLE))
        if margin >= MARGIN and 0.1 < results[-1].mean() < 0.9:
            return arrays, [single(rng.normal(0, 1, r.shape)) for r in results]
    raise AssertionError("no seed gives a margin")


@cache
def by_numbers(net: str, reset: str, smooth: tuple[Smooth, ...], step: complex) -> Arrays:
    """The smoothed network's gradient, element by element: a complex step if `step` is complex, else central differences."""
    arrays, factors = problem(net, reset)
    _, base = smoothed(net, reset, smooth, arrays)

    def loss(key: str, n: int, by: complex) -> complex:
        moved = arrays[key].astype(type(by))
        moved.reshape(-1)[n] += by
        results, _ = smoothed(net, reset, smooth, {**arrays, key: moved}, base)
        return complex(weighed(results, factors))

    def derivative(key: str, n: int) -> float:
        if isinstance(step, complex):
            return loss(key, n, step).imag / step.imag
        return (loss(key, n, step) - loss(key, n, -step)).real / (2 * step)

    return {key: np.reshape([derivative(key, n) for n in range(a.size)], a.shape) for key, a in arrays.items()}


def network(net: str, reset: str, given: Sequence[Any]) -> Callable[..., list[Any]]:
    """The results, by operators, as a function of the network's arrays."""
    names = list(problem(net, reset)[0])

    def results(*values: Any) -> list[Any]:
        named = dict(zip(names, values, strict=True))
        x, membranes = named["input"], []
        for n, layer in enumerate(NETWORKS[net]):
            options = {k: v for k, v in layer.items() if k != "function" and v != "given"}
            operator = getattr(tacops, layer["function"])
            x, u = operator(x, **of_layer(named, n), **options, reset=reset, surrogate=given[n])
            membranes.append(u)
        return [*membranes, x]

    return results


def weighed(results: Sequence[Any], factors: Sequence[Any]) -> Any:
    """The loss."""
    return sum((f * r).sum() for f, r in zip(factors, results, strict=True))


def gradient(backend: Backend, loss: Callable[..., Any], arrays: Sequence[Any], *, compiled: bool) -> list[Any]:
    """By every array; compiled: as one program, PyTorch's without its code generator, which takes long."""
    if not compiled:
        return backend.gradient(loss, arrays)
    if backend.name == "torch":
        import torch

        torch.compiler.reset()
        return backend.gradient(torch.compile(loss, backend="aot_eager", fullgraph=True), arrays)
    found: list[Any] = backend.compile(lambda *a: backend.gradient(loss, a))(*arrays)
    return found


def by_library(backend: Backend, net: str, reset: str, given: Sequence[Any], dtype: str, *, compiled: bool) -> Arrays:
    """The gradient that the operators have."""
    arrays, factors = problem(net, reset)
    results = network(net, reset, given)
    with double(backend) if dtype == "float64" else contextlib.nullcontext():
        native, scale = ([backend.from_numpy(a.astype(dtype)) for a in group] for group in (arrays.values(), factors))
        found = gradient(backend, lambda *a: weighed(results(*a), scale), native, compiled=compiled)
        found = [backend.to_numpy(g) for g in found]
    assert {str(g.dtype) for g in found} == {dtype}
    return dict(zip(arrays, found, strict=True))


def double(backend: Backend) -> Any:
    """Where the library has float64."""
    if backend.name == "jax":
        import jax
        import jax.experimental

        old = jax.__version_info__ < (0, 8)  # its place before
        return jax.experimental.enable_x64(True) if old else jax.enable_x64(True)
    if backend.name == "mlx":
        import mlx.core as mx

        return mx.stream(mx.cpu)
    return contextlib.nullcontext()


def assert_alike(got: Arrays, want: Arrays, tolerance: float) -> None:
    """Every array within `tolerance` of its largest entry."""
    assert got.keys() == want.keys()
    for key, array in want.items():
        assert got[key].shape == array.shape
        largest = np.abs(array).max()
        assert largest > 0.05, f"{key}: nearly zero"
        np.testing.assert_allclose(got[key], array, rtol=0, atol=tolerance * largest, err_msg=key)


def present(need: Need) -> list[Backend]:
    """Those of the three libraries that are there."""
    found = []
    for name in DIFFERENTIABLE:
        with contextlib.suppress(pytest.skip.Exception):
            found.append(need(name))
    return found or pytest.skip("needs jax, mlx or torch")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize(
    ("net", "reset"), [("collapse-exact", "subtract"), ("preserve-collapse", "zero"), ("exact-preserve", "none")]
)
def test_libraries_agree(need: Need, net: str, reset: str, dtype: str, tolerance: float) -> None:
    """By every array of two layers: the same in each library, which is what complex steps give."""
    given, smooth = zip(*(SURROGATES[key] for key in PAIRS[0]), strict=True)
    want = by_numbers(net, reset, smooth, 1e-30j)
    found = {b.name: by_library(b, net, reset, given, dtype, compiled=b.name == "jax") for b in present(need)}
    for got in found.values():
        assert_alike(got, want, tolerance)
    for one, other in combinations(found, 2):
        assert_alike(found[one], found[other], tolerance)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("pair", PAIRS)
def test_every_surrogate_and_reset(need: Need, pair: tuple[str, str], reset: str) -> None:
    """In double precision: what complex steps give, and what central differences give."""
    given, smooth = zip(*(SURROGATES[key] for key in pair), strict=True)
    net = "linear-linear"
    exactly, nearly = (by_numbers(net, reset, smooth, step) for step in (1e-30j, 1e-6))
    for b in present(need):
        got = by_library(b, net, reset, given, "float64", compiled=b.name == "jax")
        # MLX 0.32.4 computes float64's exponential, of which this surrogate is made, as float32's
        rough = b.name == "mlx" and "sigmoid" in pair
        assert_alike(got, exactly, 1e-6 if rough else 1e-12)
        assert_alike(got, nearly, 1e-6 if rough else 1e-7)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_never_silently_zero(need: Need, name: str, operator: str) -> None:
    """By every array of every operator, eager and compiled: complex steps' gradient, no entry of which is zero."""
    given, smooth = SURROGATES["arctan"]
    want = by_numbers(operator, "subtract", (smooth,), 1e-30j)
    for compiled in (False, True):
        got = by_library(need(name), operator, "subtract", [given], "float32", compiled=compiled)
        assert_alike(got, want, 1e-5)
        for key, array in got.items():
            assert array.all(), f"gradient of {key}: zeros"
