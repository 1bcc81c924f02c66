"""Every option of the operators against the judge, on every backend; grid cases, so membranes match bit for bit."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from tacops import aggregate, conv_lif, lif, tac_conv, tac_linear
from tacops.backends import Backend
from tests.support import judge
from tests.support.cases import (
    Layer,
    assert_close,
    assert_exact,
    assert_lively,
    assert_same,
    float_layer,
    grid_layer,
    run,
    to_backend,
)

MODES = ("collapse", "preserve")
LEARNED = np.array([0.25, -0.5, 1.0], np.float32)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none", "late"])
@pytest.mark.parametrize("aggregation", ["decay", "sum", LEARNED], ids=["decay", "sum", "array"])
@pytest.mark.parametrize("mode", MODES)
def test_modes_aggregations_resets(backend: Backend, mode: str, aggregation: Any, reset: str) -> None:
    """T = 8 in chunks of 3: the last chunk is shorter and uses the last two weights."""
    layer = grid_layer(1, steps=8)
    options: dict[str, Any] = {
        "chunk_size": 3,
        "mode": mode,
        "aggregation": aggregation,
        "reset": reset,
        "beta": 0.5,
        "threshold": 2.0,
    }
    want = judge.tac(*layer, **options)
    assert_lively(want)
    assert want.spikes.shape[0] == (3 if mode == "collapse" else 8)
    assert_exact(run(backend, tac_conv, *layer, **options), want)


@pytest.mark.parametrize("aggregation", ["normalized_decay", "mean", None])
@pytest.mark.parametrize("mode", MODES)
def test_normalised_aggregations(backend: Backend, mode: str, aggregation: str | None) -> None:
    """Weights that are no dyadic numbers, and a decay that is none: close, spikes equal beyond rounding."""
    layer = float_layer(2, steps=8)
    want = judge.tac(*layer, chunk_size=3, mode=mode, aggregation=aggregation)
    assert_lively(want)
    assert_close(run(backend, tac_conv, *layer, chunk_size=3, mode=mode, aggregation=aggregation), want)


@pytest.mark.parametrize("chunk", [5, 6, 100])
def test_chunks_at_least_as_long_as_time_are_one(backend: Backend, chunk: int) -> None:
    """K >= T is a single chunk of T frames."""
    layer = grid_layer(3, steps=5)
    want = judge.tac(*layer, chunk_size=5, beta=0.5)
    assert_exact(run(backend, tac_conv, *layer, chunk_size=chunk, beta=0.5), want)


GEOMETRIES: list[dict[str, Any]] = [
    {"padding": 2},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "stride": 2},
    {"padding": 1, "stride": 2, "dilation": 2, "groups": 2},
    {"padding": 3, "stride": 3, "groups": 4},
]


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_geometry(backend: Backend, axes: int, geometry: dict[str, Any], layout: str) -> None:
    """One to three dimensions, none of them square; the answer's layout is the input's."""
    spatial, kernel = (9, 8, 6)[3 - axes :], (3, 2, 2)[3 - axes :]
    groups = geometry.get("groups", 1)
    layer = grid_layer(4, steps=4, spatial=spatial, kernel=kernel, c_out=8, groups=groups, density=0.5)
    threshold = 2.0 ** round(np.log2(layer.weight[0].size * 0.11))  # about the mean current
    if layout == "channels_first":
        layer = layer.channels_first()
    options: dict[str, Any] = {"chunk_size": 2, "beta": 0.5, "threshold": threshold, "layout": layout, **geometry}
    want = judge.tac(*layer, **options)
    assert_lively(want)
    assert_exact(run(backend, tac_conv, *layer, **options), want)


@pytest.mark.parametrize(
    "geometry",
    [
        {"stride": (2, 1), "dilation": (1, 3), "padding": (0, 2)},
        {"padding": ((0, 2), (3, 1)), "stride": (1, 2)},
        {"padding": [(1, 0), (0, 0)]},
    ],
    ids=str,
)
def test_geometry_per_axis(backend: Backend, geometry: dict[str, Any]) -> None:
    """Tuples give each dimension its own stride, dilation and padding; pairs pad the two sides differently."""
    layer = grid_layer(5, steps=4, spatial=(7, 9), kernel=(2, 3))
    want = judge.tac(*layer, chunk_size=2, beta=0.5, **geometry)
    assert_lively(want)
    assert_exact(run(backend, tac_conv, *layer, chunk_size=2, beta=0.5, **geometry), want)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inner", [(), (3,), (2, 3)])
def test_linear(backend: Backend, inner: tuple[int, ...], mode: str) -> None:
    """tac_linear takes any axes between batch and features."""
    layer = grid_layer(6, steps=5, spatial=inner, kernel=(), c_in=12, c_out=5)
    options: dict[str, Any] = {"chunk_size": 2, "mode": mode, "beta": 0.5, "aggregation": "decay"}
    want = judge.tac(*layer, **options)
    assert want.membrane.shape == (2, *inner, 5)
    assert_lively(want)
    assert_exact(run(backend, tac_linear, *layer, **options), want)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("mode", MODES)
def test_parameters_per_channel(backend: Backend, mode: str, layout: str) -> None:
    """Each output channel has its own decay, threshold and bias; decaying weights follow the channel's own decay."""
    layer = grid_layer(7, steps=5)
    if layout == "channels_first":
        layer = layer.channels_first()
    options: dict[str, Any] = {
        "chunk_size": 2,
        "mode": mode,
        "layout": layout,
        "aggregation": "decay",
        "beta": np.array([0, 0.25, 0.5, 0.5, 0.75, 1], np.float32),
        "threshold": np.array([0.5, 1, 2, 1, 1, 4], np.float32),
    }
    want = judge.tac(*layer, **options)
    assert_lively(want)
    assert_exact(run(backend, tac_conv, *layer, **options), want)


def test_default_preserve_with_a_decay_per_channel(backend: Backend) -> None:
    """The normalised weights follow the channel's decay too; beta = 0 and 1 are the extremes."""
    layer = float_layer(8, steps=6)
    options: dict[str, Any] = {
        "chunk_size": 3,
        "mode": "preserve",
        "beta": np.array([0, 0.3, 0.5, 0.9, 0.99, 1], np.float32),
    }
    want = judge.tac(*layer, **(options | {"beta": options["beta"].astype(np.float64)}))
    assert_close(run(backend, tac_conv, *layer, **options), want)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_array_parameters_of_one_value(backend: Backend, shape: tuple[int, ...]) -> None:
    """A learnable decay or threshold shared by all channels is an array with one value."""
    layer = grid_layer(9)
    want = judge.tac(*layer, chunk_size=2, beta=0.5, threshold=2.0)
    parameters: dict[str, Any] = {"beta": np.full(shape, 0.5, np.float32), "threshold": np.full(shape, 2.0, np.float32)}
    assert_exact(run(backend, tac_conv, *layer, chunk_size=2, **parameters), want)


@pytest.mark.parametrize("beta", [0, 1, 0.0, 1.0])
def test_extreme_decays(backend: Backend, beta: float) -> None:
    """A neuron with beta = 0 forgets, with beta = 1 it integrates and fires; an int is as good as a float."""
    layer = grid_layer(10)
    for mode in MODES:
        want = judge.tac(*layer, chunk_size=2, mode=mode, beta=float(beta), aggregation="decay")
        assert_exact(run(backend, tac_conv, *layer, chunk_size=2, mode=mode, beta=beta, aggregation="decay"), want)


@pytest.mark.parametrize("function", [tac_conv, conv_lif])
def test_without_bias_and_with_a_given_membrane(backend: Backend, function: Any) -> None:
    """bias=None adds nothing; the membrane that is handed in decays in the first step."""
    layer = grid_layer(11)
    start = np.random.default_rng(0).integers(-8, 8, (2, 3, 4, 6)).astype(np.float32) / 8
    chunk = 3 if function is tac_conv else 1
    want = judge.tac(layer.spikes, layer.weight, chunk_size=chunk, beta=0.5, membrane=start)
    assert_lively(want)
    options: dict[str, Any] = {"chunk_size": 3} if function is tac_conv else {}
    assert_exact(run(backend, function, layer.spikes, layer.weight, beta=0.5, membrane=start, **options), want)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "float32"])
def test_spike_types(backend: Backend, dtype: str) -> None:
    """Booleans and integer counts are cast to the weight's type."""
    layer = grid_layer(12)
    counts = layer.spikes if dtype == "bool" else layer.spikes * np.arange(1, 5, dtype=np.float32)
    want = judge.tac(counts, layer.weight, layer.bias, chunk_size=2, beta=0.5, threshold=4.0)
    assert_lively(want)
    got = run(backend, tac_conv, counts.astype(dtype), layer.weight, layer.bias, chunk_size=2, beta=0.5, threshold=4.0)
    assert_exact(got, want)


HALF = {"float16": ("numpy", "jax", "mlx", "torch", "cupy"), "bfloat16": ("jax", "mlx", "torch")}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(backend: Backend, dtype: str, mode: str) -> None:
    """Weights of a few bits are exact in half precision as well: the answer must be."""
    if backend.name not in HALF[dtype]:
        pytest.skip(f"{backend.name} has no {dtype}")
    layer = grid_layer(13, steps=4, spatial=(4, 5), c_in=1, kernel=(2, 2), unit=4, density=0.4)
    options: dict[str, Any] = {"chunk_size": 2, "mode": mode, "beta": 0.5, "aggregation": "decay"}
    want = judge.tac(*layer, **options)
    assert_lively(want)
    assert np.abs(want.potentials).max() < 4  # in steps of 1/64: eight bits
    assert_exact(run(backend, tac_conv, *layer, dtype=dtype, **options), want)


@pytest.mark.parametrize("mode", MODES)
def test_double_precision(backend: Backend, mode: str) -> None:
    """float64 weights are computed with in float64: a tolerance that float32 misses by far."""
    with contextlib.ExitStack() as stack:
        if backend.name == "jax":
            import jax
            import jax.experimental

            old = jax.__version_info__ < (0, 8)  # its place before
            stack.enter_context(jax.experimental.enable_x64(True) if old else jax.enable_x64(True))
        layer = float_layer(14).as_dtype("float64")
        probe = to_backend(backend, layer.weight, "float64")
        if "float64" not in str(probe.dtype):
            pytest.skip(f"{backend.name} made {probe.dtype} of float64")
        want = judge.tac(*layer, chunk_size=2, mode=mode)
        got = run(backend, tac_conv, *layer, dtype="float64", chunk_size=2, mode=mode)
        assert_close(got, want, rtol=1e-13)


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none", "late"])
def test_lif(backend: Backend, reset: str, repeat: int) -> None:
    """Neurons alone: any shape, parameters per channel, currents that are used several times, a membrane handed in."""
    rng = np.random.default_rng(15)
    current = rng.integers(-8, 24, (4, 2, 5, 3)).astype(np.float32) / 16
    start = rng.integers(-8, 8, (2, 5, 3)).astype(np.float32) / 16
    options: dict[str, Any] = {
        "beta": np.array([0.5, 0, 1], np.float32),
        "threshold": np.array([1, 2, 0.5], np.float32),
    }
    want = judge.lif(current, reset=reset, repeat=repeat, membrane=start, **options)
    assert_lively(want)
    assert_exact(run(backend, lif, current, reset=reset, repeat=repeat, membrane=start, **options), want)


@pytest.mark.parametrize("aggregation", ["decay", "sum", LEARNED], ids=["decay", "sum", "array"])
def test_aggregate(backend: Backend, aggregation: Any) -> None:
    """Aggregated frames are the judge's sums, the shorter chunk's too."""
    x = np.random.default_rng(16).integers(0, 9, (8, 2, 3)).astype(np.float32)
    got = backend.to_numpy(aggregate(backend.from_numpy(x), 3, aggregation=to_backend(backend, aggregation), beta=0.5))
    chunks = [x[0:3], x[3:6], x[6:8]]
    want = [sum(a * f for a, f in zip(judge.weights_of(aggregation, len(c), 0.5), c, strict=True)) for c in chunks]
    assert_same("aggregate", got, np.stack(want))


def test_aggregation_comes_before_the_convolution(backend: Backend) -> None:
    """Collapse is aggregate, convolve once per chunk, fire: composed from the parts, the same answer."""
    layer: Layer = grid_layer(17)
    x = backend.to_numpy(aggregate(backend.from_numpy(layer.spikes), 2, beta=0.5))
    parts = run(backend, conv_lif, x, layer.weight, layer.bias * 1.5, beta=0.25)
    whole = run(backend, tac_conv, *layer, chunk_size=2, beta=0.5)
    assert_same("spikes", whole.spikes, parts.spikes)
    assert_same("membrane", whole.membrane, parts.membrane)
