"""Results of ``python -m bench sparsity`` for people: tables, the conclusion, and how it was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape

from bench.shared.machine import busy
from bench.shared.tables import milliseconds, print_reasons, print_table
from bench.sparsity.cases import CONTENDERS, RULE, TAC
from bench.sparsity.conclusion import STRUCTURES, conclusion
from bench.sparsity.result import SparsityResult, crossover, percent
from bench.sparsity.rule import HEAD as RULE_HEAD
from bench.sparsity.rule import rule_rows

BASE_HEAD = ("backend", "dense", *(contender.label for contender in TAC.values()))
CROSSINGS = ("own dense", "fastest dense", "own collapse K=8")
AT = (0.01, 0.1)
"""Densities whose times are shown, or the nearest measured."""


def print_result(console: Console, result: SparsityResult) -> None:
    """Print all tables, what was left out, how it was measured, and the conclusion."""
    for case in result.cases:
        _print(console, f"{case}: {result.cases[case]['text']}; milliseconds", BASE_HEAD, base_rows(result, case))
    for case, structure in result.panels():
        title = f"{case}, {STRUCTURES[structure]}: below which density a strategy beats"
        names = head(result, case, structure)
        _print(console, title, names, strategy_rows(result, case, structure), spare=names[:4:-1])
    if rows := rule_rows(result):
        told = "The operator on NumPy, by its rule, against every other way; milliseconds"
        _print(console, told, RULE_HEAD, rows)
    for line in conditions(result):
        console.print(escape(line), highlight=False)
    print_reasons(console, "Not measured", result.missing)
    print_reasons(console, "FAILED", result.failed)
    first, *rest = conclusion(result)
    console.print(f"\n[bold]{escape(first)}[/] {escape(' '.join(rest))}", highlight=False)


def base_rows(result: SparsityResult, case: str) -> list[tuple[str, ...]]:
    """Milliseconds of what doesn't depend on the spikes: medians over all kinds of them."""
    rows = []
    for backend in result.backends():
        cells = []
        for name in ("dense", *TAC):
            key = (case, backend, name)
            found = [row.seconds for row in result.rows if (row.case, row.backend, row.contender) == key]
            cells.append(milliseconds(statistics.median(found)) if found else "")
        if any(cells):
            rows.append((backend, *cells))
    return rows


def shown(result: SparsityResult, case: str, structure: str) -> list[float]:
    """The measured densities that are nearest to `AT`."""
    densities = sorted({row.density for row in result.rows if (row.case, row.structure) == (case, structure)})
    return sorted({min(densities, key=lambda density: abs(math.log(density / at))) for at in AT}) if densities else []


def head(result: SparsityResult, case: str, structure: str) -> tuple[str, ...]:
    """Of the table of strategies."""
    densities = [percent(density) for density in shown(result, case, structure)]
    times = [f"ms at {density}" for density in densities]
    ratios = [f"{over} at {density}" for over in ("dense /", "K=8 /") for density in densities]
    return ("strategy", "backend", *CROSSINGS, *times, *ratios)


def strategy_rows(result: SparsityResult, case: str, structure: str) -> list[tuple[str, ...]]:
    """A row per strategy and backend: crossovers, times, and how many times faster it is than its backend's dense and TAC."""
    rows, places = [], shown(result, case, structure)
    for strategy, backend in result.strategies(case, structure):
        curve = result.curve(case, structure, backend, strategy)
        dense = result.curve(case, structure, backend, "dense")
        aggregated = result.curve(case, structure, backend, "collapse8")
        baselines = (dense, result.curve(case, structure, None, "dense"), aggregated)
        crossings = [crossover(curve, baseline).text(sorted(baseline)) if baseline else "" for baseline in baselines]
        times = [milliseconds(curve[at]) if at in curve else "given up" if at in dense else "" for at in places]
        ratios = [
            f"{baseline[at] / curve[at]:.2g} x" if at in curve and at in baseline else ""
            for baseline in (dense, aggregated)
            for at in places
        ]
        rows.append((CONTENDERS[strategy].label, backend, *crossings, *times, *ratios))
    return rows


def conditions(result: SparsityResult) -> list[str]:
    """Say how the numbers were measured."""
    m, s = result.machine, result.settings
    rounds = sorted({row.times.rounds for row in result.rows}) or [0]
    variables = ", ".join(f"{name}={value}" for name, value in s["environment"].items())
    versions = "; ".join(about["version"] for about in result.subjects.values())
    where = f"{m['processor']}, {m['cores']} cores, {m['memory']}, {m['libc']}, Python {m['python']}"
    what = "The convolution of all T frames alone, without neurons, from bool spikes in memory to float32 currents"
    how = "one process per library, one working at a time; compiled and warmed up"
    timed = "what depends on the weights alone is prepared beforehand, all else is timed"
    return [
        f"{where}; load before: {m['load_before']:.1f}. {versions}.",
        *([warning] if (warning := busy(m)) else []),
        f"{what}. Medians of all calls in {rounds[0]} to {rounds[-1]} interleaved rounds, {how}; {timed}.",
        "Every strategy's result was compared with NumPy's dense one, bit for bit, on these very spikes.",
        "TAC's times include the aggregation; it convolves T / K frames, and preserve holds each current for K steps.",
        f"A strategy {s['hopeless']:g} times slower than its dense path is given up at higher densities.",
        *(
            [
                "Whole layers by the operator include their neurons; to a strategy the time of the neurons alone is added."
            ]
            if any(row.contender == RULE.name for row in result.rows)
            else []
        ),
        f"For all: {variables}; transparent huge pages: {m['huge_pages']}. {result.seconds:.0f} s in all.",
    ]


def _print(
    console: Console,
    title: str,
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    spare: Iterable[str] = (),
) -> None:
    words = ("strategy", "backend", "layer and spikes", "best strategy, then neurons", *CROSSINGS)
    print_table(console, title, names, rows, words=words, whole=("backend",), spare=spare)
