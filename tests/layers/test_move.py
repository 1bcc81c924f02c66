"""Networks are trained, move between frameworks, and are frozen for any array library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops import Grid
from tacops.backends import Backend, backend_of
from tacops.layers import FrozenLayer, load_frozen, save_frozen
from tests.layers.test_layers import FRAMES, LEARN, assert_close
from tests.support.cases import assert_same
from tests.support.layer_frameworks import EACH, Array, Framework, Need, made, present, values

RNG = np.random.default_rng(1)
LABELS = np.arange(12) % 2
RATES = np.where(np.arange(8)[:, None] < 4, 0.5, 0.1)[:, :, None]  # the upper half is lit, or the lower
IMAGES = RNG.random((7, 12, 8, 6, 1)) < np.stack([RATES, RATES[::-1]])[LABELS]


def network(framework: Framework, **options: Any) -> Any:
    """Make a network of two layers of neurons and a read-out, and everything that can be learned."""
    first = {"chunk_size": 3, "mode": "preserve", "learn": LEARN, "batch_norm": True, "stride": 2, **options}
    layers = {
        "conv1": framework.layer("TACConv", 1, 6, 3, **first),
        "conv2": framework.layer("ConvLIF", 6, 4, (2, 1), learn="beta", beta=[0.5, 0.6, 0.7, 0.8], **options),
        "readout": framework.layer("TACLinear", 16, 2, chunk_size=7, aggregation="mean", reset="none", **options),
    }
    return framework.network(layers)


def forward(layers: Any, x: Any) -> tuple[Any, Any, Any]:
    """Spikes of both layers and the read-out: written once, for modules and for frozen layers."""
    first = layers["conv1"](x).spikes
    second = layers["conv2"](first).spikes
    return first, second, layers["readout"](second.reshape(*second.shape[:2], -1)).membrane


def answers(framework: Framework, net: Any) -> tuple[Array, ...]:
    """`forward` at inference, in NumPy."""
    return tuple(framework.backend.to_numpy(a) for a in forward(framework.evaluate(net), framework.array(IMAGES)))


def trained(framework: Framework, steps: int) -> tuple[Any, list[float]]:
    """A network after some steps of training."""
    net = network(framework)
    framework.layers.load_mapping(net, values(7, framework, net))
    x, target = framework.array(IMAGES), framework.array(np.eye(2, dtype=np.float32)[LABELS])

    def loss(net: Any) -> Any:
        error = forward(net, x)[2] - target
        return (error * error).mean()

    return net, framework.fit(net, loss, steps)


@EACH
def test_training_then_moving(need: Need, name: str) -> None:
    """The loss falls; the trained network moves on through all frameworks, and answers the same."""
    framework = made(need, name)
    net, losses = trained(framework, 12)
    assert losses[-1] < 0.6 * losses[0], losses
    mapping = framework.layers.to_mapping(net)
    want = answers(framework, net)
    assert 0.02 < want[0].mean() < 0.98
    assert 0.02 < want[1].mean() < 0.98
    for other in present(need):
        copy = network(other)
        other.layers.load_mapping(copy, mapping)
        for got, array in zip(answers(other, copy), want, strict=True):
            np.testing.assert_allclose(got, array, atol=1e-4)
        again = other.layers.to_mapping(copy)
        assert again.keys() == mapping.keys()
        for key, array in mapping.items():
            assert_same(key, again[key], array)
            assert again[key] is not array


@pytest.fixture(scope="module")
def frozen(need: Need) -> dict[str, FrozenLayer]:
    """A network trained in whichever framework there is, in reproducible mode."""
    framework = present(need)[0]
    return framework.layers.freeze(trained(framework, 3)[0], reproducible=True)  # type: ignore[no-any-return]


def test_frozen_fires_the_same_spikes_everywhere(frozen: dict[str, FrozenLayer], backend: Backend) -> None:
    """Spikes and membranes equal NumPy's bit for bit, with arrays converted by every call or once."""
    x = backend.from_numpy(IMAGES)
    want, got = _frozen_run(frozen, IMAGES), _frozen_run(frozen, x)
    placed = {name: layer.on(x) for name, layer in frozen.items()}
    if backend.name in ("jax", "mlx"):
        compiled = backend.compile(lambda x: tuple(frozen["conv1"](x)))(x)
        assert_same("compiled", backend.to_numpy(compiled[0]), want[0])
    assert 0.02 < want[0].mean() < 0.98
    assert 0.02 < want[2].mean() < 0.98
    for mine, once, theirs in zip(got, _frozen_run(placed, x), want, strict=True):
        assert_same("answer", backend.to_numpy(mine), theirs)
        assert_same("answer", backend.to_numpy(once), theirs)


def _frozen_run(layers: dict[str, FrozenLayer], x: Any) -> list[Any]:
    out = []
    for name in ("conv1", "conv2", "readout"):
        train = layers[name](x)
        out += list(train)
        x = train.spikes
        if name == "conv2":
            x = backend_of(x).namespace(x).reshape(x, (*x.shape[:2], -1))
    return out


def test_all_frameworks_freeze_to_the_same_bits(need: Need) -> None:
    """One mapping, frozen by each framework: equal arrays and options, and close to what the framework computes itself."""
    first, *others = present(need)
    mapping = first.layers.to_mapping(trained(first, 3)[0])
    frozen: dict[str, dict[str, FrozenLayer]] = {}
    for framework in (first, *others):
        net = network(framework)
        framework.layers.load_mapping(net, mapping)
        want = answers(framework, net)
        frozen[framework.name] = framework.layers.freeze(net)
        for got, array in zip(forward(frozen[framework.name], IMAGES), want, strict=True):
            np.testing.assert_allclose(got, array, atol=1e-4)
    for framework in others:
        for name, layer in frozen[first.name].items():
            other = frozen[framework.name][name]
            assert other.options == layer.options
            assert other.arrays.keys() == layer.arrays.keys()
            for key, array in layer.arrays.items():
                assert array.dtype == np.float32
                assert_same(key, other.arrays[key], array)


@pytest.mark.parametrize("rule", [None, "sum"])
@EACH
def test_frozen_layer_is_the_layer(need: Need, name: str, rule: Any) -> None:
    """With a shorter last chunk, a membrane, channels first, scalar beta and threshold: what the layer answers."""
    framework = made(need, name)
    options = {"chunk_size": 3, "mode": "preserve", "learn": LEARN, "aggregation": rule, "layout": "channels_first"}
    layer = framework.evaluate(framework.layer("TACConv", 2, 4, 3, batch_norm=True, **options))
    framework.layers.load_mapping(layer, values(8, framework, layer))
    x, membrane = np.moveaxis(FRAMES, -1, 2), RNG.normal(0, 0.3, (3, 4, 4, 3)).astype(np.float32)
    frozen = layer.frozen()
    m = {key: array.astype(np.float64) for key, array in framework.layers.to_mapping(layer).items()}
    factor = m["norm_scale"] / np.sqrt(m["norm_var"] + 1e-5)  # in float64, rounded once
    assert_same("bias", frozen.arrays["bias"], (m["bias"] - m["norm_mean"] * factor).astype(np.float32))
    assert_same("weight", frozen.arrays["weight"], (m["weight"] * factor[:, None, None, None]).astype(np.float32))
    assert frozen.arrays["aggregation"].shape == ((3, 3) if rule is None else (3,))
    assert_close(frozen(x, membrane=membrane), framework.run(layer, x.copy(), membrane))
    assert_close(
        framework.numpy(frozen(framework.array(x.copy()), membrane=framework.array(membrane))),
        frozen(x, membrane=membrane),
    )


def test_frozen_file(frozen: dict[str, FrozenLayer], tmp_path: Path) -> None:
    """What is read is what was written; nothing else is left in the folder."""
    path = tmp_path / "net.npz"
    frozen = {
        **frozen,
        "counts": FrozenLayer(
            {"weight": np.ones((1, 3), np.float32)}, {"chunk_size": 1, "reproducible": Grid(input_max=3)}
        ),
    }
    save_frozen(path, frozen)
    save_frozen(path, frozen)
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]
    again = load_frozen(path)
    assert again.keys() == frozen.keys()
    for name, layer in frozen.items():
        assert again[name].arrays.keys() == layer.arrays.keys()
        for key, array in layer.arrays.items():
            assert_same(key, again[name].arrays[key], array)
    assert again["counts"].options["reproducible"] == Grid(input_max=3)
    for got, want in zip(_frozen_run(again, IMAGES), _frozen_run(frozen, IMAGES), strict=True):
        assert_same("answer", got, want)


def test_wrong_frozen_files(frozen: dict[str, FrozenLayer], tmp_path: Path) -> None:
    """One sentence for a file that is missing, cut short, of another kind, or pickled; a failed write leaves the old file."""
    path, weight = tmp_path / "net.npz", np.ones((2, 3), np.float32)
    with pytest.raises(
        ValueError, match=r"load_frozen: .*net.npz must be a whole file of save_frozen; got No such file"
    ):
        load_frozen(path)
    save_frozen(path, frozen)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello", whole[:100] + bytes(100) + whole[200:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"load_frozen: .* must be a whole file of save_frozen; got ."):
            load_frozen(path)
    for arrays in (
        {"weight": weight},
        {"options": np.array([{}], object)},
        {"options": np.frombuffer(b"[1]", np.uint8)},
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=r"load_frozen: .* must be a whole file of save_frozen; got ."):
            load_frozen(path)
    path.write_bytes(whole)
    with pytest.raises(TypeError):
        save_frozen(path, {"layer": FrozenLayer({"weight": weight}, {"chunk_size": object()})})
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


@EACH
def test_wrong_mappings(need: Need, name: str) -> None:
    """A sentence that names the key, and nothing loaded."""
    framework = made(need, name)
    net = network(framework)
    before, good = framework.layers.to_mapping(net), values(9, framework, net)
    missing = {key: array for key, array in good.items() if key != "conv2.bias"}
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        (missing, ValueError, "load_mapping: mapping must be one with the key 'conv2.bias'; got none"),
        ({**good, "conv3.bias": good["conv2.bias"]}, ValueError, "mapping must be one without other keys than the layers' own; got 'conv3.bias'"),
        ({**good, "readout.weight": good["readout.weight"].T}, ValueError, r"mapping\['readout.weight'\] must be of shape \(2, 16\); got shape \(16, 2\)"),
        ({**good, "readout.bias": [0.0, 1.0]}, TypeError, r"mapping\['readout.bias'\] must be a floating NumPy array; got list"),
    ]  # fmt: skip
    for mapping, error, words in wrong:
        with pytest.raises(error, match=words):
            framework.layers.load_mapping(net, mapping)
    for key, array in framework.layers.to_mapping(net).items():
        assert_same(key, array, before[key])
    framework.layers.load_mapping(net, good)
    assert_same("weight", framework.layers.to_mapping(net)["conv1.weight"], good["conv1.weight"])


def test_foreign_parameters_are_named(need: Need) -> None:
    """A mapping that left some of a module's parameters behind is refused."""
    framework = made(need, "torch")
    import torch

    net = torch.nn.ModuleDict({"conv": framework.layer("ConvLIF", 1, 2, 3), "linear": torch.nn.Linear(2, 2)})
    with pytest.raises(ValueError, match=r"to_mapping: module must be a module whose .*; got one with 'linear.bias'"):
        framework.layers.to_mapping(net)
    with pytest.raises(
        ValueError, match="freeze: module must be a TACConv, TACLinear or ConvLIF, or contain one; got none"
    ):
        framework.layers.freeze(net["linear"])
