"""The judge: a plain float64 simulation, one time step after the other, which shares no code with tacops.

Everything is written to be read rather than to be fast: the convolution loops over the kernel's taps, the neurons over
time, and aggregation is applied to the *currents* (tacops applies it to the spikes, before the convolution), so that an
error in either order of work can't hide in both.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pads = int | str | Sequence[int] | Sequence[tuple[int, int]]
Ints = int | Sequence[int]
Parameter = float | Floats


class Verdict(NamedTuple):
    """What the judge says: spikes (frames, ...), the last membrane, and every membrane just before it could fire."""

    spikes: Floats
    membrane: Floats
    potentials: Floats


def per_axis(value: Ints, axes: int) -> tuple[int, ...]:
    """One integer per spatial axis."""
    return (value,) * axes if isinstance(value, int) else tuple(value)


def pad_pairs(padding: Pads, kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """(low, high) zeros for every spatial axis."""
    if padding == "valid":
        return [(0, 0) for _ in kernel]
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    assert not isinstance(padding, str)
    if isinstance(padding, int):
        return [(padding, padding) for _ in kernel]
    return [(p, p) if isinstance(p, int) else (p[0], p[1]) for p in padding]


def convolve(
    x: NDArray[np.generic],
    weight: NDArray[np.generic],
    *,
    stride: Ints = 1,
    padding: Pads = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Floats:
    """Convolve x (N, *S, C_in) with weight (C_out, *kernel, C_in // groups) into (N, *S_out, C_out), in float64."""
    x64, w64 = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    c_out, *kernel, c_group = w64.shape
    axes = len(kernel)
    strides, dilations = per_axis(stride, axes), per_axis(dilation, axes)
    x64 = np.pad(x64, [(0, 0), *pad_pairs(padding, kernel, dilations), (0, 0)])
    sizes = [(x64.shape[1 + a] - dilations[a] * (kernel[a] - 1) - 1) // strides[a] + 1 for a in range(axes)]
    out = np.zeros((x64.shape[0], *sizes, c_out))
    for tap in itertools.product(*[range(k) for k in kernel]):
        window = [
            slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, sizes, strides, strict=True)
        ]
        seen = x64[(slice(None), *window, slice(None))]
        for o in range(c_out):
            first = (o // (c_out // groups)) * c_group
            out[..., o] += seen[..., first : first + c_group] @ w64[(o, *tap)]
    return out


def weights_of(aggregation: str | Floats, frames: int, beta: Parameter) -> list[Parameter]:
    """List the aggregation weights of one chunk of so many frames; per channel where beta is."""
    if not isinstance(aggregation, str):
        return [float(a) for a in aggregation[len(aggregation) - frames :]]
    if aggregation == "sum":
        return [1.0] * frames
    if aggregation == "mean":
        return [1.0 / frames] * frames
    decay: list[Parameter] = [beta ** (frames - 1 - k) for k in range(frames)]
    if aggregation == "decay":
        return decay
    assert aggregation == "normalized_decay"
    total = sum(decay)
    return [a / total for a in decay]


def fire(v: Floats, threshold: Parameter, reset: str) -> tuple[Floats, Floats]:
    """(spikes, membrane after the reset); a tie fires."""
    s = np.where(v >= threshold, 1.0, 0.0)
    if reset == "subtract":
        return s, v - s * threshold
    if reset == "zero":
        return s, v * (1.0 - s)
    assert reset in ("none", "late")
    return s, v


def late(u: Floats, threshold: Parameter, reset: str) -> Floats | float:
    """What a late reset takes from the next membrane."""
    return np.where(u >= threshold, threshold, 0.0) if reset == "late" else 0.0


def _verdict(spikes: list[Floats], u: Floats, potentials: list[Floats]) -> Verdict:
    return Verdict(np.stack(spikes), u, np.stack(potentials))


def lif(
    current: NDArray[np.generic],
    *,
    beta: Parameter = 0.9,
    threshold: Parameter = 1.0,
    reset: str = "subtract",
    repeat: int = 1,
    membrane: NDArray[np.generic] | None = None,
) -> Verdict:
    """Plain LIF neurons: current (T, ..., C), each frame of it used for ``repeat`` steps."""
    i = np.asarray(current, np.float64)
    u = np.zeros(i.shape[1:]) if membrane is None else np.asarray(membrane, np.float64)
    spikes, potentials = [], []
    for t in range(i.shape[0]):
        for _ in range(repeat):
            v = beta * u + i[t] - late(u, threshold, reset)
            s, u = fire(v, threshold, reset)
            spikes.append(s)
            potentials.append(v)
    return _verdict(spikes, u, potentials)


def currents(
    spikes: NDArray[np.generic],
    weight: NDArray[np.generic],
    bias: NDArray[np.generic] | None = None,
    **geometry: object,
) -> Floats:
    """One convolution per frame, bias added: (T, B, *S, C_in) to (T, B, *S_out, C_out)."""
    b = 0.0 if bias is None else np.asarray(bias, np.float64)
    if weight.ndim == 2:  # linear: any number of axes before the features
        return np.asarray(spikes, np.float64) @ np.asarray(weight, np.float64).T + b
    return np.stack([convolve(frame, weight, **geometry) + b for frame in spikes])  # type: ignore[arg-type]


def tac(
    spikes: NDArray[np.generic],
    weight: NDArray[np.generic],
    bias: NDArray[np.generic] | None = None,
    *,
    chunk_size: int = 1,
    mode: str = "collapse",
    beta: Parameter = 0.9,
    threshold: Parameter = 1.0,
    reset: str = "subtract",
    aggregation: str | Floats | None = None,
    layout: str = "channels_last",
    membrane: NDArray[np.generic] | None = None,
    **geometry: object,
) -> Verdict:
    """Temporal aggregated convolution as defined: aggregate the currents of each chunk, then collapse or preserve."""
    first = layout == "channels_first"
    if first:
        spikes, weight = np.moveaxis(spikes, 2, -1), np.moveaxis(weight, 1, -1)
        membrane = None if membrane is None else np.moveaxis(membrane, 1, -1)
    i = currents(spikes, weight, bias, **geometry)
    kind = aggregation if aggregation is not None else {"collapse": "decay", "preserve": "normalized_decay"}[mode]
    u = np.zeros(i.shape[1:]) if membrane is None else np.asarray(membrane, np.float64)
    out, potentials = [], []
    for start in range(0, i.shape[0], chunk_size):
        chunk = i[start : start + chunk_size]
        drive = np.zeros(i.shape[1:])
        for a, frame in zip(weights_of(kind, len(chunk), beta), chunk, strict=True):
            drive = drive + a * frame
        decay, steps = (beta ** len(chunk), 1) if mode == "collapse" else (beta, len(chunk))
        for _ in range(steps):
            v = decay * u + drive - late(u, threshold, reset)
            s, u = fire(v, threshold, reset)
            out.append(s)
            potentials.append(v)
    verdict = _verdict(out, u, potentials)
    if first:
        moved = (np.moveaxis(verdict.spikes, -1, 2), np.moveaxis(u, -1, 1), np.moveaxis(verdict.potentials, -1, 2))
        return Verdict(*moved)
    return verdict


def plain(
    spikes: NDArray[np.generic],
    weight: NDArray[np.generic],
    bias: NDArray[np.generic] | None = None,
    *,
    beta: Parameter = 0.9,
    threshold: Parameter = 1.0,
    reset: str = "subtract",
    membrane: NDArray[np.generic] | None = None,
    **geometry: object,
) -> Verdict:
    """Simulate without any aggregation: a convolution and a LIF step for every frame (channels last)."""
    drive = currents(spikes, weight, bias, **geometry)
    return lif(drive, beta=beta, threshold=threshold, reset=reset, membrane=membrane)


def published_collapse(
    spikes: NDArray[np.generic], weight: NDArray[np.generic], chunk: int, beta: float, threshold: float, padding: int
) -> Verdict:
    """TAC as published: S = sum_k beta^(K-1-k) x_k, U = beta^K U + conv(S), fire once, subtract the threshold."""
    u: Floats | float = 0.0
    out, potentials = [], []
    for start in range(0, len(spikes), chunk):
        frames = np.asarray(spikes[start : start + chunk], np.float64)
        total = np.zeros(frames.shape[1:])
        for frame in frames:  # Horner's rule: the newest frame ends with weight one
            total = beta * total + frame
        v = beta ** len(frames) * u + convolve(total, weight, padding=padding)
        fired = (v >= threshold).astype(np.float64)
        u = v - threshold * fired
        out.append(fired)
        potentials.append(v)
    assert not isinstance(u, float)
    return _verdict(out, u, potentials)


def published_preserve(
    spikes: NDArray[np.generic], weight: NDArray[np.generic], chunk: int, beta: float, threshold: float, padding: int
) -> Verdict:
    """TAC-TP as published: the un-normalised aggregate's convolution drives every one of the chunk's LIF steps."""
    u: Floats | float = 0.0
    out, potentials = [], []
    for start in range(0, len(spikes), chunk):
        frames = np.asarray(spikes[start : start + chunk], np.float64)
        total = np.zeros(frames.shape[1:])
        for frame in frames:
            total = beta * total + frame
        drive = convolve(total, weight, padding=padding)
        for _ in frames:
            v = beta * u + drive
            fired = (v >= threshold).astype(np.float64)
            u = v - threshold * fired
            out.append(fired)
            potentials.append(v)
    assert not isinstance(u, float)
    return _verdict(out, u, potentials)
