"""How a result is cut: which parts of the frames' blocks each of its blocks is made of, axis by axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tacops._values import fail

if TYPE_CHECKING:
    from tacops._backend.protocol import Array
    from tacops._backend.whole import Move, Whole

__all__ = ["Cut", "cuts_of"]


class Cut(NamedTuple):
    """One block of the result, along one axis."""

    size: int
    """Of the result."""
    start: int
    """Where its frames begin."""
    parts: tuple[tuple[int, slice | None], ...]
    """Blocks of the frames that it needs, by number, each whole (None) or a part of it."""
    padding: tuple[int, int] = (0, 0)
    """Zeros around them."""

    def frames(self, chunks: tuple[int, ...]) -> int:
        """How many the parts are together, of blocks of these sizes."""
        return sum(chunks[n] if part is None else part.stop - part.start for n, part in self.parts)


def cuts_of(whole: Whole, frames: Array) -> tuple[tuple[Cut, ...], ...]:
    """Every axis; ValueError, with the `rechunk` to use, where the chunks of the frames don't allow it.

    Parameters
    ----------
    whole : Whole
    frames : dask.array.Array
    """
    _check_time(whole, frames)
    axis = whole.channel_axis
    if axis is not None and len(frames.chunks[axis]) > 1:
        named = axis if whole.named_axis is None else whole.named_axis
        rule = f"in one chunk along the channels, as of {whole.argument}.rechunk({{{named}: -1}})"
        raise fail(whole.function, whole.argument, rule, f"chunks {frames.chunks[axis]}")
    cuts = [_along(frames.chunks[0], whole.steps)]
    for n, chunks in enumerate(frames.chunks[1:], start=1):
        move = whole.moves.get(n)
        cuts.append(_along(chunks, int) if move is None else _moved(chunks, move))
    if axis is not None:
        cuts[axis] = (Cut(whole.channels, 0, cuts[axis][0].parts),)
    return tuple(cuts)


def _check_time(whole: Whole, frames: Array) -> None:
    """Blocks end with a chunk of frames."""
    size, chunks = whole.chunk, [count for count in frames.chunks[0] if count]
    if any(count % size for count in chunks[:-1]):
        use = max(size, chunks[0] // size * size)
        rule = f"cut in time at multiples of chunk_size {size}, as {whole.argument}.rechunk({{0: {use}}}) is"
        raise fail(whole.function, whole.argument, rule, f"chunks {frames.chunks[0]}")


def _along(chunks: tuple[int, ...], size: Callable[[int], int]) -> tuple[Cut, ...]:
    """An axis whose blocks need nothing of each other."""
    cuts, start = [], 0
    for n, count in enumerate(chunks):
        if count:  # Dask allows empty ones
            cuts.append(Cut(size(count), start, ((n, None),)))
        start += count
    return tuple(cuts) or (Cut(0, 0, ((0, None),)),)


def _moved(chunks: tuple[int, ...], move: Move) -> tuple[Cut, ...]:
    """An axis along which a kernel moves: each place of the result belongs to the block that the kernel's centre is in."""
    low, high = move.padding
    length, reach = sum(chunks), move.dilation * (move.kernel - 1)
    total = (length + low + high - reach - 1) // move.stride + 1
    edges, end = [0], 0
    for count in chunks[:-1]:
        end += count
        edges.append(min(total, max(0, -(-(end + low - reach // 2) // move.stride))))
    edges.append(total)
    cuts: list[Cut] = []
    first = 0
    for stop in edges[1:]:
        start, after = first * move.stride - low, stop * move.stride - low
        end = length + high if stop == total else after - move.stride + reach + 1
        begin, until = max(0, start), min(length, end)
        # what has no place, or sees zeros alone, goes with the next one; so does this one if nothing but zeros come after
        if stop > first and until > begin and (stop == total or after < length):
            cuts.append(Cut(stop - first, begin, _parts(chunks, begin, until), (begin - start, end - until)))
            first = stop
    return tuple(cuts)


def _parts(chunks: tuple[int, ...], begin: int, until: int) -> tuple[tuple[int, slice | None], ...]:
    """What of each block lies in a range."""
    parts: list[tuple[int, slice | None]] = []
    start = 0
    for n, count in enumerate(chunks):
        a, b = max(begin, start) - start, min(until, start + count) - start
        if a < b:
            parts.append((n, None if (a, b) == (0, count) else slice(a, b)))
        start += count
    return tuple(parts)
