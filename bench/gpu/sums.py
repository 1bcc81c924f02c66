"""Sums of reproducible mode's integers by every route of a library, held against exact ones.

Weights are integers of 11 bits and a sign and sums stay below 2^24, so float16, TF32 and float32 hold every operand and every sum.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.timing.cases import SEED

__all__ = ["ROUTES", "Products", "exactness", "products"]

Route = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[Any]]
"""From two matrices to their product; or from frames (N, C, H, W) and kernels (F, C, 3, 3) to a convolution with a border of zeros."""
ROUTES = {"torch": "bench.gpu.exact.torch_", "jax": "bench.gpu.exact.jax_", "cupy": "bench.gpu.exact.cupy_"}
"""Modules by backend; each has ``routes(device)``, which returns products and convolutions by name."""
LARGEST = 2047
"""Of 11 bits."""
Products = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def products(rows: int) -> Products:
    """Spikes and weights whose products are asked for, `rows` of them."""
    rng = np.random.default_rng(SEED)

    def data(depth: int, width: int, low: int, high: int, share: float) -> tuple[Any, Any]:
        spikes = rng.random((rows, depth)) < share
        return spikes.astype(np.float32), rng.integers(low, high + 1, (depth, width)).astype(np.float32)

    return {
        "S4's weights, a fifth of spikes": data(576, 128, -LARGEST, LARGEST, 0.2),
        "all inputs fire": data(576, 128, 0, LARGEST, 1.0),
        "sums just below 2^24": data(8192, 64, LARGEST - 17, LARGEST, 1.0),
        "16384 terms": data(16384, 64, 0, 1023, 1.0),
    }


def frames(samples: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Frames and kernels of a convolution for which cuDNN has Winograd algorithms, which are not exact."""
    rng = np.random.default_rng(SEED)
    x = (rng.random((samples, 64, 28, 28)) < 0.2).astype(np.float32)
    return x, rng.integers(-LARGEST, LARGEST + 1, (64, 64, 3, 3)).astype(np.float32)


def convolved(x: NDArray[np.float32], w: NDArray[np.float32]) -> NDArray[np.float64]:
    """The exact convolution, tap by tap."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    H, W = x.shape[2:]
    out = np.zeros((len(x), len(w), H, W))
    for i in range(3):
        for j in range(3):
            tap = padded[:, :, i : i + H, j : j + W]
            out += np.einsum("nchw,fc->nfhw", tap, w[:, :, i, j].astype(np.float64), optimize=True)
    return out


def exactness(backend: str, device: str, rehearsal: bool) -> dict[str, Any]:
    """Count, by route, the sums that are not the exact ones.

    Parameters
    ----------
    backend : str
        One of `ROUTES`.
    device : str
        As the backend calls it.
    rehearsal : bool
        Few rows and samples.
    """
    by_product, by_convolution = importlib.import_module(ROUTES[backend]).routes(device)
    found: dict[str, Any] = {}
    for name, (x, w) in products(16 if rehearsal else 2048).items():
        exact = x.astype(np.float64) @ w.astype(np.float64)
        found[f"product, {name}"] = _held(exact, by_product, x, w)
    x, w = frames(1 if rehearsal else 16)
    found["convolution, 64 to 64 channels"] = _held(convolved(x, w), by_convolution, x, w)
    return {"sums": found}


def _held(exact: NDArray[np.float64], routes: Mapping[str, Route], x: Any, w: Any) -> dict[str, Any]:
    """Differing sums, or why there are none."""
    differing, refused = {}, {}
    for name, route in routes.items():
        try:
            differing[name] = int(np.count_nonzero(np.asarray(route(x, w), np.float64) != exact))
        except Exception as error:  # noqa: BLE001 (what one route raises is a finding, and others go on)
            refused[name] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return {
        "of": int(exact.size),
        "largest": float(np.abs(exact).max()),
        "differing": differing,
        "refused": refused,
    }
