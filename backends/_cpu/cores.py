"""How many processors this process may use: its affinity, and the quota of its control group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from threading import local

__all__ = ["count_cores", "one_core"]

_here = local()


def count_cores() -> int:
    """Processors for the calling thread, at least 1."""
    return 1 if getattr(_here, "alone", 0) else max(1, min(_allowed(), _quota()))


@contextmanager
def one_core() -> Iterator[None]:
    """Let calls of this thread, and of no other, keep to one processor: somebody else shares out the work."""
    _here.alone = getattr(_here, "alone", 0) + 1
    try:
        yield
    finally:
        _here.alone -= 1


def _allowed() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; heeds PYTHON_CPU_COUNT
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _quota(root: str = "/sys/fs/cgroup", groups: str = "/proc/self/cgroup") -> int:
    """Processors that a container's quota allows, rounded up; read once, for it takes longer than a small layer.

    More threads than that would use the quota up at the beginning of each period and then all stand still.
    """
    with suppress(OSError, ValueError):
        return min(
            (max(1, -(-quota // period)) for quota, period in _limits(Path(root), Path(groups))), default=1 << 30
        )
    return 1 << 30  # not Linux


def _limits(root: Path, groups: Path) -> Iterator[tuple[int, int]]:
    """Microseconds of processor time in each period, of this process's group and those around it."""
    for line in groups.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for group in (inner := PurePosixPath(path), *inner.parents):
            with suppress(OSError, ValueError):  # "max" is no number: no limit
                if controllers:  # the first version of control groups
                    folder = root / "cpu" / group.relative_to("/")
                    numbers = [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]
                else:
                    numbers = (root / group.relative_to("/") / "cpu.max").read_text().split()
                quota, period = map(int, numbers)
                if quota > 0 and period > 0:  # -1: no limit
                    yield quota, period
