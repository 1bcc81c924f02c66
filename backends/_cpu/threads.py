"""The threads that share a call's work with its caller, made so that whatever strikes, the next call works.

Python's own pools don't stand an exception (Ctrl-C) in the thread that waits for them: their conditions are written in Python,
and an exception between two lines leaves a lock taken for good. Here what threads hand each other goes through
`queue.SimpleQueue` and `collections.deque`, whose operations are one step each. Nobody waits for a helper to *begin*: the
caller does what no helper has taken, so it ends where helpers are busy, gone (in a forked child) or can't be started.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from threading import RLock, Thread, current_thread
from typing import Any, Generic, TypeVar

import numpy as np

from . import memory
from .affinity import Apart
from .blas import OneBlasThread, calm_this_thread

__all__ = ["aside", "lost_in_fork", "run_here", "share_out"]

T = TypeVar("T")

LOOK = 0.5
"""Seconds after which somebody who waits looks whether the other is still there: whether this process was forked."""

_lock = RLock()
_calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()
_helpers: list[Thread] = []
_asides: set[Thread] = set()
_forks = 0
"""Forks between the process that was started and this one. A thread's own word, `is_alive`, does not do: interrupted, it can
declare one dead that runs (https://github.com/python/cpython/issues/89437)."""
_lost = _closed = False


def run_here(run: Callable[[T], None], share: Iterable[T]) -> None:
    """Run a share in this thread."""
    with memory.Use():
        for tile in share:
            memory.reset()
            run(tile)


def share_out(run: Callable[[T], None], shares: Sequence[Sequence[T]]) -> None:
    """Run all shares, each in a thread of its own, the first in this one, with a BLAS of one thread each.

    An error in a share is raised when the others have ended, which they do with the tile they are at. After an exception
    that strikes this thread it is the same, unless a second one strikes; results are kept alive by whoever writes to them.
    """
    helpers = _ready(len(shares) - 1)
    call, blas, place = _Call(run, shares), OneBlasThread(), Apart([thread.native_id or 0 for thread in helpers])
    try:
        try:
            blas.hold()
            if helpers:
                place.hold()
            for _ in range(min(len(helpers), len(shares) - 1)):
                _calls.put(call)
            call.lead()
        finally:
            _leave(call, blas, place)
    finally:  # once more, in case that an exception struck the line above
        _leave(call, blas, place)


def _leave(call: _Call[Any], blas: OneBlasThread, place: Apart) -> None:
    place.release()  # first: BLAS may start threads, which inherit where they may run
    blas.release()
    call.end()


class _Call(Generic[T]):
    """The shares of a call, and who is at work on them."""

    def __init__(self, run: Callable[[T], None], shares: Sequence[Sequence[T]]):
        self.run, self.left, self.over = run, deque(shares), False
        self.busy: dict[Thread, tuple[int, Sequence[T]]] = {}
        """Helpers that have come, each with the process's number of forks and the share that it is at: entered before it takes
        one, so none is overlooked."""
        self.errors: list[BaseException] = []
        self.ended: SimpleQueue[None] = SimpleQueue()

    def lead(self) -> None:
        """Run what no helper takes, wait for the rest, and raise what went wrong there."""
        for share in iter(self._next, None):
            self._run(share)
        self._wait()
        if self.errors:
            raise self.errors.pop(0)

    def end(self) -> None:
        """Let helpers stop, and wait until they have."""
        self.over = True
        self.left.clear()
        self._wait()

    def help(self, me: Thread) -> None:
        """A helper's part."""
        self.busy[me] = _forks, ()
        try:
            for share in iter(self._next, None):
                self.busy[me] = _forks, share
                self._run(share)
        except BaseException as error:  # noqa: BLE001 (raised in the caller)
            self.errors.append(error)
            self.over = True
        finally:
            self.busy.pop(me, None)
            self.ended.put(None)

    def _next(self) -> Sequence[T] | None:
        try:
            return self.left.popleft()
        except IndexError:
            return None

    def _run(self, share: Sequence[T]) -> None:
        run_here(self.run, (tile for tile in share if not self.over))

    def _wait(self) -> None:
        while self.busy:
            try:
                self.ended.get(timeout=LOOK)
            except Empty:
                self._replace()

    def _replace(self) -> None:
        """Run the shares of helpers that are no more: a signal's handler may have forked in the middle of this call."""
        for helper, (forks, share) in list(self.busy.items()):
            if forks != _forks:
                self._run(share)
                self.busy.pop(helper, None)


def _ready(count: int) -> list[Thread]:
    """All helpers, `count` or more where the system gives them."""
    if count <= len(_helpers):
        return _helpers if count else []
    if _closed or sys.is_finalizing():  # threads stand still already, or nobody would end them
        return []
    with _lock:
        for n in range(len(_helpers), count):
            helper = Thread(target=_serve, args=(_calls,), name=f"tacops-{n}", daemon=True)
            try:
                helper.start()
            except RuntimeError:  # no more threads: a limit, or the interpreter ends
                break
            _helpers.append(helper)
    return _helpers


def _serve(calls: SimpleQueue[_Call[Any] | None]) -> None:
    """A helper's life: warnings of floating-point errors are the caller's business, and switched off there too."""
    np.seterr(all="ignore")
    calm_this_thread()
    me = current_thread()
    try:
        while (call := calls.get()) is not None:
            call.help(me)
            del call  # and with it the arrays
        calls.put(None)  # for the next: an interrupt in `_ready` may have left one that nobody counts
    finally:
        if me in _helpers:
            _helpers.remove(me)


def aside(function: Callable[..., T], *args: Any) -> T:
    """Call a function where no signal can interrupt it, in a thread of its own; an interrupted caller leaves it to end.

    For imports and compilers: one that is interrupted can be broken for the rest of the process.
    """
    if current_thread() in _asides:
        return function(*args)
    results: SimpleQueue[tuple[bool, Any]] = SimpleQueue()

    def work() -> None:
        try:
            results.put((True, function(*args)))
        except BaseException as error:  # noqa: BLE001 (raised in the caller)
            results.put((False, error))
        finally:
            _asides.discard(current_thread())

    thread = Thread(target=work, name="tacops-aside", daemon=True)
    _asides.add(thread)  # before it begins: a fork must not fall between
    forks = _forks
    try:
        thread.start()
    except RuntimeError:  # no more threads
        _asides.discard(thread)
        return function(*args)
    while True:
        try:
            good, value = results.get(timeout=LOOK)
        except Empty:
            if forks == _forks:
                continue
            msg = "tacops: the process was forked by a signal's handler in the middle of a call that was compiling"
            raise RuntimeError(msg) from None
        if good:
            return value  # type: ignore[no-any-return]
        raise value


def lost_in_fork() -> bool:
    """Whether this process was forked while another thread was in `aside`: what it was at is half done for good."""
    return _lost


def _after_fork() -> None:
    """In a forked child, which has none of these threads, and in which a lock may be taken by one of them."""
    global _lock, _calls, _forks, _lost
    _lock, _calls, _forks = RLock(), SimpleQueue(), _forks + 1
    _helpers.clear()
    _lost = _lost or bool(_asides)  # one that was never started, for an exception struck, only costs speed
    _asides.clear()


@atexit.register
def _close() -> None:
    """End the helpers: a thread that comes back from compiled code when the interpreter is gone can end the process badly."""
    global _closed
    _closed, helpers = True, list(_helpers)
    _calls.put(None)
    for helper in helpers:
        helper.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
