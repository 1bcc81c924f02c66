"""Affinity and BLAS threads, which NumPy's engine holds for a while, are left as they were, and as others set them."""

from __future__ import annotations

import os

import pytest

from tests.support.processes import PREAMBLE, run_script


def test_libraries_are_loaded_while_nothing_is_held() -> None:
    """A BLAS that is loaded in a thread held to one processor takes it for the machine's only one."""
    pytest.importorskip("scipy")
    pytest.importorskip("numba")
    plain = run_script(
        "import scipy.linalg\nprint(sorted(blas().items()))", preamble=PREAMBLE
    )  # as they are without a call of ours
    assert run_script("layer()\nimport scipy.linalg\nprint(sorted(blas().items()))") == plain


def test_an_affinity_that_somebody_sets_meanwhile_stays() -> None:
    """By taskset, or another thread: not undone by us."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor, or a system that places no threads")
    run_script(
        """
        from tacops.backends._cpu.affinity import Apart
        all_ = processors()
        for wish in [{n} for n in sorted(all_)[:2]]:
            place = Apart([])
            place.hold()
            pinned = processors()
            if pinned == wish:
                place.release()
                continue
            os.sched_setaffinity(0, wish)
            place.release()
            assert processors() == wish
            os.sched_setaffinity(0, all_)
        places = set()

        def watch():  # everything of this process to one processor, again and again
            while not end.is_set():
                for thread in os.listdir("/proc/self/task"):
                    try:
                        os.sched_setaffinity(int(thread), {min(all_)})
                    except OSError:
                        pass
                time.sleep(0.002)

        want, end = layer(), threading.Event()
        worker = threading.Thread(target=watch)
        worker.start()
        for _ in range(50):
            equal(layer(), want)
        end.set()
        worker.join()
        """
    )


def test_a_limit_that_somebody_sets_meanwhile_stays() -> None:
    """And whoever has set one before gets it back, whichever thread ends last."""
    run_script(
        """
        from tacops.backends._cpu.blas import OneBlasThread
        ours = [path for path in blas() if "numpy.libs" in path] or list(blas())
        def numpys():
            return {blas()[path] for path in ours}

        layer()  # loads what there is to load
        first, second, threads = OneBlasThread(), OneBlasThread(), blas()
        first.hold()
        other = threading.Thread(target=second.hold)
        other.start()
        other.join()
        first.release()
        assert numpys() == {1}
        other = threading.Thread(target=second.release)
        other.start()
        other.join()
        assert blas() == threads, blas()
        with threadpoolctl.threadpool_limits(3):
            layer()
            assert numpys() == {3}, blas()
        assert blas() == threads, blas()
        first.hold()
        mine = threadpoolctl.threadpool_limits(3)
        first.release()
        assert numpys() == {3}, blas()
        """
    )


def test_others_may_set_limits_after_a_call_of_ours() -> None:
    """From a thread that is not the one we called from: threadpoolctl lets one thread set them, if it doesn't give that back."""
    run_script(
        """
        layer()

        def limit():
            with threadpoolctl.threadpool_limits(3):
                seen.append(set(blas().values()))

        seen = []
        other = threading.Thread(target=limit)
        other.start()
        other.join()
        assert seen == [{3}], seen
        """
    )


def test_a_library_of_others_is_left_alone() -> None:
    """SciPy's BLAS, while a call of ours is under way."""
    pytest.importorskip("scipy")
    run_script(
        """
        import scipy.linalg
        from tacops.backends._cpu.blas import OneBlasThread
        if not any("numpy.libs" in path for path in blas()):
            sys.exit()  # one BLAS for all, as conda has it
        before, hold = blas(), OneBlasThread()
        hold.hold()
        assert {path for path, threads in blas().items() if threads != before[path]} == {
            path for path in before if "numpy.libs" in path and before[path] > 1
        }
        hold.release()
        assert blas() == before
        """
    )
