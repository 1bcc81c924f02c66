"""Each framework's own ways to copy, compile, differentiate and save its modules; the examples of docs/layers.md."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.layers.test_layers import FRAMES, LEARN, assert_close
from tests.support import ROOT
from tests.support.layer_frameworks import Need, made, values

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "layers.md").read_text(), re.DOTALL)


def test_torch_idioms(need: Need) -> None:
    """deepcopy, state_dict, double precision, torch.func, torch.compile's wrapper."""
    framework = made(need, "torch")
    import torch

    layer = framework.layer("TACConv", 2, 4, 3, chunk_size=3, learn=LEARN, batch_norm=True)
    twin, x = copy.deepcopy(layer), torch.tensor(FRAMES)
    assert set(layer.state_dict()) == set(framework.layers.to_mapping(layer))
    assert_close(framework.run(twin, FRAMES), framework.run(layer, FRAMES), atol=0)
    framework.layers.load_mapping(twin, values(10, framework, twin))
    layer.load_state_dict(twin.state_dict())
    assert_close(framework.run(twin, FRAMES), framework.run(layer, FRAMES), atol=0)
    double = copy.deepcopy(layer).to(torch.float64)
    assert double(x).membrane.dtype == torch.float64

    parameters, buffers = dict(layer.named_parameters()), {n: b.clone() for n, b in layer.named_buffers()}

    def loss(parameters: Any, buffers: Any) -> Any:
        return torch.func.functional_call(layer, (parameters, buffers), (x,)).membrane.square().mean()

    gradients = torch.func.grad(loss)(parameters, buffers)
    want = framework.gradients(layer, lambda layer: layer(x).membrane.square().mean())
    for name, array in want.items():
        np.testing.assert_allclose(gradients[name].detach(), array, atol=1e-5, err_msg=name)
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, getattr(layer, name))  # the batch has moved both
    assert set(framework.layers.to_mapping(torch.compile(layer, backend="eager"))) == set(layer.state_dict())


def test_torch_compiles_a_first_call(need: Need) -> None:
    """A layer that was never called is one graph, though a first call loads the backend."""
    made(need, "torch")
    code = (
        "import torch\nfrom tacops.backends.torch_layers import TACLinear\n"
        "layer = torch.compile(TACLinear(3, 4, chunk_size=2), backend='eager', fullgraph=True)\n"
        "print(tuple(layer(torch.rand(4, 2, 3)).spikes.shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(2, 2, 4)\n", done.stderr


def test_flax_idioms(need: Need) -> None:
    """nnx.split and merge, a layer made under nnx.jit, statistics that leave nnx.grad."""
    framework = made(need, "flax")
    import jax
    from flax import nnx

    layer = framework.layer("TACConv", 2, 4, 3, chunk_size=3, learn=LEARN, batch_norm=True)
    definition, state = nnx.split(layer)

    @jax.jit  # type: ignore[untyped-decorator]
    def run(state: Any, x: Any) -> Any:
        merged = nnx.merge(definition, state)
        return tuple(merged(x)), nnx.state(merged, nnx.BatchStat)

    train, statistics = run(state, framework.array(FRAMES))
    before = np.asarray(layer.norm_mean[...])
    assert_close(framework.numpy(train), framework.run(layer, FRAMES))
    np.testing.assert_allclose(statistics["norm_mean"][...], layer.norm_mean[...], atol=1e-6)
    assert np.any(before != np.asarray(layer.norm_mean[...]))
    made_inside = nnx.jit(lambda: framework.layers.TACLinear(2, 3, chunk_size=2, rngs=nnx.Rngs(0)))()
    assert made_inside.weight.shape == (3, 2)


def test_mlx_idioms(need: Need, tmp_path: Path) -> None:
    """Statistics are no trainable parameters, not after unfreeze either; weights are saved and loaded; set_dtype."""
    framework = made(need, "mlx")
    import mlx.core as mx

    layer = framework.layer("TACConv", 2, 4, 3, chunk_size=3, learn=LEARN, batch_norm=True)
    framework.layers.load_mapping(layer, values(10, framework, layer))
    layer.unfreeze()
    assert {"norm_mean", "norm_var"} == set(layer.parameters()) - set(layer.trainable_parameters())
    layer.save_weights(str(tmp_path / "layer.npz"))
    twin = framework.layer("TACConv", 2, 4, 3, chunk_size=3, learn=LEARN, batch_norm=True)
    twin.load_weights(str(tmp_path / "layer.npz"))
    assert_close(framework.run(twin, FRAMES), framework.run(layer, FRAMES), atol=0)
    layer.set_dtype(mx.float16)
    assert layer(framework.array(FRAMES)).membrane.dtype == mx.float16


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_documentation_runs(need: Need, number: int, tmp_path: Path) -> None:
    """Every block of docs/layers.md, in a process of its own."""
    for framework in re.findall(r"\b(torch|flax|mlx)_layers", BLOCKS[number]):
        made(need, framework)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[number]], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "False" not in done.stdout
    assert done.stdout
