"""Hold BLAS to one thread while several threads of our own call it, and give the user's setting back."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from threading import RLock, get_ident
from typing import Any
from weakref import ref

from threadpoolctl import ThreadpoolController

__all__ = ["OneBlasThread", "calm_this_thread"]

_lock = RLock()  # a signal's handler, or a finaliser, may call us while this very thread has it
_holders: set[ref[OneBlasThread]] = set()
_settings: tuple[tuple[Any, int], ...] = ()
"""What the user had set, while we hold it to one; known before the first is changed, forgotten after the last is given back."""


class OneBlasThread:
    """BLAS at one thread, from `hold` to `release`.

    The limit is the process's: the first to hold sets it and the last to release restores it. An exception may strike at
    any line, so `release` does no harm at any time and may be called again, and a holder that has gone without it counts no
    more: holders are known by weak references, and settings are not read anew while an earlier one is still to be restored.
    """

    def __init__(self) -> None:
        self.thread, self.known = get_ident(), ref(self)
        self.own: tuple[tuple[Any, int], ...] = ()

    def hold(self) -> None:
        """Set the limit."""
        global _settings
        shared, own = _libraries()
        with _lock:
            if not _drop(None):
                _restore()
            _holders.add(self.known)
            _settings = _settings or tuple((library, library.get_num_threads()) for library in shared)
            for library, _ in _settings:
                _set(library, 1)
        self.own = tuple((library, library.get_num_threads()) for library in own)
        calm_this_thread()

    def release(self) -> None:
        """Give the setting back, unless others hold it or the user has changed it meanwhile."""
        with _lock:
            if not _drop(self.known):
                _restore()
        if self.own and self.thread == get_ident():
            _give_back(self.own)
            self.own = ()

    def __del__(self) -> None:
        """A holder may be left by two exceptions that strike at once."""
        if self.known in _holders or self.own:
            self.release()


def calm_this_thread() -> None:
    """Limit the libraries that count threads for each of their callers."""
    for library in _libraries()[1]:
        _set(library, 1)


def _drop(holder: ref[OneBlasThread] | None) -> int:
    """Forget one holder, and those that are no more; returns how many there are."""
    for known in list(_holders):
        if known is holder or known() is None:
            _holders.discard(known)
    return len(_holders)


def _restore() -> None:
    global _settings
    _give_back(_settings)
    _settings = ()


def _give_back(settings: tuple[tuple[Any, int], ...]) -> None:
    for library, count in settings:
        if library.get_num_threads() == 1:  # else somebody has set another number since
            _set(library, count)


def _set(library: Any, count: int) -> None:
    # threadpoolctl 3.8 lets one thread alone set OpenBLAS, and keeps it for good: the last to leave may be another, and the
    # user's own threads must not be locked out by ours
    getattr(library, "_real_set_num_threads", library.set_num_threads)(count)


@cache
def _libraries() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """NumPy's BLAS: with one number of threads for the process, or one for each thread that calls it (OpenMP's).

    Where it can't be told from others, all of them. It is loaded with NumPy, so once found nothing is missing; finding it
    takes milliseconds.
    """
    try:
        found = ThreadpoolController().select(user_api="blas").lib_controllers
    except Warning:  # of mixed OpenMP libraries, where warnings are errors
        return (), ()
    found = [library for library in found if Path(library.filepath).parent.name in ("numpy.libs", ".dylibs")] or found
    each = [hasattr(library, "_real_set_num_threads") and library.threading_layer == "openmp" for library in found]
    shared = tuple(library for library, apart in zip(found, each, strict=True) if not apart)
    return shared, tuple(library for library, apart in zip(found, each, strict=True) if apart)


def _after_fork() -> None:
    """In a forked child, which has none of the parent's threads but the one that forked: their holds end."""
    for known in list(_holders):
        holder = known()
        if holder is None or holder.thread != get_ident():
            _holders.discard(known)
    if not _holders:
        _restore()
    _lock.release()


if hasattr(os, "register_at_fork"):
    # no thread may be about to set OpenBLAS when the process forks: its lock would be taken in the child for good
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
