"""Trainable layers: what those of PyTorch, Flax and MLX share, and layers frozen for inference on any array.

The layers themselves are ``TACConv``, ``TACLinear`` and ``ConvLIF`` of `tacops.backends.torch_layers`, `flax_layers` and
`mlx_layers`. Their parameters are one mapping of NumPy arrays (``to_mapping``, ``load_mapping``), so a network moves from one
framework to another. The libraries' exponentials differ in the last bit; ``freeze`` therefore turns parameters into the
operators' numbers once, in NumPy, and what it returns fires the same spikes on every backend in reproducible mode.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from ._backend.dispatch import backend_of
from ._backend.protocol import Array
from ._core.arguments import channel_from_last
from ._core.checks import fail, show
from ._core.grid import Grid
from ._core.kept import Kept, KeptGrid
from ._core.train import SpikeTrain
from ._files.damage import DAMAGE, reason
from ._layers.between import Flatten, Pool2d, Scale
from ._layers.forward import run_spans, spikes_of
from ._layers.frozen import ARRAYS, check_frozen, check_values, frozen_options
from ._layers.sequence import Sequential
from ._operators import tac_conv, tac_linear

__all__ = ["Flatten", "FrozenLayer", "Pool2d", "Scale", "Sequential", "load_frozen", "save_frozen"]

FORMAT = "tacops frozen layers 1"


@dataclass(frozen=True, eq=False, repr=False)
class FrozenLayer:
    """A layer for inference: a call of `tacops.tac_conv` or `tacops.tac_linear` with its arrays and options.

    ``freeze`` of a framework's module and `load_frozen` make them.

    Parameters
    ----------
    arrays : dict of str to array
        float32: ``weight``, and where the layer has them ``bias`` and, one per channel, ``beta`` and ``threshold``;
        learned ``aggregation`` weights (K,), or, where those of a shorter chunk are no part of them, (K, K) with the
        weights of n frames in the last n places of row n - 1. ``weight`` is channels last whatever the layout.
    options : dict of str to object
        The operator's keyword arguments, ``chunk_size`` among them.

    Raises
    ------
    TypeError, ValueError
        For names, shapes or options that no operator takes.

    Notes
    -----
    PyTorch's on an NVIDIA GPU keep what reproducible mode makes of the arrays, which takes dozens of small launches, from call to
    call. Arrays that are replaced, or written to, are noticed; but not writes that PyTorch does not count: through ``.data``, or by
    another library that shares the memory.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops.layers import FrozenLayer
    >>> layer = FrozenLayer({"weight": np.full((4, 3), 0.5, np.float32)}, {"chunk_size": 2, "mode": "preserve"})
    >>> layer
    FrozenLayer(weight (4, 3), chunk_size=2, mode='preserve')
    >>> layer(np.ones((6, 2, 3), dtype=bool)).spikes.shape
    (6, 2, 4)
    """

    arrays: Mapping[str, Array]
    options: Mapping[str, Any]
    _kept: Kept = field(default_factory=Kept, init=False)

    def __post_init__(self) -> None:
        options = frozen_options(self.options)
        check_frozen(self.arrays, options)
        object.__setattr__(self, "options", options)

    def __repr__(self) -> str:
        arrays = [f"{name} {tuple(array.shape)}" for name, array in self.arrays.items()]
        options = [f"{name}={value!r}" for name, value in self.options.items() if value is not False]
        return " ".join(f"FrozenLayer({', '.join([*arrays, *options])})".split())

    def __call__(
        self, spikes: Array | SpikeTrain, *, membrane: Array | None = None, lengths: Any = None, trace: bool = False
    ) -> SpikeTrain:
        """Spikes and membrane as of the operator, for arrays of any library.

        Parameters
        ----------
        spikes : array or SpikeTrain
            As of the operator; of a train, its spikes.
        membrane, lengths, trace
            As of the operator.
        """
        spikes = spikes_of(spikes)
        backend, weight = backend_of(spikes, function="FrozenLayer", names=("spikes",)), self.arrays["weight"]
        own = backend is backend_of(weight) and backend.device_of(spikes) == backend.device_of(weight)
        arrays = self.arrays if own else self.on(spikes).arrays
        table, given = arrays.get("aggregation"), dict(self.options)
        rule, own_tail = given.pop("aggregation", None), table is not None and table.ndim == 2

        def aggregation(size: int) -> Any:
            return rule if table is None else table[size - 1, -size:] if own_tail else table

        values = {name: arrays[name] for name in ("bias", "beta", "threshold") if name in arrays}
        grid = given.get("reproducible", False)
        if own and grid is not False and backend.stamp(weight) is not None:
            given["reproducible"] = KeptGrid.of(grid, self._kept)
        options, size = given | values, given.pop("chunk_size")
        weight, operator = arrays["weight"], tac_conv if arrays["weight"].ndim > 2 else tac_linear
        if given.get("layout") == "channels_first":
            weight = channel_from_last(backend.namespace(weight), weight, 1)

        def call(spikes: Array, size: int, membrane: Any) -> SpikeTrain:
            time = {"chunk_size": size, "aggregation": aggregation(size), "lengths": lengths, "trace": trace}
            return operator(spikes, weight, membrane=membrane, **options | time)

        return run_spans("FrozenLayer", call, spikes, membrane, lengths, size, own_tail)

    def on(self, like: Array) -> FrozenLayer:
        """The same layer with its arrays in the library, and on the device, of `like`: saves every call the copy.

        Parameters
        ----------
        like : array
        """
        from .backends._io.npz import place

        host = backend_of(self.arrays["weight"]).to_numpy
        return FrozenLayer({name: place(host(array), like) for name, array in self.arrays.items()}, self.options)


def save_frozen(path: str | PathLike[str], layers: Mapping[str, FrozenLayer]) -> None:
    """Write frozen layers to one .npz or .safetensors file, whole or not at all.

    Parameters
    ----------
    path : path
        A name that ends in .safetensors makes such a file, which needs the package of that name.
    layers : mapping of str to FrozenLayer
        As ``freeze`` returns them.

    Raises
    ------
    TypeError, ValueError
        For other objects, and layers that hold NaN, which `load_frozen` would refuse.
    OSError
        If the file can't be written there: one sentence. A link is followed; what is no regular file is never replaced.
    ImportError
        If the file is a .safetensors file and the package is not installed.
    """
    file = _file("save_frozen", path)
    _, write_arrays = _format("save_frozen", file)
    if not isinstance(layers, Mapping):
        rule = "a mapping of names to FrozenLayers"
        raise fail("save_frozen", "layers", rule, type(layers).__name__, TypeError)
    arrays: dict[str, Array] = {}
    options: dict[str, Any] = {}
    for name, layer in layers.items():
        if not isinstance(name, str) or not isinstance(layer, FrozenLayer):
            got = f"{name!r}: {type(layer).__name__}"
            raise fail("save_frozen", "layers", "a mapping of names to FrozenLayers", got, TypeError)
        if callable(layer.options.get("surrogate")):
            raise fail("save_frozen", f"layers[{name!r}]", "without a surrogate, which no file holds", "one", TypeError)
        check_values(layer.arrays)
        own, options[name] = _saved(name, layer)
        arrays |= own
    write_arrays(file, arrays, {"format": FORMAT, "layers": options})


def load_frozen(path: str | PathLike[str]) -> dict[str, FrozenLayer]:
    """Read what `save_frozen` wrote, with NumPy arrays.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to FrozenLayer

    Raises
    ------
    ValueError
        If the file is missing, damaged or of another kind.
    TypeError
        If `path` is no path.
    ImportError
        If the file is a .safetensors file and the package is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from tacops.layers import FrozenLayer, load_frozen, save_frozen
    >>> layer = FrozenLayer({"weight": np.full((4, 3), 0.5, np.float32)}, {"chunk_size": 2})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_frozen(f"{folder}/net.npz", {"readout": layer})
    ...     print(load_frozen(f"{folder}/net.npz")["readout"].options)
    {'chunk_size': 2, 'reproducible': False}
    """
    file = _file("load_frozen", path)
    read_arrays, _ = _format("load_frozen", file)
    try:
        arrays, header = read_arrays(file)
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError(f"format {header.get('format') if isinstance(header, dict) else header!r}")
        layers = {name: _loaded(name, arrays, options) for name, options in header["layers"].items()}
        if arrays:
            raise ValueError(f"array {min(arrays)!r} of no layer")
    except DAMAGE as error:
        raise fail("load_frozen", f"path {path}", "a whole file of save_frozen", reason(error)) from error
    return layers


def _saved(name: str, layer: FrozenLayer) -> tuple[dict[str, Any], dict[str, Any]]:
    """A layer's arrays and options as both kinds of files hold them."""
    where = f"layers[{name!r}]"
    if "\0" in name or name.encode(errors="replace").decode() != name:
        raise fail("save_frozen", "layers", "named in text that files hold", show(name))
    host = backend_of(layer.arrays["weight"]).to_numpy
    arrays = {f"{name}.{key}": host(array) for key, array in layer.arrays.items()}
    for array in arrays.values():
        if array.dtype.itemsize > 8:
            raise fail("save_frozen", where, "of float64 or fewer bits", str(array.dtype), TypeError)
    grid = layer.options.get("reproducible", False)
    options = {**layer.options, "reproducible": asdict(grid) if isinstance(grid, Grid) else grid}
    try:
        json.dumps(options)
    except (TypeError, ValueError) as error:
        raise fail("save_frozen", where, "of options that JSON holds", str(error), TypeError) from error
    return arrays, options


def _file(function: str, path: Any) -> Path:
    if not isinstance(path, (str, PathLike)):
        raise fail(function, "path", "a path", type(path).__name__, TypeError)
    return Path(path)


def _format(function: str, file: Path) -> tuple[Any, Any]:
    """What reads, and what writes, files of this name."""
    if file.suffix.lower() != ".safetensors":
        from .backends._io.npz import read_arrays, write_arrays

        return read_arrays, write_arrays
    if find_spec("safetensors") is None:
        msg = (
            f"{function}: {file.name} needs safetensors, which is not installed; try: pip install 'tacops[safetensors]'"
        )
        raise ImportError(msg)
    from .backends._io.tensors import read_tensors, write_tensors

    return read_tensors, write_tensors


def _loaded(name: str, arrays: dict[str, Any], options: dict[str, Any]) -> FrozenLayer:
    """One layer, its arrays taken out of `arrays`."""
    own = {key: arrays.pop(f"{name}.{key}") for key in ARRAYS if f"{name}.{key}" in arrays}
    try:
        grid = options.get("reproducible", False)
        layer = FrozenLayer(own, {**options, "reproducible": Grid(**grid) if isinstance(grid, dict) else grid})
        check_values(own)
    except DAMAGE as error:
        raise ValueError(f"layer {name!r} ({reason(error)})") from error
    return layer
