"""How many workers of pytest-xdist ``-n auto`` starts: one per core, but no more than memory holds."""

from __future__ import annotations

import os
from pathlib import Path

GIB = 2**30
PER_WORKER = 2.5 * GIB
"""What a worker grows to over the suite, most of it the programs and libraries of JAX and PyTorch."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of a container, in control groups of version 2 and 1."""


def workers(cores: int, memory: int | None) -> int:
    """At least one; memory in bytes, None where it is not known."""
    return max(1, cores if memory is None else min(cores, int(memory / PER_WORKER)))


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory(limits: tuple[str, ...] = LIMITS) -> int | None:
    """Bytes of the machine, or of the container if it has fewer."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):  # Windows
        found = []
    for limit in map(Path, limits):
        try:
            found.append(int(limit.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no container; "max"
            continue
    return min(found, default=None)
