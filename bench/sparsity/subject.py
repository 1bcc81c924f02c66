"""A worker's side of ``python -m bench sparsity``: contenders on one array library, each held to NumPy's dense result."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from importlib import metadata
from typing import Any

import numpy as np

from bench.sparsity.cases import Contender, Workload
from bench.sparsity.strategies.arrays import same
from bench.timing.cases import BETA, Case, Floats, Mode
from bench.timing.subject import Subject, UnsupportedError, Variant
from tacops._core.aggregation import chunk_weights, merge_chunks
from tacops.backends import Backend, get_backend
from tacops.testing import where

TOLERANCE = 1e-4
"""Of TAC's currents, whose aggregation weights are no short binary fractions; everything else must be equal bit for bit."""
BACKENDS = ("numpy", "jax", "mlx", "torch")
"""For which strategies are written."""
LIBRARIES = {"jax": "JAX", "torch": "Torch", "mlx": "MLX"}


class SparseSubject(Subject):
    """Everything that computes the currents of all frames with one library, from spikes in its memory."""

    def __init__(self, backend: str, device: str = "") -> None:
        self.backend = get_backend(backend).on(device or None)
        self.strategies = lru_cache(maxsize=None)(self._strategy)
        self.dense = lru_cache(maxsize=None)(partial(dense_ways, self.backend))
        self.loaded = lru_cache(maxsize=1)(self._load)

    def version(self) -> str:
        """Of the libraries."""
        return f"{self.backend.name} {self.backend.describe()['version']}, {self.where()}{self._beside()}"

    def where(self) -> str:
        """As the backend calls it."""
        return where(self.backend)["device"]

    def _beside(self) -> str:
        if self.backend.name != "numpy":
            return ""
        return "".join(f", {name} {metadata.version(name)}" for name in ("numba", "scipy") if installed(name))

    def variants(self, case: Case | Workload, mode: Mode | Contender) -> list[Variant]:
        """Ways to compute; the right answer is checked when the first result is looked at."""
        assert isinstance(case, Workload)
        assert isinstance(mode, Contender)
        x, floats, frames, weight = self.loaded(case)
        ways: dict[str, Callable[[], Any]] = {}
        if mode.kind == "layer":
            from bench.sparsity.layer import check_layer, layer_call

            currents = partial(expected, case)
            layer = layer_call(mode, x, weight, currents)
            return [Variant(mode.name, layer, lambda out: check_layer(out, case, mode, currents))]
        if mode.kind == "sparse":
            for name, run in self.strategies(mode.name, case.case).items():
                ways[name] = partial(run, frames)
        else:
            for name, conv in self.dense(mode).items():
                ways[f"{name}, bool"] = partial(conv, x, weight)
                if not self.backend.compiles_fast:  # a compiler casts on the way
                    ways[f"{name}, float32"] = partial(conv, floats, weight)

        def checked(out: Any) -> Any:
            return check(self.backend.to_numpy(out), case, mode)

        return [Variant(name, self._waiting(run), checked) for name, run in ways.items()]

    def _waiting(self, run: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            out = run()
            self.backend.synchronize(out)
            return out

        return call

    def _load(self, workload: Workload) -> tuple[Any, ...]:
        """Spikes (T, B, H, W, C_in) as bool and as floats, the same frames in one axis, and weights."""
        spikes, weight = workload.spikes(), self.backend.from_numpy(workload.weight())
        x = self.backend.from_numpy(spikes)
        frames = self.backend.namespace(x).reshape(x, (-1, *spikes.shape[2:]))
        floats = self.backend.from_numpy(spikes.astype(np.float32))
        self.backend.synchronize(x, floats, frames, weight)
        return x, floats, frames, weight

    def _strategy(self, name: str, case: Case) -> Mapping[str, Callable[[Any], Any]]:
        """Ways of one strategy on a layer; what depends on the weights alone is made here, once."""
        weight = Workload(case, "iid", 0.0).weight()
        if self.backend.name == "numpy":
            return numpy_ways(name, weight)
        arrays = importlib.import_module("bench.sparsity.strategies.arrays")
        module = importlib.import_module(f"bench.sparsity.strategies.{self.backend.name}_")
        library = getattr(module, LIBRARIES[self.backend.name])(self.backend)
        if name == "matrix":
            products: Mapping[str, Callable[[Any], Any]] = library.matrices(weight)
            return products
        return {"compiled" if self.backend.compiles_fast else "eager": getattr(arrays, name)(library, weight)}


class BrainEvent(SparseSubject):
    """brainevent's operators, on JAX arrays."""

    def __init__(self) -> None:
        super().__init__("jax")

    def version(self) -> str:
        """Its own and JAX's."""
        return f"brainevent {metadata.version('brainevent')}, jax {metadata.version('jax')}"

    def _strategy(self, name: str, case: Case) -> Mapping[str, Callable[[Any], Any]]:
        """The one there is."""
        module = importlib.import_module("bench.sparsity.strategies.brainevent_")
        found: Mapping[str, Callable[[Any], Any]] = module.convolutions(Workload(case, "iid", 0.0).weight(), case.space)
        return found


def numpy_ways(name: str, weight: Floats) -> Mapping[str, Callable[[Any], Any]]:
    """NumPy's strategies, if what they need is installed."""
    absent = [library for library in ("numba", "scipy") if not installed(library)]
    if absent:
        raise UnsupportedError(f"{' and '.join(absent)} not installed; try: pip install 'tacops[sparsity]'")
    module = importlib.import_module("bench.sparsity.strategies.numpy_")
    strategies = module.NumPyStrategies(weight)
    return {"compiled": getattr(strategies, name)()}


def dense_ways(backend: Backend, contender: Contender) -> Mapping[str, Callable[[Any, Any], Any]]:
    """The backend's own convolution of all frames, or of aggregated ones: functions of spikes and weights.

    Where users compile, also frame after frame; elsewhere all at once.
    """
    aggregation = chunk_weights(contender.aggregation, contender.chunk, BETA)

    def conv(frames: Any, weight: Any) -> Any:
        cast = frames if backend.name == "numpy" else backend.namespace(frames).astype(frames, weight.dtype)
        return backend.conv(cast, weight, None, same(weight.shape[1]), exact=False)

    def folded(x: Any, weight: Any) -> Any:
        chunks = merge_chunks(backend, x, aggregation, weight.dtype)
        return conv(backend.namespace(x).reshape(chunks, (-1, *chunks.shape[2:])), weight)

    def scanned(x: Any, weight: Any) -> Any:
        lax = importlib.import_module("jax.lax")
        out = lax.map(lambda frame: conv(frame, weight), merge_chunks(backend, x, aggregation, weight.dtype))
        return out.reshape(-1, *out.shape[2:])

    if backend.name == "jax":
        return {"all frames": backend.compile(folded), "frame by frame": backend.compile(scanned)}
    return {"all frames": folded}


@lru_cache(maxsize=1)
def expected(workload: Workload) -> Floats:
    """The dense result of NumPy: currents (T, B, H, W, C_out)."""
    x, weight = workload.spikes(), workload.weight()
    frames = x.reshape(-1, *x.shape[2:])
    out = get_backend("numpy").conv(frames, weight, None, same(weight.shape[1]), exact=False)
    return np.asarray(out).reshape(*x.shape[:-1], len(weight))


def check(out: Any, workload: Workload, contender: Contender) -> Any:
    """Raise unless the currents are right: bit for bit; for TAC, whose chunks are sums of currents, the last one nearly."""
    currents = expected(workload)
    if contender.kind == "tac":
        weights = np.array(chunk_weights(contender.aggregation, contender.chunk, BETA), np.float32)
        last = np.tensordot(weights, currents[-contender.chunk :, -1], 1)
        whole = out.size * contender.chunk == currents.size
        right = whole and np.allclose(out.reshape(-1, *currents.shape[1:])[-1, -1], last, atol=TOLERANCE)
    else:
        right = out.size == currents.size and np.array_equal(out.reshape(currents.shape), currents)
    if not right:
        raise RuntimeError(f"{contender.label} on {workload.name}: not the dense result")
    return np.ones(1, bool)


def installed(module: str) -> bool:
    """Whether a library can be imported; it isn't."""
    return importlib.util.find_spec(module) is not None
