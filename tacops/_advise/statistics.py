"""The statistics behind `advise`: a permutation test on Gram matrices of the frames, and what a chunk loses.

**Test.** If the frames are draws of one rate, any order of them is as likely as any other, whatever the law of a single
frame. The statistic is the variance of sums over K consecutive frames; its distribution under that hypothesis is the one
over permutations of whole frames, which keeps all correlation between pixels.

**Loss.** Products of *different* pixels of one neighbourhood hold no noise if pixels spike independently given their
rates, not even within one frame. Their mean over frames that are tau apart, R(tau), says what share of the signal's
energy survives when K frames are replaced by their mean: ``[K R(0) + 2 sum_tau (K - tau) R(tau)] / (K^2 R(0))``. Where
single pixels change significantly, their own R(tau) is used besides, with R(0) extrapolated from other lags; where they
move, R(0) is what the next frame still holds, displaced.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .gram import namespace_of
from .motion import Agreement, agreement
from .orders import mix, orders_of, sums_of_squares

__all__ = ["ROUNDING", "Losses", "Motion", "Outcome", "block_lengths", "chunk_losses", "permutation_test"]


def block_lengths(T: int, longest: int) -> list[int]:
    """2, 3, 4, 6, 8, 12, ... up to `longest`, and at least 2 where three frames allow it."""
    lengths = sorted({k << n for n in range(T.bit_length()) for k in (2, 3)})
    return [k for k in lengths if k <= max(longest, 2) and k < T]


@dataclass(frozen=True)
class Motion:
    """What one permutation test says of displaced frames."""

    dispersion: float
    """The agreement of frames that follow each other, displaced, divided by its mean over all orders."""
    limit: float
    """Significant above it."""
    fine: bool
    """Whether a pattern moves significantly that neighbourhoods don't follow."""
    excess: Any
    """(n,): energy of every sample that is found again in the next frame, displaced."""
    least: Any
    """(n,): the excess in all samples that would just be significant on average."""


@dataclass(frozen=True)
class Outcome:
    """Of one permutation test; rows are block lengths, columns pooling scales."""

    lengths: list[int]
    dispersion: list[list[float]]
    """Variance of sums over K frames, divided by its mean over all orders; NaN where nothing varies."""
    band: list[list[tuple[float, float]]]
    """Dispersion outside of this band is significant."""
    drift: list[float]
    """Variance per frame, in the Gram matrices' units, of a linear drift that would just be significant on average."""
    strongest: tuple[int, int] | None
    """Row and column of the greatest departure; None if it is that of motion."""
    pixels: bool
    """Whether single pixels alone leave the band."""
    p_value: float
    p_values: list[float]
    """For every sample by itself."""
    motion: Motion | None
    """None if frames are too small to be displaced."""


def permutation_test(
    gram: Any, displaced: Any, lengths: Sequence[int], draws: int, significance: float, seed: int
) -> Outcome:
    r"""Test whether the variance of sums over K consecutive frames is what any order of the frames would give.

    .. math:: D_K = \frac{T (T - 1)}{K (T - K) (T - K + 1)} \cdot
              \frac{\sum_{s=0}^{T-K} |\sum_{t=s}^{s+K-1} c_t|^2}{\sum_t |c_t|^2}

    with both sums over all samples; its mean over all orders is exactly 1. The cube root of the numerator is close to
    normal (Wilson and Hilferty), so its departure in standard deviations can be compared between lengths and scales, and with
    that of `agreement` above its mean; the test statistic is the greatest one. It is compared with its own distribution over `draws` random orders, drawn for
    every sample by itself, so that looking at many lengths and scales costs nothing in false alarms.

    Parameters
    ----------
    gram : numpy.ndarray, shape (S, n, L, L)
        Of centred frames.
    displaced : numpy.ndarray, shape (D, n, L, L)
        Of centred frames and displaced ones.
    lengths : sequence of int
        Block lengths K.
    draws : int
        Orders that are drawn; p-values are multiples of ``1 / (draws + 1)``. For one sample of at most six frames all
        orders are looked at instead.
    significance : float
    seed : int
    """
    np = namespace_of(gram)
    n, T = gram.shape[1:3]
    orders = orders_of(np, T, tuple(lengths), draws, seed)
    # a row for every length and scale, and one for motion; the first order is the one observed
    table, ramp = sums_of_squares(np, orders, gram)
    table = table.reshape(-1, n, len(orders.places))
    blocks, seen = len(table), agreement(np, displaced, orders)
    if seen is not None:
        table = np.concatenate([table, seen.table[None]])
    total = mix(np, table, draws, orders.complete, seed)
    score, center, spread = _scores(np, total, blocks)
    worst, individual = score.max(axis=0), _scores(np, table, blocks)[0].max(axis=0)
    allowed = np.sort(worst)[math.ceil((1 - significance) * len(worst)) - 1]
    low, high = (np.maximum(center + sign * allowed * spread, 0) ** 3 for sign in (-1, 1))
    shape = len(lengths), len(gram)
    K = np.array(lengths)[:, None]
    mean = K * (T - K) * (T - K + 1) * np.einsum("snii->s", gram) / (T * (T - 1))
    safe = np.where(mean > 0, mean, np.nan)
    drift = _least_drift(np, high[:blocks].reshape(shape) - mean, total[:blocks].std(axis=1).reshape(shape), ramp, n)
    strongest = int(np.argmax(score[:, 0]))
    return Outcome(
        list(lengths),
        (total[:blocks, 0].reshape(shape) / safe).tolist(),
        np.stack([part[:blocks].reshape(shape) / safe for part in (low, high)], axis=-1).tolist(),
        drift.min(axis=0).tolist(),
        None if strongest == blocks else divmod(strongest, len(gram)),
        bool((score[: blocks : len(gram), 0] > allowed).any()),
        float((worst >= worst[0] - TIE).mean()),
        (individual >= individual[:, :1] - TIE).mean(axis=1).tolist(),
        None if seen is None else _motion(seen, total[-1], float(high[-1]), bool(score[-1, 0] > allowed)),
    )


def _motion(seen: Agreement, moved: Any, limit: float, significant: bool) -> Motion:
    """What the displaced frames say, from the distribution over orders of their agreement."""
    mean = float(moved.mean())
    # one displacement of z standard deviations in all samples adds about n (z^2 + 1/2) / 2 squares
    deviations = math.sqrt(max(2 * (limit - mean) / seen.excess.shape[0] - 0.5, 0.25))
    ratio = (float(moved[0]) / mean, limit / mean) if mean > 0 else (math.nan, math.nan)
    return Motion(*ratio, seen.fine and significant, seen.excess, deviations * seen.spread)


TIE = 1e-3
"""Scores closer than this are equal: orders that give the same blocks do so up to rounding."""


def _least_drift(np: Any, excess: Any, spread: Any, values: Any, n: int) -> Any:
    """Variance of the linear drift whose sums of squares exceed their mean over orders by `excess`: (lengths, S).

    A drift also widens the distribution over orders. With g the excess and q the spread over orders of a drift of
    variance 1, and E and s those of the noise: ``a g = E sqrt(1 + a^2 q^2 / (n s^2))``, solved for a. `values` are the drift's
    sums of squares: (lengths, orders).
    """
    gain, own = values[:, :1] - values.mean(axis=1, keepdims=True), values.std(axis=1, keepdims=True)
    safe = np.where(spread > 0, spread, np.inf)
    square = gain**2 - excess**2 * own**2 / (n * safe**2)
    shows = square > ROUNDING * gain**2
    return np.where(shows, excess / np.sqrt(np.where(shows, square, 1)), np.inf)


def _scores(np: Any, squares: Any, blocks: int) -> tuple[Any, Any, Any]:
    """Departure of cube roots from their mean over draws, in standard deviations; that mean; the standard deviation.

    Either way of sums over `blocks`, the first rows; only upwards of the others. Zero where nothing varies.
    """
    roots = np.cbrt(squares)
    center = roots.mean(axis=-1)
    departure = roots - center[..., None]
    spread = np.sqrt((departure**2).mean(axis=-1))
    safe = np.where(spread > 1e-6 * np.abs(center), spread, np.inf)
    score = departure / safe[..., None]
    np.abs(score[:blocks], out=score[:blocks])
    return score, center, spread


@dataclass(frozen=True)
class Losses:
    """Share of the signal's energy that is lost when K frames are replaced by their mean."""

    by_length: dict[int, float]
    """NaN where the input has no signal that could be measured."""
    error: float
    """Standard error of the one for a single chunk, for pixels that spike independently at one rate."""
    by_sample: list[float]
    """Each sample's own for one chunk of all frames; NaN where it can't be measured."""


ROUNDING = 1e-6
"""Share of the spikes' energy that float32's rounding may leave where there is none."""


def chunk_losses(gram: Any, noise: Any, lengths: Sequence[int], *, pixels: bool, moving: Any = None) -> Losses:
    """Measure what a chunk of K frames loses.

    Parameters
    ----------
    gram, noise : numpy.ndarray, shapes (3, n, L + 1, L + 1) and (n,)
        As `grams` returns them.
    lengths : sequence of int
        The numbers K.
    pixels : bool
        Whether single pixels change significantly: then what they lose counts, too, if it is more. Their product within
        a frame holds noise, so R(0) is extrapolated from other lags.
    moving : numpy.ndarray, shape (n,), or None
        Where fine patterns move significantly, the energy that the next frame still holds, displaced: what a single pixel
        loses of it counts, too, if it is more.
    """
    np = namespace_of(gram)
    T = gram.shape[2] - 1
    raw = gram[:, :, :T, :T] + gram[:, :, :T, T:] + gram[:, :, T:, :T] + gram[:, :, T:, T:]
    pairs = raw[1] - raw[0]  # products of different pixels of one neighbourhood
    lags, single = _lag_means(np, pairs.sum(axis=0)), _lag_means(np, raw[0].sum(axis=0))
    together = lags[0] > 1e-3 * single[0]  # else there are no neighbours that spike
    others = (raw[0].sum(axis=(1, 2)) - np.einsum("nii->n", raw[0])) / (T * (T - 1))  # frames that differ: no noise
    if single[0] <= 0:  # windows that hold no spikes lose none
        return Losses(dict.fromkeys(lengths, 0.0), math.nan, [math.nan] * gram.shape[1])
    nothing = ROUNDING * single[0]
    single[0] = max(*single[1 : T // 2 + 1], 2 * single[1] - single[2])
    if moving is not None:
        single[0] = max(single[0], float((others + moving).sum()))
    pixels = pixels or moving is not None
    wanted = [part for part, use in ((lags, together), (single, pixels or not together)) if use and part[0] > nothing]
    if not wanted:
        return Losses(dict.fromkeys(lengths, math.nan), math.nan, [math.nan] * gram.shape[1])
    energy = np.einsum("nii->n", pairs) if together else np.zeros(gram.shape[1])
    each = 1 - pairs.sum(axis=(1, 2)) / (T * np.where(energy > 0, energy, np.nan))
    if moving is not None:
        each = np.fmax(each, (1 - 1 / T) * moving / np.where(others + moving > 0, others + moving, np.nan))
    error = math.sqrt(max(float(noise.sum()), 0.0)) / (T * lags[0]) if together else math.nan
    return Losses({K: max(_loss(part, K) for part in wanted) for K in lengths}, error, each.tolist())


def _loss(lags: Sequence[float], K: int) -> float:
    """From the mean products of frames that are 0, 1, 2, ... apart."""
    return 1 - (lags[0] + 2 * sum((1 - t / K) * lags[t] for t in range(1, K))) / (K * lags[0])


def _lag_means(np: Any, gram: Any) -> list[float]:
    """Mean of every diagonal of a symmetric matrix, from the main one up."""
    frame = np.arange(len(gram))
    lags = np.abs(frame[:, None] - frame).reshape(-1)
    return (np.bincount(lags, gram.reshape(-1)) / np.bincount(lags)).tolist()  # type: ignore[no-any-return]
