"""The machine, the libraries and the code of a run: what a reader needs to know, and no name of a host or a user."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import tacops
import tacops.backends
from bench.speed_result import machine

LIBRARIES = (
    "tacops",
    "numpy",
    "numba",
    "scipy",
    "threadpoolctl",
    "array-api-compat",
    "array-api-strict",
    "jax",
    "jaxlib",
    "mlx",
    "torch",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "brainevent",
)


def describe_machine(backends: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Where this runs; ``name`` is short enough for a table.

    Parameters
    ----------
    backends : mapping
        What each backend says of itself.
    """
    about = machine()
    if platform.system() == "Darwin":
        about["processor"] = _sysctl("machdep.cpu.brand_string") or about["processor"]
        about["memory"] = _sysctl("hw.memsize") or about["memory"]
    # an accelerator is a device that isn't called a CPU
    devices = dict.fromkeys(said["device"] for said in backends.values() if not said["device"].startswith("cpu"))
    short = about["processor"].replace("(R)", "").replace("(TM)", "").split(" @ ")[0]
    about["devices"] = list(devices)
    about["name"] = ", ".join([short, f"{about['cores']} cores", *devices])[:80]
    return about


def libraries() -> dict[str, str]:
    """Versions of what is installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def source_digest() -> str:
    """SHA-256 of the code of tacops, its backends and this benchmark, whatever the line ends of the checkout."""
    found = hashlib.sha256()
    for folder in (tacops.__file__, tacops.backends.__file__, __file__):
        root = Path(folder).parent
        for path in sorted(root.glob("*.py")):
            found.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    return found.hexdigest()


def _sysctl(name: str) -> str:
    """A property of a Mac, or nothing."""
    try:
        return subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
