"""Ctrl-C in the middle of a call of NumPy's: whatever it strikes, the process is as before and the next call works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import run_script

INJECT = """
events, only, every = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
want, threads, places = layer(), blas(), processors()

def strike(number):
    # whether the call met an event of that number; there, KeyboardInterrupt
    seen = 0
    def local(frame, event, argument):
        nonlocal seen
        if event == events or (events == "line" and event == "return"):
            seen += 1
            if seen == number:
                raise KeyboardInterrupt
        return local
    def begin(frame, event, argument):
        folder, _, name = frame.f_code.co_filename.replace(os.sep, "/").rpartition("/")
        if "/backends" not in folder or (only != [""] and name not in only):
            return None
        frame.f_trace_opcodes = events == "opcode"
        return local
    sys.settrace(begin)
    try:
        layer()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False

number = 1
while strike(number):
    assert blas() == threads, (number, blas())
    assert processors() == places, (number, processors())
    equal(layer(), want)
    assert blas() == threads, (number, "after the next call", blas())
    number += every
assert number > 1
print(number)
"""


def test_an_exception_at_every_line() -> None:
    """Of the adapter, its threads and its tiles; each return of a function is struck as well."""
    assert int(run_script(INJECT, "line", "", "1")) > 300


def test_an_exception_between_the_steps_of_a_line() -> None:
    """As signals strike: a line is many steps. In the files that take and give back what is the process's."""
    files = "threads.py,blas.py,affinity.py,memory.py"
    assert int(run_script(INJECT, "opcode", files, "3")) > 300


def test_a_storm_of_signals() -> None:
    """Interrupts at any moment, the one before not dealt with yet; in the end all is as it was."""
    run_script(
        """
        want, threads, places = layer(), blas(), processors()
        delays, struck, done = np.random.default_rng(1), 0, 0

        def interrupt(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, interrupt)
        for _ in range(1500):
            try:
                first, then = delays.random(2) * (0.02, 0.002)
                signal.setitimer(signal.ITIMER_REAL, first + 1e-5, then + 1e-5)
                try:
                    layer()
                    done += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                struck += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert struck > 100, struck
        equal(layer(), want)
        assert blas() == threads, (blas(), threads)
        assert processors() == places, processors()
        """
    )


def test_a_second_exception_on_the_way_out() -> None:
    """Two that strike at once may leave a hold behind; it ends with the frame that had it, or with the next call."""
    run_script(
        """
        want, threads, places = layer(), blas(), processors()
        leave = _threads._leave

        def strike(*_):
            raise KeyboardInterrupt

        _threads._leave = strike  # both times
        try:
            layer()
        except KeyboardInterrupt:
            pass
        else:
            sys.exit("not struck")
        _threads._leave = leave
        assert blas() == threads
        assert processors() == places
        equal(layer(), want)
        assert blas() == threads
        """
    )


@pytest.mark.parametrize("when", [0.1, 0.3, 0.6, 1.2])
def test_an_interrupt_while_loops_are_loaded(when: float, tmp_path: Path) -> None:
    """Numba, interrupted in its import or in a compilation, is broken for the rest of the process."""
    pytest.importorskip("numba")
    run_script(
        """
        os.environ["NUMBA_CACHE_DIR"] = sys.argv[2]  # empty: all is compiled
        def interrupt(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, interrupt)
        current = rng.random((4, 64, 64, 64)).astype(np.float32)
        signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]), 1.0)  # again: Python drops one that strikes a finaliser
        try:
            while True:  # until it strikes
                tacops.lif(current, beta=0.5)
        except KeyboardInterrupt:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        got = tacops.lif(current, beta=0.5)
        from tacops.backends._cpu import neurons
        assert neurons.compiled() is not None
        neurons.compiled = lambda: None
        equal(got, tacops.lif(current, beta=0.5))
        """,
        str(when),
        str(tmp_path),
    )


def test_an_interrupt_while_a_helper_is_started() -> None:
    """The helper runs, and nobody counts it: at its end the process must not wait for another in its place."""
    run_script(
        """
        start = threading.Thread.start

        def strike(thread):
            start(thread)
            if thread.name == "tacops-0":
                raise KeyboardInterrupt

        threading.Thread.start = strike
        try:
            layer()
        except KeyboardInterrupt:
            pass
        else:
            sys.exit("not struck")
        threading.Thread.start = start
        layer()
        names = [thread.name for thread in threading.enumerate()]
        assert len(_threads._helpers) == 1 and names.count("tacops-0") == 2, names
        """
    )


def test_layers_after_the_helpers_have_ended() -> None:
    """As from a function that the interpreter calls at its end: no helper is started that nobody would end, nothing piles up."""
    run_script(
        """
        want = layer()
        _threads._close()
        for _ in range(3):
            equal(layer(), want)
        assert not _threads._helpers
        assert _threads._calls.qsize() == 1, _threads._calls.qsize()
        """
    )


def test_a_handler_that_runs_layers_itself() -> None:
    """A signal's handler runs in the middle of a call of the same thread: neither may write into the other's buffers."""
    run_script(
        """
        other = rng.integers(-8, 9, weight.shape).astype(np.float32) / 16
        def second():
            return tacops.conv_lif(x[:, :1], other, padding=1, beta=0.5)
        want, also, inside = layer(), second(), 0

        def handle(*_):
            global inside
            equal(second(), also)
            inside += 1

        signal.signal(signal.SIGALRM, handle)
        for n in range(300):
            signal.setitimer(signal.ITIMER_REAL, 2e-4 + n * 2e-5)
            equal(layer(), want)
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert inside > 10, inside
        """
    )
