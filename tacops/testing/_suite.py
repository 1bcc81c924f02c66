"""All checks, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Iterator

from .._values import check_flag
from ._behaviour import behaviour_checks
from ._check import Check
from ._float import float_checks
from ._golden import bitwise_checks
from ._gradients import gradient_checks
from ._large import large_checks
from ._more import more_checks
from ._quick import QUICK

__all__ = ["conformance_checks"]


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
