"""Keep the threads of one call on processors of their own.

Threads that wait for the interpreter's lock are woken on the processor of the thread that gives it, so after a pause two of
them can share one for many milliseconds while another is idle (seen on Linux with two processors, 30 ms after the last call, in
layers of 1 to 3 ms).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from threading import get_ident
from typing import Any

__all__ = ["Apart"]


class Apart:
    """The calling thread held where it runs, from `hold` to `release`; others (native thread ids) anywhere else it may run.

    The caller's affinity is given back at the end, unless somebody has changed it meanwhile; the others, which are ours, are
    placed anew by the next call. Where the system has no such calls, or has only one processor for us, nothing happens. An
    exception may strike at any line: `release` does no harm at any time and may be called again.
    """

    def __init__(self, others: Sequence[int]):
        self.others, self.thread = others, get_ident()
        self.before: tuple[int, set[int]] | None = None

    def hold(self) -> None:
        """Place the threads."""
        here, allowed = _here(), _allowed()
        if here not in allowed or len(allowed) < 2:
            return
        with suppress(OSError):  # a thread that is gone, or a system that forbids it: only speed is lost
            for thread in self.others:
                os.sched_setaffinity(thread, allowed - {here})
            self.before = here, allowed
            os.sched_setaffinity(0, {here})

    def release(self) -> None:
        """Let the calling thread run where it could before."""
        if self.before is None or self.thread != get_ident():
            return
        here, allowed = self.before
        with suppress(OSError):  # processors that are no more
            # any other affinity is somebody's wish since then; the same one can't be told from ours
            if _allowed() == {here}:
                os.sched_setaffinity(0, allowed)
        self.before = None

    __del__ = release  # a hold may be left by two exceptions that strike at once


def _allowed() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _here() -> int:
    """The processor that runs this thread, or -1."""
    ask = _sched_getcpu()
    return -1 if ask is None else int(ask())


@cache
def _sched_getcpu() -> Callable[[], Any] | None:
    try:
        function: Callable[[], Any] = ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError, TypeError):  # not Linux; on Windows there is no library None
        return None
    return function
