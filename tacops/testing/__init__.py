"""Conformance checks that anyone can run on any backend.

Four tiers. **Bitwise**: reproducible mode on arbitrary weights, and exactly representable cases on the default path, equal
golden results stored with the package, spikes and membranes, eager and compiled. **Float**: arbitrary weights on the
default path; a spike may differ from float64 only within the rounding bound of the threshold. **Gradients**, where the
backend differentiates. **Behaviour**: errors, streaming, batches, memory layouts, threads and types.

From a shell, ``python -m tacops check [--quick] [NAME | package:OBJECT ...]``. From pytest::

    from tacops.testing import parametrize_with_checks

    @parametrize_with_checks("numpy", "mypackage:BACKEND")
    def test_conformance(check):
        check()

`tacops.testing.mutants` holds backends with planted mistakes, each of which the checks must find.
"""

from collections.abc import Iterator

from .._core.values import check_flag
from ._behaviour import behaviour_checks
from ._check import TIERS, Check, NotApplicable, Outcome, run_checks
from ._float import float_checks
from ._golden import bitwise_checks
from ._gradients import gradient_checks
from ._host import where
from ._large import large_checks
from ._load import load_backend
from ._more import more_checks
from ._pytest import BoundCheck, parametrize_with_checks
from ._quick import QUICK

__all__ = [
    "TIERS",
    "BoundCheck",
    "Check",
    "NotApplicable",
    "Outcome",
    "conformance_checks",
    "load_backend",
    "parametrize_with_checks",
    "run_checks",
    "where",
]


def conformance_checks(*, quick: bool = False) -> Iterator[Check]:
    """Every check, tier by tier.

    Parameters
    ----------
    quick : bool
        A few of each kind only, less than a minute for any backend.

    Returns
    -------
    iterator of Check

    Examples
    --------
    >>> from tacops.testing import conformance_checks
    >>> sorted({check.tier for check in conformance_checks()})
    [1, 2, 3, 4]
    """
    quick = check_flag("conformance_checks", "quick", quick)
    return (check for check in _every_check() if not quick or check.id in QUICK)


def _every_check() -> Iterator[Check]:
    yield from bitwise_checks()
    yield from large_checks()
    yield from more_checks()
    yield from float_checks()
    yield from gradient_checks()
    yield from behaviour_checks()
