"""Hold BLAS to one thread while several threads of our own call it, and give the user's setting back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]

_lock = Lock()
_holders = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread; the limit is process-wide, so the first to enter sets it and the last to leave restores it."""
    global _holders, _limit
    with _lock:
        if _holders == 0:
            _limit = _blas().limit(limits=1)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _limit.restore_original_limits()


@cache
def _blas() -> Any:
    """Controls of the BLAS libraries in this process; finding them takes milliseconds, so once."""
    return ThreadpoolController().select(user_api="blas")
