"""NVIDIA's own compiler on the kernels: every architecture, no spills, no product fused into a sum where the core has none.

It needs no GPU: ``pip install 'tacops[cupy-dev]'`` brings it.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cuda.mutants import MUTANTS
from tests.support import ROOT

CUPY = ("-ftz=true", "--std=c++17", "--device-as-default-execution-space")
"""What CuPy adds to every compilation."""
ARCHITECTURES = ("70", "75", "80", "86", "89", "90", "100", "120")
SIBLINGS = ("87", "88", "103", "107", "110", "121")
"""Compiled to PTX only: machine code takes seconds."""
INPUTS = {
    **dict.fromkeys(("bool", "uint8"), "unsigned char"),
    "int8": "signed char",
    "int16": "short",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "float32": "float",
    "float64": "double",
}


def options(
    real: str = "float",
    frames: str = "unsigned char",
    spike: str = "bool",
    run: int = 1,
    narrow: bool = False,
    half: bool = False,
) -> tuple[str, ...]:
    """The adapter's, which can't be asked for them without CuPy."""
    index = "int" if narrow else "long long"
    types = f"-DREAL={real}", f"-DINPUT={frames}", f"-DSPIKE={spike}"
    return *types, f"-DRUN={run}", f"-DINDEX={index}", *(("-DHALF",) if half else ())


PLAIN = options()
VARIANTS = {
    "lif": [options(run=4, narrow=True), options("double", "double", "double", 2)],
    "weighted_sum": [options(run=4, narrow=True), options("double", "double", "double", 2)],
    "conv_lif": [options(run=8, narrow=True), options("double", "double", "double")],
    "unfold": [options(run=8, narrow=True, half=True), options("double", "double", "double", 2)],
}
"""Of every kernel, what most layers take, and what takes most registers."""
RUNS = {
    "lif": {"LDG.E.128", "STG.E.128", "STG.E"},  # four currents, membranes, and spikes of a byte
    "weighted_sum": {"LDG.E", "STG.E.128"},  # four spikes of a byte, four sums
    "conv_lif": {"LDS.128", "STG.E.64", "STG.E.128"},  # weights, eight spikes of a byte, membranes
    "unfold": {"LDG.E.64", "STG.E.128"},  # eight spikes of a byte, eight numbers of float16
}
"""Moves in the machine code of the first variant, without what says how they are cached."""
REGISTERS = {"lif": 72, "weighted_sum": 72, "conv_lif": 128, "unfold": 48}
"""Most that a thread of the first variant may take."""


@cache
def source(name: str) -> str:
    """As the adapter puts a kernel's text together."""
    files = "_step/lif_step.h", "_cuda/common.h", f"_cuda/{name}.cu"
    return "\n".join((ROOT / "backends" / file).read_text() for file in files)


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


class Code(NamedTuple):
    """What the compiler made: PTX or machine code, and what it said."""

    ptx: str
    machine: bytes
    log: str


@cache
def compiled(architecture: str, text: str, given: tuple[str, ...], ptx: bool = False) -> Code:
    """Of one kernel."""
    nvrtc = load_nvrtc()
    major, _ = nvrtc.getVersion()
    if architecture == "70" and major > 12:
        pytest.skip(f"compute capability 7.0 is not compiled for: NVRTC {major} has dropped it, NVRTC 12 has it")
    if int(architecture) not in nvrtc.getSupportedArchs():
        pytest.skip(f"NVRTC {'.'.join(map(str, nvrtc.getVersion()))} does not know compute capability {architecture}")
    goal = f"-arch=compute_{architecture}" if ptx else f"-arch=sm_{architecture}"
    program = nvrtc.createProgram(text, "kernel.cu", (), ())
    try:
        try:
            nvrtc.compileProgram(program, (*CUPY, *given, goal, *(() if ptx else ("-Xptxas=-v",))))
        except nvrtc.NVRTCError as error:
            raise AssertionError(nvrtc.getProgramLog(program)) from error
        code = nvrtc.getPTX(program).decode().rstrip("\0") if ptx else ""
        # CuPy's bindings leave out the last byte, as if it ended a string
        machine = b"" if ptx else nvrtc.getCUBIN(program) + b"\0"
        assert ptx or machine.startswith(b"\x7fELF")
        return Code(code, machine, nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)


def build(architecture: str, text: str, given: tuple[str, ...], ptx: bool = False) -> tuple[str, str]:
    """PTX, if it is asked for, and the compiler's log."""
    code = compiled(architecture, text, given, ptx)
    return code.ptx, code.log


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("architecture", "variant"), [*((a, 0) for a in ARCHITECTURES), ("75", 1), ("120", 1)])
def test_compiles_without_spills(architecture: str, variant: int, name: str) -> None:
    """Machine code with all variables in registers, few of them, and no shared memory but what a launch asks for."""
    _, log = build(architecture, source(name), VARIANTS[name][variant])
    said = re.sub(r"nvrtc: warning: Architectures prior to .* are deprecated.*", "", log)  # NVRTC 12 of 7.0
    assert not re.search(r"\b(warning|error)\b", said), log
    assert re.findall(r"Compiling entry function '(\w+)'", log) == [name]
    stacks = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert stacks == [("0", "0", "0")], log
    (registers,) = re.findall(r"Used (\d+) registers", log)
    assert int(registers) <= (
        168 if variant else REGISTERS[name]
    )  # 168: three blocks of 128 threads per multiprocessor
    assert "bytes smem" not in log


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("architecture", ["75", "80", "90", "120"])
def test_moves_many_bytes_at_a_time(architecture: str, name: str, tmp_path: Path) -> None:
    """Loads and stores in the machine code, by NVIDIA's disassembler, which Triton brings."""
    machine = compiled(architecture, source(name), VARIANTS[name][0]).machine
    assert _moves(machine, tmp_path) >= RUNS[name]
    one = tuple("-DRUN=1" if option.startswith("-DRUN") else option for option in VARIANTS[name][0])
    if name == "lif" and architecture == "90":  # so this test can fail
        assert not _moves(compiled(architecture, source(name), one).machine, tmp_path) & {"LDG.E.128", "STG.E.128"}


def _moves(machine: bytes, folder: Path) -> set[str]:
    """Kinds of loads and stores, global and shared."""
    triton = pytest.importorskip(
        "triton", reason="machine code is not read: Triton, which has a disassembler, is not here"
    )
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    path = folder / "kernel.cubin"
    path.write_bytes(machine)
    text = subprocess.run([tool, path], capture_output=True, text=True, check=True).stdout
    return {
        re.sub(r"\.(CONSTANT|SYS|CI|U|STRONG\.\w+)", "", name) for name in re.findall(r"\b(?:LDG|STG|LDS)[.\w]*", text)
    }


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("architecture", SIBLINGS)
def test_compiles(architecture: str, name: str) -> None:
    """PTX for the other architectures that NVRTC 13 knows."""
    code, log = build(architecture, source(name), VARIANTS[name][0], ptx=True)
    assert code.count(".visible .entry") == 1
    assert "warning" not in log, log
    assert code.count(".extern .shared") == (name == "conv_lif")


@pytest.mark.parametrize("frames", sorted(set(INPUTS.values())))
@pytest.mark.parametrize("name", ["weighted_sum", "conv_lif", "unfold"])
def test_compiles_for_every_dtype(name: str, frames: str) -> None:
    """Every dtype that the adapter passes on."""
    code, log = build("75", source(name), options("float", frames, "float", 8 if name == "conv_lif" else 4), ptx=True)
    assert code.count(".visible .entry") == 1
    assert "warning" not in log, log


def test_types_are_the_adapter_s() -> None:
    """The names of dtypes above, and what is made of them."""
    pytest.importorskip("cupy", reason="options are not compared: CuPy is not installed (tacops[cupy-dev])")
    from tacops.backends._cuda import building

    assert building.INPUTS == INPUTS
    assert building.options("float32", "bool", "bool", 8, True, True) == VARIANTS["unfold"][0]
    assert building.options("float64", "float64", "float64", 2) == VARIANTS["lif"][1]
    assert set(building.KERNELS) == set(VARIANTS)


def _fused(ptx: str) -> int:
    """How many fused multiply-adds there are."""
    return len(re.findall(r"\bfma\.rn[.\w]*\.f(?:32|64)\b", ptx))


@pytest.mark.parametrize("variant", [0, 1], ids=["float", "double"])
def test_rounds_where_the_core_rounds(variant: int) -> None:
    """With the compiler's default options, which fuse wherever they can."""

    def fused(name: str, old: str = "", new: str = "") -> int:
        text = source(name).replace(old, new) if old else source(name)
        return _fused(build("80", text, VARIANTS[name][variant], ptx=True)[0])

    assert [fused(name) for name in ("lif", "weighted_sum", "unfold")] == [0, 0, 0]
    assert fused("conv_lif") > 0  # sums of products may be fused, and are
    mutant = MUTANTS["one rounding for decay and current"]
    assert fused("lif", mutant.old, mutant.new) > 0
    assert fused("lif", mutant.old, "rounded ? rint(decay * u) + current : decay * u + current") > 0  # so this can fail
