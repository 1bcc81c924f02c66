"""What `advise` answers, in print and as a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Advice"]

BESIDE = 7
"""Columns of a table, which fits 80 characters."""
LABELS = {"pixel": "single pixels", "neighbourhood": "neighbourhoods", "frame": "whole frames"}


@dataclass(frozen=True)
class Advice:
    """Collapse or preserve, with the evidence; `print` it, or ask its `reason`.

    Attributes
    ----------
    mode : {"collapse", "preserve"} or None
        What to pass to `tac_conv`; None if the input can't tell.
    chunk_size : int or None
        The greatest K that `max_loss` and `keep` allow; 1 means that only the exact simulation (`conv_lif`) will do.
    reason : str
        One sentence.
    p_value : float
        Probability of a departure at least as great as the one seen if the frames were draws of one rate; NaN if there
        is nothing to test.
    effect_size : float
        Share of the signal's energy that changes over time, which is what one chunk for all frames would lose: 0 for a
        constant rate, 1/2 for two patterns of equal size that share no pixel. NaN if it can't be measured.
    losses : mapping of int to float
        The share that would be lost for each K.
    dispersion : mapping of str to mapping of int to float
        Variance between blocks of K frames over its mean over all orders of the frames, for ``"pixel"``,
        ``"neighbourhood"`` (4 x 4 pixels) and ``"frame"``: 1 for draws of one rate, more if the rate changes slowly,
        less if it alternates within a block.
    band : mapping of str to mapping of int to (float, float)
        Dispersion that is compatible with one rate; all lengths and scales together leave it with probability
        `significance`.
    motion : mapping of int to float
        How well frames agree with those so many frames later (1), displaced by some pixels, over the mean of all orders of the
        frames: 1 for draws of one rate, more if fine patterns move. Empty if frames are too small to be displaced.
    motion_limit : mapping of int to float
        What one rate exceeds, here or in a dispersion's band, with probability `significance`.
    detectable : float
        Share of the signal's energy that a linear drift must change to be found with a probability of about one half.
    detectable_motion : float
        Share of the signal's energy that must move by one displacement, the same in all frames of a sample, to be found
        with a probability of about one half; infinite if no motion would be.
    enough_samples, enough_frames : int or None
        About how many samples of as many frames, or frames of as many samples, would show a drift of `max_loss`; the
        number tested, or fewer, if these do; None if the input holds too little signal to estimate it from.
    frames, samples : int
        T, and how many samples were tested.
    changing : int
        Samples that change significantly by themselves.
    max_loss, keep, significance, seed
        As given.
    """

    mode: Literal["collapse", "preserve"] | None
    chunk_size: int | None
    reason: str
    p_value: float
    effect_size: float
    frames: int
    samples: int
    changing: int = 0
    detectable: float = math.nan
    losses: Mapping[int, float] = field(default_factory=dict)
    dispersion: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    band: Mapping[str, Mapping[int, tuple[float, float]]] = field(default_factory=dict)
    motion: Mapping[int, float] = field(default_factory=dict)
    motion_limit: Mapping[int, float] = field(default_factory=dict)
    detectable_motion: float = math.nan
    enough_samples: int | None = None
    enough_frames: int | None = None
    max_loss: float = 0.05
    keep: float = 0.5
    significance: float = 0.01
    seed: int = 0

    @property
    def saving(self) -> float:
        """Convolutions of the exact simulation for each one of the advised mode: ``T / ceil(T / K)``."""
        return self.frames / -(-self.frames // self.chunk_size) if self.chunk_size else 1.0

    def __str__(self) -> str:
        """The answer, the reason, and the numbers."""
        answer = f"{self.mode}, chunk_size={self.chunk_size}" if self.mode else "can't tell"
        calls = f" ({self.saving:.3g} x fewer convolutions)" if self.saving > 1 else ""
        lines = [f"{answer}{calls}", self.reason]
        tested = f"{self.samples} sample{'s' * (self.samples != 1)} of {self.frames} frame{'s' * (self.frames != 1)}"
        if not math.isnan(self.p_value):
            tested += f"; p = {self.p_value:.2g} (significant: {self.significance:g})"
            tested += "" if math.isnan(self.effect_size) else f"; {_percent(self.effect_size)} of the signal changes"
        lines.append(f"{tested}; seed {self.seed}")
        lengths = list(next(iter(self.dispersion.values()), {}))
        columns = sorted({*lengths, *self.losses})
        for first in range(0, len(columns), BESIDE):
            lines += self._table(columns[first : first + BESIDE])
        for lag, value in self.motion.items():
            star = "*" if value > self.motion_limit[lag] else " "
            apart = f"{lag} frame{'s' * (lag > 1)} apart"
            shown = "-" if math.isnan(value) else f"{value:.2f}"
            lines.append(f"{'agreement of displaced frames':>29} {shown:>6}{star} ({apart})")
        if any("*" in line for line in lines):
            lines.append("* outside of what one rate gives; 1 is expected")
        return "\n".join(lines)

    def _table(self, columns: Sequence[int]) -> list[str]:
        """Lines for these block lengths."""
        rows = {"frames per block": [str(K) for K in columns]}
        for pool, row in self.dispersion.items():
            rows[f"dispersion of {LABELS[pool]}"] = [self._cell(pool, K, row[K]) if K in row else "" for K in columns]
        if self.losses:
            rows["signal lost in a chunk"] = [self._loss(K) for K in columns]
        return [f"{name:>29} " + "".join(f"{cell:>7}" for cell in cells) for name, cells in rows.items()]

    def _loss(self, K: int) -> str:
        loss = self.losses.get(K)
        return "" if loss is None else "-" if math.isnan(loss) else _percent(loss)

    def _cell(self, pool: str, K: int, value: float) -> str:
        """A dispersion, starred where it leaves the band."""
        if math.isnan(value):
            return "-"
        low, high = self.band[pool][K]
        return f"{value:.{2 if value < 100 else 0}f}{' ' if low <= value <= high else '*'}"

    def plot(self) -> Any:
        """Draw the dispersion and the loss for every block length.

        Returns
        -------
        matplotlib.figure.Figure
            Save it with ``figure.savefig(path)``.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is not installed.
        ValueError
            If the input gave nothing to draw.
        """
        if not self.dispersion:
            msg = f"plot: the advice must hold statistics; got none, because {self.reason}"
            raise ValueError(msg)
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            msg = "plot: matplotlib must be installed (pip install matplotlib)"
            raise ModuleNotFoundError(msg) from error
        figure = Figure(figsize=(9, 5.4), layout="constrained")
        rows = list(self.dispersion)
        axes: Any = figure.subplot_mosaic([[name, "losses"] for name in rows], width_ratios=(1, 1))
        for name in rows:
            self._draw_dispersion(axes[name], name, last=name == rows[-1])
        self._draw_losses(axes["losses"])
        outside = any("*" in line for line in str(self).splitlines()[3:])
        axes[rows[0]].set_title(
            ("Points outside of the shaded bands: the rate changes" if outside else "All points within: one rate")
            + f"\n(shaded: what one rate gives, {1 - self.significance:.0%})",
            fontsize="medium",
            loc="left",
        )
        figure.suptitle(f"{self.mode}, K = {self.chunk_size}" if self.mode else "can't tell", x=0.01, ha="left")
        return figure

    def _draw_dispersion(self, axes: Any, pool: str, *, last: bool) -> None:
        """One scale: block counts' dispersion, and the band of one rate."""
        row, band = self.dispersion[pool], self.band[pool]
        low, high = zip(*band.values(), strict=True)
        axes.fill_between(list(row), low, high, color="#0072B2", alpha=0.18, linewidth=0)
        axes.plot(list(row), list(row.values()), "o-", color="#0072B2", markersize=4)
        lengths = list(row)
        if pool == "pixel" and self.motion:
            lag, value = next(iter(self.motion.items()))
            lengths = [1, *lengths]
            axes.plot([1, 1], [1, self.motion_limit[lag]], color="#D55E00", alpha=0.35, linewidth=6)
            axes.plot([1], [value], "D", color="#D55E00")
            note = "next frame,\ndisplaced"
            axes.annotate(
                note, (1, value), (8, 0), textcoords="offset points", va="center", color="#D55E00", fontsize=7
            )
            if value > 6:  # else the dispersions would lie on one line
                axes.set_yscale("symlog", linthresh=1)
        axes.axhline(1, color="0.4", linewidth=0.8)
        axes.set(ylabel=LABELS[pool].replace(" ", "\n"), xscale="log")
        axes.set_xlim(0.93, max(lengths) * 1.08)
        if last:
            axes.set_xlabel("frames per block, K (each panel: dispersion of block counts)")
        _draw_lengths(axes, lengths)

    def _draw_losses(self, axes: Any) -> None:
        lengths = list(self.losses)
        axes.plot(lengths, [100 * loss for loss in self.losses.values()], "o-", color="C3")
        axes.axhline(100 * self.max_loss, color="0.4", linestyle="--", label=f"max_loss = {self.max_loss:g}")
        if self.mode is not None:
            axes.axvline(self.chunk_size, color="0.4", linestyle=":", label=f"advised: K = {self.chunk_size}")
        axes.set(xlabel="frames per chunk, K", ylabel="signal lost in a chunk, %", xscale="log")
        _draw_lengths(axes, lengths)
        axes.legend(fontsize="small", ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)


LABELS_AT_MOST = 11
"""Lengths that a plot names: more would overlap."""


def _draw_lengths(axes: Any, lengths: Sequence[int]) -> None:
    """Ticks at block lengths, as many as can be read."""
    ticks: list[int] = []
    apart = (max(lengths) / min(lengths)) ** (1 / LABELS_AT_MOST)
    for K in sorted(lengths):
        if not ticks or apart * ticks[-1] <= K:
            ticks.append(K)
    axes.set_xticks(ticks, [str(K) for K in ticks])
    axes.minorticks_off()


def _percent(share: float) -> str:
    """Two digits, without a minus before zero."""
    value = max(100 * share, 0.0)
    return f"{value:.0f} %" if value >= 9.5 else f"{value:.1f} %"
