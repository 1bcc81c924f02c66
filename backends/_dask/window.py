"""A convolution by itself, `Backend.conv`, as a whole call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacops._backend.protocol import Array, Window

__all__ = ["Convolution", "convolve"]


@dataclass(frozen=True)
class Convolution:
    """Weights and how they move."""

    backend: Any
    weight: Array
    bias: Array | None
    window: Window
    exact: bool

    @property
    def values(self) -> tuple[Array, Array | None]:
        """Its arrays."""
        return self.weight, self.bias

    def at(self, backend: Any, values: tuple[Any, ...], padding: tuple[tuple[int, int], ...] | None) -> Convolution:
        """The same in another library: `Described.at`."""
        window = self.window if padding is None else replace(self.window, padding=padding)
        weight, bias = values
        return Convolution(backend, weight, bias, window, self.exact)


def convolve(described: Convolution, x: Array, *_: Any) -> Array:
    """Of a block (n, *S, C_in)."""
    given = described.weight, described.bias, described.window
    out: Array = described.backend.conv(x, *given, exact=described.exact)
    return out
