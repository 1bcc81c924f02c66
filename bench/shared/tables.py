"""Tables in the terminal and in Markdown, and the numbers in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["markdown", "milliseconds", "print_reasons", "terminal_table"]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def terminal_table(
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Collection[str],
    whole: Collection[str] = (),
) -> Table:
    """A table whose first column does not repeat the cell above.

    Parameters
    ----------
    title : str
    head : sequence of str
        Names of the columns.
    rows : iterable of sequences of str
    words : collection of str
        Columns of words, which begin at the left; numbers end at the right.
    whole : collection of str
        Columns whose cells stay on one line.
    """
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left", show_edge=False)
    for name in head:
        table.add_column(name, justify="left" if name in words else "right", overflow="fold", no_wrap=name in whole)
    before = None
    for row in rows:
        table.add_row("" if row[0] == before else escape(row[0]), *map(escape, row[1:]))
        before = row[0]
    return table


def print_reasons(console: Console, title: str, entries: Mapping[str, str]) -> None:
    """What was left out or failed, and why; nothing if there is nothing."""
    if entries:
        console.print(f"\n{title}:")
    for name, reason in entries.items():
        console.print(f"  [bold]{escape(name)}[/]: {escape(reason)}", highlight=False)


def milliseconds(seconds: float) -> str:
    """Three digits, or all before the point."""
    return f"{1e3 * seconds:,.0f}" if seconds >= 1 else f"{1e3 * seconds:.3g}"
