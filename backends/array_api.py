"""Any library of the Python Array API standard: unfolding and one matrix product.

The reference adapter. It uses nothing but the standard and is verified on array-api-strict, the standard's own strict
implementation. It serves every array type that has ``__array_namespace__`` and no adapter of its own.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from tacops._backend.protocol import Array, Backend, Window

from ._unfold import conv_by_unfolding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

__all__ = ["BACKEND", "ArrayAPIBackend"]


class ArrayAPIBackend(Backend):
    """The generic backend."""

    name = "array_api"

    def owns(self, array: object) -> bool:
        """Anything that names its Array API namespace; NumPy's subclasses and scalars have that name, but not its meaning."""
        named = callable(getattr(type(array), "__array_namespace__", None))
        return named and not isinstance(array, (np.ndarray, np.generic))

    def namespace(self, array: Array) -> Any:
        """As the array says."""
        return array.__array_namespace__()

    def undisturbed(self) -> AbstractContextManager[Any]:
        """As on NumPy, on which such libraries may be built."""
        return np.errstate(all="ignore")

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """Unfold in tiles, one matrix product each."""
        return conv_by_unfolding(self.namespace(x), x, weight, bias, window)

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None = None) -> Array:
        """An array of array-api-strict, which has make-believe devices beside the CPU."""
        import array_api_strict

        return array_api_strict.asarray(array, copy=True, device=None if device is None else _strict_devices()[device])

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """By DLPack, through the host."""
        return np.array(np.from_dlpack(array))

    def devices(self) -> Sequence[str]:
        """array-api-strict's."""
        return tuple(_strict_devices())

    def device_name(self, array: Array) -> str:
        """As the array says."""
        names = {device: name for name, device in _strict_devices().items()} if find_spec("array_api_strict") else {}
        return names.get(array.device) or str(array.device)

    def unavailable(self) -> str | None:
        """The adapter is always there, but without array-api-strict there are no arrays to try it on."""
        if find_spec("array_api_strict") is None:
            return "backend 'array_api' is tried on array_api_strict, which is not installed; try: pip install array-api-strict"
        return None

    def describe(self) -> Mapping[str, str]:
        """The strict implementation's version."""
        try:
            found = version("array-api-strict")
        except PackageNotFoundError:
            found = "not installed"
        return {"version": f"array-api-strict {found}", "device": "cpu", "precision": "as the library computes"}

    def read(self, array: Array) -> list[float] | None:
        """Values, where the library can convert numbers at once."""
        flat = array.__array_namespace__().reshape(array, (-1,))
        try:
            return [float(flat[n]) for n in range(flat.shape[0])]
        except (TypeError, ValueError):  # lazy libraries and tracers refuse
            return None


def _strict_devices() -> dict[str, Any]:
    """array-api-strict's devices that have every type, the CPU first."""
    import array_api_strict

    found = array_api_strict.__array_namespace_info__().devices()
    names = [str(device).partition("'")[2].rstrip("')") for device in found]
    named = {"cpu" if name == "CPU_DEVICE" else name: device for name, device in zip(names, found, strict=True)}
    return {name: device for name, device in named.items() if not name.startswith("no_")}


BACKEND = ArrayAPIBackend()
