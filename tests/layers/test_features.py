"""A network that flattens moves between layouts: its dense layer's columns are put in order, or the move is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.layers.test_layers import assert_close
from tests.support.layer_frameworks import EACH, FRAMEWORKS, Array, Framework, Need, made, present, values

RNG = np.random.default_rng(3)
FRAMES = RNG.random((6, 4, 7, 5, 2)) < 0.4  # channels last
LAYOUTS = ("channels_last", "channels_first")
SHAPES: dict[str, Any] = {"channels_last": (5, 3, 6), "channels_first": (6, 5, 3)}
"""What is flattened."""


def network(framework: Framework, layout: str, features: Any = 90) -> Any:
    """Convolution, flattening, a dense layer behind it, and one behind that."""
    own = {"layout": layout} if isinstance(features, tuple) else {}
    layers = {
        "conv": framework.layer("ConvLIF", 2, 6, 3, layout=layout, threshold=0.5),
        "dense": framework.layer("TACLinear", features, 8, chunk_size=1, threshold=0.5, **own),
        "readout": framework.layer("TACLinear", 8, 3, chunk_size=2, threshold=0.3),
    }
    return framework.network(layers)


def answer(framework: Framework, net: Any, layout: str) -> tuple[Array, Array]:
    frames = FRAMES if layout == "channels_last" else np.moveaxis(FRAMES, -1, 2).copy()
    spikes = net["conv"](framework.array(frames)).spikes
    return framework.numpy(net["readout"](net["dense"](spikes.reshape(6, 4, 90))))


@pytest.mark.parametrize("declared", ["both", "from", "to"])
@pytest.mark.parametrize("layout", LAYOUTS)
@EACH
def test_columns_are_put_in_order(need: Need, name: str, layout: str, declared: str) -> None:
    """Into all frameworks, in both directions, whichever network says what is flattened."""
    framework, other = made(need, name), next(name for name in LAYOUTS if name != layout)
    net = network(framework, layout, SHAPES[layout] if declared != "to" else 90)
    framework.layers.load_mapping(net, values(5, framework, net))
    mapping, want = framework.layers.to_mapping(net), answer(framework, net, layout)
    assert mapping["dense.channels_last"] == (layout == "channels_last")
    assert "readout.channels_last" not in mapping
    kept = {key: array.copy() for key, array in mapping.items()}
    for there in present(need):
        same, moved = (network(there, to, SHAPES[to] if declared != "from" else 90) for to in (layout, other))
        for copy, to in ((same, layout), (moved, other)):
            there.layers.load_mapping(copy, mapping)
            assert_close(answer(there, copy, to), want)
        if declared != "from":
            there.layers.load_mapping(same, there.layers.to_mapping(moved))  # and back
            assert_close(answer(there, same, layout), want)
    assert np.any(kept["dense.weight"] != there.layers.to_mapping(moved)["dense.weight"]), "the order is the same"
    assert all(np.array_equal(kept[key], array) for key, array in mapping.items())


@EACH
def test_orders_that_cannot_be_told(need: Need, name: str) -> None:
    """One sentence, and nothing loaded."""
    framework = made(need, name)
    last, first = (network(framework, layout) for layout in LAYOUTS)
    known = network(framework, "channels_first", SHAPES["channels_first"])
    good = framework.layers.to_mapping(last)
    unknown = {key: array for key, array in good.items() if key != "dense.channels_last"}
    layers = {layout: framework.layer("ConvLIF", 2, 6, 3, layout=layout) for layout in LAYOUTS}
    mixed = framework.network({**layers, "dense": framework.layer("TACLinear", 90, 8, chunk_size=1)})
    of_mixed = framework.layers.to_mapping(mixed)
    assert "dense.channels_last" not in of_mixed
    assert of_mixed["dense.layouts"].tolist() == [False, True]
    framework.layers.load_mapping(mixed, of_mixed)
    untold = {key: array for key, array in of_mixed.items() if key != "dense.layouts"}
    turned = {**of_mixed, "dense.layouts": np.array([True, False])}
    recorded = {**untold, "dense.channels_last": np.asarray(True)}
    for net, mapping, words in (
        (first, good, "mapping must be of this layout, or its layer 'dense' one whose features_in is the shape that is flattened; got a network trained channels_last"),
        (last, unknown, "mapping must be one with the key 'dense.channels_last' .*; got none"),
        (mixed, untold, "module must be one whose layer 'dense' has the shape that is flattened as its features_in, because layouts are mixed; got 90"),
        (mixed, recorded, "module must be one whose layer 'dense' has the shape that is flattened as its features_in, because layouts are mixed; got 90"),
        (mixed, turned, "module must be one whose layer 'dense' has the shape that is flattened as its features_in, because layouts are mixed; got 90"),
        (known, {**good, "dense.features_in": np.array([3, 5, 6])}, r"mapping\['dense.features_in'\] must be \(5, 3, 6\); got \(3, 5, 6\)"),
        (known, {**good, "dense.channels_last": np.asarray(False), "dense.features_in": np.array([6, 3, 5])}, r"mapping\['dense.features_in'\] must be \(6, 5, 3\); got \(6, 3, 5\)"),
        (first, {**good, "dense.features_in": np.array([5, 3, 5])}, r"mapping\['dense.features_in'\] must be the shape of 90 features; got \(5, 3, 5\)"),
    ):  # fmt: skip
        before = framework.layers.to_mapping(net)
        with pytest.raises(ValueError, match=f"^load_mapping: {words}"):
            framework.layers.load_mapping(net, mapping)
        after = framework.layers.to_mapping(net)
        assert all(np.array_equal(before[key], array) for key, array in after.items())
    for key, value in (("channels_last", 1), ("channels_last", np.array([True])), ("features_in", np.array([90.0])), ("features_in", (90,)), ("layouts", np.array(True)), ("layouts", np.array([1, 0]))):  # fmt: skip
        with pytest.raises(TypeError, match=rf"load_mapping: mapping\['dense.{key}'\] must be a NumPy "):
            framework.layers.load_mapping(last, {**good, f"dense.{key}": value})
    framework.layers.load_mapping(last, {**unknown, "dense.channels_last": np.asarray(True)})
    for wrong in (good["dense.weight"].tolist(), None, good["dense.weight"].astype(int)):
        with pytest.raises(TypeError, match=r"load_mapping: mapping\['dense.weight'\] must be a floating NumPy array"):
            framework.layers.load_mapping(known, {**good, "dense.weight": wrong})


@EACH
def test_vectors_have_one_order(need: Need, name: str) -> None:
    """Features that are one pixel's, of one channel, or said to be a vector move between layouts as they are."""
    framework = made(need, name)

    def made_of(layout: str, channels: int, features: Any) -> Any:
        layers = {
            "conv": framework.layer("ConvLIF", 2, channels, 3, layout=layout),
            "dense": framework.layer("TACLinear", features, 3, chunk_size=1),
        }
        return framework.network(layers)

    for channels, features in ((6, 6), (1, 15), (6, 20), (6, (90,))):
        last, first = (made_of(layout, channels, features) for layout in LAYOUTS)
        mapping = values(6, framework, last)
        assert "dense.channels_last" not in mapping
        framework.layers.load_mapping(first, mapping)
        np.testing.assert_array_equal(framework.layers.to_mapping(first)["dense.weight"], mapping["dense.weight"])
    undeclared = made_of("channels_first", 6, 90)  # the mapping says that it is a vector
    framework.layers.load_mapping(undeclared, framework.layers.to_mapping(made_of("channels_last", 6, (90,))))


@EACH
def test_wrong_features(need: Need, name: str) -> None:
    framework = made(need, name)
    for features, options, words in (
        ((), {}, r"features_in must be an int, or one to four ints; got \(\)"),
        ((2, 0), {}, "features_in must be at least 1; got 0"),
        (90, {"layout": "channels_first"}, r"features_in must be the shape that is flattened, \(C, \*S\), with .*; got 90"),
        ((2, 3), {"layout": "first"}, "layout must be one of 'channels_last', 'channels_first'; got 'first'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"TACLinear: {words}"):
            framework.layer("TACLinear", features, 4, chunk_size=1, **options)
    layer = framework.layer("TACLinear", (6, 5, 3), 4, chunk_size=1, layout="channels_first", batch_norm=True)
    x = framework.array(RNG.random((3, 2, 90)) < 0.5)
    assert tuple(layer(x).spikes.shape) == (3, 2, 4)  # in training, too, vectors are vectors
    assert "layout" not in layer.frozen().options


@EACH
def test_freezing_leaves_nothing_out_unasked(need: Need, name: str) -> None:
    """Parameters of others are refused by name, and left out by name."""
    framework = made(need, name)
    foreign = {"torch": _torch, "flax": _flax, "mlx": _mlx}[name]()
    net = framework.network({"conv": framework.layer("ConvLIF", 1, 2, 3), "linear": foreign})
    freeze = framework.layers.freeze
    with pytest.raises(
        ValueError, match=r"freeze: module must be a module whose .*`leave_out`; got one with 'linear\."
    ):
        freeze(net)
    for leave_out in ("linear", ["linear"]):
        assert list(freeze(net, leave_out=leave_out)) == ["conv"]
    assert list(freeze(net, leave_out=("linear", "conv"))) == []
    with pytest.raises(ValueError, match="freeze: leave_out must be names of the module's parts; got 'lin'"):
        freeze(net, leave_out=["linear", "lin"])
    for empty in ("", ["linear", ""]):
        with pytest.raises(ValueError, match="freeze: leave_out must be names of the module's parts; got ''"):
            freeze(net, leave_out=empty)
    with pytest.raises(
        ValueError, match="freeze: leave_out must be names of parts beside the tacops layers, or of whole"
    ):
        freeze(net, leave_out=["linear", "conv.weight"])
    for inside in ("", "weight"):
        with pytest.raises(ValueError, match="freeze: leave_out must be names of "):
            freeze(net["conv"], leave_out=inside)
    for wrong in (3, None, [3], {"linear": 1}):
        with pytest.raises(TypeError, match="freeze: leave_out must be a name, or several; got "):
            freeze(net, leave_out=wrong)
    assert set(FRAMEWORKS) == {"torch", "flax", "mlx"}


@EACH
def test_layers_come_in_the_order_of_the_module(need: Need, name: str) -> None:
    """Whatever their names, so that what `freeze` returns can be streamed as it is; in a chain of more than ten, too."""
    framework = made(need, name)
    layers = [framework.layer("TACLinear", 3, 3, chunk_size=1) for _ in range(12)]
    inner = framework.network({"z": layers[0], "a": layers[1]})
    net = framework.network({"second": inner, "first": layers[2], "b": layers[3], "a": layers[4]})
    assert list(framework.layers.freeze(net)) == ["second.z", "second.a", "first", "b", "a"]
    chained = framework.layers.freeze(framework.sequential(*layers))
    assert [int(path.rpartition(".")[2]) for path in chained] == list(range(12))


def _torch() -> Any:
    import torch

    return torch.nn.BatchNorm1d(2)


def _flax() -> Any:
    from flax import nnx

    return nnx.Linear(2, 2, rngs=nnx.Rngs(0))


def _mlx() -> Any:
    from mlx import nn

    return nn.Linear(2, 2)


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_state_dict_of_a_convolution(need: Need, layout: str, channels: int) -> None:
    """PyTorch's own convolution of one to three dimensions; of three channels and a 3 x 3 kernel, too; and ours as before."""
    framework = made(need, "torch")
    import torch

    for dims, kind in ((1, torch.nn.Conv1d), (2, torch.nn.Conv2d), (3, torch.nn.Conv3d)):
        sizes, space = ((3,) * dims, (5, 4, 6)[:dims]) if dims > 1 else ((channels,), (5,))
        layer = framework.layer("ConvLIF", channels, 4, sizes, layout=layout, reset="none", beta=0.0)
        conv = kind(channels, 4, sizes)
        torch.nn.ModuleList([layer]).load_state_dict(torch.nn.ModuleList([conv]).state_dict())
        x = torch.rand(1, 2, channels, *space)
        got = layer(x if layout == "channels_first" else x.movedim(2, -1)).membrane
        torch.testing.assert_close(
            got if layout == "channels_first" else got.movedim(-1, 1), conv(x[0]), atol=1e-5, rtol=0
        )
        twin = framework.layer("ConvLIF", channels, 4, sizes)
        for own in (layer.state_dict(), dict(layer.state_dict())):  # with PyTorch's remark on versions, and without
            twin.load_state_dict(own)
            torch.testing.assert_close(twin.weight, layer.weight, atol=0, rtol=0)


@pytest.mark.parametrize("options", [{"batch_norm": True}, {"learn": "beta"}, {"learn": ("threshold", "aggregation")}])
def test_state_dict_of_an_old_layer(need: Need, options: dict[str, Any]) -> None:
    """Arrays that no convolution of PyTorch's has say that it is ours, whatever its version and shape."""
    framework = made(need, "torch")
    layers = [framework.network({"a": framework.layer("TACConv", 3, 4, 3, chunk_size=2, **options)}) for _ in range(2)]
    state = layers[0].state_dict()
    state._metadata["a"]["version"] = 1
    layers[1].load_state_dict(state)
    for name, value in layers[1].state_dict().items():
        assert value.equal(layers[0].state_dict()[name]), name


def test_frozen_layer_in_one_line(need: Need) -> None:
    """Shapes and options, no numbers."""
    framework = made(need, "torch")
    layer = framework.layer("TACConv", 2, 40, 3, chunk_size=4, learn="beta", beta=[0.5] * 40, aggregation="mean")
    assert repr(layer.frozen()) == (
        "FrozenLayer(weight (40, 3, 3, 2), bias (40,), beta (40,), chunk_size=4, mode='collapse', reset='subtract', "
        "stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1, layout='channels_last', threshold=1.0, "
        "aggregation='mean')"
    )
