"""The suite reaches the loops that adapters step their neurons with: mistakes planted in their own text are found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tacops.backends import Backend
from tacops.backends._cpu.neurons import compiled
from tacops.testing import conformance_checks, run_checks
from tests.support.loop_mutants import LOOPS, MUTANTS, planted

CHECKS = {check.id: check for check in conformance_checks()}


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mistake_is_found(need: Callable[[str], Backend], name: str) -> None:
    """By the check that the table names, which passes without it."""
    mutant = MUTANTS[name]
    backend, check = need(LOOPS[mutant.loop].backend), CHECKS[mutant.found_by]
    if mutant.loop == "compiled" and compiled() is None:
        pytest.skip("Numba is not installed, so there are no compiled loops")
    with planted(mutant):
        [outcome] = run_checks(backend, [check])
    assert outcome.status == "failed"
    assert isinstance(outcome.error, AssertionError), outcome.message
    [outcome] = run_checks(backend, [check])
    assert outcome.status == "passed", outcome.message
