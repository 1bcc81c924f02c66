"""Run a script in a process of its own: what may hang, or leave a process in a bad state, is no danger to the other tests."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.support import ROOT

HANGS = 600
"""Seconds after which a process is taken to hang; nothing here takes a tenth, even on a busy machine."""

PREAMBLE = """
import os, sys, signal, threading, time
import numpy as np
import threadpoolctl
import tacops
from tacops.backends._cpu import threads as _threads
from tacops.backends._cpu import tiles as _tiles

_tiles.count_cores = lambda: max(2, os.cpu_count() or 1)  # helpers come into it on any machine
rng = np.random.default_rng(0)
x = rng.random((2, 2, 32, 32, 32)) < 0.9  # dense: the layer is computed in tiles, by several threads
weight = rng.integers(-8, 9, (64, 3, 3, 32)).astype(np.float32) / 16

def layer():
    return tacops.conv_lif(x, weight, padding=1, beta=0.5)

def blas():
    return {i["filepath"]: i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"}

def processors():
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None

def equal(got, want):
    assert all(np.array_equal(a, b) for a, b in zip(got, want))
"""


def run_script(script: str, *arguments: str, preamble: str = PREAMBLE) -> str:
    """Run `preamble` and `script`; returns what it prints, and fails with what it says when it fails or hangs."""
    code = preamble + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=HANGS, cwd=ROOT, check=False
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def spawned(seed: int) -> float:
    """Run a layer in a spawned process; what it gives, in one number."""
    import numpy as np

    import tacops
    from tacops.backends._cpu import tiles

    vars(tiles)["count_cores"] = lambda: 2
    rng = np.random.default_rng(seed)
    train = tacops.conv_lif(
        rng.random((2, 2, 32, 32, 32)) < 0.9, np.full((64, 3, 3, 32), 1 / 16, np.float32), padding=1
    )
    return float(train.membrane.sum())
