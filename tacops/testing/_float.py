"""Tier 2, float: arbitrary weights on the default path, judged with the margin that rounding leaves.

The reference is float64. It carries a bound of how far a float32 simulation, in any order of summation, can be from it:
with u = 2^-24 and n terms, a sum errs by at most ``n u / (1 - n u)`` times the sum of magnitudes; a step multiplies the
membrane's error by the decay and adds its own roundings. A spike may differ from the reference only where the
reference's membrane is closer to the threshold than the bound; the reference then resets as the backend did, so that
every later step is judged as strictly. Each layer is judged on the spikes that the backend's own previous layer fired.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import tacops

from .._backend.protocol import Array, Backend, Window
from .._core.train import SpikeTrain
from ._check import Check
from ._host import native, np, on_host
from ._reference import Chunk, chunks, currents_of, draw, weights_of

__all__ = ["STEPS", "float_checks", "near_ties"]

STEPS = 32
UNIT = 2.0**-24
"""Largest relative error of one rounding."""


@dataclass(frozen=True)
class _Network:
    """Three layers of 3 x 3 convolutions, or of matrix products where `space` is empty."""

    mode: str
    chunk_size: int
    aggregation: str = "decay"
    reset: str = "subtract"
    beta: float = 0.9
    space: tuple[int, ...] = (8, 8)


_NETWORKS = {
    "exact-subtract": _Network("collapse", 1),
    "exact-zero": _Network("collapse", 1, reset="zero", beta=0.97),
    "exact-none": _Network("collapse", 1, reset="none", beta=0.6),
    "exact-late": _Network("collapse", 1, reset="late"),
    "collapse": _Network("collapse", 3),
    "collapse-mean": _Network("collapse", 2, "mean"),
    "preserve": _Network("preserve", 4, "normalized_decay", beta=0.8),
    "linear": _Network("collapse", 1, space=()),
}
_CHANNELS = (8, 8, 8, 8)


def float_checks() -> Iterator[Check]:
    """One for each network."""
    for name, network in _NETWORKS.items():
        yield Check(f"float-{name}", 2, partial(_check_network, name, network))


def _layers(name: str, network: _Network) -> Iterator[tuple[Array, Array]]:
    """Weights and bias of each layer; the mean makes a third of the neurons fire."""
    for n, (c_in, c_out) in enumerate(pairwise(_CHANNELS)):
        kernel = (3,) * len(network.space)
        inner = c_in if network.space else 24
        fan_in = inner * int(np.prod(kernel))
        outer = c_out if network.space else 24
        scale = 1.5 / fan_in**0.5
        weight = draw(f"float-{name}-{n}", (outer, *kernel, inner), scale, mean=0.15 * scale)
        yield weight, draw(f"float-{name}-{n}-bias", (outer,), 0.05, mean=0.02)


def _check_network(name: str, network: _Network, backend: Backend) -> str:
    shape = (STEPS, 2, *network.space, _CHANNELS[0]) if network.space else (STEPS, 16, 24)
    spikes = (draw(f"float-{name}-input", shape, 1.0) > 0.5).astype(np.float32)
    differing = total = 0
    options: dict[str, Any] = {"beta": network.beta, "reset": network.reset, "threshold": 0.9}
    for n, (weight, bias) in enumerate(_layers(name, network)):
        chunk: dict[str, Any] = {
            "chunk_size": network.chunk_size,
            "mode": network.mode,
            "aggregation": network.aggregation,
        }
        chunk = chunk if n == 0 or network.mode == "preserve" else {"chunk_size": 1}
        x, w, b = (native(backend, array) for array in (spikes, weight, bias))
        if network.space:
            train = on_host(backend, tacops.tac_conv(x, w, b, padding=1, **chunk, **options))
        else:
            train = on_host(backend, tacops.tac_linear(x, w, b, **chunk, **options))
        parts, bounds = _parts(
            spikes, weight, bias, network.beta, {"mode": "collapse", "aggregation": "decay", **chunk}
        )
        differing += near_ties(f"float-{name}, layer {n + 1}", train, parts, bounds, **options)
        total += train.spikes.size
        spikes = train.spikes
    return f"{differing} of {total} spikes at a near-tie differ"


def _parts(
    spikes: Array, weight: Array, bias: Array, beta: float, chunk: dict[str, Any]
) -> tuple[list[Chunk], list[Array]]:
    """Currents of every chunk, and a bound of their error."""
    size, aggregation = chunk["chunk_size"], chunk["aggregation"]
    dims = weight.ndim - 2
    window = Window((1,) * dims, ((1, 1),) * dims, (1,) * dims, 1)

    def currents(x: Array, w: Array) -> Array:
        return currents_of(x.astype(np.float64), w.astype(np.float64), window)

    kind = {"mode": chunk["mode"], "aggregation": aggregation, "beta": beta}
    parts = chunks(currents(spikes, weight), bias.astype(np.float64), size, **kind)
    magnitudes = chunks(currents(abs(spikes), abs(weight)), abs(bias).astype(np.float64), size, **kind)
    # a fan-in of products, K of aggregation, and a few roundings of the weights and of the bias
    terms = weight[0].size + 2 * len(weights_of(aggregation, size, beta)) + 6
    return parts, [terms * UNIT / (1 - terms * UNIT) * part.current for part in magnitudes]


def near_ties(
    what: str, got: SpikeTrain, parts: list[Chunk], bounds: list[Array], *, beta: float, threshold: float, reset: str
) -> int:
    """Judge a result on the host; how many of its spikes differ from the reference's (at near-ties, else an error)."""
    u = error = before = np.zeros(parts[0].current.shape)
    fired = iter(range(got.spikes.shape[0]))
    differing = 0
    for (current, decay, steps), bound in zip(parts, bounds, strict=True):
        for _ in range(steps):
            t = next(fired)
            v = decay * u + current - (before * threshold if reset == "late" else 0.0)
            kept = np.abs(decay * u)
            error = 1.01 * (decay * error + 4 * UNIT * kept + bound + UNIT * (np.abs(v) + error) + UNIT * threshold)
            spikes, expected = got.spikes[t].astype(np.float64), (v >= threshold).astype(np.float64)
            wrong = (spikes != expected) & ~((np.abs(v - threshold) <= error) & (spikes == 1 - expected))
            _assert_none(f"{what}: spikes", t, wrong, spikes, expected, v)
            differing += int(np.sum(spikes != expected))
            u = {"subtract": v - spikes * threshold, "zero": v * (1 - spikes), "none": v, "late": v}[reset]
            before = spikes
            error = error + UNIT * (np.abs(u) + threshold) if reset in ("subtract", "late") else error
            error = error * (1 - spikes) if reset == "zero" else error
    if next(fired, None) is not None:
        raise AssertionError(f"{what}: {got.spikes.shape[0]} frames of spikes, must be {sum(p.steps for p in parts)}")
    _assert_none(f"{what}: membrane", None, ~(np.abs(got.membrane - u) <= error), got.membrane, u, error)
    return differing


def _assert_none(what: str, t: int | None, wrong: Array, got: Array, want: Array, detail: Array) -> None:
    """No place may be wrong; `detail` is the reference's membrane before a spike, or what a membrane may err."""
    if not np.any(wrong):
        return
    first = tuple(np.argwhere(wrong)[0].tolist())
    place = first if t is None else (t, *first)
    note = f"error bound {detail[first]:.3g}" if t is None else f"membrane {float(detail[first])!r} is no near-tie"
    raise AssertionError(
        f"{what}: {int(np.sum(wrong))} values wrong, first at {place}: "
        f"{float(got[first])!r}, must be {float(want[first])!r} ({note})"
    )
