"""Plain JAX, and spyx, which is made of it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import cache, partial
from importlib import metadata
from itertools import product
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.timing.cases import BETA, SLOPE, THRESHOLD, Case, Mode
from bench.timing.subject import Subject, UnsupportedError, Variant, require
from bench.timing.training import jax_step

Drive: TypeAlias = Callable[[Any, Any], Any]


def compiled(
    name: str, function: Callable[..., Any], *arguments: Any, spikes: Callable[..., Any] = np.asarray
) -> Variant:
    """Make a variant of a function of arrays: compiled, and waited for."""
    run = jax.jit(function)
    return Variant(name, lambda: jax.block_until_ready(run(*arguments)), spikes)


def trained(name: str, step: Callable[..., Any], x: Any, w: Any, g: Any) -> Variant:
    """Make a variant of a training step that is compiled."""
    return Variant(
        name, partial(_waited, step, x, w, g), lambda out: np.asarray(out[0]), lambda out: np.asarray(out[1])
    )


@jax.custom_jvp  # type: ignore[untyped-decorator]
def fire(excess: Any) -> Any:
    """A step, whose derivative is arctan's surrogate."""
    return (excess >= 0).astype(excess.dtype)


@fire.defjvp  # type: ignore[untyped-decorator]
def _fire_jvp(primals: Any, tangents: Any) -> Any:
    (excess,), (tangent,) = primals, tangents
    return fire(excess), SLOPE / 2 / (1 + (math.pi / 2 * SLOPE * excess) ** 2) * tangent


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
        if mode.by:
            g = jnp.asarray(case.upstream(mode))
            return [trained(name, step, x, w, g) for name, step in _ways(case.shape, mode).items()]
        return [
            Variant(name, partial(_waited, run, x, w), lambda out: np.asarray(out[0]))
            for name, run in _ways(case.shape, mode).items()
        ]


def _waited(run: Callable[..., Any], *arguments: Any) -> Any:
    return jax.block_until_ready(run(*arguments))


@cache
def _ways(case: Case, mode: Mode) -> dict[str, Callable[..., Any]]:
    """Compiled functions, the same for every input of a layer."""
    drives: dict[str, Drive] = {"dot": lambda frame, w: frame @ w.T}
    if case.space:
        drives = {"XLA convolution": lambda frame, w: convolve(frame, w, case)}
        if case.groups == 1:
            drives["im2col"] = lambda frame, w: unfold(frame, case) @ w.reshape(case.c_out, -1).T
    ways = {name: _layer(drive, case, mode) for name, drive in drives.items()}
    if not mode.by:
        return {name: jax.jit(run) for name, run in ways.items()}
    ways["layer over T * B"] = _layer(next(iter(drives.values())), case, mode, folded=True)
    return {name: jax_step(partial(_spikes, run), mode.by == "both") for name, run in ways.items()}


def _spikes(run: Callable[..., Any], x: Any, w: Any) -> Any:
    return run(x, w)[0]


def _layer(drive: Drive, case: Case, mode: Mode, *, folded: bool = False) -> Callable[[Any, Any], Any]:
    """Convolve frame by frame inside of the scan, or all frames before it."""

    def run(x: Any, w: Any) -> Any:
        if mode.chunk > 1:
            chunks = x.reshape(case.T // mode.chunk, mode.chunk, *x.shape[1:])
            x = jnp.einsum("k,tk...->t...", jnp.asarray(mode.weights, x.dtype), chunks)

        if folded:
            x = drive(x.reshape(-1, *x.shape[2:]), w).reshape(*x.shape[:-1], case.c_out)

        def step(u: Any, frame: Any) -> tuple[Any, Any]:
            current, fired = frame if folded else drive(frame, w), []
            for _ in range(mode.hold):
                v = mode.decay * u + current
                spikes = fire(v - THRESHOLD) if mode.by else (v >= THRESHOLD).astype(v.dtype)
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
        if mode.by:
            return [self._step(definition, state, x, w, case, mode)]

        def together(state: Any, x: Any) -> Any:
            dense, neurons = self.nnx.merge(definition, state).layers
            return lax.scan(lambda v, frame: neurons(dense(frame), v)[::-1], neurons.initial_state(case.B), x)[1]

        def folded(state: Any, x: Any) -> Any:
            dense, neurons = self.nnx.merge(definition, state).layers
            currents = dense(x.reshape(-1, *x.shape[2:]))
            currents = currents.reshape(*x.shape[:2], *currents.shape[1:])
            return lax.scan(lambda v, current: neurons(current, v)[::-1], neurons.initial_state(case.B), currents)[1]

        return [compiled("step by step", together, state, x), compiled("layer over T * B", folded, state, x)]

    def _step(self, definition: Any, state: Any, x: Any, w: Any, case: Case, mode: Mode) -> Variant:
        """The layer over T * B, then its neurons in a scan."""

        def layer(x: Any, w: Any) -> Any:
            dense, neurons = self.nnx.merge(definition, state).layers
            dense.kernel = self.nnx.Param(jnp.moveaxis(w, 0, -1))
            currents = dense(x.reshape(-1, *x.shape[2:])).reshape(*x.shape[:-1], case.c_out)
            return lax.scan(lambda v, current: neurons(current, v)[::-1], neurons.initial_state(case.B), currents)[1]

        step = jax_step(layer, mode.by == "both")
        return trained("layer over T * B", step, x, w, jnp.asarray(case.upstream(mode)))

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
