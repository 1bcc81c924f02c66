"""What Triton makes of PyTorch's kernels for GPUs, without one: nothing fused, nothing spilled, 128 bits at a time."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cuda.triton_host import MISSING

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from tacops._backend.steps import Recipe, Reset
from tacops.backends._triton import launching

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Code(NamedTuple):
    """Of one kernel."""

    ptx: str
    resources: str
    machine: str


class Launch:
    """In a kernel's place: Triton binds what it would be launched with, and compiles it, and that is all.

    It also takes the place of Triton's driver, which would ask a GPU which one it is.
    """

    def __init__(self, kernel: Any, capability: int, options: dict[str, Any]) -> None:
        self.kernel, self.capability, self.options = kernel, capability, options
        self.found: Any = None

    def get_current_device(self) -> int:
        """A number of its own for each kind of GPU."""
        return self.capability

    def get_current_target(self) -> GPUTarget:
        """Of NVIDIA."""
        return GPUTarget("cuda", self.capability, 32)

    def get_current_stream(self, device: int) -> int:
        """The default one."""
        return 0

    def __getitem__(self, grid: Any) -> Any:
        def compile_alone(**given: Any) -> None:
            self.found = self.kernel.warmup(grid=grid, **{**given, **self.options})

        return compile_alone

    def code(self, folder: Path) -> Code:
        """As text."""
        path = folder / "code.cubin"
        path.write_bytes(self.found.asm["cubin"])
        tool, disassembler = str(TOOLS / "cuobjdump"), str(TOOLS / "nvdisasm")
        used = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True, check=True)
        machine = subprocess.run([disassembler, path], capture_output=True, text=True, check=True)
        return Code(self.found.asm["ptx"], used.stdout + used.stderr, machine.stdout)


def compiled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, capability: int, dtype: Any, full: bool, **options: Any
) -> Code:
    """A kernel as a layer would launch it, with nothing but what it needs or with all it can have."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))
    launch = Launch(getattr(launching, name), capability, options)
    monkeypatch.setattr(launching, name, launch)
    monkeypatch.setattr(driver, "_active", launch)
    currents, row = torch.zeros(16, 4, 32, 64, dtype=dtype), torch.ones(64, dtype=dtype)
    poison, start = torch.zeros((), dtype=dtype), torch.zeros_like(currents[0])
    plain = Recipe(0.9, 1.0, Reset.SUBTRACT, False, not full, None)
    step = Recipe(row, row, Reset.LATE, True, False, poison, None, False, row) if full else plain
    membrane, repeat = (start, 4) if full else (None, 1)
    if name == "lif":
        launching.forth(step, currents, membrane, repeat, full)
    else:
        kept = torch.zeros(16 * repeat, 4, 32, 64, dtype=dtype)
        launching.back(step, ("arctan", 2.0), kept, membrane, repeat, kept, start if full else None, (full, full))
    return launch.code(folder)


@pytest.mark.parametrize("full", [False, True], ids=["plain", "full"])
@pytest.mark.parametrize("name", ["lif", "lif_back"])
@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        (75, "float32"),
        (75, "bfloat16"),
        (80, "float32"),
        (90, "float32"),
        (90, "float64"),
        (90, "float16"),
        (100, "float32"),
        (120, "float32"),
    ],
)
def test_code(
    name: str, full: bool, capability: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For GPUs of all generations that Triton compiles for."""
    code = compiled(tmp_path, monkeypatch, name, capability, DTYPES[dtype], full)
    assert re.findall(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", code.resources)[0][1:] == ("0", "0")
    assert int(re.findall(r"REG:(\d+)", code.resources)[0]) <= 128
    assert "mul.rn.f" in code.ptx
    assert "fma" not in code.ptx
    assert ".ftz" not in code.ptx  # small membranes stay what they are
    if name == "lif":  # the other divides, which takes some; HFMA2 is how constants are loaded
        assert not re.findall(r"\b[FD]FMA", code.machine)
        assert re.findall(r"\b[FD]MUL", code.machine)
    width = {"float32": "v4.b32", "float64": "v2.b64", "float16": "v2.b32", "bfloat16": "v2.b32"}[dtype]
    # the currents or the membranes in the loop, and what is written there
    assert f"ld.global.{width}" in code.ptx
    assert f"st.global.{width}" in code.ptx


def test_fusion_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    code = compiled(tmp_path, monkeypatch, "lif", 90, torch.float32, False, enable_fp_fusion=True)
    assert "fma" in code.ptx
    assert re.findall(r"\bFFMA", code.machine)
