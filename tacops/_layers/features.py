"""The order of flattened features: what a mapping says about it, and weights moved from one order to the other.

A convolution's parameters are the same in either layout. What is flattened behind it is not: channels last, a pixel's channels
are neighbours; channels first, a channel's pixels are. So the columns of a dense layer behind it belong to the layout that the
network was trained in, and a mapping holds, beside the weights of each such layer,

* ``channels_last``: whether its features were flattened channels last;
* ``features_in``: the shape before they were flattened, where the layer knows it;
* ``layouts``: where convolutions of the module have different layouts, whether each is channels last, by the order of their paths.
  Such a network has the order of features that another of the same layouts has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from .._backend.dispatch import get_backend
from .._core.checks import fail, shape_of, show
from .spec import LayerSpec

__all__ = ["RECORDS", "records", "reorder"]

RECORDS = ("channels_last", "features_in", "layouts")
FUNCTION = "load_mapping"


class _Layer(Protocol):
    spec: LayerSpec


def records(layers: Mapping[str, _Layer]) -> dict[str, Any]:
    """What a mapping says about the dense layers of a module, by key."""
    from ..backends._io.npz import as_array

    found: dict[str, Any] = {}
    for path, layer in layers.items():
        if layer.spec.kernel:
            continue
        if layer.spec.features:
            found[_key(path, "features_in")] = as_array(layer.spec.features)
        if _may_be_flattened(layer.spec, layers):
            last = _channels_last(layer.spec, layers)
            value, name = (last, "channels_last") if last is not None else (_layouts(layers), "layouts")
            found[_key(path, name)] = as_array(value)
    return found


def reorder(layers: Mapping[str, _Layer], mapping: Mapping[str, Any]) -> dict[str, Any]:
    """`mapping` without its records, its weights in the order of the features of `layers`."""
    moved = dict(mapping)
    for path, layer in layers.items():
        if layer.spec.kernel:
            continue
        recorded = {name: moved.pop(_key(path, name), None) for name in RECORDS}
        last, shape, layouts = _recorded(path, recorded)
        if layouts and layouts == _layouts(layers) and not layer.spec.features:
            continue
        key = _key(path, "weight")
        if key in moved and (axes := _axes(path, layer.spec, layers, last, shape)):
            moved[key] = _permuted(moved[key], *axes)
    return moved


def _key(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _may_be_flattened(spec: LayerSpec, layers: Mapping[str, _Layer]) -> bool:
    """Whether the order of features is a question: several pixels of several channels, as far as the numbers tell."""
    if spec.features:
        return len(spec.features) > 1
    channels = {layer.spec.channels_out for layer in layers.values() if layer.spec.kernel}
    return any(1 < C < spec.channels_in and spec.channels_in % C == 0 for C in channels)


def _channels_last(spec: LayerSpec, layers: Mapping[str, _Layer]) -> bool | None:
    """The order of a dense layer's features: as it says, or as all convolutions of the module have it."""
    if spec.features:
        return spec.layout == "channels_last"
    found = {layer.spec.layout for layer in layers.values() if layer.spec.kernel}
    return found == {"channels_last"} if len(found) == 1 else None


def _layouts(layers: Mapping[str, _Layer]) -> tuple[bool, ...]:
    """Whether each convolution of a module is channels last."""
    return tuple(layers[path].spec.layout == "channels_last" for path in sorted(layers) if layers[path].spec.kernel)


def _recorded(path: str, recorded: Mapping[str, Any]) -> tuple[bool | None, tuple[int, ...], tuple[bool, ...]]:
    """The records of a layer; None and () for those that are not there."""
    last, shape, layouts = (recorded[name] for name in RECORDS)
    rules = ("b", 0, "a NumPy bool"), ("iu", 1, "a NumPy array of ints"), ("b", 1, "a NumPy array of bools")
    for name, (kinds, ndim, rule) in zip(RECORDS, rules, strict=True):
        value = recorded[name]
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        if value is not None and (kind not in kinds or not kind or value.ndim != ndim):
            raise fail(FUNCTION, f"mapping[{_key(path, name)!r}]", rule, show(value), TypeError)
    sizes = () if shape is None else tuple(int(size) for size in shape)
    return None if last is None else bool(last), sizes, () if layouts is None else tuple(map(bool, layouts))


def _axes(
    path: str, spec: LayerSpec, layers: Mapping[str, _Layer], last: bool | None, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], bool] | None:
    """Shape in which the mapping's features lie, and whether that is channels last; None if they stay as they are."""
    function, own = FUNCTION, _channels_last(spec, layers)
    name = f"mapping[{_key(path, 'features_in')!r}]"
    if shape and (math.prod(shape) != spec.channels_in or min(shape) < 1):
        raise fail(function, name, f"the shape of {spec.channels_in} features", shape)
    if len(shape) == 1 or not (len(shape) > 1 or _may_be_flattened(spec, layers)):
        return None
    if own is None:
        rule = f"one whose layer {path!r} has the shape that is flattened as its features_in, because layouts are mixed"
        raise fail(function, "module", rule, spec.channels_in)
    if last is None:
        rule = f"one with the key {_key(path, 'channels_last')!r} (a NumPy bool: the order in which its features are flattened)"
        raise fail(function, "mapping", rule, "none")
    if last == own:
        if shape and spec.features and shape != spec.features:
            raise fail(function, name, f"{spec.features}", shape)
        return None
    known = _turned(spec.features, own) if spec.features else shape
    if not known:
        layout = "channels_last" if last else "channels_first"
        rule = f"of this layout, or its layer {path!r} one whose features_in is the shape that is flattened"
        raise fail(function, "mapping", rule, f"a network trained {layout}")
    if shape and shape != known:
        raise fail(function, name, f"{known}", shape)
    return known, last


def _turned(shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
    """The same shape in the other layout."""
    return (shape[-1], *shape[:-1]) if last else (*shape[1:], shape[0])


def _permuted(weight: Any, shape: tuple[int, ...], last: bool) -> Any:
    """Columns that were flattened from `shape`, in the other order; what is no such weight as it is, to be refused."""
    if len(shape_of(weight)) != 2 or shape_of(weight)[1] != math.prod(shape):
        return weight
    xp, n = get_backend("numpy").namespace(weight), len(shape)
    axes = (0, n, *range(1, n)) if last else (0, *range(2, n + 1), 1)
    moved = xp.permute_dims(xp.reshape(weight, (-1, *shape)), axes)
    return xp.reshape(moved, (-1, math.prod(shape)))
