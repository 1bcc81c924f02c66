"""Whatever shapes and options come together, every backend gives the judge's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st

from tacops import lif, tac_conv, tac_linear
from tacops.backends import Backend
from tests.support import judge
from tests.support.cases import Layer, assert_close, assert_exact, run

DYADIC = ("decay", "sum", "array")


def _numbers(rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> Any:
    return (rng.integers(low, high + 1, shape) / 8).astype(np.float32)


@st.composite
def neurons(draw: st.DrawFn, channels: int) -> dict[str, Any]:
    """beta, threshold and reset; parameters are numbers or arrays."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    beta, threshold = draw(st.sampled_from([0.0, 0.5, 1.0])), draw(st.sampled_from([0.5, 1.0, 2.0]))
    shape = draw(st.sampled_from([(), (1,), (channels,)]))
    return {
        "beta": rng.choice([0.0, 0.5, 1.0], shape).astype(np.float32) if draw(st.booleans()) else beta,
        "threshold": rng.choice([0.5, 1.0, 2.0], shape).astype(np.float32) if draw(st.booleans()) else threshold,
        "reset": draw(st.sampled_from(["subtract", "zero", "none", "late"])),
    }


@st.composite
def geometries(draw: st.DrawFn, axes: int) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Spatial shape, kernel, and options for which the kernel fits."""
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(axes))
    padding: Any = draw(st.sampled_from(["same", "valid", 0, 2, "pairs", "tuple"]))
    stride = (1,) * axes if padding == "same" else tuple(draw(st.integers(1, 3)) for _ in range(axes))
    if padding == "pairs":
        padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(axes))
    elif padding == "tuple":
        padding = tuple(draw(st.integers(0, 2)) for _ in range(axes))
    spatial = tuple(draw(st.integers(d * (k - 1) + 1, d * (k - 1) + 4)) for k, d in zip(kernel, dilation, strict=True))
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    if len({*stride, *dilation}) == 1:
        options |= {"stride": stride[0], "dilation": dilation[0]}
    return spatial, kernel, options


@st.composite
def calls(draw: st.DrawFn) -> tuple[Layer, dict[str, Any]]:
    """Draw a layer with no to three dimensions, and every option."""
    axes = draw(st.integers(0, 3))
    spatial, kernel, options = draw(geometries(axes)) if axes else ((), (), {})
    groups = draw(st.integers(1, 3)) if axes else 1
    c_in, c_out = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    steps, batch, chunk = draw(st.integers(1, 6)), draw(st.integers(1, 3)), draw(st.integers(1, 7))
    aggregation = draw(st.sampled_from(["decay", "sum", "array", "mean", "normalized_decay", None]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    x = rng.integers(0, 2, (steps, batch, *spatial, c_in)).astype(draw(st.sampled_from(["float32", "bool", "uint8"])))
    layer = Layer(x, _numbers(rng, -2, 4, (c_out, *kernel, c_in // groups)), _numbers(rng, -1, 2, (c_out,)))
    options |= draw(neurons(c_out)) | {"chunk_size": chunk, "mode": draw(st.sampled_from(["collapse", "preserve"]))}
    options["aggregation"] = _numbers(rng, -8, 8, (chunk,)) if aggregation == "array" else aggregation
    if axes:
        options["groups"] = groups
        if draw(st.booleans()):
            layer, options["layout"] = layer.channels_first(), "channels_first"
    event(f"{axes} dimensions, {options['mode']}, {aggregation}")
    return layer, options


def _is_dyadic(options: dict[str, Any]) -> bool:
    aggregation = options["aggregation"]
    default_is_dyadic = aggregation is None and options["mode"] == "collapse"
    return default_is_dyadic or not isinstance(aggregation, str | None) or aggregation in DYADIC


def _threshold(options: dict[str, Any]) -> Any:
    threshold = options["threshold"]
    if isinstance(threshold, np.ndarray) and threshold.size > 1 and options.get("layout") == "channels_first":
        return threshold.reshape(-1, *[1] * options["_axes"])
    return threshold


@given(calls())
def test_operators(backend: Backend, call: tuple[Layer, dict[str, Any]]) -> None:
    """tac_conv and tac_linear: bit for bit where the case is dyadic, within rounding otherwise."""
    layer, options = call
    axes = layer.weight.ndim - 2
    want = judge.tac(*layer, **options)
    got = run(backend, tac_conv if axes else tac_linear, *layer, **options)
    if _is_dyadic(options):
        assert_exact(got, want)
    else:  # small layers hold many exact ties, which rounding breaks either way: leave those neurons out
        assert_close(got, want, threshold=_threshold({**options, "_axes": axes}), lost=1.0)


@given(st.data(), st.integers(1, 5), st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_neurons(backend: Backend, data: st.DataObject, steps: int, repeat: int, shape: list[int]) -> None:
    """Lif for currents of any shape."""
    options = data.draw(neurons(shape[-1]))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    current = _numbers(rng, -8, 16, (steps, *shape))
    start = _numbers(rng, -8, 8, tuple(shape)) if data.draw(st.booleans()) else None
    want = judge.lif(current, repeat=repeat, membrane=start, **options)
    assert_exact(run(backend, lif, current, repeat=repeat, membrane=start, **options), want)


@given(st.data(), calls())
def test_streams(backend: Backend, data: st.DataObject, call: tuple[Layer, dict[str, Any]]) -> None:
    """Cut at any chunk boundary, the two halves are the whole (dyadic cases)."""
    layer, options = call
    if not _is_dyadic(options):
        options["aggregation"] = "sum"
    function, chunk = tac_conv if layer.weight.ndim > 2 else tac_linear, options["chunk_size"]
    steps = len(layer.spikes)
    if steps <= chunk:
        return
    cut = chunk * data.draw(st.integers(1, (steps - 1) // chunk))
    want = judge.tac(*layer, **options)
    head = run(backend, function, layer.spikes[:cut], layer.weight, layer.bias, **options)
    tail = run(backend, function, layer.spikes[cut:], layer.weight, layer.bias, membrane=head.membrane, **options)
    assert_exact(tail._replace(spikes=np.concatenate([head.spikes, tail.spikes])), want)
