"""The CuPy adapter on the stand-in of ``fake_cupy``: a simulation on NumPy, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
START = "from tests import fake_cupy; print('simulated CuPy with', fake_cupy.install());"


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START + code], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )


def test_adapter_passes_every_check() -> None:
    """No name that CuPy lacks, no implicit conversion, no value read from the device."""
    done = _run("import sys; from tacops.__main__ import main; sys.exit(main(['check', 'cupy']))")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "a simulation on NumPy" in done.stdout
    assert int(re.findall(r"^cupy: (\d+) passed, 0 failed", done.stdout, re.MULTILINE)[0]) > 90


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("np.asarray(x)", "Implicit conversion"),
        ("np.add(np.ones(2), x)", "Unsupported type"),
        ("np.sum(x)", "numpy.sum was called"),
        ("cupy.stack([x, np.ones(2)])", "Unsupported type"),
        ("bool(cupy.max(x))", "a GPU would be waited for"),
        ("cupy.unstack(x)", "has no attribute 'unstack'"),
    ],
)
def test_stand_in_is_strict(wrong: str, message: str) -> None:
    """What CuPy refuses, the stand-in refuses."""
    done = _run(f"import cupy, numpy as np; x = cupy.array(np.ones(2)); {wrong}")
    assert done.returncode == 1
    assert message in done.stderr
