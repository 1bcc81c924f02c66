"""What a result of ``python -m bench sparsity`` means, in sentences computed from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from bench.sparsity import rule
from bench.sparsity.cases import CONTENDERS
from bench.sparsity.result import Crossover, Curve, SparsityResult, SparsityRow, crossover, percent

STRUCTURES = {
    "iid": "independent spikes",
    "patches": "active patches",
    "channels": "silent channels",
    "events": "event-camera-like frames",
}
AGAINST = "collapse8"


def conclusion(result: SparsityResult) -> list[str]:
    """One paragraph, sentence by sentence; the finding comes first."""
    panels = [panel for panel in result.panels() if result.curve(*panel, None, "dense") and result.best_curve(*panel)]
    if not panels:
        return ["No sparse strategy was measured against a dense convolution."]
    machine = f"this machine ({result.machine['processor']}, {result.machine['cores']} cores)"
    crossings = {panel: crossover(result.best_curve(*panel), result.curve(*panel, None, "dense")) for panel in panels}
    low, high = _range(result)
    if not any(crossing.wins for crossing in crossings.values()):
        layers = ", ".join(dict.fromkeys(case for case, _ in panels))
        beaten = "no sparse strategy on any backend beats the fastest dense convolution at any density measured"
        found = [f"On {machine} {beaten}, {low} to {high}, on {layers}."]
    else:
        found = [f"FINDING: sparse computation does beat dense convolution on {machine}."]
        found += _by_structure(result, crossings)
        found += _above(result, crossings)
    return [*found, *_own_dense(result, panels), *_aggregation(result, panels), *rule.sentences(result)]


def _range(result: SparsityResult) -> tuple[str, str]:
    densities = [row.density for row in result.rows]
    return percent(min(densities)), percent(max(densities))


def _by_structure(result: SparsityResult, crossings: dict[tuple[str, str], Crossover]) -> list[str]:
    """A sentence per structure: where the fastest strategy of all backends is faster, which, and by how much at most."""
    sentences = []
    for structure in dict.fromkeys(structure for _, structure in crossings):
        parts = []
        for (case, name), crossing in crossings.items():
            if name == structure:
                where = _where(crossing, _highest(result, case, structure))
                parts.append(f"{case} {where}{_winner(result, case, structure) if crossing.wins else ''}")
        sentences.append(f"With {STRUCTURES[structure]}: {'; '.join(parts)}.")
    return sentences


def _highest(result: SparsityResult, case: str, structure: str) -> str:
    """The highest density at which strategies were timed."""
    return percent(max(result.best_curve(case, structure)))


def _where(crossing: Crossover, highest: str) -> str:
    if not crossing.wins:
        return "nowhere"
    if crossing.low is None:
        return f"at every density up to {highest}" if crossing.high is None else f"below {percent(crossing.high)}"
    return f"from {percent(crossing.low)} to {highest if crossing.high is None else percent(crossing.high)}"


def winner(result: SparsityResult, case: str, structure: str, against: str) -> tuple[SparsityRow, float] | None:
    """The strategy that gains most on the fastest backend's `against`, at its density, and how many times it is faster."""
    baseline = result.curve(case, structure, None, against)
    rows = [row for density in baseline if (row := result.best(case, structure, density))]
    best = max(rows, key=lambda row: baseline[row.density] / row.seconds, default=None)
    return None if best is None else (best, baseline[best.density] / best.seconds)


def _winner(result: SparsityResult, case: str, structure: str) -> str:
    found = winner(result, case, structure, "dense")
    return "" if found is None else f" (at most {_gain(*found)})"


def _gain(row: SparsityRow, gain: float) -> str:
    return f"{gain:.1f} x: {row.backend}, {CONTENDERS[row.contender].label}, at {percent(row.density)}"


def _above(result: SparsityResult, crossings: dict[tuple[str, str], Crossover]) -> list[str]:
    """The density above which dense wins, wherever there is one."""
    ends = [crossing.high for crossing in crossings.values() if crossing.wins and crossing.high is not None]
    whole = [panel for panel, crossing in crossings.items() if crossing.wins and crossing.high is None]
    if not whole:
        return [f"No strategy beats dense above {percent(max(ends))}."]
    layers = ", ".join(dict.fromkeys(case for case, _ in whole))
    rest = f"; elsewhere no strategy beats dense above {percent(max(ends))}" if ends else ""
    count = f"In {len(whole)} of {len(crossings)} pairs of layer and structure ({layers})"
    return [f"{count} a strategy still wins at the highest density measured{rest}."]


def _own_dense(result: SparsityResult, panels: Sequence[tuple[str, str]]) -> list[str]:
    """How often each backend's strategies beat its own dense path."""
    parts = []
    for backend in result.backends():
        won, measured = 0, 0
        for panel in panels:
            dense = result.curve(*panel, backend, "dense")
            curves = [
                result.curve(*panel, backend, name) for name, owner in result.strategies(*panel) if owner == backend
            ]
            if dense and curves:
                measured += 1
                won += any(crossover(curve, dense).wins for curve in curves)
        if measured:
            parts.append(f"{backend} {won} of {measured}")
    return [
        f"Pairs of layer and structure in which some strategy beats its own backend's dense path: {', '.join(parts)}."
    ]


def _aggregation(result: SparsityResult, panels: Sequence[tuple[str, str]]) -> list[str]:
    """Strategies against collapse K = 8, each on its fastest backend."""
    label = CONTENDERS[AGAINST].label
    curves: dict[tuple[str, str], Curve] = {panel: result.curve(*panel, None, AGAINST) for panel in panels}
    crossings = {panel: crossover(result.best_curve(*panel), curve) for panel, curve in curves.items() if curve}
    if not crossings:
        return []
    if not any(crossing.wins for crossing in crossings.values()):
        return [f"TAC ({label}) beats all of them at every density measured."]
    won = [panel for panel, crossing in crossings.items() if crossing.wins]
    gains = {panel: found for panel in won if (found := winner(result, *panel, AGAINST))}
    (case, structure), (row, gain) = max(gains.items(), key=lambda item: item[1][1])
    ends = [crossing.high for crossing in crossings.values() if crossing.wins and crossing.high is not None]
    always = len(won) - len(ends)
    sentences = [
        f"Even TAC ({label}, an eighth of the convolutions) is beaten at some density in {len(won)} of {len(crossings)} "
        f"pairs, at most {_gain(row, gain)} ({case}, {STRUCTURES[structure]})"
        + (f"; in {always} of them at the highest density, too." if always else ".")
    ]
    if ends:
        sentences.append(f"{'Elsewhere TAC' if always else 'TAC'} beats all strategies above {percent(max(ends))}.")
    return sentences
