"""The most memory that a stretch of a process takes of the system, whatever library takes it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

__all__ = ["HOW", "begin_peak", "end_peak"]

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
HOW = (
    "the largest resident set of a process while it takes one step, less its resident set just before, in a process of its "
    "own with the system's usual allocator; what it keeps of earlier steps and uses again is not counted"
)


def begin_peak() -> int:
    """Give freed memory back to the system, forget the largest resident set so far, and return the present one in bytes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
    if not STATUS.exists():
        return _largest()  # elsewhere the largest can't be forgotten: only what exceeds it is seen
    try:
        RESET.write_text("5")
    except OSError:
        return _kib("VmHWM") << 10  # the same
    return _kib("VmRSS") << 10


def end_peak(before: int) -> int:
    """Bytes by which the largest resident set since `begin_peak` exceeds what that returned."""
    return max(0, (_kib("VmHWM") << 10 if STATUS.exists() else _largest()) - before)


def _kib(name: str) -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))


def _largest() -> int:
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
