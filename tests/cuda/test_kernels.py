"""The kernels' text, run by this CPU: hundreds of random cases equal the core's answers bit for bit; mistakes are found."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops._core.neurons import LIFStep
from tests.cuda.cases import CHECKS, CORE, plain
from tests.cuda.host import COMPILER, MISSING, HostModule, launching
from tests.cuda.mutants import MUTANTS, planted
from tests.support import ROOT, fake_cupy

MODES = ("as they come", "backwards", "few blocks")


@contextmanager
def running(module: Any, mode: str) -> Iterator[None]:
    """Threads in reverse order; or so few blocks, and tiles so small, that every loop goes round."""
    with pytest.MonkeyPatch.context() as patch, launching(backwards=mode == "backwards"):
        if mode == "few blocks":
            patch.setattr(module.building, "MOST_BLOCKS", 1)
            patch.setattr(module.building, "BLOCK", 32)
            patch.setattr(module.building, "NARROW", 0)
            patch.setattr(module.building, "l2_bytes", lambda: 800)
            patch.setattr(module.launching, "MOST_ROWS", 1)
        yield


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel", CHECKS)
def test_equals_the_core(module: Any, kernel: str, mode: str) -> None:
    """Spikes, membranes and sums, signs of zero included."""
    check, count = CHECKS[kernel]
    before = fake_cupy.traffic["launches"]
    with running(module, mode):
        for seed in range(count):
            if mode == "few blocks" and not plain(kernel, seed):  # compiled with wide indices, too
                continue
            try:
                check(module, seed)
            except Exception as error:
                error.add_note(f"{kernel}, seed {seed}, {mode}")
                raise
    assert fake_cupy.traffic["launches"] > before + count // 12


@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if mutant.found_by in CHECKS])
def test_mistake_is_found(module: Any, name: str) -> None:
    """Answers differ where a kernel is wrong."""
    check, count = CHECKS[MUTANTS[name].found_by]
    mode = "few blocks" if name in ("sums only the first chunks", "does one neuron per thread") else "as they come"
    with planted(module, MUTANTS[name]), running(module, mode), pytest.raises(AssertionError):  # noqa: PT012
        for seed in sorted(range(count), key=lambda seed: not plain(MUTANTS[name].found_by, seed)):
            check(module, seed)


def _sanitized(mutant: str) -> subprocess.CompletedProcess[str]:
    """Run cases under the address and undefined-behaviour sanitizers."""
    libraries = []
    for name in ("libasan.so", "libubsan.so", "libstdc++.so"):
        found = subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        libraries.append(found.stdout.strip())
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip(f"memory errors in kernels are not looked for: {COMPILER} has no sanitizer libraries here")
    environment = {
        "PATH": "/usr/bin:/bin",
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "TACOPS_SANITIZE": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.cuda.cases", mutant]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_sanitizers_find_nothing() -> None:
    """No kernel reads or writes beyond its arrays, or overflows an index."""
    done = _sanitized("none")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "clean\n"


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if mutant.found_by.startswith("sanitizer")])
def test_sanitizer_finds_mistake(name: str) -> None:
    """A step beyond an array ends the process."""
    done = _sanitized(name)
    assert done.returncode != 0
    assert "ERROR: AddressSanitizer" in done.stderr
    assert f"{MUTANTS[name].found_by.removeprefix('sanitizer of ')}.cu" in done.stderr


def _lazily(shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeros of any size: memory that nobody touches is not there."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=dtype).reshape(shape)


@pytest.mark.parametrize("mutant", [None, "counts in 31 bits"])
def test_more_than_two_billion_currents(module: Any, mutant: str | None) -> None:
    """The last block of a launch that is too large to run whole."""
    neurons, block, cuda = 2**30 + 77, 128, module.launching
    drive = _lazily((3, neurons), np.float32)
    drive[2, -5:] = 2.0
    spikes, membrane = _lazily((3, neurons), bool), _lazily((neurons,), np.float32)
    with planted(module, MUTANTS[mutant] if mutant else None):
        kernel = HostModule(code=cuda.source(), options=cuda.options("float32")).get_function("lif")
    arrays, numbers = (drive, None, None, None, None, spikes, membrane), _numbers(module)
    with launching(blocks=slice(-1, None)):
        kernel((-(-neurons // block),), (block,), (*arrays, np.int64(3), np.int64(neurons), numbers))
    right = [[False] * 6, [False] * 6, [False, *[True] * 5]], [0.0, *[1.0] * 5]
    assert ((spikes[:, -6:].tolist(), membrane[-6:].tolist()) == right) == (mutant is None)


def test_more_than_two_billion_frames_to_sum_or_convolve(module: Any) -> None:
    """Chunks and pixels beyond the reach of 32 bits."""
    width = 2**30 + 77
    x, sums = _lazily((1, 3, width), np.uint8), _lazily((1, width), np.float32)
    x[0, :, -1] = 1, 2, 3
    weights = np.zeros((1,), dtype=[("at", np.float32, (32,))])
    weights["at"][0, :3] = 0.25, 0.5, 1.0
    cuda = module.launching
    kernels = HostModule(code=cuda.source(), options=cuda.options("float32"))
    with launching(blocks=slice(-1, None)):
        counts = np.int64(1), np.int32(3), np.int64(width), np.int32(1)
        kernels.get_function("weighted_sum")((-(-width // 128), 1), (128,), (x, None, sums, *counts, weights))
    assert sums[0, -2:].tolist() == [0.0, 4.25]

    side, stride = 1 << 15, 1 << 12
    frames = _lazily((3, 1, side, side, 1), bool)
    frames[2, 0, -1, -1, 0] = True
    spikes, membrane = np.zeros((3, 1, 8, 8, 1), bool), np.zeros((1, 8, 8, 1), np.float32)
    last = stride - 1
    shape = (side, side, 1, 8, 8, 1, 1, 1, stride, stride, -last, -last, 1, 1)
    arguments = frames, np.full((1, 1, 1, 1), 1.5, np.float32), None, None, None, None, None, spikes, membrane
    window = np.array([shape], dtype=cuda.WINDOW)
    kernels.get_function("conv_lif")((1,), (128,), (*arguments, np.int64(3), np.int64(1), window, _numbers(module)))
    assert np.flatnonzero(spikes).tolist() == [3 * 64 - 1]
    assert membrane[0, -1, -1, 0] == 0.5


def _numbers(module: Any) -> Any:
    """Neurons with decay 1/2 and threshold 1."""
    return module.launching._neurons(LIFStep(CORE, 0.5, 1.0, "subtract").recipe, 1, 1, np.dtype("float32"))[0]


def test_nothing_to_do(module: Any) -> None:
    """Arrays without elements are answered without a launch."""
    before = fake_cupy.traffic["launches"]
    empty = fake_cupy.ndarray(np.zeros((3, 0, 2), np.float32))
    spikes, (membrane,) = module.BACKEND.scan(LIFStep(CORE, 0.5, 1.0, "zero", compact=True), empty, None, 2)
    assert (spikes.shape, membrane.shape, spikes.dtype) == ((6, 0, 2), (0, 2), bool)
    assert module.BACKEND.weighted_sum(empty.reshape(1, 3, 0, 2), [1.0] * 3, np.float32).shape == (1, 0, 2)
    assert fake_cupy.traffic["launches"] == before


def test_wrong_arguments_are_refused(module: Any) -> None:
    """What CUDA would take for anything, the stand-in for it refuses."""
    kernel = HostModule(code=module.launching.source(), options=module.launching.options("float32")).get_function(
        "weighted_sum"
    )
    x, sums = np.zeros((1, 2, 3), np.uint8), np.zeros((1, 3), np.float32)
    weights = np.zeros((1,), dtype=[("at", np.float32, (32,))])
    good = [x, None, sums, np.int64(1), np.int32(2), np.int64(3), np.int32(1), weights]
    kernel((1, 1), (32,), tuple(good))
    wrong = {0: x.astype(np.float32), 1: x, 2: sums.T[::2], 3: np.int32(1), 4: 2, 6: None, 7: weights["at"]}
    for place, value in wrong.items():
        with pytest.raises(TypeError, match=f"argument {place} is for"):
            kernel((1, 1), (32,), (*good[:place], value, *good[place + 1 :]))
    with pytest.raises(TypeError, match="takes 8 arguments"):
        kernel((1, 1), (32,), tuple(good[:-1]))
    with pytest.raises(ValueError, match="no GPU launches"):
        kernel((1, 1), (2048,), tuple(good))
