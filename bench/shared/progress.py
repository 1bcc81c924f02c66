"""How a benchmark that may take a given time says where it is."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Tell", "minutes", "progress"]

Tell = Callable[[str], None]
"""Called with what is being done; what is before a colon names the stage."""


def minutes(text: str) -> float:
    """Parse the time that may be used."""
    given = float(text)
    if not given > 0:
        raise argparse.ArgumentTypeError(f"must be positive; got {text}")
    return given


@contextmanager
def progress(log: Console, seconds: float) -> Iterator[Tell]:
    """Show how much of the time is used; without a terminal, a line for each stage."""
    columns = (TextColumn("{task.description:44}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    start, before = time.perf_counter(), ""
    with Progress(*columns, TimeRemainingColumn(), console=log, disable=not log.is_terminal) as bar:
        task = bar.add_task("starting", total=seconds)

        def tell(text: str) -> None:
            nonlocal before
            spent = time.perf_counter() - start
            bar.update(task, completed=min(spent, 0.99 * seconds), description=text)
            stage = text.split(":")[0]
            if not log.is_terminal and stage != before:
                left = max(0.0, seconds - spent)
                log.print(f"{stage} ({spent:.0f} s, about {left:.0f} s left)", highlight=False)
            before = stage

        yield tell
        bar.update(task, completed=seconds, description="done")
