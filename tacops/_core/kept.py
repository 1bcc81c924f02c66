"""What a layer's parameters were rounded to, kept from call to call, where the layer is one that stays the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from .checks import is_array
from .grid import Grid
from .layer import Layer

__all__ = ["Kept", "KeptGrid", "keep"]


class Kept:
    """The last value that was computed from some arrays, and what it was computed from."""

    def __init__(self) -> None:
        self._last: tuple[Any, Any, Any] | None = None

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        """Copies and files have nothing: the arrays of a copy are others."""
        return Kept, ()

    def get(self, key: Any, arrays: Any, make: Callable[[], Any]) -> Any:
        """The value for a key; `arrays` live as long as it is kept, so that no other array takes their place in memory."""
        last = self._last
        if last is None or last[0] != key:
            last = self._last = key, arrays, make()
        return last[2]


@dataclass(frozen=True)
class KeptGrid(Grid):
    """A grid of one layer, which is not trained."""

    kept: Kept = field(default_factory=Kept, compare=False, repr=False)

    @classmethod
    def of(cls, grid: bool | Grid, kept: Kept) -> KeptGrid:
        """The grid that an operator's argument `reproducible` asks for."""
        grid = grid if isinstance(grid, Grid) else Grid()
        return cls(**{f.name: getattr(grid, f.name) for f in fields(Grid)}, kept=kept)


def keep(layer: Layer, grid: Grid, make: Callable[[], Any]) -> Any:
    """``make()``, which depends on the values of a layer alone, or what it was the last time, if nothing has changed since."""
    if not isinstance(grid, KeptGrid):
        return make()
    values, aggregation = layer.values, layer.time.aggregation
    stamps = [layer.backend.stamp(x) if is_array(x) else (x,) for x in values]
    if any(stamp is None for stamp in stamps):
        return make()
    rule = aggregation if isinstance(aggregation, str) else None
    numbers = [getattr(grid, f.name) for f in fields(Grid)]  # not the grid: it holds what is kept under this key
    return grid.kept.get((stamps, rule, layer.time.chunk_size, numbers), values, make)
