"""Plain MLX, and mlx-snn, which is made of it and called through its public interface alone."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from importlib import metadata
from typing import Any

import mlx.core as mx
import numpy as np

from bench.timing.cases import BETA, SLOPE, THRESHOLD, Case, Mode
from bench.timing.subject import Subject, UnsupportedError, Variant
from bench.timing.training import mlx_step


def evaluated(
    name: str, function: Callable[..., Any], *arguments: Any, spikes: Callable[..., Any] = np.array
) -> Variant:
    """Make a variant of a function of arrays whose result is waited for."""

    def call() -> Any:
        out = function(*arguments)
        mx.eval(out)
        return out

    return Variant(name, call, spikes)


def trained(layer: Callable[[Any, Any], Any], case: Case, mode: Mode) -> Variant:
    """Make a variant of a training step, from a layer of input and weight that returns spikes."""
    x, w = (mx.array(array) for array in case.arrays())
    step, g = mlx_step(layer, mode.by == "both"), mx.array(case.upstream(mode))

    def call() -> Any:
        out = step(x, w, g)
        mx.eval(out)
        return out

    return Variant("compiled", call, lambda out: np.array(out[0]), lambda out: np.array(out[1]))


@mx.custom_function
def fire(excess: Any) -> Any:
    """A step, whose derivative is arctan's surrogate."""
    return (excess >= 0).astype(excess.dtype)


@fire.vjp
def _fire_vjp(primals: Any, cotangents: Any, output: Any) -> Any:
    del output
    return cotangents * (SLOPE / 2) / (1 + mx.square(math.pi / 2 * SLOPE * primals))


class MLXSubject(Subject):
    """What runs on MLX's default device."""

    def __init__(self, device: str = "") -> None:
        if device:
            mx.set_default_device(mx.Device(getattr(mx, device)))

    def release(self) -> None:
        """Its cache."""
        mx.clear_cache()

    def where(self) -> str:
        """The default device: arrays have none."""
        kind = mx.default_device().type
        return "cpu" if kind == mx.DeviceType.cpu else f"{mx.device_info()['device_name']} ({kind.name})"


class PlainMLX(MLXSubject):
    """One convolution and a loop, compiled."""

    def version(self) -> str:
        """MLX's, and its device."""
        return f"MLX {metadata.version('mlx')}, {mx.default_device()}"

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """One way."""
        if mode.reproducible:
            raise UnsupportedError("plain code has no such mode")
        if mode.by:
            run = _layer(case, mode)
            return [trained(lambda x, w: run(x, w)[0], case, mode)]
        x, w = (mx.array(array) for array in case.arrays())
        return [evaluated("compiled", mx.compile(_layer(case, mode)), x, w, spikes=lambda out: np.array(out[0]))]


def _layer(case: Case, mode: Mode) -> Callable[[Any, Any], Any]:
    def run(x: Any, w: Any) -> Any:
        if mode.chunk > 1:
            row = mx.array(mode.weights)
            chunks = x.reshape(case.T // mode.chunk, mode.chunk, -1)
            x = (row @ chunks).reshape(-1, *x.shape[1:])
        if case.space:
            folded = x.reshape(-1, *x.shape[2:])
            currents = mx.conv_general(folded, w, padding=case.padding, groups=case.groups)
            currents = currents.reshape(*x.shape[:2], *currents.shape[1:])
        else:
            currents = x @ w.T
        u, out = mx.zeros(currents.shape[1:]), []
        for t in range(currents.shape[0] * mode.hold):
            v = mode.decay * u + currents[t // mode.hold]
            spikes: Any = fire(v - THRESHOLD) if mode.by else (v >= THRESHOLD).astype(mx.float32)
            u = v - spikes * THRESHOLD
            out.append(spikes)
        return mx.stack(out), u  # the membrane, too: a layer that can go on needs it

    return run


class MlxSnn(MLXSubject):
    """`TemporalAggregatedConv` and `TACTemporalPreserve`."""

    def __init__(self, device: str = "") -> None:
        super().__init__(device)
        self.library = importlib.import_module("mlxsnn")
        self.operators = importlib.import_module("mlxsnn.operators")

    def version(self) -> str:
        """Its own and MLX's."""
        return f"mlx-snn {metadata.version('mlx-snn')}, MLX {metadata.version('mlx')}, {mx.default_device()}"

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """Compiled, which is never slower than called as it is."""
        if len(case.space) != 2 or case.groups > 1 or mode.reproducible:
            raise UnsupportedError("mlx-snn has 2-D convolutions without groups only")
        kind = self.operators.TACTemporalPreserve if mode.preserve else self.library.TemporalAggregatedConv
        layer = kind(
            case.c_in, case.c_out, case.kernel, beta=BETA, chunk_size=mode.chunk, padding=case.padding, bias=False
        )
        if mode.by:

            def layered(frames: Any, weight: Any) -> Any:
                layer.update({"conv": {"weight": weight}})
                return layer(frames, layer.init_state(case.B, case.space))[0]

            return [trained(layered, case, mode)]
        x, w = case.arrays()
        scale = mode.weights[-1] if mode.preserve else 1.0
        layer.load_weights([("conv.weight", mx.array(w * np.float32(scale)))], strict=False)
        frames = mx.array(x)

        def run(frames: Any) -> Any:
            return layer(frames, layer.init_state(case.B, case.space))[0]

        return [evaluated("compiled", mx.compile(run), frames)]
