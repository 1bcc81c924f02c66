"""Tables in a terminal of 80 columns: nothing is cut, no number is folded, and what is left out is named."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console

from bench.accuracy import report as accuracy
from bench.accuracy import table as accuracy_table
from bench.compare.command import HEAD, print_tables, summary
from bench.compare.data import load
from bench.shared.results import read_content
from bench.shared.tables import percent_of_ceiling, print_table
from bench.sparsity import report as sparsity
from bench.sparsity import table as sparsity_table
from bench.speed import report as speed
from bench.speed import table as speed_table
from tests.support import ROOT

RESULTS = ROOT / "bench" / "results"
WIDTH = 80


def printed(show: Callable[[Console], object], width: int = WIDTH) -> list[str]:
    """Lines, as a terminal shows them."""
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        show(console)
    return capture.get().splitlines()


def stored(name: str, table: Any) -> Any:
    path = RESULTS / name
    return table.from_dict(read_content(path), str(path))


def assert_whole(lines: list[str], cells: list[str]) -> None:
    """Cells of one row, in their order, on one line."""
    assert any(all(place >= 0 for place in _places(line, cells)) for line in lines), cells


def _places(line: str, cells: list[str]) -> list[int]:
    found, start = [], 0
    for cell in cells:
        start = line.find(cell, start)
        found.append(start)
        if start < 0:
            break
        start += len(cell)
    return found


def test_speed() -> None:
    result = stored("epyc-zen5-2-cores.json.gz", speed_table)
    lines = printed(lambda console: speed.print_result(console, result))
    assert max(map(len, lines)) <= WIDTH
    assert "A wider terminal shows more: quartiles, GFLOP/s." in lines
    for case in result.layers():
        for _, library, ms, _, _, *rest in speed.case_rows(result, case):
            assert_whole(lines, [library, ms, *filter(None, rest)])
    wide = printed(lambda console: speed.print_result(console, result), 240)
    assert not any(line.startswith("A wider terminal") for line in wide)


def test_sparsity() -> None:
    result = stored("sparsity-epyc-zen5-2-cores.json.gz", sparsity_table)
    lines = printed(lambda console: sparsity.print_result(console, result))
    assert max(map(len, lines)) <= WIDTH
    for case, structure in result.panels():
        for _, backend, *cells in sparsity.strategy_rows(result, case, structure):
            assert_whole(lines, [backend, *filter(None, cells[3:5])])


def test_accuracy() -> None:
    result = stored("accuracy-epyc-zen5-2-cores.json.gz", accuracy_table)
    lines = printed(lambda console: accuracy.print_result(console, result))
    assert max(map(len, lines)) <= WIDTH
    for task in result.tasks:
        for _, *cells in accuracy.mode_rows(result, task):
            assert_whole(lines, [cell for cell in cells[:4] if cell])


def test_compare() -> None:
    machines, problems = load(sorted(RESULTS.glob("run-*.json")))
    assert len(machines) >= 2
    assert not problems
    lines = printed(lambda console: print_tables(console, machines))
    assert max(map(len, lines)) <= WIDTH
    first, last = HEAD.index("collapse K=16"), HEAD.index("exact at 1 %")
    for row in summary(machines):
        assert_whole(lines, [row[1], *filter(None, row[first:last])])


def test_what_is_left_out() -> None:
    """Brackets first, then spare columns, as few as needed; words are folded, numbers and library names are not."""
    head = ("what", "library", "ms of a call", "more", "rest")
    rows = [("some words to be folded", "a library", "12.5 (2.0 x)", "1", "2"), ("other", "b", "7 (3.0 x)", "3", "4")]
    options: dict[str, Any] = {"words": ("what", "library"), "whole": ("library",)}

    def show(width: int, **given: Any) -> list[str]:
        return printed(lambda console: print_table(console, "title", head, rows, **options, **given), width)

    for width, without in ((60, []), (40, ["what is in brackets"]), (29, ["what is in brackets", "rest"])):
        lines = show(width, bracketed=head, spare=("rest", "more"))
        text = "\n".join(lines)
        assert max(map(len, lines)) <= width
        assert ("(2.0 x)" in text) == (not without)
        assert ("rest" in text.partition("\N{BOX DRAWINGS LIGHT HORIZONTAL}")[0]) == ("rest" not in without)
        assert ("wider" in text) == bool(without)
        assert_whole(lines, ["a library", "12.5", "1"])


def test_a_percentage_is_never_far_beyond_the_ceiling() -> None:
    """A busy machine's is no number."""
    assert [percent_of_ceiling(value) for value in (0.4, 99.6, 104.0, 1849.0)] == ["0 %", "100 %", "104 %", "> 100 %"]
