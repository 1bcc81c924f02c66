"""Memory for NumPy's layers: work buffers that a thread keeps between calls, and results, both in whole cache lines.

Fresh memory costs a page fault for every 4 KiB, and the C library hands large blocks back to the system when they are
freed: for short calls that is most of the time. Each thread keeps one block, so two threads can't meet in it.
"""

from __future__ import annotations

import math
import threading
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["Use", "empty", "fresh", "reset"]

KEEP = 1 << 25
"""Most bytes that a thread keeps; what a call needs beyond is allocated for it alone."""
ALIGNMENT = 64
"""A cache line, and the widest vector: one that straddles two lines is stored in two goes. The C library aligns to 16."""
ALIGN = 1 << 12
"""Bytes from which results are aligned: it takes two microseconds."""
SMALL = 1 << 9
"""Bytes up to which the C library is sooner done, and alignment matters little."""


_NOTHING = np.empty(0, dtype=np.uint8)


class _Arena(threading.local):
    block = _NOTHING
    used = 0
    wanted = 0
    user: ref[Use] | None = None


_arena = _Arena()


class Use:
    """``with Use():`` around whatever calls `empty`.

    A signal's handler, or a finaliser, may run layers in the middle of another that this thread runs: they get a block of
    their own. A user that was left by an exception is known by being gone.
    """

    __slots__ = ("__weakref__", "outer")

    def __enter__(self) -> None:
        user = None if _arena.user is None else _arena.user()
        self.outer = None if user is None else (_arena.block, _arena.used, _arena.wanted, _arena.user)
        if self.outer is not None:
            _arena.block = _NOTHING
        _arena.user = ref(self)

    def __exit__(self, *_: object) -> None:
        _arena.user = None
        if self.outer is not None:
            _arena.block, _arena.used, _arena.wanted, _arena.user = self.outer


def reset() -> None:
    """Forget all buffers of this thread: the next ones may share their memory."""
    if _arena.wanted > _arena.block.size and _arena.block.size < KEEP:
        _arena.block = fresh((min(_arena.wanted, KEEP),), np.uint8)
    _arena.used = _arena.wanted = 0


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray[Any, Any]:
    """`numpy.empty`, valid until this thread's next `reset`."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALL:
        return np.empty(shape, dtype=dtype)
    start = _arena.used
    end = start + -(-size // ALIGNMENT) * ALIGNMENT
    _arena.wanted += end - start
    if end > _arena.block.size:
        return fresh(shape, dtype)
    _arena.used = end
    return _arena.block[start : start + size].view(dtype).reshape(shape)


def fresh(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray[Any, Any]:
    """`numpy.empty`, aligned if it is large enough for that to pay."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < ALIGN:
        return np.empty(shape, dtype=dtype)
    memory = np.empty(size + ALIGNMENT, dtype=np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.ctypes.data % ALIGNMENT)
