"""The arrays of trainable layers: out of a framework, into another, and frozen into the operators' numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from .._backend.dispatch import backend_of, get_backend
from .._backend.protocol import Array
from .._core.arguments import MODES
from .._core.checks import fail, shape_of, show
from .._core.grid import Grid
from ..layers import FrozenLayer, Sequential
from .features import records, reorder
from .forward import Numbers, effective, fold
from .sequence import Chain, is_chain
from .spec import STATISTICS, LayerSpec

__all__ = ["TrainableLayer", "check_module", "collect", "distribute", "freeze_all", "freeze_layer", "freeze_stages"]


class TrainableLayer(Protocol):
    """What a framework's layer offers."""

    spec: LayerSpec

    def array(self, name: str) -> Array:
        """A parameter or running statistic, as the framework's array."""

    def assign(self, name: str, value: Any) -> None:
        """Replace it by a NumPy array of its shape, keeping dtype and device."""


Layers = Mapping[str, TrainableLayer]
"""The tacops layers of a module by their dotted path, "" for the module itself."""


def check_module(function: str, module: object, kind: type) -> None:
    """A module of the framework."""
    if not isinstance(module, kind):
        rule = f"a module of {kind.__module__.partition('.')[0]}"
        raise fail(function, "module", rule, type(module).__name__, TypeError)


def collect(layers: Layers, names: Iterable[str]) -> dict[str, Any]:
    """NumPy copies of all arrays of `layers`, which must be all that the module has, `names`; and their `records`."""
    found = _arrays("to_mapping", layers)
    _check_own("to_mapping", found, names)
    return {key: _host(layer.array(name)) for key, (layer, name) in found.items()} | records(layers)


def distribute(layers: Layers, mapping: Mapping[str, Any]) -> None:
    """Assign all arrays of `mapping`, or none; the one number of all channels may be a scalar, as it once was."""
    function = "load_mapping"
    found = _arrays(function, layers)
    if not isinstance(mapping, Mapping):
        raise fail(function, "mapping", "a mapping of names to NumPy arrays", type(mapping).__name__, TypeError)
    for key in found:
        if key in mapping and getattr(getattr(mapping[key], "dtype", None), "kind", None) != "f":
            got = type(mapping[key]).__name__
            raise fail(function, f"mapping[{key!r}]", "a floating NumPy array", got, TypeError)
    mapping = reorder(layers, mapping)
    if missing := sorted(set(found) - set(mapping)):
        raise fail(function, "mapping", f"one with the key {missing[0]!r}", "none")
    if extra := sorted(set(mapping) - set(found), key=str):
        raise fail(function, "mapping", "one without other keys than the layers' own", show(extra[0]))
    for key, (layer, name) in found.items():
        value, shape = mapping[key], layer.spec.initial()[name].shape
        if shape_of(value) != shape and (shape_of(value), shape) != ((), (1,)):
            raise fail(function, f"mapping[{key!r}]", f"of shape {shape}", f"shape {shape_of(value)}")
    for key, (layer, name) in found.items():
        value = mapping[key].reshape(layer.spec.initial()[name].shape)
        layer.assign(name, value.astype(f"f{min(value.dtype.itemsize, 8)}"))  # in this machine's byte order


def freeze_all(
    layers: Layers, names: Iterable[str], reproducible: bool | Grid | None, leave_out: str | Sequence[str]
) -> dict[str, FrozenLayer]:
    """Each of `layers`, frozen; `names` are all arrays of the module, of which those below `leave_out` are left out."""
    if not isinstance(leave_out, (str, list, tuple)):
        raise fail("freeze", "leave_out", "a name, or several", show(leave_out), TypeError)
    given, names = (leave_out,) if isinstance(leave_out, str) else tuple(leave_out), list(names)
    for name in given:
        if not isinstance(name, str):
            raise fail("freeze", "leave_out", "a name, or several", show(name), TypeError)
        if not name or not any(_below(key, name) for key in (*names, *layers)):
            raise fail("freeze", "leave_out", "names of the module's parts", show(name))
        if any(path != name and (not path or _below(name, path)) for path in layers):
            rule = "names of parts beside the tacops layers, or of whole ones"
            raise fail("freeze", "leave_out", rule, show(name))
    found = _arrays("freeze", layers)
    _check_own("freeze", found, [key for key in names if not any(_below(key, name) for name in given)])
    kept = {path: layer for path, layer in layers.items() if not any(_below(path, name) for name in given)}
    return {path: freeze_layer(layer, reproducible) for path, layer in kept.items()}


def _below(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _check_own(function: str, found: Iterable[str], names: Iterable[str]) -> None:
    """All arrays of a module are those of its tacops layers."""
    if foreign := sorted(set(names) - set(found)):
        rule = "a module whose parameters are all in TACConv, TACLinear and ConvLIF"
        if function == "freeze":
            rule += ", or those of others among `leave_out`"
        raise fail(function, "module", rule, f"one with {foreign[0]!r}")


def freeze_layer(layer: TrainableLayer, reproducible: bool | Grid | None) -> FrozenLayer:
    """The layer's numbers in float64, rounded once to float32; `reproducible` None is as the layer has it."""
    spec = layer.spec
    if reproducible is not None and not isinstance(reproducible, (bool, Grid)):
        raise fail("freeze", "reproducible", "None, True, False or a tacops.Grid", show(reproducible), TypeError)
    arrays = {name: _host(layer.array(name)) for name in spec.initial()}
    xp = get_backend("numpy").namespace(arrays["weight"])
    wide = {name: xp.astype(array, xp.float64) for name, array in arrays.items()}
    numbers = effective(spec, wide)
    if spec.norm:
        numbers = fold(spec.norm, numbers, wide["norm_scale"], *(wide[name] for name in STATISTICS))
    options = _operator_options(spec)
    frozen = {"weight": numbers.weight, "bias": numbers.bias}
    for name in ("beta", "threshold"):
        if name not in spec.learn:
            options[name] = getattr(spec.neurons, name)
            continue
        value = xp.astype(xp.reshape(getattr(numbers, name), (-1,)), xp.float32)
        if isinstance(getattr(spec.neurons, name), float):
            options[name] = float(value[0, ...])
        else:
            frozen[name] = value
    if "aggregation" in spec.learn:
        frozen["aggregation"] = _table(xp, spec, numbers)
    else:
        options["aggregation"] = numbers.aggregation(spec.time.chunk_size)
    if reproducible is not None:
        options["reproducible"] = reproducible
    return FrozenLayer({key: xp.astype(a, xp.float32) for key, a in frozen.items() if a is not None}, options)


def freeze_stages(chain: Chain, reproducible: bool | Grid | None) -> Sequential:
    """Its layers frozen, its functions as they are."""

    def frozen(stage: Any) -> Any:
        if is_chain(stage):
            return freeze_stages(stage, reproducible)
        return freeze_layer(stage, reproducible) if isinstance(getattr(stage, "spec", None), LayerSpec) else stage

    return Sequential(*map(frozen, chain.stages))


def _operator_options(spec: LayerSpec) -> dict[str, Any]:
    """The operator's keyword arguments that are no arrays, and are not learned."""
    options: dict[str, Any] = {
        "chunk_size": spec.time.chunk_size,
        "mode": MODES[spec.time.preserve],
        "reset": spec.neurons.reset,
        "reproducible": spec.reproducible,
    }
    if spec.neurons.synapse_decay is not None:
        options["synapse_decay"] = spec.neurons.synapse_decay
    if spec.kernel:
        window = {name: getattr(spec.window, name) for name in ("stride", "padding", "dilation", "groups")}
        options |= {**window, "layout": spec.layout}
    return options


def _table(xp: Any, spec: LayerSpec, numbers: Numbers) -> Array:
    """Learned aggregation weights as `FrozenLayer` holds them."""
    K = spec.time.chunk_size
    if not spec.normalised:
        return numbers.aggregation(K)
    rows: list[Any] = [numbers.aggregation(n) for n in range(1, K + 1)]
    return xp.stack([xp.concat([xp.zeros(K - len(row), dtype=row.dtype), row], axis=0) for row in rows], axis=0)


def _arrays(function: str, layers: Layers) -> dict[str, tuple[TrainableLayer, str]]:
    """Layer and name of every array by its key."""
    if not layers:
        raise fail(function, "module", "a TACConv, TACLinear or ConvLIF, or contain one", "none")
    return {
        f"{path}.{name}" if path else name: (layer, name)
        for path, layer in layers.items()
        for name in layer.spec.initial()
    }


def _host(array: Array) -> Any:
    return backend_of(array).to_numpy(array)
