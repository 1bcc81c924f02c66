"""Plain JAX, and spyx, which is made of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from itertools import product
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.timing.cases import BETA, THRESHOLD, Case, Mode
from bench.timing.subject import Subject, UnsupportedError, Variant, require

Drive: TypeAlias = Callable[[Any, Any], Any]


def compiled(
    name: str, function: Callable[..., Any], *arguments: Any, spikes: Callable[..., Any] = np.asarray
) -> Variant:
    """Make a variant of a function of arrays: compiled, and waited for."""
    run = jax.jit(function)
    return Variant(name, lambda: jax.block_until_ready(run(*arguments)), spikes)


class JAXSubject(Subject):
    """What runs on JAX's default device, of which the process has one."""

    def __init__(self, device: str = "") -> None:
        if device:
            platform, _, number = device.partition(":")
            found = [d for d in jax.local_devices(backend=platform) if d.id == int(number)]
            jax.config.update("jax_default_device", found[0])

    def where(self) -> str:
        """Of a new array."""
        (device,) = jnp.zeros(1).devices()
        name = f"{device.platform}:{device.id}"
        return name if device.platform == "cpu" else f"{device.device_kind} ({name})"


class PlainJAX(JAXSubject):
    """`lax.scan` over convolution and neurons."""

    def version(self) -> str:
        """JAX's, and its device."""
        return f"JAX {jax.__version__}, {self.where()}"

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """XLA's convolution, or products of unfolded frames."""
        if mode.reproducible:
            raise UnsupportedError("plain code has no such mode")
        x, w = (jnp.asarray(array) for array in case.arrays())
        drives: dict[str, Drive] = {"dot": lambda frame, w: frame @ w.T}
        if case.space:
            drives = {"XLA convolution": lambda frame, w: convolve(frame, w, case)}
            if case.groups == 1:
                drives["im2col"] = lambda frame, w: unfold(frame, case) @ w.reshape(case.c_out, -1).T
        layers = {name: _layer(drive, case, mode) for name, drive in drives.items()}
        return [compiled(name, run, x, w, spikes=lambda out: np.asarray(out[0])) for name, run in layers.items()]


def _layer(drive: Drive, case: Case, mode: Mode) -> Callable[[Any, Any], Any]:
    def run(x: Any, w: Any) -> Any:
        if mode.chunk > 1:
            chunks = x.reshape(case.T // mode.chunk, mode.chunk, *x.shape[1:])
            x = jnp.einsum("k,tk...->t...", jnp.asarray(mode.weights, x.dtype), chunks)

        def step(u: Any, frame: Any) -> tuple[Any, Any]:
            current, fired = drive(frame, w), []
            for _ in range(mode.hold):
                v = mode.decay * u + current
                spikes = (v >= THRESHOLD).astype(v.dtype)
                u = v - spikes * THRESHOLD
                fired.append(spikes)
            return u, jnp.stack(fired)

        u = jnp.zeros((case.B, *case.space, case.c_out), x.dtype)
        u, spikes = lax.scan(step, u, x)
        # the membrane, too: a layer that can go on needs it, and XLA would leave out what nobody asks for
        return spikes.reshape(-1, *spikes.shape[2:]), u

    return run


def unfold(frame: Any, case: Case) -> Any:
    """Shifted copies side by side: (B, *S, depth)."""
    p = case.padding
    padded = jnp.pad(frame, [(0, 0), *[(p, p)] * len(case.space), (0, 0)])
    places = product(range(case.kernel), repeat=len(case.space))
    shifts = [
        padded[(slice(None), *(slice(k, k + n) for k, n in zip(place, case.space, strict=True)))] for place in places
    ]
    return jnp.concatenate(shifts, axis=-1)


def convolve(frame: Any, w: Any, case: Case) -> Any:
    """XLA's."""
    letters = "DHW"[-len(case.space) :]
    kernel = jnp.moveaxis(w, 0, -1)
    return lax.conv_general_dilated(
        frame,
        kernel,
        (1,) * len(case.space),
        [(case.padding, case.padding)] * len(case.space),
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        feature_group_count=case.groups,
    )


class Spyx(JAXSubject):
    """`spyx.nn.LIF` after flax's layers."""

    def __init__(self, device: str = "") -> None:
        super().__init__(device)
        self.nn = importlib.import_module("spyx.nn")
        self.nnx = importlib.import_module("flax.nnx")

    def version(self) -> str:
        """Its own, flax's and JAX's."""
        return (
            f"spyx {metadata.version('spyx')}, flax {metadata.version('flax')}, JAX {jax.__version__}, {self.where()}"
        )

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """Layer and neurons in one scan, or all frames' layer first."""
        require("spyx", case, mode)
        x, w = (jnp.asarray(array) for array in case.arrays())
        definition, state = self.nnx.split(self._model(w, case))

        def together(state: Any, x: Any) -> Any:
            dense, neurons = self.nnx.merge(definition, state).layers
            return lax.scan(lambda v, frame: neurons(dense(frame), v)[::-1], neurons.initial_state(case.B), x)[1]

        def folded(state: Any, x: Any) -> Any:
            dense, neurons = self.nnx.merge(definition, state).layers
            currents = dense(x.reshape(-1, *x.shape[2:]))
            currents = currents.reshape(*x.shape[:2], *currents.shape[1:])
            return lax.scan(lambda v, current: neurons(current, v)[::-1], neurons.initial_state(case.B), currents)[1]

        return [compiled("step by step", together, state, x), compiled("layer over T * B", folded, state, x)]

    def _model(self, w: Any, case: Case) -> Any:
        rngs = self.nnx.Rngs(0)
        if case.space:
            kernel = (case.kernel,) * len(case.space)
            dense = self.nnx.Conv(
                case.c_in, case.c_out, kernel, feature_group_count=case.groups, use_bias=False, rngs=rngs
            )
        else:
            dense = self.nnx.Linear(case.c_in, case.c_out, use_bias=False, rngs=rngs)
        dense.kernel = self.nnx.Param(jnp.moveaxis(w, 0, -1))
        neurons = self.nn.LIF((*case.space, case.c_out), beta=BETA, threshold=THRESHOLD, rngs=rngs)
        return self.nn.Sequential(dense, neurons)
