"""Training on several devices: two processes of PyTorch's, which run all checks of ``ranks.py`` once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.layers.test_layers import FRAMES
from tests.support import ROOT
from tests.support.layer_frameworks import Need, made

CHECKS = re.findall(
    r'^    "([\w ,]+)": ', (Path(__file__).parent / "ranks.py").read_text(encoding="utf-8"), re.MULTILINE
)


@pytest.fixture(scope="module")
def found(need: Need, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What each of the two processes has found."""
    made(need, "torch")
    import torch

    if not torch.distributed.is_available():
        pytest.skip("PyTorch without torch.distributed")
    meeting = tmp_path_factory.mktemp("ranks") / "meeting"
    command = [sys.executable, "-m", "tests.layers.ranks", str(meeting)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen([*command, str(rank)], **pipes) for rank in range(2)]
    try:
        told = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for out, err in told:
        assert out, err
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


@pytest.mark.parametrize("check", CHECKS)
def test_two_processes(found: list[dict[str, str]], check: str) -> None:
    """DistributedDataParallel and FSDP2 learn what one process learns of the whole batch, its statistics too."""
    assert [rank[check] for rank in found] == ["", ""]


def test_all_checks_are_told(found: list[dict[str, str]]) -> None:
    assert [list(rank) for rank in found] == [CHECKS] * 2
    assert len(CHECKS) > 7


def test_shared_statistics_of_one_process(need: Need) -> None:
    """They are its own; without batch normalisation there are none to share; what is no norm of ours is refused."""
    framework = made(need, "torch")
    import torch

    frames = torch.tensor(FRAMES)
    layers = [framework.layer("TACConv", 2, 4, 3, chunk_size=3, batch_norm=True, sync=n == 1) for n in range(3)]
    layers[2] = torch.nn.SyncBatchNorm.convert_sync_batchnorm(layers[2])
    assert [layer.norm.sync for layer in layers] == [False, True, True]
    assert "sync=True" in repr(layers[2].norm)
    for layer in layers:
        layer(frames)
        torch.testing.assert_close(layer.norm_var, layers[0].norm_var, rtol=0, atol=0)
    with pytest.raises(ValueError, match="TACLinear: sync must be False without batch_norm=True"):
        framework.layer("TACLinear", 2, 4, chunk_size=3, sync=True)
    with pytest.raises(TypeError, match="TACLinear: sync must be True or False; got 1"):
        framework.layer("TACLinear", 2, 4, chunk_size=3, batch_norm=True, sync=1)
    layers[0].norm = torch.nn.SyncBatchNorm(4)
    with pytest.raises(TypeError, match=r"TACConv: norm must be the layer's own .*; got SyncBatchNorm"):
        layers[0](frames)
