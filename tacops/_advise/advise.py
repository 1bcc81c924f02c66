"""Collapse or preserve? `advise` looks at the data."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .._backend.dispatch import backend_of, undisturbed
from .._backend.protocol import Array, Backend
from .._values import as_int, check_choice, check_count, check_number, fail, shape_of, show
from .advice import Advice
from .gram import LONGEST, SIDE, Plan, grams
from .rule import Question, decide, gather_evidence
from .statistics import block_lengths

__all__ = ["MORE", "advise"]

SQUARE = 8
"""Rows of a square picture that is taken for one."""
WINDOW = 32
"""Frames that are compared one by one; of longer inputs, windows of so many frames and so many groups of frames."""

MORE = 16
"""Times `max_samples` that are looked at where so many are needed."""


@undisturbed
def advise(
    spikes: Array,
    *,
    layout: str = "channels_last",
    max_loss: float = 0.05,
    keep: float = 0.5,
    significance: float = 0.01,
    max_samples: int = 32,
    seed: int = 0,
) -> Advice:
    r"""Advise from the data whether to collapse or preserve time, and how many frames may share a convolution.

    Two questions are asked of the spikes. *Does the rate change inside the window?* If frames are independent draws of one
    rate, any order of them is as likely as any other, so the variance of sums over K consecutive frames is compared with its
    distribution over permutations of whole frames:

    .. math:: D_K = \frac{T (T - 1)}{K (T - K) (T - K + 1)} \cdot
              \frac{\sum_{s=0}^{T-K} |\sum_{t=s}^{s+K-1} (x_t - \bar x)|^2}{\sum_t |x_t - \bar x|^2}

    for K = 2, 3, 4, 6, 8, 12, ... below T, for single pixels, for neighbourhoods of 4 x 4 pixels and for the whole frame; the p-value
    is that of the greatest departure of them all. It holds for any law of the counts, rates that differ between pixels and
    correlated pixels. A fine pattern that moves keeps all these sums; so the products of each frame and the next one
    displaced by every step within 2 pixels (8 in one dimension, 1 in three) are compared with those of permuted frames as
    well: one more statistic in the same maximum. *How much would a chunk of K frames lose?* With R(tau) the mean product of different pixels of one
    neighbourhood, tau frames apart,

    .. math:: \mathrm{loss}(K) = 1 - \frac{K R(0) + 2 \sum_{\tau=1}^{K-1} (K - \tau) R(\tau)}{K^2 R(0)}

    is the share of the signal's energy that is gone when K frames are replaced by their mean, noise excluded (if pixels
    spike independently given their rates). Where single pixels change significantly, the same is asked of them alone, with
    R(0) extrapolated from other lags, or, where a fine pattern moves, taken from the next frame, displaced; the greater
    loss counts.

    The answer is ``"collapse"`` with K = T if at most `max_loss` would be lost, or if no change is significant though one
    of `max_loss` would have shown; ``"preserve"`` if the change is significant and greater, with the greatest K that loses
    at most ``1 - keep`` of the change, or `max_loss`; and None if the input can't tell.

    Parameters
    ----------
    spikes : array, shape (T, B, *S, C)
        Up to three spatial dimensions S; bool, counts or real floating point. (T, B, F) is taken as F positions of one
        channel; where that may as well be one recording of square pictures, (T, H, W), it is refused. With ``layout="channels_first"``, (T, B, C, *S).
    layout : {"channels_last", "channels_first"}
    max_loss : float, in (0, 1)
        Share of the signal's energy that may be lost unseen.
    keep : float, in (0, 1)
        Share of the change over time that chunks of the preserve mode must keep.
    significance : float, in [0.0005, 0.5]
        Probability of the answer "preserve" where the rate is constant, at most.
    max_samples : int
        Of larger batches so many samples are looked at, or up to 16 times as many where they are too few to show a change of
        `max_loss`; of samples of more than 2**23 numbers only some rows.
    seed : int
        Of the choice of samples and of the permutations: the same input gets the same answer.

    Returns
    -------
    Advice
        Frozen; ``print`` shows it, ``plot()`` draws it.

    Raises
    ------
    TypeError, ValueError
        For arguments outside the rules above.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rate = rng.random((8, 20, 20, 1))
    >>> noise = (rng.random((16, 8, 20, 20, 1)) < rate).astype(np.float32)
    >>> advice = advise(noise)
    >>> advice.mode, advice.chunk_size, advice.saving
    ('collapse', 16, 16.0)
    >>> picture = np.kron(rng.random((8, 5, 5)) < 0.3, np.ones((4, 4)))[..., None]
    >>> moving = np.stack([np.roll(picture, t, axis=2) for t in range(16)])
    >>> advise(moving).mode
    'preserve'
    >>> dots = rng.random((8, 20, 20, 1)) < 0.05
    >>> advice = advise(np.stack([np.roll(dots, t, axis=2) for t in range(16)]))
    >>> advice.mode, advice.chunk_size, advice.reason[:18]
    ('preserve', 1, 'fine patterns move')
    """
    if names := getattr(getattr(spikes, "dtype", None), "names", None):
        rule = "frames (T, B, *S, C), which tacops.events_to_frames makes of a recording's events"
        raise fail("advise", "spikes", rule, f"a structured array of {', '.join(map(str, names))}", TypeError)
    backend = backend_of(spikes, function="advise", names=("spikes",))
    xp = backend.namespace(spikes)
    first = check_choice("advise", "layout", layout, ("channels_last", "channels_first")) == "channels_first"
    _check_spikes(xp, spikes, first)
    ask = _question(max_loss, keep, significance, max_samples, seed)
    if spikes.ndim == 3:
        spikes = xp.reshape(spikes, (*spikes.shape, 1))
    elif layout == "channels_first":
        spikes = xp.permute_dims(spikes, (0, 1, *range(3, spikes.ndim), 2))
    advice = _look(backend, spikes, ask)
    more = _more(advice, spikes.shape[1], ask)
    return _look(backend, spikes, replace(ask, max_samples=more)) if more else advice


def _more(advice: Advice, batch: int, ask: Question) -> int:
    """Samples to look at instead, where those looked at are too few to show a change of `max_loss`; 0 if none are needed.

    This goes by the power of the test, which does not depend on the order of the frames; so the test stays exact.
    """
    enough = MORE * ask.max_samples if advice.enough_samples is None else advice.enough_samples
    wanted = min(enough, MORE * ask.max_samples, batch)
    return wanted if wanted > ask.max_samples and advice.dispersion else 0


def _look(backend: Backend, spikes: Array, ask: Question) -> Advice:
    """The advice from as many samples as asked for."""
    T = spikes.shape[0]
    plans = _plans(shape_of(spikes), ask)
    found = [grams(backend, spikes, plan) for plan in plans]
    if any(not math.isfinite(float(gram.sum() + noise.sum())) for gram, noise, _ in found):
        raise fail("advise", "spikes", "finite", "an array that holds NaN, infinity or numbers beyond float32's range")
    return _answer(T, plans, found, ask)


def _check_spikes(xp: Any, spikes: Array, first: bool) -> None:
    if not xp.isdtype(spikes.dtype, ("bool", "integral", "real floating")):
        raise fail("advise", "spikes", "of a bool, integer or real floating dtype", str(spikes.dtype), TypeError)
    shape = shape_of(spikes)
    if not 3 <= spikes.ndim <= 6 or 0 in shape:
        rule = "a nonempty array (T, B, *S, C) with up to three spatial dimensions"
        raise fail("advise", "spikes", rule, f"shape {shape}")
    _check_recording(shape, first)


def _check_recording(shape: tuple[int, ...], first: bool) -> None:
    """Refuse what looks like one recording whose rows would be taken for samples: (T, H, W), or with two polarities."""
    T, *rest = shape
    if len(rest) == 2:
        pixels, alone, samples = rest, (T, 1, *((1, *rest) if first else (*rest, 1))), (*shape, 1)
    elif len(rest) == 3 and rest[0 if first else -1] == 2:
        pixels, alone = rest[1:] if first else rest[:2], (T, 1, *rest)
        samples = (T, *rest[:2], 1, rest[2]) if not first else (*shape, 1)
    else:
        return
    if pixels[0] == pixels[1] >= SQUARE:
        rule = f"reshaped to {alone} if this is one recording, to {samples} if it is {rest[0]} samples"
        raise fail("advise", "spikes", rule, f"shape {shape}")


def _question(max_loss: object, keep: object, significance: object, max_samples: object, seed: object) -> Question:
    """The options, checked, as Python's numbers."""

    def share(name: str, value: object, low: float, high: float, rule: str) -> float:
        number = check_number("advise", name, value)
        if not low < number < high:
            raise fail("advise", name, rule, show(value))
        return number

    number = as_int(seed)
    if number is None:
        raise fail("advise", "seed", "an int", show(seed), TypeError)
    if number < 0:
        raise fail("advise", "seed", "at least 0", number)
    return Question(
        share("max_loss", max_loss, 0.0, 1.0, "in (0, 1)"),
        share("keep", keep, 0.0, 1.0, "in (0, 1)"),
        share("significance", significance, 0.00049, 0.5001, "in [0.0005, 0.5]"),
        check_count("advise", "max_samples", max_samples),
        number,
    )


def _plans(shape: tuple[int, ...], ask: Question) -> list[Plan]:
    """One look at all frames; if they are many, one at windows of them and one at groups of them."""
    T, B, *rest = shape
    draw = random.Random(ask.seed)
    samples = sorted(draw.sample(range(B), min(B, ask.max_samples)))
    side = SIDE[len(rest) - 1]
    bands = max(1, LONGEST // (T * side * math.prod(rest[1:])))
    rows = None
    if bands * side < rest[0]:
        rows = [side * band for band in sorted(draw.sample(range(rest[0] // side), bands))]
    window = max(WINDOW, math.isqrt(T - 1) + 1)
    everything = Plan(samples, [0] * len(samples), T, -(-T // window), rows)
    if window >= T:
        return [everything]
    starts = [draw.randrange(T - window + 1) for _ in samples]
    return [replace(everything, starts=starts, frames=window, group=1), everything]


def _answer(T: int, plans: Sequence[Plan], found: Sequence[tuple[Any, Any, Any]], ask: Question) -> Advice:
    """From the Gram matrices to the advice."""
    energy, change = (sum(part) for part in zip(*(_energies(gram) for gram, _, _ in found), strict=True))
    active = energy + change > 0
    n = int(active.sum())
    if n == 0:
        reason = "there are no spikes in the input, so any mode would give the same result."
        return ask.advice(T, len(active), reason=reason)
    if T > 1 and (change <= 1e-9 * energy).all():
        nothing = {"p_value": 1.0, "effect_size": 0.0, "losses": dict.fromkeys([*block_lengths(T, T), T], 0.0)}
        reason = "all frames are equal (direct coding), so nothing is lost."
        return ask.advice(T, n, reason=reason, mode="collapse", chunk_size=T, **nothing)
    if T < 3:
        why = "one frame is" if T == 1 else "two frames are"
        return ask.advice(T, n, reason=f"{why} too few to tell a change from chance: at least 3 are needed.")
    return decide(
        T,
        gather_evidence(plans, [(g[:, active], noise[active], moved[:, active]) for g, noise, moved in found], ask),
        ask,
    )


def _energies(gram: Any) -> tuple[Any, Any]:
    """Of every sample: energy of the mean, times the number of frames, and energy of what varies."""
    diagonal = gram[0].diagonal(axis1=1, axis2=2)
    return diagonal[:, -1] * (gram.shape[2] - 1), diagonal[:, :-1].sum(axis=1)
