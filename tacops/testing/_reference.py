"""The definition in float64: the one oracle of these checks and of the project's tests; it shares no code with the operators.

Everything is written to be read rather than to be fast: the convolution loops over the kernel's taps, the neurons over time,
and aggregation is applied to the *currents* of single frames, where the operators aggregate spikes before they convolve, so an
error in either order of work can't hide in both. Complex inputs are welcome: an imaginary part of 1e-30 is a derivative that is
carried along (complex-step differentiation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

from .._backend.protocol import Array, Window
from ._case import bell, stream_of
from ._host import np

__all__ = ["Chunk", "Run", "chunks", "convolve", "currents_of", "draw", "fire", "simulate", "weights_of"]


def draw(seed: str, shape: Sequence[int], scale: float, mean: float = 0.0) -> Array:
    """Bell-shaped float32 numbers, the same on every machine."""
    stream = stream_of(seed)
    values = np.array([bell(stream) for _ in range(int(np.prod(shape)))], np.float64) * (scale / 2.0**22.2) + mean
    return values.astype(np.float32).reshape(shape)


def convolve(x: Array, weight: Array, window: Window) -> Array:
    """(N, *S, C_in) with (C_out, *kernel, C_in // groups) to (N, *S_out, C_out), tap by tap."""
    space = window.output_shape(x.shape[1:-1], weight.shape[1:-1])
    x = np.pad(x, ((0, 0), *window.padding, (0, 0)))
    inner, outer = weight.shape[-1], weight.shape[0] // window.groups
    out = np.zeros((x.shape[0], *space, weight.shape[0]), np.result_type(x, weight, np.float64))
    for tap in product(*map(range, weight.shape[1:-1])):
        axes = zip(tap, window.dilation, window.stride, space, strict=True)
        seen = x[(slice(None), *(slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in axes))]
        for g in range(window.groups):
            mine = slice(g * outer, (g + 1) * outer)
            out[..., mine] += seen[..., g * inner : (g + 1) * inner] @ weight[(mine, *tap)].T
    return out


def currents_of(spikes: Array, weight: Array, window: Window) -> Array:
    """The currents of every frame by itself: spikes (T, B, *S, C_in) to (T, B, *S_out, C_out), without a bias."""
    if not window.stride:  # a matrix product takes any axes before the features
        return np.asarray(spikes, np.result_type(spikes, np.float64)) @ weight.T
    flat = spikes.reshape(-1, *spikes.shape[2:])
    out = convolve(flat, weight, window)
    return out.reshape(*spikes.shape[:2], *out.shape[1:])


def weights_of(aggregation: Any, size: int, beta: Any) -> list[Any]:
    """a_0 .. a_{size-1} of a chunk of `size` frames."""
    if not isinstance(aggregation, str):
        return list(aggregation[len(aggregation) - size :])
    if aggregation in ("sum", "mean"):
        return [1.0 if aggregation == "sum" else 1.0 / size] * size
    powers = [np.prod([beta] * (size - 1 - k), axis=0) for k in range(size)]
    return powers if aggregation == "decay" else [power / sum(powers) for power in powers]


class Chunk(NamedTuple):
    """One chunk's current, the decay of a step, and how many steps it lasts."""

    current: Array
    decay: Any
    steps: int


def chunks(currents: Array, bias: Any, size: int, *, mode: str, aggregation: Any, beta: Any) -> list[Chunk]:
    """Aggregate the currents (T, ...) of single frames."""
    found = []
    for start in range(0, currents.shape[0], size):
        frames = currents[start : start + size]
        weights = weights_of(aggregation, len(frames), beta)
        current = sum(a * (frame + bias) for a, frame in zip(weights, frames, strict=True))
        collapse = mode == "collapse"
        decay = np.prod([beta] * len(frames), axis=0) if collapse else beta
        found.append(Chunk(current, decay, 1 if collapse else len(frames)))
    return found


def fire(v: Array, threshold: Any, derivative: Callable[[Array], Array] | None) -> Array:
    """Spikes; with a derivative their imaginary part carries it."""
    excess = v - threshold
    spikes = (excess.real >= 0).astype(np.float64)
    return spikes if derivative is None else spikes + 1j * derivative(excess.real) * excess.imag


class Run(NamedTuple):
    """Spikes (frames, ...), the last membrane, every membrane just before it could fire, and every membrane after that."""

    spikes: Array
    membrane: Array
    potentials: Array
    trace: Array


def simulate(
    parts: Sequence[Chunk],
    membrane: Any,
    *,
    threshold: Any,
    reset: str,
    derivative: Callable[[Array], Array] | None = None,
) -> Run:
    """Decay, integrate, fire, reset; a tie fires."""
    u, spikes, potentials, trace = membrane, [], [], []
    for current, decay, steps in parts:
        for _ in range(steps):
            v = decay * u + current
            if reset == "late":
                v = v - fire(u, threshold, derivative) * threshold
            s = fire(v, threshold, derivative)
            u = {"subtract": v - s * threshold, "zero": v * (1.0 - s), "none": v, "late": v}[reset]
            spikes.append(s)
            potentials.append(v)
            trace.append(u)
    return Run(np.stack(spikes), u, np.stack(potentials), np.stack(trace))
