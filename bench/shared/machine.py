"""The machine on which a benchmark runs, as every result describes it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["busy", "cores", "load", "machine"]


def load() -> float:
    """Return the average number of running processes in the last minute, 0 where the system doesn't say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def busy(machine: Mapping[str, Any]) -> str:
    """A warning, if other processes had the machine when a benchmark began; else nothing.

    Examples
    --------
    >>> busy({"load_before": 3.0, "cores": 4})
    'Other processes kept 3.0 cores busy at the start: do not trust these times.'
    """
    before, count = machine["load_before"], machine["cores"]
    if before <= count / 2:
        return ""
    return f"Other processes kept {before:.1f} cores busy at the start: do not trust these times."


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Describe where this runs."""
    return {
        "platform": platform.platform(),
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "memory": _first("/proc/meminfo", "MemTotal") or "unknown",
        "huge_pages": _text("/sys/kernel/mm/transparent_hugepage/enabled") or "unknown",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "load_before": load(),
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _first(path: str, key: str) -> str:
    """The value of a ``key : value`` line."""
    lines = (line.split(":", 1) for line in _text(path).splitlines() if line.startswith(key))
    return next((value.strip() for _, value in lines), "")
