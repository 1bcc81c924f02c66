"""Tables in the terminal and in Markdown, and the numbers in them."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape as escape_html

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["folded", "markdown", "milliseconds", "percent_of_ceiling", "print_reasons", "print_table"]

GAP = 2
"""Between columns."""


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def folded(title: str, *parts: str) -> str:
    """Markdown that a reader opens by its title.

    Examples
    --------
    >>> print(folded("A -> B", "text"))
    <details markdown="1">
    <summary>A -&gt; B</summary>
    <BLANKLINE>
    text
    <BLANKLINE>
    </details>
    """
    return "\n\n".join(
        [f'<details markdown="1">\n<summary>{escape_html(title, quote=False)}</summary>', *parts, "</details>"]
    )


def print_table(
    console: Console,
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Collection[str],
    whole: Collection[str] = (),
    spare: Iterable[str] = (),
    bracketed: Collection[str] = (),
) -> None:
    """Print a table that fits the console, in which a column of text does not repeat the cell above.

    Parameters
    ----------
    console : Console
    title : str
    head : sequence of str
        Names of the columns.
    rows : iterable of sequences of str
    words : collection of str
        Columns of words, which begin at the left, and whose cells may take several lines; numbers end at the right.
    whole : collection of str
        Columns of words whose cells stay on one line.
    spare : iterable of str
        Columns that are left out where the console is too narrow, one after the other, as few as possible.
    bracketed : collection of str
        Columns of numbers of which, before that, what is in brackets is left out.
    """
    kept, cells, left = list(head), [list(row) for row in rows], []
    if bracketed and _width(kept, cells, words, whole) > console.width:
        cells = [
            [x if name in words or name not in bracketed else _bare(x) for name, x in zip(kept, row, strict=True)]
            for row in cells
        ]
        left.append("what is in brackets")
    for name in spare:
        if name in kept and _width(kept, cells, words, whole) > console.width:
            n = kept.index(name)
            kept, cells = kept[:n] + kept[n + 1 :], [row[:n] + row[n + 1 :] for row in cells]
            left.append(name)
    console.print(_table(title, kept, cells, words, whole))
    if left:
        console.print(f"A wider terminal shows more: {', '.join(left)}.", markup=False, highlight=False, style="dim")


def _table(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], words: Collection[str], whole: Collection[str]
) -> Table:
    table = Table(
        title=escape(title),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
    )
    for n, name in enumerate(head):
        text, alone = name in words, name not in words or name in whole
        heading = _heading(name, [row[n] for row in rows])
        table.add_column(heading, justify="left" if text else "right", overflow="fold", no_wrap=alone)
    before = None
    for row in rows:
        table.add_row("" if row[0] == before else escape(row[0]), *map(escape, row[1:]))
        before = row[0]
    return table


def _width(head: Sequence[str], rows: Sequence[Sequence[str]], words: Collection[str], whole: Collection[str]) -> int:
    """Characters that a table takes at least, with whole words."""
    widths = []
    for n, name in enumerate(head):
        cells = [row[n] for row in rows]
        if name in words and name not in whole:
            cells = [word for cell in cells for word in cell.split()]
        widths.append(max([_longest(name), *map(len, cells)]))
    return sum(widths) + GAP * (len(widths) - 1)


def _heading(name: str, cells: Sequence[str]) -> str:
    """On as many lines as keep it no wider than its column needs to be."""
    width = max([_longest(name), *map(len, cells)])
    return escape("\n".join(textwrap.wrap(name, width, break_long_words=False, break_on_hyphens=False)))


def _longest(text: str) -> int:
    """Length of the longest word, 1 at least."""
    return max(map(len, text.split()), default=1)


def _bare(cell: str) -> str:
    """A cell without the brackets at its end."""
    return cell.partition(" (")[0]


def print_reasons(console: Console, title: str, entries: Mapping[str, str]) -> None:
    """What was left out or failed, and why; nothing if there is nothing."""
    if entries:
        console.print(f"\n{title}:")
    for name, reason in entries.items():
        console.print(f"  [bold]{escape(name)}[/]: {escape(reason)}", highlight=False)


def percent_of_ceiling(percent: float) -> str:
    """What is far beyond the ceiling is no percentage of it: the layer followed its spikes, or the machine was busy.

    Examples
    --------
    >>> percent_of_ceiling(49.6), percent_of_ceiling(1849.0)
    ('50 %', '> 100 %')
    """
    return "> 100 %" if percent > 105 else f"{percent:.0f} %"


def milliseconds(seconds: float) -> str:
    """Three digits, or all before the point."""
    return f"{1e3 * seconds:,.0f}" if seconds >= 1 else f"{1e3 * seconds:.3g}"
