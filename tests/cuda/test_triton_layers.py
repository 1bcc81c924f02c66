"""Convolution and neurons in one kernel, run by this CPU: what the core computes; mistakes are found; which layers take it."""

from __future__ import annotations

import pytest

from tests.cuda.triton_host import MISSING, interpreted

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

from tests.cuda.triton_layers import MUTANTS, check_layer

COUNT = 80


@pytest.mark.parametrize("tile", [(16, 16), (64, 32)])
def test_equals_the_core(tile: tuple[int, int]) -> None:
    """Spikes and membranes bit for bit."""
    with interpreted(tile=tile) as launches:
        for seed in range(COUNT):
            try:
                check_layer(seed)
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise
    assert launches.conv_lif == COUNT


@pytest.mark.parametrize("name", MUTANTS)
def test_mistake_is_found(name: str) -> None:
    """By some case."""
    with interpreted(MUTANTS[name][:3], tile=(16, 16)):
        for seed in range(COUNT):
            try:
                check_layer(seed)
            except AssertionError:
                return
    pytest.fail("not found")
