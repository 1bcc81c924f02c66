"""NIR: factors of every shape, and networks and graphs that no writer should make: refused in one sentence, by name."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tacops import Stream
from tacops.layers import FrozenLayer, Scale
from tests.support.layer_frameworks import Array

nir = pytest.importorskip("nir", reason="nir is not installed (it is part of the extra dev)")
from tacops.backends.nir_layers import from_nir, to_nir

RNG = np.random.default_rng(4)
ZERO: dict[str, Any] = {"chunk_size": 1, "reset": "zero"}


def dense(**arrays: Array) -> FrozenLayer:
    return FrozenLayer({"weight": np.full((4, 3), 0.5, np.float32), **arrays}, ZERO)


@pytest.mark.parametrize("factors", [(6, 4), (5, 1, 1), (6, 1), (1, 4), (5, 6, 4), (4,), (1,), ()])
def test_factors_broadcast_to_a_frame_of_either_layout(factors: tuple[int, ...]) -> None:
    """Of a frame of 5 x 6 pixels of 4 channels, whatever axes the factors have."""
    values = RNG.uniform(0.25, 2.0, factors).astype(np.float32)
    weight = RNG.normal(0.1, 0.5, (3, 2, 2, 4)).astype(np.float32)
    frames = RNG.random((12, 2, 5, 6, 4)) < 0.4
    for layout in ("channels_last", "channels_first"):
        last = layout == "channels_last"
        own = values if last or not factors else np.moveaxis(values.reshape((1,) * (3 - len(factors)) + factors), -1, 0)
        layers: Any = [Scale(own), FrozenLayer({"weight": weight}, {**ZERO, "layout": layout})]
        first = np.moveaxis(frames, -1, 2)
        want = layers[1](layers[0](frames if last else first)).spikes
        got = Stream(from_nir(to_nir(layers, (5, 6, 4) if last else (4, 5, 6)))).feed(first)
        assert got is not None
        assert 0.05 < want.mean() < 0.95
        np.testing.assert_array_equal(got.spikes, np.moveaxis(want, -1, 2) if last else want)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_factors_that_fit_no_frame(layout: str) -> None:
    conv = FrozenLayer({"weight": np.ones((3, 2, 2, 4), np.float32)}, {**ZERO, "layout": layout})
    for shape in ((5,), (1, 1, 1, 1), (7, 1, 1), (2, 2)):
        with pytest.raises(ValueError, match=r"^to_nir: layers\[0\] must be of factors that broadcast to frames of sh"):
            to_nir([Scale(np.ones(shape, np.float32)), conv], (4, 5, 6) if layout == "channels_first" else (5, 6, 4))
    with pytest.raises(
        ValueError, match=r"^to_nir: layers\[1\] must be of factors that broadcast to frames of shape \(4,\)"
    ):
        to_nir(
            [dense(), Scale(np.ones(5, np.float32)), FrozenLayer({"weight": np.ones((2, 4), np.float32)}, ZERO)], (3,)
        )
    for value in (np.nan, np.inf, 1e300):
        with pytest.raises(ValueError, match=r"^to_nir: layers\[0\] must be of factors that are finite in float32"):
            to_nir([Scale(np.array(value)), conv], (4, 5, 6) if layout == "channels_first" else (5, 6, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("array", ["weight", "bias", "beta", "threshold"])
def test_layers_that_are_not_finite_are_not_written(array: str, value: float) -> None:
    arrays = {array: np.full((4, 3) if array == "weight" else 4, value, np.float32)}
    with pytest.raises(ValueError, match=r"^to_nir: layers\[0\] must be a layer of finite numbers, in the ranges of"):
        to_nir([dense(**arrays)], (3,))


def test_thresholds_that_float32_does_not_hold_are_not_written() -> None:
    for threshold in (1e-39, float(np.finfo(np.float32).tiny), 1e300):
        layer = FrozenLayer({"weight": np.ones((4, 3), np.float32)}, {**ZERO, "threshold": threshold})
        with pytest.raises(
            ValueError, match=r"^to_nir: layers\[0\] must be with thresholds above the smallest normal fl"
        ):
            to_nir([layer], (3,))


def lif(*shape: int, kind: Any = nir.LIF, **given: Any) -> Any:
    start = {"tau": 1e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **given}
    return kind(**{name: np.broadcast_to(value, shape).copy() for name, value in start.items()})


def affine(weight: Any = None, bias: Any = None) -> Any:
    return nir.Affine(np.ones((3, 3)) if weight is None else weight, np.ones(3) if bias is None else bias)


def conv(weight: Any = None, bias: Any = None, **options: Any) -> Any:
    given = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **options}
    return nir.Conv2d(
        None, np.ones((2, 3, 2, 2)) if weight is None else weight, bias=np.zeros(2) if bias is None else bias, **given
    )


def chain(*nodes: Any, shape: Any = (3,)) -> Any:
    """A graph in a line."""
    named = {"input": nir.Input(np.array(shape))} | {f"n{n}": node for n, node in enumerate(nodes)}
    named["output"] = nir.Output(np.array(shape))
    return nir.NIRGraph(named, list(pairwise(named)), type_check=False)


PIXELS = (3, 4, 4)
ONE_NAN = np.array([1.0, np.nan, 1.0])


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (chain(affine(np.full((3, 3), np.nan)), lif(3)), "'n0' has a finite weight; got NaN or infinity"),
        (chain(affine(np.full((3, 3), np.inf)), lif(3)), "'n0' has a finite weight; got NaN or infinity"),
        (chain(affine(np.full((3, 3), 1e300)), lif(3)), r"'n0' becomes a layer of .*arrays\['weight'\] must be finite"),
        (chain(affine(np.ones((3, 3), complex)), lif(3)), "'n0' has a weight of real numbers; got complex128"),
        (chain(affine(np.ones((3, 3), bool)), lif(3)), "'n0' has a weight of real numbers; got bool"),
        (chain(affine(bias=ONE_NAN), lif(3)), "'n0' has a finite bias"),
        (chain(affine(), lif(3, v_threshold=np.array([1, np.inf, 1]))), "'n1' has a finite v_threshold"),
        (chain(affine(), lif(3, v_threshold=ONE_NAN)), "'n1' has a finite v_threshold"),
        (chain(affine(), lif(3, r=ONE_NAN)), "'n1' has a finite r; got NaN"),
        (chain(affine(), lif(3, r=1e300)), r"'n0' becomes a layer of .*arrays\['weight'\] must be finite"),
        (chain(affine(), nir.Scale(ONE_NAN), lif(3)), "'n1' has a finite scale"),
        (chain(nir.Scale(ONE_NAN), affine(), lif(3)), "'n0' has a finite scale"),
        (chain(nir.Scale(np.full(3, 1e300)), affine(), lif(3)), "'n0' becomes a layer of .*must be finite"),
        (chain(affine(), lif(3, v_threshold=0.0)), "'n1' has a v_threshold above 0, and normal and finite in float32; got 0 to 0"),
        (chain(affine(), lif(3, v_threshold=1e-40)), "'n1' has a v_threshold above 0, and normal and finite in float32"),
        (chain(affine(), lif(3, v_threshold=1e300)), "'n1' has a v_threshold above 0, and normal and finite in float32"),
        (chain(conv(stride=1.7), lif(2, 3, 3), shape=PIXELS), r"'n0' has an int or 2 ints as its stride; got 1.7"),
        (chain(conv(groups=1.5), lif(2, 3, 3), shape=PIXELS), "'n0' has an int as its groups; got 1.5"),
        (chain(conv(padding=np.array([0.9, 0])), lif(2, 3, 3), shape=PIXELS), "'n0' has an int or 2 ints as its padding"),
        (chain(conv(padding=np.array([0, 0, 0])), lif(2, 3, 3), shape=PIXELS), "'n0' has an int or 2 ints as its padding"),
        (chain(conv(padding=-1), lif(2, 3, 3), shape=PIXELS), "'n0' becomes a layer of .*padding must be at least 0"),
        (chain(conv(stride=(1, 1, 1)), lif(2, 3, 3), shape=PIXELS), r"'n0' has an int or 2 ints as its stride; got \[1, 1, 1\]"),
        (chain(conv(stride=np.nan), lif(2, 3, 3), shape=PIXELS), "'n0' has an int or 2 ints as its stride; got nan"),
        (chain(conv(padding=b"\xff"), lif(2, 3, 3), shape=PIXELS), "'n0' becomes a layer of tacops; got .*decode"),
        (chain(conv(padding=b"full"), lif(2, 3, 3), shape=PIXELS), "'n0' becomes a layer of tacops; got .*padding must be"),
        (chain(conv(np.ones((2, 3, 5, 5))), lif(2, 3, 3), shape=PIXELS), "'n0' becomes a layer of .*at least as large as the dilated kernel"),
        (chain(conv(np.ones((2, 3))), lif(2), shape=(3,)), "'n0' has a nonempty weight of three or four axes"),
        (chain(nir.SumPool2d(np.array([2.5, 2]), np.array(2), np.array(0)), shape=PIXELS), r"'n0' has an int or 2 ints as its kernel_size; got \[2.5, 2.0\]"),
        (chain(nir.AvgPool2d(np.array(2), np.array([2, 2, 2]), np.array(0)), shape=PIXELS), "'n0' has an int or 2 ints as its stride"),
        (chain(nir.AvgPool2d(np.array(0), np.array(1), np.array(0)), shape=PIXELS), "'n0' becomes a layer of tacops; got Pool2d: kernel"),
        (chain(nir.AvgPool2d(np.array(9), np.array(1), np.array(0)), shape=PIXELS), "'n0' becomes a layer of tacops; got Pool2d: spikes"),
        (chain(affine(), lif(3), shape=(3.7,)), "'input' has ints as its shape; got"),
        (chain(affine(), lif(3), shape=(0,)), "'input' has a shape of one or more positive sizes"),
        (chain(affine(bias=np.ones(2)), lif(3)), r"'n0' has a bias for 3 channels; got shape \(2,\)"),
        (chain(affine(bias=np.zeros(2)), lif(3)), r"'n0' has a bias for 3 channels; got shape \(2,\)"),
        (chain(affine(np.ones((0, 3)), np.ones(0)), lif(3)), "'n0' has a nonempty weight of two axes"),
        (chain(nir.Scale(np.ones(4)), affine(), lif(3)), r"'n0' has a scale for frames of shape \(3,\); got shape \(4,\)"),
        (chain(nir.Scale(np.ones(3)), conv(), lif(2, 3, 3), shape=PIXELS), r"'n0' has a scale for frames of shape \(3, 4, 4\)"),
        (chain(conv(), nir.Scale(np.ones(2)), lif(2, 3, 3), shape=PIXELS), "'n1' has a scale of 3 axes, a frame's"),
        (chain(lif(1), shape=(10**7,)), "'n0' has weights before it, or at most 8192 neurons; got 10000000"),
    ],
)  # fmt: skip
def test_nodes_with_numbers_of_no_layer(graph: Any, words: str) -> None:
    """One sentence that names the node; nothing is rounded, cut or allocated first."""
    with pytest.raises((ValueError, TypeError), match=f"^from_nir: graph must be one whose node {words}"):
        from_nir(graph)


def test_an_input_without_its_shape() -> None:
    graph = chain(affine(), lif(3))
    graph.nodes["input"].input_type = {}
    with pytest.raises(ValueError, match=r"^from_nir: graph must be one whose node 'input' becomes a layer of tacops"):
        from_nir(graph)


def test_shapes_are_computed_rather_than_run() -> None:
    """A graph of a frame of billions of pixels is read in no memory to speak of."""
    found: Any = from_nir(
        chain(conv(stride=2, padding=1), lif(2), nir.SumPool2d(*np.array([2, 2, 0])), shape=(3, 60000, 60000))
    )
    assert list(found) == ["n0", "n2"]
    whole: Any = from_nir(chain(conv(stride=np.float64(2.0)), lif(2), shape=PIXELS))
    assert whole["n0"].options["stride"] == (2, 2)
