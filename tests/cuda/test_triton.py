"""PyTorch's kernels for GPUs, run by this CPU: what the core computes, gradients too; mistakes are found."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cuda.triton_host import MISSING, interpreted

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

from tests.cuda.triton_cases import check_back, check_forth
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


@pytest.mark.parametrize("block", [16, 128])
def test_equals_the_core(block: int) -> None:
    """Spikes and membranes bit for bit."""
    with interpreted(block=block) as launches:
        for seed in range(200):
            try:
                check_forth(seed)
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise
    assert launches.lif == 200


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
    assert launches.lif_back > 150


@pytest.mark.parametrize("name", MUTANTS)
def test_mistake_is_found(name: str) -> None:
    """By some case."""
    *replaced, found_by = MUTANTS[name]
    with interpreted((replaced[0], replaced[1], replaced[2])):
        assert failing(CHECKS[found_by], range(200))
