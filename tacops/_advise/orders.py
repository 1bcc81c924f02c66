"""The orders of frames that a permutation test compares, and all that follows from them alone.

They depend on the number of frames, not on the data: small ones are kept from one call to the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any

__all__ = ["Orders", "following", "mix", "orders_of", "sums_of_squares"]

PAIRS = 2**24
"""Pairs of frames, times lengths and orders, that are looked at at once."""
KEPT = 2**21
"""Numbers that follow from orders, up to which they are kept: 8 MiB."""


@dataclass(frozen=True)
class Orders:
    """Orders of T frames; the first is the one observed."""

    places: Any
    """(orders, T): the place of every frame."""
    lengths: tuple[int, ...]
    """Block lengths."""
    complete: bool
    """Whether they are all that there are."""
    follows: Any
    """(orders, T * T): `_follows`, if it is kept, or None."""
    together: Any
    """(lengths, orders, pairs): `_together`, if it is kept, or None."""


@lru_cache(4)
def _kept(np: Any, T: int, lengths: tuple[int, ...], draws: int, seed: int) -> Orders:
    return _orders(np, T, lengths, draws, seed, True)


def orders_of(np: Any, T: int, lengths: tuple[int, ...], draws: int, seed: int) -> Orders:
    """All orders of at most six frames, else the one observed and `draws` random ones."""
    count = math.factorial(T) if T <= 6 else draws + 1
    few = count * (len(lengths) * T * (T + 1) // 2 + T * T) <= KEPT
    return _kept(np, T, lengths, draws, seed) if few else _orders(np, T, lengths, draws, seed, False)


def _orders(np: Any, T: int, lengths: tuple[int, ...], draws: int, seed: int, keep: bool) -> Orders:
    places = _places(np, T, draws, seed)
    kept = (_follows(np, places), _together(np, lengths, places)) if keep else (None, None)
    return Orders(places, lengths, len(places) == math.factorial(T), *kept)


def _places(np: Any, T: int, draws: int, seed: int) -> Any:
    if T <= 6:
        return np.array(list(permutations(range(T))))
    places = np.random.default_rng([seed, T]).permuted(np.tile(np.arange(T), (draws + 1, 1)), axis=1)
    places[0] = np.arange(T)
    return places


def following(np: Any, orders: Orders) -> Any:
    """Which frame follows which: float32 (orders, T * T), 1 at s T + t if t is the next after s."""
    return _follows(np, orders.places) if orders.follows is None else orders.follows


def _follows(np: Any, places: Any) -> Any:
    count, T = places.shape
    follows = np.zeros((count, T * T), np.float32)
    frame = np.argsort(places, axis=1)  # in every place
    np.put_along_axis(follows, frame[:, :-1] * T + frame[:, 1:], 1.0, axis=1)
    return follows


def sums_of_squares(np: Any, orders: Orders, gram: Any) -> tuple[Any, Any]:
    """Sums of squares over blocks of consecutive frames, for every order.

    Parameters
    ----------
    np : namespace
        NumPy.
    orders : Orders
    gram : numpy.ndarray, shape (S, n, T, T)
        Gram matrices.

    Returns
    -------
    numpy.ndarray, shape (lengths, S, n, orders), float32
    numpy.ndarray, shape (lengths, orders), float32
        The same of a linear drift of variance 1.
    """
    S, n, T, _ = gram.shape
    first, second = _pairs(np, T)
    slope = np.linspace(-1, 1, T) * math.sqrt(3 * (T - 1) / (T + 1))
    rows = np.concatenate([gram[:, :, first, second].reshape(S * n, -1), (slope[first] * slope[second])[None]])
    columns = (rows * np.where(first == second, 1.0, 2.0)).astype(np.float32).T
    parts = [part.reshape(-1, len(first)) @ columns for part in _parts(np, orders)]
    sums = np.concatenate([part.reshape(len(orders.lengths), -1, S * n + 1) for part in parts], axis=1)
    sums = np.maximum(sums, 0).transpose(0, 2, 1)
    table = np.ascontiguousarray(sums[:, :-1]).reshape(len(orders.lengths), S, n, len(orders.places))
    return table, sums[:, -1].copy()  # a view would keep all sums


def _parts(np: Any, orders: Orders) -> Iterator[Any]:
    """`_together` of some orders at a time."""
    if orders.together is not None:
        yield orders.together
        return
    count, T = orders.places.shape
    step = max(1, PAIRS // (len(orders.lengths) * (T * (T + 1) // 2)))
    for start in range(0, count, step):
        yield _together(np, orders.lengths, orders.places[start : start + step])


def _together(np: Any, lengths: Sequence[int], places: Any) -> Any:
    """In how many blocks two frames lie in every order, pair by pair: float32 (lengths, orders, pairs)."""
    T = places.shape[1]
    first, second = _pairs(np, T)
    pairs = (places[:, first] * T + places[:, second]).reshape(-1)
    windows = np.stack([_windows(np, T, K) for K in lengths])
    return np.take(windows, pairs, axis=1).reshape(len(lengths), len(places), -1)


@lru_cache(4)
def _pairs(np: Any, T: int) -> Any:
    """Every pair of frames once, a frame and itself too."""
    return np.triu_indices(T)


def _windows(np: Any, T: int, K: int) -> Any:
    """In how many windows of K consecutive frames two frames lie: float32 (T * T,)."""
    start = np.arange(T - K + 1)[:, None]
    frame = np.arange(T)
    inside = ((start <= frame) & (frame < start + K)).astype(np.float32)
    return (inside.T @ inside).reshape(-1)


def mix(np: Any, table: Any, draws: int, complete: bool, seed: int) -> Any:
    """Sum over samples, each with an order of its own: the observed ones, then `draws` random choices.

    Parameters
    ----------
    np : namespace
        NumPy.
    table : numpy.ndarray, shape (..., n, orders)
    draws : int
    complete : bool
        Whether these are all orders: then they are drawn with replacement, which makes the test exact. Else every sample
        gets them in a sequence of its own: they serve all samples, as if they had been drawn for each.
    seed : int

    Returns
    -------
    numpy.ndarray, shape (..., draws + 1), float64
        For one sample, (..., orders).
    """
    *before, n, orders = table.shape
    if n == 1:
        return table[..., 0, :].astype(np.float64)
    few = n * (draws + 1) <= KEPT // 16
    picks = (_kept_picks if few else _picks)(np, n, orders, draws, complete, seed)
    return np.take(table.reshape(*before, n * orders), picks, axis=-1).sum(axis=-2, dtype=np.float64)


def _picks(np: Any, n: int, orders: int, draws: int, complete: bool, seed: int) -> Any:
    """Columns of a table (..., n * orders): (n, draws + 1)."""
    rng, pick = np.random.default_rng([seed, draws, n]), np.zeros((draws + 1, n), np.int64)
    if complete:
        pick[1:] = rng.integers(0, orders, (draws, n))
    else:
        pick[1:] = 1 + rng.permuted(np.tile(np.arange(draws)[:, None], (1, n)), axis=0)
    return np.ascontiguousarray((pick + orders * np.arange(n)).T)


_kept_picks = lru_cache(4)(_picks)
