"""``python -m tacops info``."""

from __future__ import annotations

import argparse
import platform

from .. import __version__
from .._backend.dispatch import available_backends, get_backend, missing_backends

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def main(options: argparse.Namespace) -> int:
    """Print what a bug report needs."""
    print(f"tacops {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print("\nbackends found")
    for name in available_backends():
        backend = get_backend(name)
        about, devices = dict(backend.describe()), backend.devices()
        if len(devices) > 1:
            about["devices"] = " ".join(devices)
        others = "".join(f", {key} {value}" for key, value in about.items() if key != "version")
        print(f"  {name:10} {about['version']}{others}")
    missing = missing_backends()
    if missing:
        print("\nbackends missing")
    for name, reason in missing.items():
        print(f"  {name:10} {reason}")
    return 0
