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

from ._check import TIERS, Check, NotApplicable, Outcome, run_checks
from ._host import where
from ._load import load_backend
from ._pytest import BoundCheck, parametrize_with_checks
from ._suite import conformance_checks

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
