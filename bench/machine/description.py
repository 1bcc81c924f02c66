"""The machine, the libraries and the code of a run: what a reader needs to know, and no name of a host or a user."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import bench
import tacops
import tacops.backends
from bench.shared.machine import machine

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


TEXTS = (".py", ".cu", ".json", ".jinja", ".md")
"""What a checkout may give other line ends."""


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


def source_digest(folders: Mapping[str, Path] | None = None) -> str:
    """SHA-256 of every file that can change a result, whatever the line ends of the checkout.

    Parameters
    ----------
    folders : mapping of str to Path, optional
        By name; by default those of tacops, its backends and this benchmark.
    """
    if folders is None:
        homes = {"tacops": tacops.__file__, "backends": tacops.backends.__file__, "bench": bench.__file__}
        folders = {name: Path(home).resolve().parent for name, home in homes.items()}
    found = hashlib.sha256()
    for name, folder in folders.items():
        for path in source_files(folder):
            content = path.read_bytes()
            if path.suffix in TEXTS:
                content = content.replace(b"\r\n", b"\n")
            place = f"{name}/{path.relative_to(folder).as_posix()}".encode()
            found.update(b"%d %b %d " % (len(place), place, len(content)) + content)
    return found.hexdigest()


def source_files(folder: Path) -> list[Path]:
    """All files, sorted, but what Python or a run writes, and tacops' link to its backends."""
    found = []
    for at, names, files in os.walk(folder):  # links are not followed
        names[:] = [name for name in names if name not in ("__pycache__", "results") and not name.startswith(".")]
        if Path(at) == folder and folder.name == "tacops":
            names[:] = [name for name in names if name != "backends"]
        found += [Path(at, name) for name in files if not name.startswith(".") and not name.endswith(".pyc")]
    return sorted(found)


def _sysctl(name: str) -> str:
    """A property of a Mac, or nothing."""
    try:
        return subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
