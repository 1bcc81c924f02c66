"""From the measurements to the advice: the rule that the docstring of `advise` states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .advice import Advice
from .gram import POOLS, Plan, namespace_of
from .statistics import ROUNDING, Outcome, block_lengths, chunk_losses, permutation_test

__all__ = ["Evidence", "Question", "decide", "gather_evidence"]


SURE = 1.2
"""More than needed on average, so that what is said to be enough mostly is."""


@dataclass(frozen=True)
class Question:
    """The options of `advise`."""

    max_loss: float
    keep: float
    significance: float
    max_samples: int
    seed: int

    def advice(self, T: int, samples: int, *, reason: str, **found: Any) -> Advice:
        """An answer; without `found`, that the input can't tell."""
        defaults = {"mode": None, "chunk_size": None, "p_value": math.nan, "effect_size": math.nan}
        options = {"max_loss": self.max_loss, "keep": self.keep, "significance": self.significance, "seed": self.seed}
        return Advice(reason=reason, frames=T, samples=samples, **{**defaults, **options, **found})


@dataclass(frozen=True)
class Evidence:
    """All that the decision rests on."""

    samples: int
    p_value: float
    losses: Mapping[int, float]
    error: float
    """Standard error of the greatest loss, for pixels that spike independently at one rate."""
    changing: int
    steady: int
    """Samples without a significant change that lose little."""
    detectable: float
    detectable_motion: float
    alternates: bool
    """The strongest departure is a dispersion that is too small."""
    moves: bool
    """The strongest departure is that of displaced frames, and the pattern is fine."""
    unmeasured: bool
    """Displaced frames agree significantly, but by what no loss measures: neither a fine pattern nor a slow change of pixels or of
    neighbourhoods shows."""
    orders: float
    """Logarithm of the number of orders of one sample that differ: an order and its reverse are alike."""
    dispersion: Mapping[str, Mapping[int, float]]
    band: Mapping[str, Mapping[int, tuple[float, float]]]
    motion: Mapping[int, float]
    motion_limit: Mapping[int, float]


def gather_evidence(plans: Sequence[Plan], found: Sequence[tuple[Any, Any, Any]], ask: Question) -> Evidence:
    level = ask.significance / len(plans)
    draws = max(199, math.ceil(1 / level) - 1)
    outcomes = []
    for plan, (gram, _, displaced) in zip(plans, found, strict=True):
        L = gram.shape[2] - 1
        lengths = block_lengths(L, _longest(plan, plans, L))
        outcomes.append(permutation_test(gram[:, :, :L, :L], displaced, lengths, draws, level, ask.seed))
    losses, each, error = _losses(plans, found, outcomes)
    p_each = [min(1.0, len(plans) * min(values)) for values in zip(*(o.p_values for o in outcomes), strict=True)]
    deciding = min(outcomes, key=lambda o: o.p_value)
    coarse, gram = outcomes[-1], found[-1][0]
    motions = [(plan.group, o.motion) for plan, o in zip(plans, outcomes, strict=True) if o.motion is not None]
    return Evidence(
        samples=gram.shape[1],
        p_value=min(1.0, len(plans) * deciding.p_value),
        losses=losses,
        error=error,
        changing=sum(p <= ask.significance and loss > ask.max_loss for p, loss in zip(p_each, each, strict=True)),
        steady=sum(p > ask.significance and loss <= ask.max_loss for p, loss in zip(p_each, each, strict=True)),
        detectable=_detectable(coarse, gram),
        detectable_motion=_detectable_motion(outcomes[0], found[0][0]),
        alternates=deciding.strongest is not None
        and deciding.dispersion[deciding.strongest[0]][deciding.strongest[1]] < 1,
        moves=deciding.strongest is None and deciding.motion is not None and deciding.motion.fine,
        unmeasured=any(map(_unmeasured, outcomes)),
        orders=math.lgamma(gram.shape[2]) - math.log(2),
        dispersion=_table(plans, outcomes, "dispersion"),
        band=_table(plans, outcomes, "band"),
        motion={group: motion.dispersion for group, motion in motions},
        motion_limit={group: motion.limit for group, motion in motions},
    )


def _unmeasured(outcome: Outcome) -> bool:
    """Whether the agreement of displaced frames is significant, but nothing shows by which a loss is measured."""
    motion = outcome.motion
    if motion is None or motion.fine or not motion.dispersion > motion.limit:
        return False
    rows = zip(outcome.dispersion, outcome.band, strict=True)
    return not any(row[column] > band[column][1] for row, band in rows for column in (0, 1))


def _losses(
    plans: Sequence[Plan], found: Sequence[tuple[Any, Any, Any]], outcomes: Sequence[Outcome]
) -> tuple[dict[int, float], list[float], float]:
    """What chunks lose, by their length; what one chunk of all frames loses, sample by sample; the error of the greatest."""
    T, np = plans[-1].frames, namespace_of(found[0][0])
    losses, moved, each, error = {1: 0.0}, {0: 0.0}, np.full(found[0][0].shape[1], math.nan), math.nan
    for plan, (gram, noise, _), outcome in zip(plans, found, outcomes, strict=True):
        L = gram.shape[2] - 1
        longest = _longest(plan, plans, L)
        moving = outcome.motion.excess if outcome.motion is not None and outcome.motion.fine else None
        wanted = {*block_lengths(L, longest), *([L] if plan is plans[-1] else [plans[-1].group])}
        part = chunk_losses(gram, noise, sorted(wanted), pixels=outcome.pixels, moving=moving)
        inner = losses.get(plan.group, 0.0)  # what a group of frames has lost already; NaN if that can't be measured
        for K, loss in part.by_length.items():
            whole = plan is plans[-1] and K == L  # a rest of frames that fill no group is left out
            length = T if whole else plan.group * K
            least = max(lost for shorter, lost in moved.items() if shorter <= length)
            losses[length] = max(inner + (1 - inner) * loss, least)
        error = part.error
        if moving is not None or plan is plans[-1]:
            each = np.fmax(each, part.by_sample)
        if moving is not None:  # sums of frames don't show what moves within them: longer chunks lose it, too
            lengths = block_lengths(L, L)
            inside = chunk_losses(gram, noise, lengths, pixels=outcome.pixels, moving=moving).by_length
            moved |= {plan.group * K: loss for K, loss in inside.items()}
    return {K: loss for K, loss in sorted(losses.items()) if K > 1}, each.tolist(), error


def _longest(plan: Plan, plans: Sequence[Plan], L: int) -> int:
    """Longest block: where groups of frames are looked at, too, windows of single frames need only bridge the gap."""
    return L if plan is plans[-1] else 2 * plans[-1].group - 1


def _table(plans: Sequence[Plan], outcomes: Sequence[Outcome], name: str) -> dict[str, dict[int, Any]]:
    """A statistic by pooling scale and block length in frames."""
    return {
        pool: {
            plan.group * K: getattr(outcome, name)[row][column]
            for plan, outcome in zip(plans, outcomes, strict=True)
            for row, K in enumerate(outcome.lengths)
        }
        for column, pool in enumerate(POOLS)
    }


def _detectable(outcome: Outcome, gram: Any) -> float:
    """Share of the signal's energy in neighbourhoods that must drift to be significant on average."""
    L = gram.shape[2] - 1
    middle = float(gram[1, :, L, L].sum())
    noise = float(gram[1].diagonal(axis1=1, axis2=2)[:, :L].sum()) / (L * (L - 1))
    signal = middle - noise  # products of different frames hold no noise
    return outcome.drift[1] / signal if signal > ROUNDING * middle else math.inf


def _detectable_motion(outcome: Outcome, gram: Any) -> float:
    """Share of the signal's energy in single pixels that must move as one in all samples to be significant on average."""
    if outcome.motion is None:
        return math.inf
    L = gram.shape[2] - 1
    noise = float(gram[0].diagonal(axis1=1, axis2=2)[:, :L].sum()) / (L * (L - 1))
    middle, least = float(gram[0, :, L, L].sum()), float(outcome.motion.least.sum())
    steady = middle - noise
    return least / (steady + least) if steady > ROUNDING * middle and least > 0 else math.inf


def _enough(T: int, seen: Evidence, ask: Question) -> tuple[int, int] | tuple[None, None]:
    """How many samples of T frames, and how many frames of these samples, would show a drift of `max_loss`.

    The least drift that shows falls as the root of the number of samples, and is about inverse to the number of frames.
    """
    if not math.isfinite(seen.detectable):
        return None, None
    needed, lack = -math.log(ask.significance), seen.detectable / ask.max_loss
    lack *= SURE if lack > 1 else 1
    samples = max(math.ceil(seen.samples * min(lack, 1e3) ** 2), math.ceil(needed / seen.orders))
    frames = max(math.ceil(T * lack), T)
    while seen.samples * (math.lgamma(frames + 1) - math.log(2)) < needed:
        frames += 1
    return samples, frames


def decide(T: int, seen: Evidence, ask: Question) -> Advice:
    """The rule that the docstring of `advise` states."""
    change = seen.losses[T]
    samples, frames = _enough(T, seen, ask)
    found: dict[str, Any] = {
        "p_value": seen.p_value, "effect_size": change, "changing": seen.changing, "detectable": seen.detectable,
        "losses": seen.losses, "dispersion": seen.dispersion, "band": seen.band, "motion": seen.motion,
        "motion_limit": seen.motion_limit, "detectable_motion": seen.detectable_motion,
        "enough_samples": samples, "enough_frames": frames,
    }  # fmt: skip
    more = (
        f"; about {samples} samples like these, or {frames} frames, would be enough"
        if (samples or 0) > seen.samples
        else ""
    )
    if seen.p_value <= ask.significance:
        if change <= ask.max_loss and seen.unmeasured:
            why = "frames follow each other in an order, displaced, but what a chunk would lose can't be measured: exact (conv_lif) is safer"
        elif change <= ask.max_loss:
            found |= {"mode": "collapse", "chunk_size": T}
            why = f"the rate does change, but only {_percent(change)} of the signal would be lost"
        else:
            K = _chunk(seen.losses, change, ask)
            found |= {"mode": "preserve", "chunk_size": K}
            why = _why_preserve(T, K, seen, change)
    elif seen.samples * seen.orders < -math.log(ask.significance):
        why = f"{T} frames of {seen.samples} sample{'s' * (seen.samples != 1)} are too few to tell a change from chance{more}"
    elif change - 4 * seen.error > ask.max_loss:
        why = f"the frames differ by more than independent spikes do ({_percent(change)} of the signal), but in no clear order: preserve is safer"
    elif seen.detectable > ask.max_loss:
        limit = f"only a drift of {_percent(seen.detectable)}" if seen.detectable < 1 else "none"
        why = f"no change shows, but spikes or frames are too few: {limit} would{more}"
    else:
        found |= {"mode": "collapse", "chunk_size": T}
        why = (
            f"the frames look like draws of one rate (a drift of {_percent(seen.detectable)} of the signal would show"
            + (f", a motion of {_percent(seen.detectable_motion)}" if seen.detectable_motion < 1 else "")
            + ")"
        )
    if seen.p_value <= ask.significance and seen.changing >= 2 and seen.steady >= max(2, seen.samples / 5):
        why += f"; the samples disagree: {seen.changing} of {seen.samples} change, {seen.steady} are steady"
    return ask.advice(T, seen.samples, reason=f"{why}.", **found)


def _chunk(losses: Mapping[int, float], change: float, ask: Question) -> int:
    """The greatest K up to which all lose little enough; 1 if that can't be measured."""
    best = 1
    if math.isnan(change):
        return best
    for K, loss in sorted(losses.items()):
        if not loss <= max(ask.max_loss, (1 - ask.keep) * change):  # nor one that can't be measured
            break
        best = K
    return best


def _why_preserve(T: int, K: int, seen: Evidence, change: float) -> str:
    if math.isnan(change):
        return "the rate changes within the window, but the spikes are too few to say how fast: use conv_lif"
    what = "fine patterns move" if seen.moves else "the rate changes"
    start = f"{what} within the window ({_percent(change)} of the signal)"
    if K > 1:
        return f"{start}; chunks of {K} frames keep {_percent(min(1.0, 1 - seen.losses[K] / change))} of that change"
    kept = 1 - seen.losses[min(seen.losses)] / change
    if seen.alternates and kept < 0.25:
        return f"{start}, alternating faster than any chunk could follow; if that carries nothing, collapse instead"
    what = "only exact keeps it, " if seen.moves else ""
    return (
        f"{start}, so fast that even chunks of 2 frames keep only {_percent(kept)} of that change: {what}use conv_lif"
    )


def _percent(share: float) -> str:
    value = max(100 * share, 0.0)
    return f"{value:.0f} %" if value >= 9.5 else f"{value:.2g} %"
