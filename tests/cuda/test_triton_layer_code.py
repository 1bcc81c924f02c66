"""What Triton makes of the kernel of whole layers, without a GPU: tensor cores, nothing fused, nothing spilled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cuda.triton_host import MISSING

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

import torch
from triton.runtime import driver

from tacops._backend.steps import Recipe, Reset
from tacops._backend.window import Window
from tacops.backends._triton import layers
from tacops.backends._triton.convolving import conv_lif
from tests.cuda.test_triton_code import Code, Launch


def compiled(folder: Path, monkeypatch: pytest.MonkeyPatch, capability: int, channels: int, full: bool, kind: Any, whole: bool = True) -> Code:  # fmt: skip
    """A layer of 3 x 3 kernels, with nothing but what reproducible mode needs or with all it can have."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))
    launch = Launch(conv_lif, capability, {})
    monkeypatch.setattr(layers, "conv_lif", launch)
    monkeypatch.setattr(driver, "_active", launch)
    monkeypatch.setattr(layers, "BLOCK", layers.BLOCK_10 if capability == 100 else layers.BLOCK)
    row, start, poison = torch.ones(64), torch.zeros(4, 32, 32, 64), torch.zeros(())
    plain = Recipe(0.9, row, Reset.SUBTRACT, whole, True, poison if whole else None, unit=row if whole else None)
    step = Recipe(row, row, Reset.LATE, whole, False, poison, unit=row if whole else None) if full else plain
    frames, weight = torch.zeros(16, 4, 32, 32, channels, dtype=kind), torch.zeros(64, 3, 3, channels)
    weight = weight.half() if whole else weight
    window = Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    membrane, repeat = (start, 4) if full else (None, 1)
    layers.layer(step, frames, weight, row if full else None, window, membrane, repeat)
    return launch.code(folder)


@pytest.mark.parametrize(
    ("capability", "channels", "full", "kind", "products"),
    [
        (80, 64, True, "float32", "mma.sync"),
        (80, 2, False, "bool", "mma.sync"),
        (90, 64, False, "bool", "wgmma.mma_async"),
        (90, 2, True, "float32", "wgmma.mma_async"),
        (100, 64, False, "bool", "mma.sync"),
        (120, 64, False, "bool", "mma.sync"),
        (120, 2, True, "bool", "mma.sync"),
    ],
)
def test_code(
    capability: int,
    channels: int,
    full: bool,
    kind: str,
    products: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Operands of float16 and sums of float32; the neurons' operations one by one, in registers."""
    check(compiled(tmp_path, monkeypatch, capability, channels, full, getattr(torch, kind)), products, "f16")


@pytest.mark.parametrize(
    ("capability", "channels", "full", "products"),
    [
        (80, 64, False, "mma.sync"),
        (90, 64, True, "wgmma.mma_async"),
        (100, 2, False, "mma.sync"),
        (120, 64, False, "mma.sync"),
    ],
)
def test_code_of_three_parts(
    capability: int, channels: int, full: bool, products: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default path's: bfloat16 by bfloat16, and weights cut into parts without fusing anything."""
    code = compiled(tmp_path, monkeypatch, capability, channels, full, torch.bool, False)
    check(code, products, "bf16")
    assert "cvt.rn.bf16" in code.ptx  # rounded, not cut off


def check(code: Code, products: str, kind: str) -> None:
    found = re.findall(r"(?:wgmma\.mma_async|mma\.sync)[.\w]*", code.ptx)
    assert found
    assert all(
        name.startswith(products) and name.endswith(f".f32.{kind}.{kind}" + ".f32" * ("wg" not in name))
        for name in found
    )
    assert re.findall(r"REG:\d+ STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", code.resources)[0] == ("0", "0")
    assert "mul.rn.f32" in code.ptx
    assert not re.findall(r"\bfma", code.ptx)
    assert not re.findall(r"\b[FD]FMA", code.machine)
    assert ".ftz" not in code.ptx


def test_older_gpus_would_multiply_without_tensor_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So they don't get this kernel, and the test above can fail."""
    code = compiled(tmp_path, monkeypatch, 75, 2, False, torch.bool)
    assert "mma" not in code.ptx
    assert re.findall(r"\bfma", code.ptx)
