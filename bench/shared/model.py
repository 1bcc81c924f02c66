"""A small convolutional spiking network, written once on tacops for arrays of any library.

Rate-coded images, 28 x 28 x 1, T = 16 frames -> convolution 3 x 3, stride 2, 16 channels, LIF -> convolution 3 x 3,
stride 2, 32 channels, LIF -> linear read-out of the mean firing rate: 20,490 parameters. A `Mode` says how time is
treated; each mode has weights trained for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.shared.datasets import DatasetError
from bench.shared.files import npz_bytes, parse_json, read_npz, reason, write_whole
from tacops import SpikeTrain, conv_lif, tac_conv, tac_linear

Array: TypeAlias = Any
Parameters: TypeAlias = Mapping[str, Array]

WEIGHTS_FILE = Path(__file__).parents[1] / "data" / "weights.npz"
REMEDY = "python -m bench train"
CHANNELS = (1, 16, 32)
CLASSES = 10
SHAPES = {
    "conv1": (CHANNELS[1], 3, 3, CHANNELS[0]),
    "bias1": (CHANNELS[1],),
    "conv2": (CHANNELS[2], 3, 3, CHANNELS[1]),
    "bias2": (CHANNELS[2],),
    "readout": (CLASSES, 7 * 7 * CHANNELS[2]),
    "bias3": (CLASSES,),
}
LAYER: dict[str, Any] = {"beta": 0.9, "threshold": 1.0, "stride": 2, "padding": 1}


@dataclass(frozen=True)
class Mode:
    """How the network treats time.

    ``exact``: every layer simulates every frame. ``collapse``: the first layer aggregates each ``chunk_size`` frames
    into one, and the later layers are exact on those few frames. ``preserve``: every layer convolves once per
    ``chunk_size`` frames and keeps all frames.
    """

    name: str
    kind: Literal["exact", "collapse", "preserve"]
    chunk_size: int

    @property
    def label(self) -> str:
        """The name for a table."""
        return "exact" if self.kind == "exact" else f"{self.kind} K={self.chunk_size}"


MODES = {
    mode.name: mode
    for mode in (
        Mode("exact", "exact", 1),
        Mode("collapse4", "collapse", 4),
        Mode("collapse16", "collapse", 16),
        Mode("preserve4", "preserve", 4),
    )
}


class Output(NamedTuple):
    """Class scores (B, 10), and the spikes of both hidden layers, (T', B, 14, 14, 16) and (T', B, 7, 7, 32)."""

    logits: Array
    spikes1: Array
    spikes2: Array


def forward(
    parameters: Parameters, frames: Array, mode: Mode, xp: Any, surrogate: Any = None, reproducible: bool = False
) -> Output:
    """Classify a batch.

    Parameters
    ----------
    parameters : mapping
        Arrays of the shapes in ``SHAPES``, of the same library as ``frames``.
    frames : (T, B, 28, 28, 1)
        Spikes that code the images.
    mode : Mode
        How time is treated.
    xp : namespace
        The library's array namespace.
    surrogate : optional
        A surrogate derivative from `tacops.surrogate`, for training.
    reproducible : bool
        Whether the hidden layers are computed on a grid where every sum is exact.

    Returns
    -------
    Output
    """
    options = {**LAYER, "surrogate": surrogate, "reproducible": reproducible}
    hidden = hidden_layer(frames, parameters["conv1"], parameters["bias1"], mode, options)
    later = MODES["exact"] if mode.kind == "collapse" else mode
    last = hidden_layer(hidden.spikes, parameters["conv2"], parameters["bias2"], later, options)
    steps, batch = last.spikes.shape[:2]
    # Without reset, the membrane that integrates the mean frame once is the linear read-out of the firing rates.
    readout = tac_linear(
        xp.reshape(last.spikes, (steps, batch, -1)),
        parameters["readout"],
        parameters["bias3"],
        chunk_size=steps,
        aggregation="mean",
        reset="none",
    )
    return Output(readout.membrane, hidden.spikes, last.spikes)


def hidden_layer(frames: Array, weight: Array, bias: Array, mode: Mode, options: Mapping[str, Any]) -> SpikeTrain:
    """Run one convolution with LIF neurons, simulated as the mode says."""
    if mode.kind == "exact":
        return conv_lif(frames, weight, bias, **options)
    return tac_conv(frames, weight, bias, mode=mode.kind, chunk_size=mode.chunk_size, **options)


def initial_parameters(seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw untrained weights, uniform within sqrt(6 / fan_in), and zero biases; the same on every platform."""
    raw = np.random.PCG64(seed)
    parameters = {}
    for name, shape in SHAPES.items():
        count = int(np.prod(shape))
        limit = np.sqrt(6 / np.prod(shape[1:])) if len(shape) > 1 else 0.0
        uniform = (raw.random_raw(count) >> np.uint64(11)) * 2.0**-53
        parameters[name] = (limit * (2 * uniform - 1)).astype(np.float32).reshape(shape)
    return parameters


class Trained(NamedTuple):
    """The shipped weights by mode name, and how they were made (see `bench.demo.train`)."""

    parameters: dict[str, dict[str, NDArray[np.float32]]]
    metadata: dict[str, Any]


def save_trained(trained: Trained, path: Path = WEIGHTS_FILE) -> None:
    """Write weights and metadata to one npz file, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {
        f"{mode}.{name}": array for mode, arrays in trained.parameters.items() for name, array in arrays.items()
    }
    arrays["metadata"] = np.array(json.dumps(trained.metadata))
    write_whole(path, npz_bytes(arrays))


def load_trained(path: Path = WEIGHTS_FILE) -> Trained:
    """Read the shipped weights."""
    found = read_npz(path, REMEDY)
    expected = {f"{mode}.{name}": shape for mode in MODES for name, shape in SHAPES.items()}
    shapes = {name: array.shape for name, array in found.items() if name != "metadata"}
    if shapes != expected or "metadata" not in found:
        raise DatasetError(f"the shipped file {path} has other arrays than expected; {REMEDY} makes it again")
    parameters = {mode: {name: found[f"{mode}.{name}"] for name in SHAPES} for mode in MODES}
    try:
        return Trained(parameters, parse_json(str(found["metadata"]).encode()))
    except ValueError as error:
        raise DatasetError(
            f"the shipped file {path} has damaged metadata ({reason(error)}); {REMEDY} makes it again"
        ) from error
