"""Results of ``python -m bench accuracy --map`` as Markdown, for ``python -m bench table``."""

from __future__ import annotations

from pathlib import Path

from bench.accuracy.map.report import conditions, tables
from bench.accuracy.map.result import MapResult, from_dict
from bench.shared.tables import markdown

__all__ = ["from_dict", "full", "plot", "short"]


def plot(result: MapResult, stem: Path) -> list[Path]:
    """Draw it again."""
    from bench.accuracy.map.plot import save_map  # needs Matplotlib

    return save_map(result, stem)


def short(result: MapResult) -> str:
    """What fresh seeds confirmed, and how it was trained."""
    return _page(result, (1,))


def full(result: MapResult) -> str:
    """Everything."""
    return _page(result, (0, 1))


def _page(result: MapResult, wanted: tuple[int, ...]) -> str:
    parts = [
        f"#### {title}\n\n{markdown(head, rows)}"
        for name in result.maps
        for n, (title, head, rows) in enumerate(tables(result, name))
        if n in wanted
    ]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in conditions(result))])
