"""NVIDIA's own compiler on the kernels: every architecture, no spills, no product fused into a sum where the core has none.

It needs no GPU: ``pip install 'tacops[cupy-dev]'`` brings it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from tacops.backends._step import lif_step
from tests.cuda.mutants import MUTANTS
from tests.support import ROOT

SOURCE = lif_step() + (ROOT / "backends" / "_cuda" / "kernels.cu").read_text()
CUPY = ("-ftz=true", "--std=c++17", "--device-as-default-execution-space")
"""What CuPy adds to every compilation."""
ROUNDED = ("lif", "weighted_sum")
"""Kernels whose every operation is the core's."""
ARCHITECTURES = ("70", "75", "80", "86", "89", "90", "100", "120")
SIBLINGS = ("87", "88", "103", "107", "110", "121")
"""Compiled to PTX only: machine code takes seconds."""
VARIANTS = [("float", "unsigned char", "bool"), ("double", "double", "double")]
INPUTS = (
    "unsigned char",
    "signed char",
    "short",
    "unsigned short",
    "int",
    "unsigned int",
    "long long",
    "float",
    "double",
)


@cache
def load_nvrtc() -> Any:
    """CuPy's bindings, the layer that asks for no device; not with the stand-in in CuPy's place."""
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        pytest.skip(
            f"kernels are not compiled for GPUs, nor searched for spills: no NVRTC ({reason}); tacops[cupy-dev]"
        )
    return nvrtc


@cache
def build(architecture: str, variant: tuple[str, str, str], text: str = SOURCE, ptx: bool = False) -> tuple[str, str]:
    """PTX, if it is asked for, and the compiler's log."""
    nvrtc = load_nvrtc()
    major, _ = nvrtc.getVersion()
    if architecture == "70" and major > 12:
        pytest.skip(f"compute capability 7.0 is not compiled for: NVRTC {major} has dropped it, NVRTC 12 has it")
    if int(architecture) not in nvrtc.getSupportedArchs():
        pytest.skip(f"NVRTC {'.'.join(map(str, nvrtc.getVersion()))} does not know compute capability {architecture}")
    macros = (f"-D{name}={value}" for name, value in zip(("REAL", "INPUT", "SPIKE"), variant, strict=True))
    goal = f"-arch=compute_{architecture}" if ptx else f"-arch=sm_{architecture}"
    program = nvrtc.createProgram(text, "kernels.cu", (), ())
    try:
        try:
            nvrtc.compileProgram(program, (*CUPY, *macros, goal, *(() if ptx else ("-Xptxas=-v",))))
        except nvrtc.NVRTCError as error:
            raise AssertionError(nvrtc.getProgramLog(program)) from error
        code = nvrtc.getPTX(program).decode().rstrip("\0") if ptx else ""
        if not ptx:
            assert nvrtc.getCUBIN(program).startswith(b"\x7fELF")
        return code, nvrtc.getProgramLog(program)
    finally:
        nvrtc.destroyProgram(program)


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [(architecture, VARIANTS[0]) for architecture in ARCHITECTURES] + [("75", VARIANTS[1]), ("120", VARIANTS[1])],
)
def test_compiles_without_spills(architecture: str, variant: tuple[str, str, str]) -> None:
    """Machine code for every kernel, its variables all in registers: no stack, no spills."""
    _, log = build(architecture, variant)
    said = re.sub(r"nvrtc: warning: Architectures prior to .* are deprecated.*", "", log)  # NVRTC 12 of 7.0
    assert not re.search(r"\b(warning|error)\b", said), log
    kernels = re.findall(r"Compiling entry function '(\w+)'", log)
    assert sorted(kernels) == ["conv_lif", "lif", "weighted_sum"]
    stacks = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert stacks == [("0", "0", "0")] * 3, log
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", log)]
    assert len(registers) == 3
    assert max(registers) <= 128  # four blocks of 128 threads or more per multiprocessor


@pytest.mark.parametrize("architecture", SIBLINGS)
def test_compiles(architecture: str) -> None:
    """PTX for the other architectures that NVRTC 13 knows."""
    code, log = build(architecture, VARIANTS[0], ptx=True)
    assert code.count(".visible .entry") == 3
    assert "warning" not in log, log


@pytest.mark.parametrize("frames", INPUTS)
@pytest.mark.parametrize("real", ["float", "double"])
def test_compiles_for_every_dtype(real: str, frames: str) -> None:
    """Every dtype that the adapter passes on."""
    code, log = build("75", (real, frames, real), ptx=True)
    assert code.count(".visible .entry") == 3
    assert "warning" not in log, log


def _fused(ptx: str, kernel: str) -> int:
    """How many fused multiply-adds a kernel has."""
    body = re.split(r"\.visible \.entry ", ptx.split(f".visible .entry {kernel}(")[1])[0]
    return len(re.findall(r"\bfma\.rn[.\w]*\.f(?:32|64)\b", body))


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_rounds_where_the_core_rounds(variant: tuple[str, str, str]) -> None:
    """With the compiler's default options, which fuse wherever they can."""
    ptx, _ = build("80", variant, ptx=True)
    assert [_fused(ptx, kernel) for kernel in ROUNDED] == [0, 0]
    assert _fused(ptx, "conv_lif") > 0  # sums of products may be fused, and are
    mutant = MUTANTS["one rounding for decay and current"]
    fused, _ = build("80", variant, SOURCE.replace(mutant.old, mutant.new), ptx=True)
    sum_of_product = "rounded ? rint(decay * u) + current : decay * u + current"
    contracted, _ = build("80", variant, SOURCE.replace(mutant.old, sum_of_product), ptx=True)
    assert _fused(fused, "lif") > 0
    assert _fused(contracted, "lif") > 0  # so this test can fail
