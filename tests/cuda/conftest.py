"""The CuPy adapter on the stand-in, its kernels compiled for the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import fake_cupy
from tests.cuda.host import MISSING


@pytest.fixture(scope="module")
def module() -> Iterator[Any]:
    """The adapter's module."""
    if MISSING:
        pytest.skip(MISSING)
    with fake_cupy.simulated() as module:
        yield module
