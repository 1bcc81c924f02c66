"""The examples of docs/helpers.md, and helpers inside the frameworks' compilers."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from tacops import encode, readout, surrogate
from tacops.layers import Flatten, Pool2d
from tests.support import ROOT
from tests.support.layer_frameworks import Need, made

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "helpers.md").read_text(), re.DOTALL)
FRAMES = encode.rate(np.full((2, 6, 6, 1), 0.5), 4, seed=0)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(need: Need, number: int) -> None:
    """In a process of its own."""
    if "import torch" in BLOCKS[number]:
        need("torch")
    if "plot" in BLOCKS[number]:
        pytest.importorskip("matplotlib")
    done = subprocess.run([sys.executable, "-c", BLOCKS[number]], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_blocks_were_found() -> None:
    assert len(BLOCKS) == 3


def test_pytorch_compiles_a_network(need: Need) -> None:
    """Whole, with pools and functions between layers; and its state is that of a call that is not compiled."""
    framework = made(need, "torch")
    import torch

    conv = framework.layer("ConvLIF", 1, 4, 3, padding=1, threshold=0.2, surrogate=surrogate.triangular())
    net = framework.layers.Sequential(
        conv, Pool2d("max", 2), Flatten(), framework.layer("TACLinear", 36, 3, chunk_size=2)
    )
    x, labels = torch.from_numpy(FRAMES), torch.tensor([0, 2])
    train = torch.compile(net, backend="eager", fullgraph=True)(x)
    want = net(x)
    np.testing.assert_array_equal(train.spikes.detach(), want.spikes.detach())
    np.testing.assert_array_equal(train.membrane[0].detach(), want.membrane[0].detach())
    readout.cross_entropy(train.membrane[3], labels).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_flax_compiles_a_network(need: Need) -> None:
    framework = made(need, "flax")
    from flax import nnx

    conv = framework.layer("ConvLIF", 1, 4, 3, padding=1, threshold=0.2)
    net = framework.layers.Sequential(
        conv, Pool2d("max", 2), Flatten(), framework.layer("TACLinear", 36, 3, chunk_size=2)
    )
    train = nnx.jit(lambda net, x: net(x))(net, framework.array(FRAMES))
    np.testing.assert_array_equal(train.spikes, net(framework.array(FRAMES)).spikes)
    assert train.membrane[1] is None
