"""Where a page holds a benchmark's tables: between two markers."""

from __future__ import annotations

from bench.shared.results import ResultError


def markers(name: str) -> tuple[str, str]:
    """The lines before and after a benchmark's tables."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def replaced(page: str, text: str, path: str, name: str) -> str:
    """Replace what is between the markers of `name`."""
    begin, end = markers(name)
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise ResultError(f"{path} must have one line {begin} and one {end} after it")
    return f"{page[: page.index(begin)]}{begin}\n{text}\n{page[page.index(end) :]}"
