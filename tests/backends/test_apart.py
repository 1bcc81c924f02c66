"""NumPy's threads: where they run during a call, and that the caller's affinity is its own again afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from tacops import conv_lif
from tacops.backends._cpu import affinity, memory
from tacops.backends._cpu.affinity import Apart

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux places threads")


@contextmanager
def apart(others: Sequence[int]) -> Iterator[None]:
    """As a call of ours holds its threads."""
    place = Apart(others)
    try:
        place.hold()
        yield
    finally:
        place.release()
        place.release()  # harmless


@pytest.fixture
def allowed() -> set[int]:
    """The processors of this process, two or more."""
    processors = os.sched_getaffinity(0)
    if len(processors) < 2:
        pytest.skip("one processor is nothing to share out")
    return processors


@pytest.fixture
def other() -> Iterator[int]:
    """The native id of a thread that waits."""
    end, ids = threading.Event(), []
    started = threading.Event()

    def wait() -> None:
        ids.append(threading.get_native_id())
        started.set()
        end.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait()
    yield ids[0]
    end.set()
    thread.join()


def test_two_threads_share_no_processor(allowed: set[int], other: int) -> None:
    with apart([other]):
        mine, theirs = os.sched_getaffinity(0), os.sched_getaffinity(other)
        assert len(mine) == 1
        assert theirs == allowed - mine
    assert os.sched_getaffinity(0) == allowed


def test_affinity_is_given_back_after_an_error(allowed: set[int], other: int) -> None:
    with pytest.raises(KeyError), apart([other]):
        raise KeyError
    assert os.sched_getaffinity(0) == allowed


def test_a_thread_that_is_gone_is_no_error(allowed: set[int]) -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert thread.native_id is not None
    with apart([thread.native_id]):
        pass
    assert os.sched_getaffinity(0) == allowed


@pytest.mark.parametrize("missing", ["_sched_getcpu", "_allowed"])
def test_nothing_happens_where_the_system_cannot(
    missing: str, allowed: set[int], other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, missing, {"_sched_getcpu": lambda: None, "_allowed": set}[missing])
    with apart([other]):
        assert os.sched_getaffinity(0) == allowed == os.sched_getaffinity(other)


def test_a_thread_held_to_one_processor_stays_alone(allowed: set[int], other: int) -> None:
    one = {min(allowed)}
    os.sched_setaffinity(0, one)
    try:
        with apart([other]):
            assert os.sched_getaffinity(0) == one
            assert os.sched_getaffinity(other) == allowed
    finally:
        os.sched_setaffinity(0, allowed)


def test_an_affinity_of_meanwhile_is_left(allowed: set[int]) -> None:
    """Somebody moves the process while a call is under way: that holds."""
    with apart([]):
        wish = allowed - os.sched_getaffinity(0)
        os.sched_setaffinity(0, wish)
    assert os.sched_getaffinity(0) == wish
    os.sched_setaffinity(0, allowed)


def test_a_hold_that_is_left_ends_with_its_frame(allowed: set[int]) -> None:
    def leave() -> None:
        place = Apart([])
        place.hold()
        assert os.sched_getaffinity(0) != allowed

    leave()
    assert os.sched_getaffinity(0) == allowed


def test_a_layer_runs_on_processors_of_its_own(allowed: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """While a layer's tiles run, caller and helpers may not meet; afterwards the caller is free."""
    seen: dict[int, set[int]] = {}
    reset, helped = memory.reset, threading.Event()

    def spy() -> None:
        seen[threading.get_native_id()] = os.sched_getaffinity(0)
        if threading.current_thread() is threading.main_thread():
            helped.wait(60)  # on a busy machine the caller could do it all before a helper comes awake
        else:
            helped.set()
        reset()

    x = np.random.default_rng(0).random((4, 8, 32, 32, 4)) < 0.9
    conv_lif(x, np.full((32, 3, 3, 4), 0.1, np.float32), padding=1)  # loops are compiled apart, once
    monkeypatch.setattr(memory, "reset", spy)
    conv_lif(x, np.full((32, 3, 3, 4), 0.1, np.float32), padding=1)
    mine = seen.pop(threading.get_native_id())
    assert len(mine) == 1
    assert seen
    assert all(theirs == allowed - mine for theirs in seen.values())
    assert os.sched_getaffinity(0) == allowed
