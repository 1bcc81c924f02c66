"""The conformance checks can fail: every planted mistake is found, by the tiers that should find it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tacops.backends import Backend, get_backend
from tacops.testing import conformance_checks, run_checks
from tacops.testing.mutants import Mutant, mutants
from tests.support import ROOT

FOUND_BY = {
    "conv-scaled": {1, 2, 4},
    "kernel-transposed": {1, 2, 4},
    "kernel-flipped": {1, 2, 4},
    "weights-tf32": {1, 2},
    "membrane-forgotten": {1, 2, 4},
    "batch-mixed": {1, 2, 4},
    "state-kept": {1, 2, 4},
    "padding-swapped": {1, 4},
    "dilation-capped": {1},
    "dense-reused": {1},
    "parts-reused": {1},
    "float64-single": {1},
    "half-sums": {1},
    "frame-dropped": {1},
    "bool-sums-reused": {1},
    "half-casts-reused": {1},
    "negatives-lost": {1},
    "padding-remembered": {4},
    "weights-single": {1},
    "depthwise-unbiased": {4},
    "sliced-first": {4},
    "dilation-remembered": {4},
    "weights-half": {1},
    "unsigned-wrapped": {4},
    "parameters-shifted": {1},
    "held-once-less": {1},
    "rest-after-64": {1, 4},
    "compact-threshold": {1},
    "channels-mixed": {1},
    "decay-twice": {1, 2, 4},
    "reset-missing": {1, 2, 4},
    "reset-swapped": {1, 2, 4},
    "reset-late": {1, 2, 4},
    "decay-unrounded": {1, 4},
    "rounded-always": {1, 2, 4},
    "threshold-off": {1, 2, 4},
    "compact-lost": {1},
    "synapse-twice": {1, 4},
    "slow-decay-lost": {1},
    "tie-silent": {1, 4},
    "reset-first": {1, 2, 4},
    "bias-once": {1, 2},
    "last-chunk-first": {1},
    "power-rounded": {1},
    "synapse-whole": {1},
    "pair-unmoved": {4},
    "nan-decay": {4},
    "surrogates-alike": {4},
    "poison-lost": {4},
    "cube-unmoved": {1, 4},
    "trace-unmoved": {4},
    "integers-unseen": {4},
    "single-unweighted": {1},
    "bound-signed": {1},
}
"""Tiers that find each mistake on NumPy, which has no gradients: the table of docs/backend.md, no more and no less."""


def found_by(mutant: Mutant) -> set[int]:
    """Tiers of which at least one check fails, and fails by what it checks rather than by an accident."""
    found = set()
    with mutant.use() as backend:
        for check in conformance_checks():
            if check.tier not in found:
                [outcome] = run_checks(backend, [check])
                if outcome.status == "failed":
                    assert isinstance(outcome.error, AssertionError), outcome.message
                    found.add(check.tier)
    return found


@pytest.mark.parametrize("mutant", list(mutants(get_backend("numpy"))), ids=lambda mutant: mutant.name)
def test_every_mutant_is_found(mutant: Mutant) -> None:
    """By the tiers of the table, and no others."""
    assert found_by(mutant) == FOUND_BY[mutant.name]


MISSED_BY_QUICK = {"dense-reused", "parts-reused", "half-casts-reused"}
"""Mistakes of large layers alone."""


def test_the_quick_tier_finds_nearly_all() -> None:
    """What the documentation says of it, by number."""
    missed = set()
    for mutant in mutants(get_backend("numpy")):
        with mutant.use() as backend:
            outcomes = run_checks(backend, conformance_checks(quick=True))
            if all(outcome.status != "failed" for outcome in outcomes):
                missed.add(mutant.name)
    assert missed == MISSED_BY_QUICK
    text = (ROOT / "docs" / "backend.md").read_text(encoding="utf-8")
    assert f"{len(FOUND_BY) - len(missed)} of the {len(FOUND_BY)} mistakes" in text


def test_the_table_is_the_documentation_s() -> None:
    """Names, mistakes and tiers."""
    table = [f"| `{m.name}` | {m.mistake} | {_tiers(m.name)} |" for m in mutants(get_backend("numpy"))]
    text = (ROOT / "docs" / "backend.md").read_text(encoding="utf-8")
    stated = text.partition("| mutant | mistake | found by tiers |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert stated.splitlines() == table
    assert len(table) == len(FOUND_BY)


def _tiers(name: str) -> str:
    return ", ".join(map(str, sorted(FOUND_BY[name])))


def test_mutants_leave_nothing_behind() -> None:
    """After a mutant was in use the backend passes again, even when a check raised."""
    for mutant in mutants(get_backend("numpy")):
        with mutant.use():
            pass
    for check in conformance_checks():
        if check.id in ("bitwise-exact-collapse-given-ragged", "behaviour-streaming"):
            check(get_backend("numpy"))


def test_a_mistake_of_compiled_functions_is_found(need: Callable[[str], Backend]) -> None:
    """Where a backend compiles, the mutants have one more."""
    [mutant] = [mutant for mutant in mutants(need("mlx")) if mutant.name == "compact-clean"]
    [check] = [check for check in conformance_checks() if check.id == "behaviour-off-the-grid-compiled"]
    [outcome] = run_checks(need("mlx"), [check])
    assert outcome.status == "passed"
    with mutant.use() as backend:
        [outcome] = run_checks(backend, [check])
    assert outcome.status == "failed"
    assert "compact=True: shares of NaN" in outcome.message


GRADIENTS = {"conv-scaled", "kernel-transposed", "decay-twice", "reset-missing", "threshold-off", "bias-once"}


@pytest.mark.parametrize("name", sorted(GRADIENTS))
def test_gradient_tier_finds_mistakes(need: Callable[[str], Backend], name: str) -> None:
    """Where a library differentiates, wrong numbers have wrong derivatives."""
    [mutant] = [mutant for mutant in mutants(need("torch")) if mutant.name == name]
    checks = [check for check in conformance_checks() if check.id == "gradients-preserve-given"]
    with mutant.use() as backend:
        [outcome] = run_checks(backend, checks)
    assert outcome.status == "failed"
    assert "gradient of" in outcome.message
