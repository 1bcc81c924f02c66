"""PyTorch's kernels for GPUs, run by this CPU: what the core computes, gradients too; mistakes are found."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pytest

from tests.cuda.triton_host import MISSING, interpreted

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

import torch

from tacops._core.neurons import LIFStep
from tacops.backends.torch_ import BACKEND
from tests.cuda.triton_cases import SURROGATES, check_back, check_forth
from tests.cuda.triton_mutants import MUTANTS

CHECKS = {"forth": check_forth, "back": check_back}


def failing(check: Any, seeds: Any) -> list[int]:
    """Seeds of cases that are wrong, the first alone."""
    for seed in seeds:
        try:
            check(seed)
        except AssertionError:
            return [seed]
    return []


@pytest.mark.parametrize(("block", "count"), [(16, 48), (128, 200)])
def test_equals_the_core(block: int, count: int) -> None:
    """Spikes and membranes bit for bit."""
    with interpreted(block=block) as launches:
        for seed in range(count):
            try:
                check_forth(seed)
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise
    assert launches.lif == count


def test_gradients_are_autograd_s() -> None:
    """Of the core's steps."""
    with interpreted() as launches:
        for seed in range(200):
            try:
                check_back(seed)
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise
    assert launches.lif == 200
    assert launches.lif_back > 120


@pytest.mark.parametrize("name", MUTANTS)
def test_mistake_is_found(name: str) -> None:
    """By some case."""
    *replaced, found_by = MUTANTS[name]
    with interpreted((replaced[0], replaced[1], replaced[2])):
        assert failing(CHECKS[found_by], range(200))


@pytest.mark.parametrize("mask", ["", " & 0x7fffffff"])
def test_frames_beyond_2_31_numbers(mask: str) -> None:
    """Of memory that is only mapped: nothing but two frames of it is touched. In 31 bits, the second would be another."""
    row = (1 << 31) + 64
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        memory = mmap.mmap(-1, 4 * (row + 64), flags=flags)
    except OSError as error:
        pytest.skip(f"frames 2^31 numbers apart are not tried: no address space for them ({error})")
    currents = torch.from_numpy(np.frombuffer(memory, np.float32)).as_strided((2, 1, 64), (row, 64, 1))
    currents[:] = torch.tensor([0.5, 1.5]).reshape(2, 1, 1)
    with interpreted(("forwards", "later * row", f"(later * row{mask})")) as launches:
        spikes, _ = BACKEND.scan(LIFStep(BACKEND, 0.5, 1.0, "subtract"), currents, None, 1)
    assert launches.lif == 1
    assert bool((spikes[1] == 1).all()) == (mask == "")


def test_all_surrogates_are_known() -> None:
    """Each has its number, and is among the cases."""
    from tacops.backends._triton.backwards import SURROGATES as KNOWN
    from tacops.surrogate import _DERIVATIVES

    assert set(KNOWN) == {"", "own", *_DERIVATIVES}
    assert {getattr(surrogate, "name", "own") if surrogate else "" for surrogate in SURROGATES} == set(KNOWN)
