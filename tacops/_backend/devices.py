"""Where the arrays of a backend are: the devices of a library, and copies to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, ClassVar, Self

from .window import Array

__all__ = ["Devices"]


class Devices(ABC):
    """The part of `Backend` that knows devices; the header of ``protocol.py`` says which of it is required."""

    name: ClassVar[str]
    device: str | None = None
    """Where `on` has put this copy of a backend."""

    @abstractmethod
    def from_numpy(self, array: Any, device: str | None = None) -> Array:
        """Copy a NumPy array to `device`, or to this library's default device.

        A device is asked for only where `devices` names some, so an adapter without `devices` may take `array` alone.
        """

    def describe(self) -> Mapping[str, str]:
        """What a reader of a benchmark wants to know: at least ``version``, ``device`` and ``precision``."""
        return {"version": "unknown", "device": "unknown", "precision": "unknown"}

    def devices(self) -> Sequence[str]:
        """Devices that `from_numpy` can copy to here, the one that commands use first; none where there is no choice."""
        return ()

    def on(self, device: str | None) -> Self:
        """A copy of this backend whose `from_numpy` copies to `device`.

        Parameters
        ----------
        device : str or None
            One of `devices`, or what is before its colon ("cuda" is the first of "cuda:0" and "cuda:1"); None is the
            first of all.

        Raises
        ------
        ValueError
            If there is no such device here.
        """
        known = tuple(self.devices())
        found = [name for name in known if device in (None, name, name.partition(":")[0])]
        if found:
            placed = copy(self)
            placed.device = found[0]
            vars(placed)["from_numpy"] = partial(type(self).from_numpy, placed, device=found[0])
            return placed
        if device is None:
            return self
        several = "one of " if len(known) > 1 else ""
        here = f"{several}{', '.join(known)}" if known else "left out, because this backend names no devices"
        msg = f"backend {self.name!r}: device must be {here}; got {device!r}"
        raise ValueError(msg)

    def device_of(self, array: Array) -> str | None:
        """The device an array is bound to, or None where the library places and moves arrays by itself."""
        return None

    def device_name(self, array: Array) -> str:
        """What a report calls the device that `array` is on; a CPU's name begins with ``cpu``."""
        return self.device_of(array) or self.describe()["device"]

    def powers(self, like: Array, low: int, count: int) -> Array | None:
        """Powers of two, exact, from ``2**low`` on, of shape (count, 1), in `like`'s dtype and on its device.

        None where no single operation makes them, or a compiler merges the many that do without.
        """
        return None

    def stamp(self, array: Array) -> Any:
        """A value that differs once an array's numbers may have changed, or another array has taken its place.

        None where nothing tells, or where what is computed now could not be used later: while a trace, a compiler or a
        recording looks on.
        """
        return None
