"""The network of ``python -m bench accuracy``: that of `bench.shared.model` for frames of any size, with learned aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bench.accuracy.modes import EXACT, Variant
from bench.shared.model import CHANNELS, LAYER, hidden_layer
from tacops import tac_linear


def shapes(frame: tuple[int, int, int], classes: int, kernel: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights for frames of (height, width, channels)."""
    first, last = CHANNELS[1:]
    height, width = ((size + 3) // 4 for size in frame[:2])  # two strides of 2
    return {
        "conv1": (first, kernel, kernel, frame[2]),
        "bias1": (first,),
        "conv2": (last, kernel, kernel, first),
        "bias2": (last,),
        "readout": (classes, height * width * last),
        "bias3": (classes,),
    }


def initial(sizes: Mapping[str, tuple[int, ...]], variant: Variant, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw untrained weights, uniform within sqrt(6 / fan_in), and zero biases; equal for all modes."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in sizes.items():
        limit = np.sqrt(6 / np.prod(shape[1:])) if len(shape) > 1 else 0.0
        weights[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    if variant.learned:
        weights["aggregation"] = np.log(_decay(variant)).astype(np.float32)
    return weights


def first_layer(weights: Mapping[str, Any], frames: Any, variant: Variant, surrogate: Any = None) -> Any:
    """Spikes and membranes of the first hidden layer."""
    options = _options(weights, surrogate)
    if variant.learned:
        options["aggregation"] = aggregation(weights, variant)
    if variant.plain:
        options["aggregation"] = "sum"
    return hidden_layer(frames, weights["conv1"], weights["bias1"], variant.mode, options)


def logits(weights: Mapping[str, Any], frames: Any, variant: Variant, surrogate: Any = None) -> Any:
    """Class scores (B, classes) of spikes (T, B, H, W, C)."""
    mode = variant.mode
    hidden = first_layer(weights, frames, variant, surrogate)
    later = EXACT if mode.kind == "collapse" and not variant.deep else mode
    last = hidden_layer(hidden.spikes, weights["conv2"], weights["bias2"], later, _options(weights, surrogate))
    steps, batch = last.spikes.shape[:2]
    # Without reset, the membrane that integrates the mean frame once is the linear read-out of the firing rates.
    readout = tac_linear(
        jnp.reshape(last.spikes, (steps, batch, -1)),
        weights["readout"],
        weights["bias3"],
        chunk_size=steps,
        aggregation="mean",
        reset="none",
    )
    return readout.membrane


def _options(weights: Mapping[str, Any], surrogate: Any) -> dict[str, Any]:
    return {**LAYER, "padding": weights["conv1"].shape[1] // 2, "surrogate": surrogate}


def aggregation(weights: Mapping[str, Any], variant: Variant) -> Any:
    """Learned weights of the frames of a chunk: a softmax, times what the decay weights sum to."""
    return jax.nn.softmax(weights["aggregation"]) * float(_decay(variant).sum())


def _decay(variant: Variant) -> NDArray[np.float64]:
    """beta^(K-1-k), where learning starts."""
    K = variant.mode.chunk_size
    decay: NDArray[np.float64] = LAYER["beta"] ** np.arange(K - 1.0, -1.0, -1.0)
    return decay
