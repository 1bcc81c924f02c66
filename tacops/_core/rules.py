"""The aggregation rules that have a name, and everything that is known of them by it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RULES", "Rule"]


class Rule(NamedTuple):
    """How a chunk's frames are weighted.

    Parameters
    ----------
    decays : bool
        Frame k of n weighs beta^(n-1-k); otherwise every frame weighs 1.
    shared : bool
        These weights are divided by their sum.
    """

    decays: bool
    shared: bool

    @property
    def whole(self) -> bool:
        """Whether all weights are 1."""
        return not (self.decays or self.shared)


RULES = {
    "decay": Rule(decays=True, shared=False),
    "normalized_decay": Rule(decays=True, shared=True),
    "sum": Rule(decays=False, shared=False),
    "mean": Rule(decays=False, shared=True),
}
