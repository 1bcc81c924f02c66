"""NumPy's helper threads, and how many there are."""

from __future__ import annotations

import gc
import os
import queue
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from tacops.backends._cpu import cores, threads
from tacops.backends._cpu.threads import aside, share_out
from tests.support import ROOT
from tests.support.processes import HANGS


def test_every_share_is_run_once() -> None:
    seen: list[int] = []
    share_out(seen.append, [[4 * n + k for k in range(4)] for n in range(7)])
    assert sorted(seen) == list(range(28))


@pytest.mark.parametrize("where", ["caller", "helper"])
def test_an_error_is_raised_once_and_after_the_others_ended(where: str) -> None:
    """The rest of the work is left; nobody is at work when the caller has the error."""
    me, both = threading.current_thread(), threading.Barrier(2)
    running, errors = set[int](), 0

    def run(tile: int) -> None:
        nonlocal errors
        running.add(tile)
        try:
            if tile < 2:
                both.wait(60)  # each has one
            if tile < 2 and (threading.current_thread() is me) == (where == "caller"):
                errors += 1
                raise MemoryError(where)
        finally:
            running.discard(tile)

    with pytest.raises(MemoryError, match=where):
        share_out(run, [[0, *range(2, 500)], [1, *range(500, 1000)]])
    assert errors == 1
    assert not running
    seen: list[int] = []
    share_out(seen.append, [[1], [2], [3]])
    assert sorted(seen) == [1, 2, 3]


def test_nothing_of_a_call_is_kept() -> None:
    """Its arrays are the user's memory: neither helpers nor errors hold them when it has ended."""

    class Work:
        def __call__(self, tile: int) -> None:
            if tile == 3:
                raise ValueError(tile)

    work = Work()
    gone = weakref.ref(work)
    with pytest.raises(ValueError, match="3"):
        share_out(work, [[0, 1], [2, 3]])
    share_out(work, [[0, 1], [2, 0]])
    del work
    share_out(lambda tile: None, [[n] for n in range(8)])  # helpers have come back to their queue
    gc.collect()
    assert gone() is None


def test_aside_hands_back_results_and_errors() -> None:
    assert aside(lambda a: a + 1, 1) == 2
    assert aside(lambda: aside(threading.current_thread)) is not threading.current_thread()
    with pytest.raises(KeyError):
        aside({}.__getitem__, 1)
    assert not threads._asides


def test_aside_loses_no_result_that_comes_as_a_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread may end after the caller has looked for a result and before it looks for the thread: no fork did that."""

    class Late:
        def __init__(self) -> None:
            self.kept: queue.SimpleQueue[tuple[bool, object]] = queue.SimpleQueue()
            self.put, self.empty, self.looked = self.kept.put, self.kept.empty, False

        def get(self, timeout: float) -> tuple[bool, object]:
            if self.looked:
                return self.kept.get(timeout=timeout)
            self.looked = True
            for thread in [t for t in threading.enumerate() if t.name == "tacops-aside"]:
                thread.join()
            raise queue.Empty

    monkeypatch.setattr(threads, "SimpleQueue", Late)
    assert aside(lambda: 3) == 3


def test_compilers_run_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba compiles where no signal interrupts it: it asks us by a method that is not public, and may be renamed."""
    pytest.importorskip("numba")
    from tacops.backends._cpu import loops

    seen: list[threading.Thread] = []

    def probe(a: int) -> int:
        return a + 1

    def spy(function: object, *args: object) -> object:
        seen.append(threading.current_thread())
        return aside(function, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(loops, "aside", spy)
    assert loops._compile(probe)(1) == 2
    assert seen == [threading.current_thread()]


@pytest.mark.parametrize(
    ("groups", "files", "want"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "100000 100000"}, 1),
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "1000 100000"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 100000"}, 2),
        ("0::/elsewhere\n", {"cpu.max": "200000 100000"}, 2),
        ("3:cpuset:/\n4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None),
        (
            "3:cpuset:/\n4:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("1:cpu:/docker/x\n0::/\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("nonsense\n", {}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
        ("0::/\n", {"cpu.max": ""}, None),
    ],
)
def test_quotas(tmp_path: Path, groups: str, files: dict[str, str], want: int | None) -> None:
    """Both versions of control groups, those around ours, and none."""
    names = tmp_path / "self"
    names.write_text(groups)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    got = cores._quota.__wrapped__(str(tmp_path), str(names))
    assert got == (1 << 30 if want is None else want)


def test_without_control_groups(tmp_path: Path) -> None:
    assert cores._quota.__wrapped__(str(tmp_path), str(tmp_path / "none")) == 1 << 30


def test_cores_heed_quota_and_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_quota", lambda: 1)
    assert cores.count_cores() == 1
    monkeypatch.setattr(cores, "_quota", lambda: 1 << 30)
    assert 1 <= cores.count_cores() <= (os.cpu_count() or 1)


FIRST_CALLS = """
import sys, threading
import numpy as np
from tacops.backends import backend_of

importing, asked = threading.Event(), threading.Event()
names = []

class Slow:
    def find_spec(self, name, path=None, target=None):
        if "tacops.backends.numpy_" in sys.modules and not importing.is_set():
            importing.set()  # the adapter is there by half
            asked.wait(0.5)

def ask():
    importing.wait()
    try:
        names.append(backend_of(np.zeros(1)).name)
    except BaseException as error:
        names.append(repr(error))
    asked.set()

assert "tacops.backends.numpy_" not in sys.modules
sys.meta_path.insert(0, Slow())
other = threading.Thread(target=ask)
other.start()
names.append(backend_of(np.zeros(1)).name)
assert importing.is_set()
other.join()
print(names)
"""


def test_first_calls_of_two_threads() -> None:
    """A process whose threads begin together, as a worker's do: the second waits until the adapter is imported."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALLS], capture_output=True, text=True, timeout=HANGS, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['numpy', 'numpy']\n"
