"""The modes that ``python -m bench accuracy`` trains."""

from __future__ import annotations

from dataclasses import dataclass

from bench.shared.model import Mode

EXACT = Mode("exact", "exact", 1)


@dataclass(frozen=True)
class Variant:
    """A mode to train: how time is treated, whether its weights are learned, whether frames keep their order."""

    mode: Mode
    learned: bool = False
    """The first layer's aggregation is trained (L-TAC)."""
    deep: bool = False
    """Every layer collapses time, not only the first."""
    plain: bool = False
    """A control: the frames of a chunk are summed without weights."""
    shuffled: bool = False
    """A control: exact, but the frames of each sample in random order."""

    @property
    def label(self) -> str:
        """The name for a table."""
        if self.shuffled:
            return "exact, frames shuffled"
        if self.deep:
            return f"{self.mode.label}, both layers"
        if self.plain:
            return f"plain sum K={self.mode.chunk_size}"
        return f"learned K={self.mode.chunk_size}" if self.learned else self.mode.label

    def convolutions(self, time_steps: int) -> int:
        """Convolutions of both layers for one sample."""
        first = -(-time_steps // self.mode.chunk_size)
        return first + (-(-first // self.mode.chunk_size) if self.deep else first)


VARIANTS = {
    "exact": Variant(EXACT),
    **{f"collapse{K}": Variant(Mode(f"collapse{K}", "collapse", K)) for K in (2, 4, 8, 16)},
    **{f"preserve{K}": Variant(Mode(f"preserve{K}", "preserve", K)) for K in (2, 4)},
    **{f"learned{K}": Variant(Mode(f"learned{K}", "collapse", K), learned=True) for K in (4, 16)},
    **{f"deep{K}": Variant(Mode(f"deep{K}", "collapse", K), deep=True) for K in (2, 4)},
    "sum16": Variant(Mode("sum16", "collapse", 16), plain=True),
    "shuffled": Variant(EXACT, shuffled=True),
}
