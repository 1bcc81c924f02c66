"""The CuPy adapter on the stand-in, its kernels compiled for the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cuda.host import MISSING
from tests.support import fake_cupy


@pytest.fixture(scope="module")
def module() -> Iterator[Any]:
    """The adapter's module."""
    if MISSING:
        pytest.skip(MISSING)
    with fake_cupy.simulated() as module:
        yield module
