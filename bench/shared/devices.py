"""On which device a benchmark computes: the ``--device`` option, and the backends put there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tacops.backends import Backend, available_backends, get_backend, missing_backends

__all__ = ["add_device", "own_backends", "place"]


def own_backends() -> list[str]:
    """Backends that are found here and compute by themselves: arrays of blocks are as fast as the library of the blocks."""
    return [name for name in available_backends() if not get_backend(name).blockwise]


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="where arrays are put, as the backends call it, for example cpu, cuda, cuda:1, mps, gpu or tpu; backends "
        "without it are left out, or fail if they are named (default: each backend's accelerator if there is one)",
    )


def place(names: Sequence[str] | None, device: str | None) -> tuple[dict[str, Backend], dict[str, str]]:
    """The backends to run, on their device, and those that are left out, each with the reason.

    Parameters
    ----------
    names : sequence of str or None
        None is all of `own_backends`.
    device : str or None
        As for `tacops.backends.Backend.on`.

    Raises
    ------
    ValueError, BackendUnavailable
        If a named backend or its device is not there, or no backend has the device.
    """
    if names:
        return {name: get_backend(name).on(device) for name in dict.fromkeys(names)}, {}
    placed: dict[str, Backend] = {}
    missing = missing_backends()
    for name in own_backends():
        try:
            placed[name] = get_backend(name).on(device)
        except ValueError as error:
            missing[name] = str(error)
    if not placed:
        raise ValueError(f"device must be one that a backend here has; got {device!r}")
    return placed, missing
