"""Results of ``python -m bench sparsity`` as Markdown, for ``python -m bench table``."""

from __future__ import annotations

from pathlib import Path

from bench.shared.tables import folded, markdown
from bench.sparsity.cases import CONTENDERS
from bench.sparsity.conclusion import STRUCTURES, conclusion, winner
from bench.sparsity.report import BASE_HEAD, base_rows, conditions, head, strategy_rows
from bench.sparsity.result import SparsityResult, crossover, from_dict, percent
from bench.sparsity.rule import HEAD as RULE_HEAD
from bench.sparsity.rule import rule_rows

__all__ = ["from_dict", "full", "plot", "short"]


def plot(result: SparsityResult, stem: Path) -> list[Path]:
    """Draw it again."""
    from bench.sparsity.plot import save_plots  # needs Matplotlib

    return save_plots(result, stem)


def short(result: SparsityResult) -> str:
    """One table: where the fastest strategy of all beats the fastest dense path of all, and by how much."""
    cases = list(result.cases)
    structures = list(dict.fromkeys(structure for _, structure in result.panels()))
    about = result.machine
    title = "Densities at which some sparse strategy beats the fastest dense convolution, and its largest gain, on "
    rows = [(STRUCTURES[name], *(_cell(result, case, name) for case in cases)) for name in structures]
    return f"{title}{about['processor']}, {about['cores']} cores.\n\n{markdown(('spikes', *cases), rows)}"


def _cell(result: SparsityResult, case: str, structure: str) -> str:
    dense = result.curve(case, structure, None, "dense")
    densities = sorted(dense)
    crossing = crossover(result.best_curve(case, structure), dense)
    if (case, structure) not in result.panels() or not crossing.wins:
        return "none" if (case, structure) in result.panels() else ""
    where = f"below {percent(crossing.high)}" if crossing.low is None and crossing.high else crossing.text(densities)
    found = winner(result, case, structure, "dense")
    if found is None:
        return where
    row, gain = found
    return f"{where}; {gain:.1f} x at {percent(row.density)} ({row.backend}, {CONTENDERS[row.contender].label})"


def full(result: SparsityResult) -> str:
    """Everything."""
    parts = [" ".join(conclusion(result)), short(result)]
    parts += ["### Layer by layer"]
    for case in result.cases:
        inner = ["Milliseconds for all frames:", markdown(BASE_HEAD, base_rows(result, case))]
        for structure in (structure for name, structure in result.panels() if name == case):
            inner += [f"{STRUCTURES[structure].capitalize()}, the density below which a strategy beats:"]
            inner += [markdown(head(result, case, structure), strategy_rows(result, case, structure))]
        parts += [folded(f"{case}: {result.cases[case]['text']}", *inner)]
    if rows := rule_rows(result):
        parts += ["### The operator's choice", "Milliseconds, neurons included:", markdown(RULE_HEAD, rows)]
    parts += ["### Conditions", "\n".join(f"- {line}" for line in conditions(result))]
    for title, entries in (("Not measured", result.missing), ("Failed", result.failed)):
        if entries:
            parts += [f"### {title}", "\n".join(f"- {name}: {reason}" for name, reason in entries.items())]
    return "\n\n".join(parts)
