"""Frozen layers and their files: what is no layer is refused when it is made, written or read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops.layers import FORMAT, FrozenLayer, load_frozen, save_frozen
from tests.support.layer_frameworks import EACH, Need, made

WEIGHT = np.full((4, 3), 0.5, np.float32)
KERNEL = np.full((4, 3, 3, 2), 0.5, np.float32)
CHANNELS = np.full(4, 0.5, np.float32)


@pytest.mark.parametrize(
    ("arrays", "options", "error", "words"),
    [
        ({}, {"chunk_size": 1}, ValueError, "arrays must be a mapping with the key 'weight'; got none"),
        ({"weight": WEIGHT}, {}, ValueError, "options must be a mapping with the key 'chunk_size'; got none"),
        (WEIGHT, {"chunk_size": 1}, TypeError, "arrays must be a mapping of names to arrays; got ndarray"),
        ({"weight": WEIGHT}, 3, TypeError, "options must be a mapping of the operator's arguments; got int"),
        ({"weight": 3}, {"chunk_size": 1}, TypeError, r"arrays\['weight'\] must be an array of a supported library"),
        ({"weight": WEIGHT, "bias": None}, {"chunk_size": 1}, TypeError, r"arrays\['bias'\] must be an array; got None"),
        ({"weight": WEIGHT, "gain": CHANNELS}, {"chunk_size": 1}, ValueError, "arrays must be among .*; got 'gain'"),
        ({"weight": WEIGHT.astype(int)}, {"chunk_size": 1}, TypeError, "weight must be of a real floating dtype"),
        ({"weight": CHANNELS}, {"chunk_size": 1}, ValueError, "weight must be an array of .* dimensions"),
        ({"weight": WEIGHT, "beta": CHANNELS[:3]}, {"chunk_size": 1}, ValueError, r"arrays\['beta'\] must be of shape \(4,\)"),
        ({"weight": WEIGHT, "aggregation": CHANNELS}, {"chunk_size": 2}, ValueError, r"arrays\['aggregation'\] must be of shape \(2,\) or \(2, 2\)"),
        ({"weight": WEIGHT, "beta": CHANNELS}, {"chunk_size": 1, "beta": 0.5}, ValueError, "options must be without 'beta'"),
        ({"weight": WEIGHT}, {"chunk_size": 0}, ValueError, "chunk_size must be at least 1; got 0"),
        ({"weight": WEIGHT}, {"chunk_size": 1, "stride": 2}, ValueError, "options must be among .*; got 'stride'"),
        ({"weight": WEIGHT}, {"chunk_size": 1, "membrane": WEIGHT}, ValueError, "options must be among .*; got 'membrane'"),
        ({"weight": WEIGHT}, {"chunk_size": 1, "mode": "keep"}, ValueError, "mode must be one of 'collapse', 'preserve'"),
        ({"weight": WEIGHT}, {"chunk_size": 1, "aggregation": []}, ValueError, "aggregation must be one of 'decay'"),
        ({"weight": WEIGHT}, {"chunk_size": 1, "beta": 10**400}, ValueError, r"beta must be in \[0, 1\]"),
        ({"weight": WEIGHT}, {"chunk_size": 1, "threshold": 0.0}, ValueError, "threshold must be positive and finite"),
        ({"weight": WEIGHT}, {"chunk_size": 1, "surrogate": 3}, TypeError, "surrogate must be None or a function"),
        ({"weight": WEIGHT}, {"chunk_size": 1, "compact": 1}, TypeError, "compact must be True or False; got 1"),
        ({"weight": WEIGHT}, {"chunk_size": 1, "reproducible": 1}, TypeError, "reproducible must be True, False or a"),
        ({"weight": KERNEL}, {"chunk_size": 1, "groups": 3}, ValueError, "groups must be a divisor of the 4 output"),
        ({"weight": KERNEL}, {"chunk_size": 1, "padding": -1}, ValueError, "padding must be at least 0; got -1"),
    ],
)  # fmt: skip
def test_wrong_frozen_layers(arrays: Any, options: Any, error: type[Exception], words: str) -> None:
    """One sentence, when the layer is made rather than called."""
    with pytest.raises(error, match=f"FrozenLayer: {words}"):
        FrozenLayer(arrays, options)


def test_numbers_of_numpy_are_written(tmp_path: Path) -> None:
    """As options they become Python's, which a file can hold."""
    layer = FrozenLayer(
        {"weight": KERNEL}, {"chunk_size": np.int64(2), "stride": np.array([2, 2]), "beta": np.float32(0.5)}
    )
    assert layer.options == {"chunk_size": 2, "stride": [2, 2], "beta": 0.5}
    save_frozen(tmp_path / "net.npz", {"conv": layer})
    assert load_frozen(tmp_path / "net.npz")["conv"].options == {**layer.options, "reproducible": False}
    nested = {"chunk_size": 1, "stride": (np.int64(2), 1), "padding": ((np.int32(1), 0), np.array([0, 1]))}
    layer = FrozenLayer({"weight": KERNEL}, nested)
    save_frozen(tmp_path / "net.npz", {"conv": layer})
    again = load_frozen(tmp_path / "net.npz")["conv"].options
    assert (again["stride"], again["padding"]) == ([2, 1], [[1, 0], [0, 1]])


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_what_no_file_holds(tmp_path: Path, suffix: str) -> None:
    """One sentence, and no file; other names than Python's come back as they were."""
    if suffix == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed (it is part of the extra dev)")
    layer, path = FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2}), tmp_path / f"net.{suffix}"
    for name in ("\ud800", "a\0b"):
        with pytest.raises(ValueError, match=r"^save_frozen: layers must be named in text that files hold; got '"):
            save_frozen(path, {"conv": layer, name: layer})
    if np.dtype(np.longdouble).itemsize > 8:
        wide = FrozenLayer({"weight": WEIGHT.astype(np.longdouble)}, {"chunk_size": 2})
        with pytest.raises(TypeError, match=r"^save_frozen: layers\['conv'\] must be of float64 or fewer bits; got"):
            save_frozen(path, {"conv": wide})

    class Two:
        """An integer that JSON doesn't know."""

        def __index__(self) -> int:
            return 2

    with pytest.raises(TypeError, match=r"^save_frozen: layers\['conv'\] must be of options that JSON holds; got "):
        save_frozen(path, {"conv": FrozenLayer({"weight": WEIGHT}, {"chunk_size": Two()})})
    assert list(tmp_path.iterdir()) == []
    names = ["", "a/b", "../c", "a b", "ä\n", "options", "__metadata__"]
    save_frozen(path, dict.fromkeys(names, layer))
    assert list(load_frozen(path)) == names


def write(path: Path, arrays: dict[str, Any], layers: Any) -> None:
    """A file as `save_frozen` writes it, of whatever is given."""
    text = json.dumps({"format": FORMAT, "layers": layers}).encode()
    np.savez(path, options=np.frombuffer(text, np.uint8), **arrays)


@pytest.mark.parametrize(
    ("arrays", "layers", "words"),
    [
        ({"conv.weight": WEIGHT}, {"conv": {"chunk_size": 1, "speed": 3}}, "layer 'conv' .*options must be among .*'speed'"),
        ({"conv.weight": WEIGHT * np.nan}, {"conv": {"chunk_size": 1}}, r"layer 'conv' .*arrays\['weight'\] must be finite; got NaN"),
        ({"conv.weight": WEIGHT, "conv.beta": CHANNELS[:3]}, {"conv": {"chunk_size": 1}}, r"layer 'conv' .*'beta'\] must be of shape \(4,\)"),
        ({"conv.weight": WEIGHT, "conv.beta": CHANNELS * 3}, {"conv": {"chunk_size": 1}}, r"layer 'conv' .*'beta'\] must be in \[0, 1\]"),
        ({"conv.weight": WEIGHT, "conv.threshold": -CHANNELS}, {"conv": {"chunk_size": 1}}, r"'threshold'\] must be positive"),
        ({"conv.weight": WEIGHT}, {"conv": {}}, "layer 'conv' .*'chunk_size'"),
        ({}, {"conv": {"chunk_size": 1}}, "layer 'conv' .*'weight'"),
        ({"conv.weight": WEIGHT}, {"conv": 3}, "layer 'conv'"),
        ({"conv.weight": WEIGHT}, [], "."),
        ({"conv.weight": WEIGHT}, {"conv": {"chunk_size": 1, "reproducible": {"input_step": 10**400}}}, "1000"),
        ({"conv.weight": WEIGHT, "other": WEIGHT}, {"conv": {"chunk_size": 1}}, "array 'other' of no layer"),
    ],
)  # fmt: skip
def test_files_of_no_layers(tmp_path: Path, arrays: dict[str, Any], layers: Any, words: str) -> None:
    """A whole archive with contents that no layer has: one sentence that names the file."""
    path = tmp_path / "net.npz"
    write(path, arrays, layers)
    with pytest.raises(ValueError, match=f"^load_frozen: .*net.npz must be a whole file of save_frozen; got .*{words}"):
        load_frozen(path)


def test_damaged_files(tmp_path: Path) -> None:
    """Deeply nested JSON, and any flipped bit: the layer as it was, or one sentence."""
    path = tmp_path / "net.npz"
    np.savez(path, options=np.frombuffer(b"[" * 100_000, np.uint8))
    with pytest.raises(ValueError, match=r"load_frozen: .*net\.npz must be a whole file of save_frozen; got "):
        load_frozen(path)
    save_frozen(path, {"readout": FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2})})
    whole, refused = path.read_bytes(), 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 400).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            layers = load_frozen(path)
        except ValueError as error:
            assert str(error).startswith(f"load_frozen: path {path} must be a whole file of save_frozen; got ")  # noqa: PT017
            refused += 1
        else:
            np.testing.assert_array_equal(layers["readout"].arrays["weight"], WEIGHT)
    assert refused > 200


def test_other_types(tmp_path: Path) -> None:
    """Files are made of frozen layers that can be read again."""
    layer, path = FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2}), tmp_path / "net.npz"
    for layers in (3, None, layer, [layer], {"readout": WEIGHT}, {3: layer}):
        with pytest.raises(TypeError, match="save_frozen: layers must be a mapping of names to FrozenLayers; got "):
            save_frozen(path, layers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"arrays\['weight'\] must be finite; got NaN or infinity"):
        save_frozen(path, {"readout": FrozenLayer({"weight": WEIGHT * np.nan}, {"chunk_size": 2})})
    for wrong in (3, None, b"net.npz", [path]):
        with pytest.raises(TypeError, match="save_frozen: path must be a path; got "):
            save_frozen(wrong, {"readout": layer})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="load_frozen: path must be a path; got "):
            load_frozen(wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@EACH
def test_other_types_as_modules(need: Need, name: str) -> None:
    """And of a module that is one, a mapping that is none."""
    framework = made(need, name)
    layer = framework.layer("TACLinear", 3, 4, chunk_size=2)
    for module in (3, None, [layer], layer.frozen()):
        for function, rest in (("to_mapping", ()), ("load_mapping", ({},)), ("freeze", ())):
            with pytest.raises(TypeError, match=f"{function}: module must be a module of {name}; got "):
                getattr(framework.layers, function)(module, *rest)
    for mapping in (3, None, ["weight"]):
        with pytest.raises(TypeError, match="load_mapping: mapping must be a mapping of names to NumPy arrays; got "):
            framework.layers.load_mapping(layer, mapping)
    with pytest.raises(TypeError, match=r"freeze: reproducible must be None, True, False or a tacops\.Grid; got 3"):
        framework.layers.freeze(layer, reproducible=3)
    mapping = framework.layers.to_mapping(layer)
    assert all(array.ndim for array in mapping.values())
    framework.layers.load_mapping(layer, {key: array.astype(">f8") for key, array in mapping.items()})
    for key, array in framework.layers.to_mapping(layer).items():
        np.testing.assert_array_equal(array, mapping[key])


SHARDED = """
import numpy as np, jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from tacops.layers import FrozenLayer
rng = np.random.default_rng(0)
arrays = {"weight": rng.normal(0, 0.5, (4, 3, 3, 2)).astype("f4"), "beta": np.full(4, 0.8, "f4")}
layer = FrozenLayer(arrays, {"chunk_size": 2, "aggregation": "sum", "reproducible": True})
frames = rng.random((6, 8, 6, 5, 2)) < 0.3
want = layer(frames)
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    cut = jax.device_put(frames, NamedSharding(mesh, P(None, "data")))
    for call in (layer, layer.on(cut), jax.jit(lambda x: tuple(layer(x)))):
        got = call(cut)
        assert len(got[0].sharding.device_set) == 4
        assert all(np.array_equal(a, b) for a, b in zip(got, want)), kind
print(float(want.spikes.mean()))
"""


def test_sharded_batch(need: Need) -> None:
    """The weights of a frozen layer follow a batch that JAX has cut over four devices."""
    need("jax")
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    code = f"import os\nos.environ.update({environment!r})\n{SHARDED}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0.05 < float(done.stdout) < 0.95
