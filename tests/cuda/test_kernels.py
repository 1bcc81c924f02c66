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

from tacops._backend.window import Window
from tacops._core.neurons import LIFStep
from tacops._core.synapses import Convolve
from tests.cuda.cases import CHECKS, CORE, on_device, plain
from tests.cuda.host import COMPILER, MISSING, HostModule, launching
from tests.cuda.mutants import MUTANTS, planted
from tests.support import ROOT, fake_cupy

MODES = ("as they come", "backwards", "few blocks")
IN_LOOPS = ("sums only the first chunks", "does one neuron per thread", "unfolds the first tile again")
"""Mistakes that only show where loops go round."""


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
    mode = "few blocks" if name in IN_LOOPS else "as they come"
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
    neurons = 2**30 + 80
    drive = _lazily((3, neurons), np.float32)
    drive[2, -5:] = 2.0
    spikes, membrane = _lazily((3, neurons), bool), _lazily((neurons,), np.float32)
    with planted(module, MUTANTS[mutant] if mutant else None):
        kernel = _wide(module, "lif", 4)
    arrays, numbers = (drive, None, None, None, None, None, spikes, membrane), _numbers(module)
    with launching(blocks=slice(-1, None)):
        kernel((-(-neurons // 512),), (128,), (*arrays, np.int64(3), np.int64(neurons), numbers))
    right = [[False] * 6, [False] * 6, [False, *[True] * 5]], [0.0, *[1.0] * 5]
    assert ((spikes[:, -6:].tolist(), membrane[-6:].tolist()) == right) == (mutant is None)


def test_more_than_two_billion_frames_to_sum_or_convolve(module: Any) -> None:
    """Chunks and pixels beyond the reach of 32 bits."""
    width, cuda = 2**30 + 80, module.launching
    x, sums = _lazily((1, 3, width), np.uint8), _lazily((1, width), np.float32)
    x[0, :, -1] = 1, 2, 3
    weights = np.zeros((1,), dtype=[("at", np.float32, (32,))])
    weights["at"][0, :3] = 0.25, 0.5, 1.0
    with launching(blocks=slice(-1, None)):
        counts = np.int64(1), np.int32(3), np.int64(width), np.int32(1), np.int32(0), np.int32(3)
        _wide(module, "weighted_sum", 4)((-(-width // 512), 1), (128,), (x, None, sums, *counts, weights))
    assert sums[0, -2:].tolist() == [0.0, 4.25]

    side, stride = 1 << 15, 1 << 12
    frames = _lazily((3, 1, side, side, 1), bool)
    frames[2, 0, -1, -1, 0] = True
    spikes, membrane = np.zeros((3, 1, 8, 8, 1), bool), np.zeros((1, 8, 8, 1), np.float32)
    last = stride - 1
    shape = (side, side, 1, 8, 8, 1, 1, 1, stride, stride, -last, -last, 1, 1)
    arguments: tuple[Any, ...] = (
        frames,
        np.full((1, 1, 1, 1), 1.5, np.float32),
        None,
        None,
        None,
        None,
        None,
        spikes,
        membrane,
    )
    window = np.array([shape], dtype=cuda.WINDOW)
    arguments = *arguments, np.int32(3), np.int64(1), window, _numbers(module)
    _wide(module, "conv_lif", 1)((1,), (128,), arguments, shared_mem=32)
    assert np.flatnonzero(spikes).tolist() == [3 * 64 - 1]
    assert membrane[0, -1, -1, 0] == 0.5

    places = np.zeros((1,), dtype=module.products.PLACES)
    for name in ("in", "out", "kernel", "stride", "dilation"):
        places[name] = 1
    places["in"][0, 1:], places["out"][0, 1:], places["low"][0, 1:] = side, 8, -last
    places["stride"][0, 1:], places["channels"] = stride, 1
    columns = np.full((1, 1), 7, np.float32)
    _wide(module, "unfold", 1)((1,), (32,), (frames, columns, np.int64(3 * 64 - 1), np.int64(1), places))
    assert columns.tolist() == [[1.0]]


@pytest.mark.parametrize("mutant", [None, *(name for name, mutant in MUTANTS.items() if mutant.found_by == "half")])
def test_what_float16_holds_is_float16_and_all_else_is_not_a_number(module: Any, mutant: str | None) -> None:
    """Whole numbers up to 2048; a number that would be rounded never is, silently."""
    good = np.array([0, 1, -1, 3, 255, -1023, 1025, 2047, -2048], np.float32)
    wrong = np.array([2049, -2050, 1025.5, 0.5, 1e-9, 65504, 7e4, np.inf, np.nan], np.float32)
    x, columns = np.concatenate([good, wrong]).reshape(-1, 1), np.zeros((18, 1), np.float16)
    places = np.ones((1,), dtype=module.products.PLACES)
    places["low"] = 0
    with planted(module, MUTANTS[mutant] if mutant else None):
        chosen = module.building.options("float32", "float32", "bool", 1, True, True)
        kernel = HostModule(code=module.building.source("unfold"), options=chosen).get_function("unfold")
    kernel((1,), (32,), (x, columns, np.int32(0), np.int32(18), places))
    right = np.array_equal(columns[:9, 0], good.astype(np.float16)) and np.isnan(columns[9:]).all()
    assert right == (mutant is None)


def _wide(module: Any, name: str, run: int) -> Any:
    """A kernel with indices of 64 bits."""
    cuda = module.building
    return HostModule(code=cuda.source(name), options=cuda.options("float32", run=run)).get_function(name)


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
    for filters in (4, 800):  # convolution and neurons in one kernel, and by products
        spikes, membrane = _layer(module, (3, 0, 4, 4, 2), filters)
        assert (spikes.shape, membrane.shape) == ((3, 0, 2, 2, filters), (0, 2, 2, filters))
    assert _layer(module, (3, 1, 4, 4, 2), 0)[0].shape == (3, 1, 2, 2, 0)
    assert fake_cupy.traffic["launches"] == before


def test_nothing_to_sum(module: Any) -> None:
    """No frames leave the membranes at rest; no inputs leave them to the bias."""
    for filters in (4, 800):
        spikes, membrane = _layer(module, (0, 2, 4, 4, 2), filters)
        assert spikes.shape == (0, 2, 2, 2, filters)
        assert not membrane._data.any()
        assert (_layer(module, (3, 2, 4, 4, 0), filters)[1]._data == 0.125 * (1 + 0.5 + 0.25)).all()


def _layer(module: Any, shape: tuple[int, ...], filters: int) -> tuple[Any, Any]:
    """Spikes and membrane of frames of ones, a kernel of 3 x 3, and a bias of 1/8."""
    weight, bias = np.ones((filters, 3, 3, shape[-1]), np.float32), np.full((filters,), 0.125, np.float32)
    conv = Convolve(module.BACKEND, Window((1, 1), ((0, 0), (0, 0)), (1, 1), 1), on_device(weight), on_device(bias))
    step = LIFStep(module.BACKEND, 0.5, 1.0, "zero", compact=True)
    spikes, (membrane,) = module.BACKEND.schedule(conv, step, on_device(np.ones(shape, bool)), None, 1)
    return spikes, membrane


def test_wrong_arguments_are_refused(module: Any) -> None:
    """What CUDA would take for anything, the stand-in for it refuses."""
    kernel = _wide(module, "weighted_sum", 1)
    x, sums = np.zeros((1, 2, 3), np.uint8), np.zeros((1, 3), np.float32)
    weights = np.zeros((1,), dtype=[("at", np.float32, (32,))])
    good = [x, None, sums, np.int64(1), np.int32(2), np.int64(3), np.int32(1), np.int32(0), np.int32(2), weights]
    kernel((1, 1), (32,), tuple(good))
    wrong = {0: x.astype(np.float32), 1: x, 2: sums.T[::2], 3: np.int32(1), 4: 2, 6: None, 9: weights["at"]}
    for place, value in wrong.items():
        with pytest.raises(TypeError, match=f"argument {place} is for"):
            kernel((1, 1), (32,), (*good[:place], value, *good[place + 1 :]))
    with pytest.raises(TypeError, match="takes 10 arguments"):
        kernel((1, 1), (32,), tuple(good[:-1]))
    with pytest.raises(ValueError, match="no GPU launches"):
        kernel((1, 1), (2048,), tuple(good))
    with pytest.raises(ValueError, match="no GPU launches"):
        kernel((1, 1), (32,), tuple(good), shared_mem=1 << 20)
