"""The checks as pytest parameters; pytest is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from .._backend.protocol import Backend, BackendUnavailable
from .._values import check_choice, fail, show
from ._check import Check, run_checks
from ._load import load_backend
from ._suite import conformance_checks

__all__ = ["BoundCheck", "parametrize_with_checks"]


@dataclass(frozen=True)
class BoundCheck:
    """A check and the backend it is for: ``check()`` runs it under pytest.

    Parameters
    ----------
    check : Check
    backend : str or Backend
        As in `parametrize_with_checks`.
    reason : str or None
        Why a failure is expected; a pass is a failure then.
    """

    check: Check
    backend: str | Backend
    reason: str | None = None

    def __call__(self) -> None:
        """Run; skip, fail or expect a failure as pytest does."""
        import pytest

        backend = _loaded(self.backend) if isinstance(self.backend, str) else self.backend
        expected = None if self.reason is None else {self.check.id: self.reason}
        [outcome] = run_checks(backend, [self.check], expected)
        if outcome.status == "not applicable":
            pytest.skip(outcome.message)
        if outcome.status == "expected failure":
            pytest.xfail(outcome.message)
        if outcome.status == "failed":
            raise AssertionError(outcome.message) from outcome.error


@dataclass(frozen=True)
class MissingBackend:
    """Takes the place of all checks of a backend that can't run here.

    Parameters
    ----------
    message : str
        One sentence that says why, and what would mend it.
    skip : bool
        Skip, instead of failing.
    """

    message: str
    skip: bool

    def __call__(self) -> None:
        """Fail or skip as pytest does."""
        import pytest

        if self.skip:
            pytest.skip(self.message)
        pytest.fail(self.message, pytrace=False)


@cache
def _loaded(name: str) -> Backend:
    return load_backend(name)


def parametrize_with_checks(
    *backends: str | Backend,
    expected_failures: Mapping[str, str] | None = None,
    quick: bool = False,
    missing: str = "fail",
) -> Any:
    """A pytest decorator: the test is run with every check for every backend as its argument `check`.

    Parameters
    ----------
    *backends : str or Backend
        Names as `load_backend` takes them, or backends.
    expected_failures : mapping of str to str, optional
        Reasons by the check's id. They are strict: an expected failure that does not happen fails.
    quick : bool
        As in `conformance_checks`; expected failures may name the other checks, too.
    missing : {"fail", "skip"}
        What becomes of a backend that can't run here: one failure or one skip, in the place of all its checks.

    Raises
    ------
    TypeError, ValueError
        For what are no backends, or none, and an expected failure of a check that does not exist.

    Examples
    --------
    >>> from tacops.testing import parametrize_with_checks
    >>> @parametrize_with_checks("numpy", expected_failures={"behaviour-threads": "one thread only"})
    ... def test_conformance(check):
    ...     check()
    """
    import pytest

    function = "parametrize_with_checks"
    if wrong := [backend for backend in backends if not isinstance(backend, (str, Backend))]:
        raise fail(function, "backends", "names or backends, given one by one", show(wrong[0]), TypeError)
    if not backends:  # pytest would skip
        raise fail(function, "backends", "at least one backend", "none", TypeError)
    expected = dict(expected_failures or {})
    checks = list(conformance_checks(quick=quick))
    if unknown := sorted(set(expected) - {check.id for check in conformance_checks()}):
        msg = f"parametrize_with_checks: expected_failures must name checks; got {', '.join(unknown)}"
        raise ValueError(msg)
    skip = check_choice(function, "missing", missing, ("fail", "skip")) == "skip"
    parameters = []
    for backend in backends:
        try:
            _ = _loaded(backend) if isinstance(backend, str) else backend
        except BackendUnavailable as error:
            parameters.append(pytest.param(MissingBackend(str(error), skip), id=f"{backend}-missing"))
            continue
        for check in checks:
            bound = BoundCheck(check, backend, expected.get(check.id))
            parameters.append(pytest.param(bound, id=f"{_name(backend)}-{check.id}"))
    return pytest.mark.parametrize("check", parameters)


def _name(backend: str | Backend) -> str:
    return backend if isinstance(backend, str) else backend.name
