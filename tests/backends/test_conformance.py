"""Every backend passes the conformance checks, and the machinery around them does what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops import __main__ as command
from tacops.backends import Backend, get_backend
from tacops.testing import Check, NotApplicable, conformance_checks, load_backend, parametrize_with_checks, run_checks
from tacops.testing._cases import CASES
from tacops.testing._float import _NETWORKS
from tacops.testing._golden import GOLDEN, golden_of
from tacops.testing._gradients import PROBLEMS, reference_gradients
from tacops.testing._quick import QUICK
from tests.support import ROOT, make_golden

CHECKS = list(conformance_checks())
PARAMETERS = [pytest.param(check, id=str(check), marks=[pytest.mark.smoke] * (check.id in QUICK)) for check in CHECKS]


# torch.compile warns of itself, and of caches that it traces through
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")
@pytest.mark.parametrize("check", PARAMETERS)
def test_conformance(backend: Backend, check: Check) -> None:
    """The suite itself."""
    try:
        check(backend)
    except NotApplicable as reason:
        pytest.skip(str(reason))


# What the checks compare with


def test_golden_results_are_what_the_independent_simulation_gives() -> None:
    """The stored file, byte for byte."""
    assert GOLDEN.read_text(encoding="utf-8") == make_golden.text()


def test_golden_results_are_lively() -> None:
    """In every case some neurons fire and some don't; membranes differ; ties are among the exact cases."""
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert list(stored) == list(CASES)
    for name, entry in stored.items():
        train = golden_of(name)
        assert int(np.sum(train.spikes)) == entry["fired"]
        assert 0.03 < np.mean(train.spikes) < 0.96, name
        for state in train.membrane if isinstance(train.membrane, tuple) else (train.membrane,):
            assert len(np.unique(state)) > 5, name


def test_float_networks_are_lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer of each network of the float tier fires, and not always."""
    rates: list[float] = []

    def spy(what: str, got: Any, *args: Any, **options: Any) -> int:
        rates.append(float(np.mean(got.spikes)))
        return 0

    monkeypatch.setattr("tacops.testing._float.near_ties", spy)
    for check in CHECKS:
        if check.tier == 2:
            check(get_backend("numpy"))
    assert len(rates) == 3 * len(_NETWORKS)
    assert all(0.02 < rate < 0.95 for rate in rates), rates


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_reference_gradient_is_zero(name: str) -> None:
    """Every array of every problem has a gradient to get wrong."""
    gradients = reference_gradients(name)
    assert {"beta", "threshold", "membrane"} <= set(gradients)
    for key, gradient in gradients.items():
        assert np.max(np.abs(gradient)) > 1e-2, key


def test_ids_are_unique() -> None:
    names = [check.id for check in CHECKS]
    assert len(names) == len(set(names))
    assert {check.tier for check in CHECKS} == {1, 2, 3, 4}


def test_the_quick_tier_is_a_part() -> None:
    """Of every tier some checks, in the same order; none of its names is a typing mistake."""
    quick = [check.id for check in conformance_checks(quick=True)]
    assert set(quick) == QUICK
    assert quick == [check.id for check in CHECKS if check.id in QUICK]
    assert {check.tier for check in conformance_checks(quick=True)} == {1, 2, 3, 4}
    with pytest.raises(TypeError, match="conformance_checks: quick must be True or False; got 1"):
        conformance_checks(quick=1)  # type: ignore[arg-type]


def test_a_difference_is_named() -> None:
    """The first differing index and both values are in the message."""
    backend = get_backend("numpy")

    class Off(type(backend)):  # type: ignore[misc]
        def to_numpy(self, array: Any) -> Any:
            copy = np.array(array)
            if copy.ndim == 4:  # a membrane
                copy[1, 2, 0, 3] += 0.5
            return copy

    check = next(check for check in CHECKS if check.id == "bitwise-exact-conv-lif-none")
    [outcome] = run_checks(Off(), [check])
    want = golden_of("exact-conv-lif-none").membrane[1, 2, 0, 3]
    assert outcome.status == "failed"
    assert f"membrane: 1 of 160 values differ, first at (1, 2, 0, 3): {want + 0.5}, must be {want}" in outcome.message


# Running them


def _always(passes: bool) -> Check:
    def function(backend: Backend) -> None:
        if not passes:
            raise AssertionError("it broke")

    return Check("bitwise-made-up", 1, function)


@pytest.mark.parametrize(
    ("passes", "expected", "status"),
    [
        (True, {}, "passed"),
        (False, {}, "failed"),
        (False, {"bitwise-made-up": "known"}, "expected failure"),
        (False, {"bitwise-*": "known"}, "expected failure"),
        (True, {"bitwise-made-up": "known"}, "failed"),
    ],
)
def test_expected_failures_are_strict(passes: bool, expected: dict[str, str], status: str) -> None:
    [outcome] = run_checks(get_backend("numpy"), [_always(passes)], expected)
    assert outcome.status == status
    if expected:
        assert "known" in outcome.message


def test_an_expected_failure_of_no_check_fails() -> None:
    *_, outcome = run_checks(get_backend("numpy"), [_always(True)], {"bitwise-typo": "known"})
    assert outcome.status == "failed"
    assert "bitwise-typo" in outcome.message
    with pytest.raises(ValueError, match="bitwise-typo"):
        parametrize_with_checks("numpy", expected_failures={"bitwise-typo": "known"})


def test_importing_needs_neither_pytest_nor_a_library() -> None:
    """`import tacops` loads no array library and no checks; the checks load NumPy, and never pytest."""
    code = (
        "import sys, tacops; assert not {'numpy', 'jax', 'torch', 'mlx', 'tacops.testing'} & set(sys.modules);"
        "import tacops.testing; assert not {'pytest', 'jax', 'torch', 'mlx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_parametrize_with_checks_refuses_what_is_no_backend() -> None:
    none: Any = []
    for backends, words in (
        ((), "at least one backend; got none"),
        ((none,), r"names or backends, given one by one; got \[\]"),
    ):
        with pytest.raises(TypeError, match=f"^parametrize_with_checks: backends must be {words}"):
            parametrize_with_checks(*backends)


def test_parametrize_with_checks(tmp_path: Path) -> None:
    """In a user's test file: passes, skips, a strict expected failure, and a missing backend that fails once or is skipped once."""
    (tmp_path / "test_mine.py").write_text(
        "from tacops.testing import parametrize_with_checks\n"
        "@parametrize_with_checks('numpy', expected_failures={'float-linear': 'not really'})\n"
        "def test_numpy(check):\n    check()\n"
        "@parametrize_with_checks('numpy', quick=True)\n"
        "def test_quick(check):\n    check()\n"
        "@parametrize_with_checks('nowhere:BACKEND')\n"
        "def test_missing(check):\n    check()\n"
        "@parametrize_with_checks('nowhere:BACKEND', missing='skip')\n"
        "def test_skipped(check):\n    check()\n"
    )
    arguments = ["-q", "-p", "no:cacheprovider", "-k", "(numpy and linear) or nowhere", "-rfs"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "passed, though a failure is expected: not really" in done.stdout
    assert "'nowhere:BACKEND' cannot be imported" in done.stdout
    assert "2 failed, 8 passed, 4 skipped" in done.stdout, done.stdout


# The command line


def _command(*arguments: str) -> int:
    return command.main(["check", *arguments])


def test_command_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """One line per check, a summary, exit status 0."""
    assert _command("numpy") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS) + 2
    assert lines[0].startswith("numpy: version")
    assert lines[-1].startswith(f"numpy: {len([ln for ln in lines if '  ok  ' in ln])} passed, 0 failed")


def test_command_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer lines, and tiers may be chosen as well."""
    assert _command("numpy", "--quick") == 0
    assert len(capsys.readouterr().out.splitlines()) == len(QUICK) + 2
    assert _command("numpy", "--quick", "--tier", "2") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len([name for name in QUICK if name.startswith("float-")])


def test_command_counts_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """A broken backend named by module and object; the exit status is the number of failures."""
    status = _command("tests.backends.test_conformance:broken", "--tier", "2", "--quiet")
    out = capsys.readouterr().out
    assert status == len(_NETWORKS)
    assert out.count("FAILED") == status
    assert f"0 passed, {status} failed" in out


def test_command_takes_expected_failures(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tests.backends.test_conformance:broken", "--tier", "2"]
    assert _command(*arguments, "--expect-failure", "float-*=it is broken") == 0
    assert "it is broken" in capsys.readouterr().out
    assert _command("numpy", "--tier", "2", "--expect-failure", "float-linear=it is broken") == 1
    assert _command("numpy", "--expect-failure", "float-linear") == 2


@pytest.mark.parametrize("name", ["nowhere", "nowhere:BACKEND", "tacops:surrogate", "math:pi"])
def test_command_fails_for_a_missing_backend(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One failure, and the sentence that says why."""
    assert _command(name) == 1
    assert capsys.readouterr().out.startswith(f"{name}: FAILED: ")


def test_exit_status_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """More failures than an exit status can say."""
    monkeypatch.setattr("tacops._cli.check.check_backend", lambda *args, **options: 80)
    assert _command("numpy", "jax") == 125


def broken() -> Backend:
    """A backend whose convolution is off."""
    kind: Any = type(load_backend("numpy"))
    from tacops.testing.mutants import mutants

    [mutant] = [m for m in mutants(kind()) if m.name == "conv-scaled"]
    with mutant.use() as backend:
        found: Backend = backend
    return found
