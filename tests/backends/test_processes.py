"""Forked, spawned and ending processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.processes import PREAMBLE, run_script

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

IN_CHILD = """
def in_child(check):
    # fork; whether the child's check ended well. Unlike the other waits this one is not for the whole test: a child hangs
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        try:
            check()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0
"""


@forks
def test_forks_while_another_thread_computes() -> None:
    """A data loader's pattern: the child has none of the parent's threads, and BLAS at the user's number."""
    run_script(
        """
        want, threads, end = layer(), blas(), threading.Event()
        limited = 0

        def compute():
            while not end.is_set():
                layer()

        def check():
            assert blas() == threads, blas()
            equal(layer(), want)
            equal(layer(), want)
            assert blas() == threads, blas()

        workers = [threading.Thread(target=compute) for _ in range(2)]
        for worker in workers:
            worker.start()
        good = []
        for n in range(24):
            time.sleep(0.001 * (n % 5))
            limited += blas() != threads
            good.append(in_child(check))
        end.set()
        for worker in workers:
            worker.join()
        assert all(good), good
        assert blas() == threads
        equal(layer(), want)
        """,
        preamble=PREAMBLE + IN_CHILD,
    )


@forks
def test_a_fork_in_the_middle_of_a_call() -> None:
    """By the thread that makes the call, in a signal's handler: parent and child end it, each with its own threads."""
    run_script(
        """
        want, threads, places = layer(), blas(), processors()
        parent, children = os.getpid(), []

        def fork(*_):
            child = os.fork()
            if child:
                children.append(child)
            else:
                signal.alarm(120)

        signal.signal(signal.SIGUSR1, fork)
        run = _tiles.run_tiles

        class Frames(_tiles.Frames):
            def tile(self, *args):
                read = super().tile(*args)
                def forks(n):
                    if threading.current_thread() is threading.main_thread() and os.getpid() == parent and n == 1:
                        signal.raise_signal(signal.SIGUSR1)
                    return read(n)
                return forks

        import tacops.backends._cpu.choose as adapter
        adapter.Frames = Frames
        for _ in range(5):
            try:
                equal(layer(), want)
                assert blas() == threads
                assert processors() == places
                if os.getpid() != parent:
                    equal(layer(), want)
                    os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
                if os.getpid() != parent:
                    os._exit(1)
                raise
        assert children
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)
        """,
        preamble=PREAMBLE,
    )


@forks
def test_helpers_that_a_child_starts_in_the_middle_of_a_call() -> None:
    """Where a signal's handler forks, and runs a layer in the child, the call that it struck goes on there with live helpers."""
    run_script(
        """
        from tacops.backends._cpu.blas import OneBlasThread

        hold, parent, runs = OneBlasThread.hold, os.getpid(), []

        def strike(self):
            hold(self)
            OneBlasThread.hold = hold
            if os.fork() == 0:
                _threads.share_out(lambda tile: time.sleep(0.05), [[0], [1]])

        def slow(tile):
            runs.append(tile)
            time.sleep({"a": 0.1, "b": 3 * _threads.LOOK}[tile])
            runs.append(tile)

        OneBlasThread.hold = strike
        _threads.share_out(slow, [["a"], ["b"]])
        good = sorted(runs) == ["a", "a", "b", "b"]
        if os.getpid() != parent:
            os._exit(not good)
        assert good, runs
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        """
    )


@forks
def test_a_fork_while_loops_are_compiled(tmp_path: Path) -> None:
    """The thread that loads or compiles is not in the child: what it was at is never finished there."""
    pytest.importorskip("numba")
    run_script(
        """
        os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]  # empty: all is compiled
        current = rng.integers(-8, 9, (4, 64, 64, 64)).astype(np.float32) / 16
        # too small for a compiled loop; loads the adapter: an import that a fork cuts off is beyond us
        small = tacops.lif(current[:, :1], beta=0.5).spikes
        worker = threading.Thread(target=lambda: tacops.lif(current, beta=0.5))

        def check():
            equal([tacops.lif(current, beta=0.5).spikes[:, :1]], [small])

        worker.start()
        good = []
        while worker.is_alive() and len(good) < 12:
            good.append(in_child(check))
            time.sleep(0.1)
        worker.join()
        assert good and all(good), good
        check()
        """,
        str(tmp_path),
        preamble=PREAMBLE + IN_CHILD,
    )


def test_spawned_processes() -> None:
    """While this one computes."""
    run_script(
        """
        import multiprocessing
        from tests.support.processes import spawned
        end = threading.Event()

        def compute():
            while not end.is_set():
                layer()

        worker = threading.Thread(target=compute)
        worker.start()
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            sums = pool.map_async(spawned, range(4)).get(300)
        end.set()
        worker.join()
        assert sums == [spawned(n) for n in range(4)], sums
        """
    )


def test_calls_while_the_interpreter_ends() -> None:
    """From atexit, from a thread that nobody waits for, and when no thread can be started any more."""
    said = run_script(
        """
        import atexit, weakref
        want = layer()

        class Last:
            def __del__(self):
                equal(layer(), want)
                print("deleted", flush=True)

        def late():
            equal(layer(), want)
            print("atexit", flush=True)

        def for_ever():
            while True:
                layer()

        atexit.register(late)
        threading.Thread(target=for_ever, daemon=True).start()
        keep = Last()
        sys.modules["keep"] = keep  # goes with the modules
        """
    )
    assert "atexit" in said


def test_atexit_handlers_that_run_after_ours() -> None:
    """Those that were registered before tacops was imported."""
    early = "import atexit\natexit.register(lambda: (equal(layer(), want), print('late', flush=True)))\n"
    assert "late" in run_script("want = layer()", preamble=early + PREAMBLE)


def test_no_thread_can_be_started() -> None:
    run_script(
        """
        def refuse(self):
            raise RuntimeError("can't start new thread")

        start, threading.Thread.start = threading.Thread.start, refuse
        want = layer()
        assert not _threads._helpers
        threading.Thread.start = start
        equal(layer(), want)
        assert _threads._helpers
        """
    )


def test_helpers_that_die() -> None:
    """Each time with a call under way or none: the shares are run, and new helpers come."""
    run_script(
        """
        import ctypes
        want = layer()
        for n in range(6):
            for helper in list(_threads._helpers):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(helper.ident), ctypes.py_object(SystemExit))
            try:
                equal(layer(), want)
            except SystemExit:
                pass  # struck in a share: an error like any other
            equal(layer(), want)
        assert _threads._helpers and all(helper.is_alive() for helper in _threads._helpers)
        """
    )
