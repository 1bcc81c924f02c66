"""The judge: the suite's float64 definition (`tacops.testing._reference`), called as the operators are.

Nothing is computed here but the shapes of a call; the convolution and the neurons are held to SciPy, PyTorch and hand
calculations by tests/operators/test_judge.py. The published formulas at the end are a second definition of aggregation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tacops._backend.protocol import Window
from tacops.testing import _reference
from tacops.testing._reference import Chunk, chunks, currents_of, simulate, weights_of
from tacops.testing._reference import Run as Verdict

__all__ = [
    "Floats", "Ints", "Pads", "Parameter", "Verdict", "convolve", "currents", "lif", "pad_pairs", "per_axis", "plain",
    "published_collapse", "published_preserve", "tac", "weights_of",
]  # fmt: skip

Floats = NDArray[np.float64]
Pads = int | str | Sequence[int] | Sequence[tuple[int, int]]
Ints = int | Sequence[int]
Parameter = float | Floats


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


def _window(
    weight: NDArray[np.generic], stride: Ints = 1, padding: Pads = 0, dilation: Ints = 1, groups: int = 1
) -> Window:
    kernel = weight.shape[1:-1]
    dilations = per_axis(dilation, len(kernel))
    pads = tuple(pad_pairs(padding, kernel, dilations))
    return Window(per_axis(stride, len(kernel)), pads, dilations, groups)


def convolve(x: NDArray[np.generic], weight: NDArray[np.generic], **geometry: object) -> Floats:
    """Convolve x (N, *S, C_in) with weight (C_out, *kernel, C_in // groups) into (N, *S_out, C_out), in float64."""
    wide = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    out: Floats = _reference.convolve(*wide, _window(weight, **geometry))  # type: ignore[arg-type]
    return out


def currents(
    spikes: NDArray[np.generic],
    weight: NDArray[np.generic],
    bias: NDArray[np.generic] | None = None,
    **geometry: object,
) -> Floats:
    """One convolution per frame, bias added: (T, B, *S, C_in) to (T, B, *S_out, C_out)."""
    wide = np.asarray(spikes, np.float64), np.asarray(weight, np.float64)
    out: Floats = currents_of(*wide, _window(weight, **geometry))  # type: ignore[arg-type]
    return out if bias is None else out + np.asarray(bias, np.float64)


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
    parts = [Chunk(frame, beta, repeat) for frame in np.asarray(current, np.float64)]
    return simulate(parts, _start(membrane, parts), threshold=threshold, reset=reset)


def _start(membrane: NDArray[np.generic] | None, parts: Sequence[Chunk]) -> Floats:
    return np.zeros(parts[0].current.shape) if membrane is None else np.asarray(membrane, np.float64)


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
    kind = aggregation if aggregation is not None else {"collapse": "decay", "preserve": "normalized_decay"}[mode]
    frames = currents(spikes, weight, bias, **geometry)
    parts = chunks(frames, 0.0, chunk_size, mode=mode, aggregation=kind, beta=beta)
    verdict = simulate(parts, _start(membrane, parts), threshold=threshold, reset=reset)
    if first:
        spikes, potentials, trace = (
            np.moveaxis(array, -1, 2) for array in (verdict.spikes, verdict.potentials, verdict.trace)
        )
        return Verdict(spikes, np.moveaxis(verdict.membrane, -1, 1), potentials, trace)
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
    out, potentials, trace = [], [], []
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
        trace.append(u)
    assert not isinstance(u, float)
    return Verdict(np.stack(out), u, np.stack(potentials), np.stack(trace))


def published_preserve(
    spikes: NDArray[np.generic], weight: NDArray[np.generic], chunk: int, beta: float, threshold: float, padding: int
) -> Verdict:
    """TAC-TP as published: the un-normalised aggregate's convolution drives every one of the chunk's LIF steps."""
    u: Floats | float = 0.0
    out, potentials, trace = [], [], []
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
            trace.append(u)
    assert not isinstance(u, float)
    return Verdict(np.stack(out), u, np.stack(potentials), np.stack(trace))
