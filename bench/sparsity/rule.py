"""What the operators do by their rule, against every other way.

The operator computes whole layers, strategies the currents alone; so a strategy is held against it with the neurons' own time
added, as if it were called first and the neurons after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.sparsity.cases import CONTENDERS, NEURONS, RULE, STRATEGIES, WAYS
from bench.sparsity.result import SparsityResult, percent

__all__ = ["HEAD", "LIMIT", "Choice", "choices", "rule_rows", "sentences"]

BACKEND = "numpy"
LIMIT = 1.2
"""Times as fast as the rule's choice that another way may be before it is worth saying."""
HEAD = (
    "layer and spikes",
    "share",
    "by the rule, ms",
    *(WAYS[name].label for name in WAYS),
    "best strategy, then neurons",
    "rule over best",
)


@dataclass(frozen=True)
class Choice:
    """One layer and kind of spikes: what the rule's choice takes, and what others would."""

    case: str
    structure: str
    density: float
    rule: float
    """Seconds."""
    others: dict[str, float]
    """Seconds by name of the contender, neurons included."""

    @property
    def best(self) -> tuple[str, float]:
        """The fastest of the others."""
        return min(self.others.items(), key=lambda item: item[1])

    @property
    def over(self) -> float:
        """Times as long as the fastest of the others that the rule's choice takes."""
        return self.rule / self.best[1]


def choices(result: SparsityResult) -> list[Choice]:
    """All that were measured."""
    found = []
    for case, structure in result.panels():
        curves = {name: result.curve(case, structure, BACKEND, name) for name in CONTENDERS}
        for density, seconds in curves[RULE.name].items():
            others = {name: curves[name][density] for name in WAYS if density in curves[name]}
            if density in curves[NEURONS.name]:
                after = curves[NEURONS.name][density]
                others |= {name: curves[name][density] + after for name in STRATEGIES if density in curves[name]}
            if others:
                found.append(Choice(case, structure, density, seconds, others))
    return found


def sentences(result: SparsityResult) -> list[str]:
    """Whether another way would beat the rule's choice by more than `LIMIT`, and where; nothing if that wasn't measured."""
    found = choices(result)
    if not found:
        return []
    missed = sorted((choice for choice in found if choice.over > LIMIT), key=lambda choice: -choice.over)
    asked = f"the {len(found)} layers and kinds of spikes for which it was asked"
    if not missed:
        return [
            f"No other way or strategy beats what the operator on NumPy does by its rule by more than {LIMIT:g} x, in any of {asked}."
        ]
    places = "; ".join(
        f"{choice.case}, {choice.structure} at {percent(choice.density)}: {choice.over:.2f} x ({CONTENDERS[choice.best[0]].label})"
        for choice in missed[:12]
    )
    more = f"; and {len(missed) - 12} more" if len(missed) > 12 else ""
    return [
        f"What the operator on NumPy does by its rule would be beaten by more than {LIMIT:g} x in {len(missed)} of {asked}: {places}{more}."
    ]


def rule_rows(result: SparsityResult) -> list[tuple[str, ...]]:
    """Cells of the table."""
    rows = []
    for choice in choices(result):
        sparse = {name: seconds for name, seconds in choice.others.items() if name in STRATEGIES}
        name = min(sparse, key=sparse.__getitem__, default="")
        rows.append(
            (
                f"{choice.case}, {choice.structure}",
                percent(choice.density),
                f"{1e3 * choice.rule:.3g}",
                *(f"{1e3 * choice.others[way]:.3g}" if way in choice.others else "" for way in WAYS),
                f"{1e3 * sparse[name]:.3g} ({CONTENDERS[name].label})" if name else "",
                f"{choice.over:.2f}{' (!)' if choice.over > LIMIT else ''}",
            )
        )
    return rows
