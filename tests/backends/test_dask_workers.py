"""Dask's workers in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.processes import HANGS


def test_two_workers_one_of_which_is_killed(tmp_path: Path) -> None:
    """Processes of their own, frames and spikes in Zarr files, SIGKILL in the middle: the spikes of a loop with NumPy.

    With ``--frames 61440 --memory 400MB`` it is a recording ten times as large as the workers' memory.
    """
    for name in ("distributed", "zarr"):
        pytest.importorskip(name, reason=f"backend dask: {name} is not installed")
    if not hasattr(signal, "SIGKILL"):
        pytest.skip("no SIGKILL on this system")
    command = [sys.executable, "-m", "tests.support.dask_cluster", str(tmp_path / "store"), "--kill"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "['killed']" in done.stdout
    assert " 0 of " in f" {done.stdout.splitlines()[-1]}"
