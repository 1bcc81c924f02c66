"""Results of ``python -m bench accuracy`` for people: cells of the tables, the paper's figures beside ours, sentences."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape

from bench.accuracy.result import AccuracyResult, AccuracyRow, Spread
from bench.shared.tables import print_table

HEAD = ("mode", "accuracy, %", "against exact", "s per epoch", "training", "inference", "first layer", "convolutions")
ADVICE_HEAD = (
    "task",
    "advised",
    "p",
    "signal that changes",
    "as advised, against exact",
    "modes at equal K",
    "training says",
)
PAPER_HEAD = ("what", "paper", "here")
LEARNED_HEAD = ("task", "mode", "weights of the frames of a chunk, first to last", "decay weights, where they started")
SHORT_MODES = ("exact", "collapse2", "collapse4", "collapse16", "preserve2", "preserve4")


def print_result(console: Console, result: AccuracyResult) -> None:
    """Print all tables."""
    for task in result.tasks:
        rows = mode_rows(result, task)
        print_table(console, title(result, task), HEAD, rows, words=HEAD[:1], spare=("convolutions", "first layer"))
    for said, head, cells in (
        ("What tacops.advise says, and what training says", ADVICE_HEAD, advice_rows(result)),
        ("The paper's figures and ours", PAPER_HEAD, paper_rows(result)),
    ):
        print_table(console, said, head, cells, words=head)
    for line in conditions(result):
        console.print(escape(line), highlight=False)


def title(result: AccuracyResult, task: str) -> str:
    """A task with its sizes."""
    about = result.tasks[task]
    records = [record for runs in about["trained"].values() for record in runs]
    runs = max(len(runs) for runs in about["trained"].values())
    folds = about["settings"]["folds"]
    how = f"{runs} of {folds} folds" if folds else f"{runs} seed{'s' * (runs != 1)}"
    return (
        f"{about['title']}: {about['classes']} classes, T = {about['settings']['time_steps']}, "
        f"{records[0]['training']:,} training and {records[0]['tested']:,} test samples, {how}, "
        f"{about['settings']['epochs']} epochs"
    )


def mode_rows(result: AccuracyResult, task: str) -> list[tuple[str, ...]]:
    """Cells of one task's table."""
    return [_cells(result, row) for row in result.rows(task)]


def _cells(result: AccuracyResult, row: AccuracyRow) -> tuple[str, ...]:
    return (
        result.label(row.mode),
        percent(row.accuracy),
        "" if row.mode == "exact" else points(row.change),
        f"{row.epoch_seconds:.3g}",
        times(row.train),
        times(row.infer),
        times(row.layer),
        str(row.convolutions),
    )


def advice_rows(result: AccuracyResult) -> list[tuple[str, ...]]:
    """Cells of the comparison with `tacops.advise`."""
    rows: list[tuple[str, ...]] = []
    for task, about in result.tasks.items():
        advice, verdict = about["advice"], result.verdict(task)
        cost = f"{result.label(verdict.nearest)}: {points(verdict.cost)}" if verdict.nearest and verdict.cost else ""
        pair = ""
        if verdict.pair and verdict.difference:
            names = " over ".join(map(result.label, verdict.pair))
            pair = f"{names}: {points(verdict.difference)}"
        known = (f"{advice['p_value']:.2g}", f"{max(advice['effect_size'], 0):.0%}")
        rows.append((about["title"], verdict.advised, *known, cost, pair, str(verdict.word)))
    return rows


def paper_rows(result: AccuracyResult) -> list[tuple[str, str, str]]:
    """The paper's figures beside ours."""
    rows = []
    for task, figure in (("mnist", "+1.6"), ("fashion", "+5.4")):
        if task in result.tasks:
            name = result.tasks[task]["title"]
            gains = {
                K: result.row(task, f"collapse{K}")
                for K in (2, 4, 8, 16)
                if f"collapse{K}" in result.tasks[task]["trained"]
            }
            changes = "; ".join(f"K={K}: {points(row.change)}" for K, row in gains.items())
            rows.append((f"{name}: accuracy of collapse over exact, points", figure, changes))
            speeds = "; ".join(f"K={K}: {times(row.train)}, {times(row.infer)}" for K, row in gains.items())
            if task == "mnist":
                rows.append((f"{name}: speed-up of collapse (training, inference)", "13.8 x", speeds))
    for mode, what, figure in (
        ("preserve2", "preserve, half the convolutions", "-1.2 (DVS128-Gesture: 95.1 of 96.3)"),
        ("collapse2", "collapse, half the convolutions", "-5.0 (DVS128-Gesture: 91.3 of 96.3; K not stated)"),
        ("collapse16", "collapse of all frames into one", "-5.0 (as above)"),
    ):
        found = [
            f"{about['title']}: {points(result.difference(task, mode, 'exact'))}"
            for task, about in result.tasks.items()
            if task not in ("mnist", "fashion") and mode in about["trained"]
        ]
        rows.append((f"events and moving dots: accuracy of {what}, over exact, points", figure, "; ".join(found)))
    return rows


def learned_rows(result: AccuracyResult) -> list[tuple[str, str, str, str]]:
    """What L-TAC learned, averaged over runs."""
    rows = []
    for about in result.tasks.values():
        for mode, records in about["trained"].items():
            if "aggregation" in records[0]:
                mean = [statistics.fmean(values) for values in zip(*(r["aggregation"] for r in records), strict=True)]
                K, beta = len(mean), result.settings["layer"]["beta"]
                decay = [beta ** (K - 1 - k) for k in range(K)]
                rows.append((about["title"], result.label(mode), _numbers(mean), _numbers(decay)))
    return rows


def short_rows(result: AccuracyResult) -> list[tuple[str, ...]]:
    """One row per task: accuracies, and the advice."""
    modes = [mode for mode in SHORT_MODES if any(mode in about["trained"] for about in result.tasks.values())]
    rows: list[tuple[str, ...]] = []
    for task, about in result.tasks.items():
        cells = (percent(result.row(task, mode).accuracy) if mode in about["trained"] else "" for mode in modes)
        rows.append((about["title"], *cells, result.verdict(task).advised))
    for what, timed in (("training steps", "train"), ("inference", "infer")):
        speeds = [
            [result.speedup(task, mode, timed) for task, about in result.tasks.items() if mode in about["trained"]]  # type: ignore[arg-type]
            for mode in modes
        ]
        rows.append((f"{what}: times as fast as exact", *(f"{span(values)}" for values in speeds), ""))
    return rows


def short_head(result: AccuracyResult) -> tuple[str, ...]:
    """Head of that table."""
    modes = [mode for mode in SHORT_MODES if any(mode in about["trained"] for about in result.tasks.values())]
    return ("accuracy, %", *(result.label(mode) for mode in modes), "`advise` says")


def conditions(result: AccuracyResult) -> list[str]:
    """How the numbers were made."""
    about, versions = result.machine, result.settings["versions"]
    busy = statistics.median(record["load"] for record in result.records)
    parameters = sorted({record["parameters"] for task in result.tasks.values() for record in task["trained"]["exact"]})
    settings, layer = result.settings, result.settings["layer"]
    where = (
        f"{about['processor']}, {about['cores']} cores, {about['platform']}; JAX {versions['jax']} on the CPU, "
        f"tacops {versions['tacops']}. Allocator: {settings['allocator']}."
    )
    busy_there = (
        f"{result.seconds / 60:.0f} minutes for all trainings and timings; when they began, {busy:.1f} processes were "
        "running (the median, this one included)."
    )
    network = (
        f"Two convolutions of 3 x 3 with stride 2, {settings['channels'][1]} and {settings['channels'][2]} channels, LIF "
        f"(beta {layer['beta']}, threshold {layer['threshold']}), and a linear read-out of the firing rates: "
        f"{parameters[0]:,} to {parameters[-1]:,} weights."
    )
    right = (
        "Accuracy: mean and standard deviation over seeds or folds, after the last epoch; against exact: of the "
        "differences run by run. Modes at equal K differ if the difference exceeds its standard deviation over the runs "
        "and the binomial standard error of the difference on a test set of this size."
    )
    speed = (
        f"Speed-ups: ratios of medians of {settings['rounds'] * settings['calls']} calls, all modes in turn, spikes already "
        "coded; seconds per epoch: medians, with coding, without compilation and tests."
    )
    return [where, busy_there, network, right, speed]


def percent(value: Spread) -> str:
    """Mean and deviation.

    Examples
    --------
    >>> percent(Spread(0.9812, 0.0013, 3))
    '98.1 ± 0.1'
    """
    return f"{100 * value.mean:.1f}" + (f" ± {100 * value.deviation:.1f}" if value.count > 1 else "")


def points(value: Spread) -> str:
    """A difference in percentage points, with its sign.

    Examples
    --------
    >>> points(Spread(-0.0123, 0.004, 3)), points(Spread(-0.0001, 0.0, 1))
    ('-1.2 ± 0.4', '+0.0')
    """
    return f"{round(100 * value.mean, 1) + 0.0:+.1f}" + (f" ± {100 * value.deviation:.1f}" if value.count > 1 else "")


def times(ratio: float) -> str:
    """A ratio of times."""
    return f"{ratio:.1f} x"


def span(values: Sequence[float]) -> str:
    """Least and greatest."""
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
