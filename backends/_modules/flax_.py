"""What Flax's layers are made of: parameters and statistics of a `LayerSpec`, and the train that one has returned last."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from tacops._core.checks import fail
from tacops._core.grid import Grid
from tacops._core.train import SpikeTrain
from tacops._layers.forward import run, spikes_of
from tacops._layers.mapping import freeze_layer
from tacops._layers.spec import STATISTICS, Initial, LayerSpec
from tacops.layers import FrozenLayer

__all__ = ["Layer", "check_unpacked", "last_train"]

_NEW = hasattr(nnx.Variable, "get_value")
"""Flax 0.12.1 and later; the older way is deprecated there."""


class _Last(threading.local):
    """The train that a layer of this thread has returned last, by weak references."""

    arrays: tuple[Any, ...] = ()

    def keep(self, train: SpikeTrain) -> None:
        """Remember it until the next."""
        self.arrays = tuple(map(weakref.ref, _flat(train)))

    def holds(self, arrays: tuple[Any, ...]) -> bool:
        """Whether these are its very arrays."""
        given = _flat(arrays)
        return len(given) == len(self.arrays) and all(a is b() for a, b in zip(given, self.arrays, strict=True))


def _flat(train: tuple[Any, ...]) -> list[Any]:
    """Its arrays; a membrane may be two, or those of several layers, and of functions None."""
    return [
        array for part in train for array in (_flat(part) if isinstance(part, tuple) else (part,)) if array is not None
    ]


last_train = _Last()


def check_unpacked(function: str, arguments: tuple[Any, ...]) -> None:
    """What follows the spikes is the rest of the train that `nnx.Sequential` has unpacked."""
    if len(arguments) > 1 and not last_train.holds(arguments):
        rule = "given by its name, as `membrane=`: what follows the spikes is only the rest of another layer's train"
        raise fail(function, "membrane", rule, "other arguments", TypeError)


class Layer(nnx.Module):  # type: ignore[misc]
    """Parameters and batch statistics of a `LayerSpec`."""

    def __init__(self, spec: LayerSpec, rngs: nnx.Rngs) -> None:
        if not isinstance(rngs, nnx.Rngs):
            raise fail(spec.layer, "rngs", "a flax.nnx.Rngs", type(rngs).__qualname__, TypeError)
        self.spec = spec
        self.use_running_average = False  # what nnx.Module.train() and eval() set
        for name, initial in spec.initial().items():
            kind = nnx.BatchStat if name in STATISTICS else nnx.Param
            setattr(self, name, kind(self._initial(initial, rngs)))

    def _initial(self, initial: Initial, rngs: nnx.Rngs) -> jax.Array:
        if initial.values is None:
            limit = self.spec.limit
            return jax.random.uniform(rngs.params(), initial.shape, jnp.float32, -limit, limit)
        return jnp.broadcast_to(jnp.asarray(initial.values, jnp.float32), initial.shape)

    def array(self, name: str) -> jax.Array:
        """A parameter or batch statistic."""
        variable = getattr(self, name)
        return variable.get_value() if _NEW else variable.value

    def assign(self, name: str, value: Any) -> None:
        """Copy a NumPy array into it."""
        self._set(name, jnp.array(value, self.array(name).dtype))

    def _set(self, name: str, value: jax.Array) -> None:
        variable = getattr(self, name)
        if _NEW:
            variable.set_value(value)
        else:
            variable.value = value

    def __call__(
        self,
        spikes: jax.Array | SpikeTrain,
        *unpacked: jax.Array,
        membrane: jax.Array | None = None,
        lengths: Any = None,
        trace: bool = False,
    ) -> SpikeTrain:
        """Spikes and membrane of spikes (T, B, ...), or of another layer's train, from `membrane` or from zero.

        `lengths` and `trace` are the operators'.
        `unpacked` is for `nnx.Sequential`, which hands on a train as several arguments: the rest of it is left aside.
        """
        check_unpacked(self.spec.layer, (spikes, *unpacked))
        arrays = {name: self.array(name) for name in self.spec.initial()}
        options = {"training": not self.use_running_average, "lengths": lengths, "trace": trace}
        train, statistics = run(self.spec, arrays, spikes_of(spikes), membrane, **options)
        for name, value in statistics.items():
            self._set(name, value)
        last_train.keep(train)
        return train

    def frozen(self, *, reproducible: bool | Grid | None = None) -> FrozenLayer:
        """The layer for inference, on arrays of any library."""
        return freeze_layer(self, reproducible)
