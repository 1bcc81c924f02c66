"""One step of the neurons as a text that compilers of several GPUs read: CUDA's, Metal's, and a CPU's in the tests."""

from __future__ import annotations

from functools import cache
from importlib import resources

__all__ = ["LIF_STEP", "lif_step"]

LIF_STEP = "lif_step.h"
"""The file's name."""


@cache
def lif_step() -> str:
    """The text of ``lif_step.h``: put it before a kernel, after a definition of ``REAL``."""
    return resources.files(__package__).joinpath(LIF_STEP).read_text(encoding="utf-8")
