"""What a check is, and how a list of them is run on a backend."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .._backend.protocol import Backend
from .._values import fail, show
from ._host import dispatched_to

__all__ = ["TIERS", "Check", "NotApplicable", "Outcome", "run_checks"]

TIERS = {1: "bitwise", 2: "float", 3: "gradients", 4: "behaviour"}

Status: TypeAlias = Literal["passed", "failed", "expected failure", "not applicable"]


class NotApplicable(Exception):  # noqa: N818 (no error: the backend doesn't offer what would be checked)
    """Raised by a check that has nothing to look at on this backend; the message says why."""


@dataclass(frozen=True)
class Check:
    """One rule that a backend must keep.

    Parameters
    ----------
    id : str
        ``<tier>-<what>``, unique and stable.
    tier : int
        1 bitwise, 2 float, 3 gradients, 4 behaviour.
    function : callable
        Takes the backend; raises `AssertionError` that names the first difference, or `NotApplicable`; may return a
        remark.

    Examples
    --------
    >>> from tacops.backends import get_backend
    >>> from tacops.testing import conformance_checks
    >>> check = next(conformance_checks())
    >>> check.id, check.tier
    ('bitwise-exact-conv-lif-subtract', 1)
    >>> check(get_backend("numpy"))
    ''
    """

    id: str
    tier: int
    function: Callable[[Backend], str | None]

    def __call__(self, backend: Backend) -> str:
        """Check `backend`, registered or not, and return a remark (often empty)."""
        with dispatched_to(backend):
            return self.function(backend) or ""

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Outcome:
    """What became of one check.

    Parameters
    ----------
    check : Check
    status : {"passed", "failed", "expected failure", "not applicable"}
        A failure that was expected and did not happen has failed.
    message : str
        A remark, or what went wrong.
    seconds : float
    error : Exception or None
        What the check raised.
    """

    check: Check
    status: Status
    message: str
    seconds: float
    error: Exception | None = None


def run_checks(
    backend: Backend, checks: Iterable[Check], expected_failures: Mapping[str, str] | None = None
) -> Iterator[Outcome]:
    """Run checks one by one.

    Parameters
    ----------
    backend : Backend
        It need not be registered.
    checks : iterable of Check
    expected_failures : mapping of str to str, optional
        Reasons by the check's id, in which ``*`` stands for anything. They are strict: a check that passes though its
        failure is expected has failed, and so has every id that matches no check.

    Yields
    ------
    Outcome

    Examples
    --------
    >>> from tacops.backends import get_backend
    >>> from tacops.testing import conformance_checks, run_checks
    >>> first = [check for check in conformance_checks() if check.tier == 1][:3]
    >>> [outcome.status for outcome in run_checks(get_backend("numpy"), first)]
    ['passed', 'passed', 'passed']
    """
    function = "run_checks"
    if not isinstance(backend, Backend):
        raise fail(function, "backend", "a tacops.backends.Backend", type(backend).__qualname__, TypeError)
    try:
        checks = iter(checks)
    except TypeError as error:  # arrays without axes look iterable and are not
        raise fail(function, "checks", "several of them", show(checks), TypeError) from error
    expected = {} if expected_failures is None else expected_failures
    if not isinstance(expected, Mapping) or not all(isinstance(x, str) for x in (*expected, *expected.values())):
        raise fail(function, "expected_failures", "a mapping of ids to reasons", show(expected), TypeError)
    return _run_all(backend, checks, expected)


def _run_all(backend: Backend, checks: Iterable[Check], expected: Mapping[str, str]) -> Iterator[Outcome]:
    unused = set(expected)
    for check in checks:
        if not isinstance(check, Check):
            raise fail("run_checks", "checks", "of type Check", type(check).__qualname__, TypeError)
        patterns = [pattern for pattern in expected if fnmatch.fnmatchcase(check.id, pattern)]
        unused.difference_update(patterns)
        yield _run(backend, check, expected[patterns[0]] if patterns else None)
    for pattern in sorted(unused):
        nothing = Check(pattern, 4, lambda backend: None)
        yield Outcome(nothing, "failed", f"no check is called {pattern!r}, though its failure is expected", 0.0)


def _run(backend: Backend, check: Check, reason: str | None) -> Outcome:
    start = time.perf_counter()
    status: Status = "passed"
    error: Exception | None = None
    try:
        message = check(backend)
    except NotApplicable as skip:
        status, message = "not applicable", str(skip)
    except Exception as raised:  # noqa: BLE001 (whatever an unknown library raises is a failure of the check)
        kind = "" if isinstance(raised, AssertionError) else f"{type(raised).__name__}: "
        status, message, error = "failed", f"{kind}{raised}", raised
    if reason is not None and status == "failed":
        status, message = "expected failure", f"{reason} ({message})"
    elif reason is not None and status == "passed":
        status, message = "failed", f"passed, though a failure is expected: {reason}"
    return Outcome(check, status, message, time.perf_counter() - start, error)
