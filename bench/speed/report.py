"""Results of ``python -m bench speed`` for people: tables in the terminal and in Markdown, and sentences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.markup import escape

from bench.shared.machine import busy
from bench.shared.tables import milliseconds, print_reasons, print_table
from bench.speed.extended import tables
from bench.speed.extras import SPIN
from bench.speed.result import SpeedResult, SpeedRow
from bench.speed.sweep import AXES
from bench.speed.targets import Target, targets
from bench.timing.cases import ALL_MODES, MODES, STEPS

VERDICT = {True: "met", False: "NOT MET", None: "not measured"}
HEAD = ("mode", "library", "ms", "quartiles", "GFLOP/s", "of ceiling", "over peer", "over exact", "same spikes")


def print_result(console: Console, result: SpeedResult) -> None:
    """Print all tables and whether each promise is kept."""
    for case in result.layers():
        _print(console, case_title(result, case), HEAD, case_rows(result, case), spare=("quartiles", "GFLOP/s"))
    for title, head, rows in tables(result):
        _print(console, title, head, rows, spare=head[:1:-1], bracketed=head)
    if result.sweep:
        _print(console, "Growth: slope of log time over log size", SWEEP_HEAD, sweep_rows(result))
    _print(console, "Targets", TARGET_HEAD, target_rows(targets(result)))
    for line in [*extras(result), *conditions(result)]:
        console.print(escape(line), highlight=False)
    print_reasons(console, "Not installed or not usable here", result.missing)
    print_reasons(console, "FAILED", result.failed)


def case_title(result: SpeedResult, case: str) -> str:
    """One layer, and what the machine can do."""
    gemm, sgemm = result.gemm(case, MODES["exact"]), result.sgemm(case)
    flops = result.layer(case).flops
    known = [f"products alone {flops / gemm / 1e9:.0f} GFLOP/s"] if gemm else []
    known += [f"sgemm {sgemm:.0f}"] if sgemm else []
    known += [f"copy {result.bandwidth(case) / 1e9:.0f} GB/s"] if result.find(case, "ceilings", "copy") else []
    return "; ".join([f"{case}: {result.cases[case]['text']}", *known])


def case_rows(result: SpeedResult, case: str) -> list[tuple[str, ...]]:
    """Cells of one layer's table, a row per mode and library."""
    rows = [row for row in result.rows if row.case == case]
    order = list(ALL_MODES)
    rows.sort(key=lambda row: (order.index(row.mode), row.seconds))
    return [_cells(result, row) for row in rows]


def _cells(result: SpeedResult, row: SpeedRow) -> tuple[str, ...]:
    peer, ceiling = result.fastest(row.case, "peer"), result.ceiling(row)
    own = result.find(row.case, row.subject, "exact")
    low, high = map(milliseconds, row.quartiles)
    return (
        ALL_MODES[row.mode].label,
        row.subject,
        milliseconds(row.seconds),
        f"{low} to {high}",
        f"{result.rate(row):.3g}",
        of_ceiling(ceiling),
        f"{peer.seconds / row.seconds:.2f} x" if peer else "",
        f"{own.seconds / row.seconds:.2f} x" if own else "",
        "" if row.shared is None else share(row.shared),
    )


def of_ceiling(value: float | None) -> str:
    """Percent; what is far beyond the ceiling is no percentage of it."""
    return "" if not value else "> 100%" if value > 1.05 else f"{value:.0%}"


def share(value: float) -> str:
    """Percent; "all" only for exactly one."""
    return "all" if value == 1 else "> 99.99%" if value > 0.9999 else f"{value:.2%}"


SWEEP_HEAD = ("size", "mode", "library", "range", "slope", "expected")
TARGET_HEAD = ("target", "goal", "measured", "")


def sweep_rows(result: SpeedResult) -> list[tuple[str, ...]]:
    """Cells of the table of slopes."""
    labels = {(axis.name, axis.mode): axis.label for axis in AXES}
    expected = {(axis.name, axis.mode): axis.expected for axis in AXES}
    return [
        (
            slope.axis,
            labels.get((slope.axis, slope.mode), slope.mode),
            slope.subject,
            f"{slope.values[0]} to {slope.values[-1]}",
            f"{slope.slope:.2f}",
            expected.get((slope.axis, slope.mode), ""),
        )
        for slope in result.sweep
    ]


def target_rows(found: Iterable[Target]) -> list[tuple[str, ...]]:
    """Cells of the table of targets; of many values, the worst of each backend or size."""
    return [(target.text, target.goal, ", ".join(_values(target)), VERDICT[target.met]) for target in found]


def _values(target: Target) -> list[str]:
    """All values that fail, or all if they are few, else the range."""
    marked = {
        name: f"{name} {value:.2f}{_missed(target, name) if name in target.failing else ''}"
        for name, value in target.values.items()
    }
    if len(marked) <= 8:
        return list(marked.values())
    numbers = target.values.values()
    return [
        f"{len(marked)} values from {min(numbers):.2f} to {max(numbers):.2f}",
        *(marked[name] for name in target.failing),
    ]


def _missed(target: Target, name: str) -> str:
    """The mark of a value that fails, and what it could be at best."""
    return f" (!, {target.limits[name]:.2f} {target.limit})" if name in target.limits else " (!)"


def extras(result: SpeedResult) -> list[str]:
    """Call overhead and memory in words."""
    lines = []
    for backend, times in result.overhead.items():
        mine, plain = (1e6 * times[key] for key in ("tacops", "plain"))
        lines.append(f"A tiny layer takes {mine:.0f} us on {backend}, the same calls by hand {plain:.0f} us.")
        if "threads" in times:
            lines.append(
                f"To wake NumPy's threads for nothing and to wait for them takes {1e6 * times['threads']:.0f} us."
            )
    if result.beside_blas:
        alone, after, timeout = (1e3 * result.beside_blas[key] for key in ("alone", "after", "timeout"))
        lines.append(
            f"S4, exact, on NumPy takes {alone:.1f} ms, {after:.1f} ms right after a matrix product by OpenBLAS's threads, "
            f"and {timeout:.1f} ms after it with OPENBLAS_THREAD_TIMEOUT={SPIN}."
        )
    if result.beside_openmp:
        alone, after, timeout = (1e3 * result.beside_openmp[key] for key in ("alone", "after", "timeout"))
        lines.append(
            f"On PyTorch it takes {alone:.1f} ms, {after:.1f} ms right after a matrix product of PyTorch's, and {timeout:.1f} ms "
            "after it with OMP_WAIT_POLICY=passive."
        )
    if result.memory:
        size = {key: f"{value / 2**20:.1f} MiB" for key, value in result.memory.items()}
        lines.append(
            f"Peak memory on NumPy beside the result: {size['work']} for an input of {size['input']}, which unfolded "
            f"takes {size['unfolded']}; {size['work_2T']} with twice the frames, {size['work_2B']} with twice the batch."
        )
    return lines


def conditions(result: SpeedResult) -> list[str]:
    """Say how the numbers were measured."""
    m, s = result.machine, result.settings
    rounds = sorted({row.times.rounds for row in result.rows}) or [0]
    variables = ", ".join(f"{name}={value}" for name, value in s["environment"].items())
    where = f"{m['processor']}, {m['cores']} cores, {m['memory']}, {m['libc']}, Python {m['python']}"
    how = "one process per library, one working at a time; compiled and warmed up; input on the device; results waited for"
    ceiling = "the larger of matrix products of this shape alone and of minimal memory traffic alone, over the time"
    steps = f" {s['step_memory'].capitalize()}." if result.step_memory else ""
    training = (
        [
            (
                f"Training steps: {100 * s['step_density']:g} % of spikes, {s['surrogate']}, gradients of the spikes given; spikes and gradients are "
                "results. Gradient differs: the weight's from tacops', relative; other libraries reset and differentiate "
                f"otherwise.{steps}"
            )
        ]
        if any(row.mode in STEPS for row in result.rows) or steps
        else []
    )
    return [
        f"{where}; load before: {m['load_before']:.1f}.",
        *([warning] if (warning := busy(m)) else []),
        f"Medians of all calls in {rounds[0]} to {rounds[-1]} interleaved rounds, {how}.",
        f"For all: {variables}; transparent huge pages: {m['huge_pages']}. {result.seconds:.0f} s in all.",
        f"Of ceiling: {ceiling}. GFLOP/s: the exact layer's operations over the time.",
        "More than 100% of it: the layer followed its spikes, the library multiplies faster than the products that were measured, or the machine was busy then.",
        "Over peer: against the fastest SNN library's exact path. Same spikes: of those that either fires, by both it and NumPy.",
        *training,
    ]


def library_rows(result: SpeedResult) -> list[tuple[str, ...]]:
    """Cells of the table of libraries: what was run, how it was configured, and how far its spikes are ours."""
    cells: list[tuple[str, ...]] = []
    for name, about in result.subjects.items():
        shares = [row.shared for row in result.rows if row.subject == name and row.shared is not None]
        ends = list(dict.fromkeys(map(share, (min(shares), max(shares))))) if shares else []
        cells.append((name, about["version"], about["note"], " to ".join(ends)))
    return cells


def _print(
    console: Console,
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    spare: Iterable[str] = (),
    bracketed: Collection[str] = (),
) -> None:
    words = ("mode", "step", "library", "expected", "target", "measured", "size", "")
    print_table(console, title, head, rows, words=words, whole=("library",), spare=spare, bracketed=bracketed)
