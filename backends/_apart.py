"""Keep the threads of one call on processors of their own.

Threads that wait for the interpreter's lock are woken on the processor of the thread that gives it, so after a pause two of
them can share one for many milliseconds while another is idle (seen on Linux with two processors, 30 ms after the last call, in
layers of 1 to 3 ms).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

__all__ = ["apart"]


@contextmanager
def apart(others: Sequence[int]) -> Iterator[None]:
    """Hold the calling thread where it runs, and `others` (native thread ids) anywhere else it may run.

    The caller's affinity is given back at the end; the others, which are ours, are placed anew by the next call. Where the
    system has no such calls, or has only one processor for us, nothing happens.
    """
    here, allowed = _here(), _allowed()
    if here not in allowed or len(allowed) < 2:
        yield
        return
    try:
        with suppress(OSError):  # a thread that is gone, or a system that forbids it: only speed is lost
            for thread in others:
                os.sched_setaffinity(thread, allowed - {here})
            os.sched_setaffinity(0, {here})
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, allowed)


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
