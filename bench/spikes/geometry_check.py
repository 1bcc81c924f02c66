"""One convolution of ``python -m bench geometries`` on a backend, and by plain sums in float64."""

from __future__ import annotations

import importlib
import warnings
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tacops
from bench.spikes.geometry_cases import Case
from tacops.backends import Backend

__all__ = ["Answer", "arrays", "mistake", "plain", "prepare", "supported"]

Floats = NDArray[np.float64]


class Answer(NamedTuple):
    """Membranes, and the gradients of their sum weighted by ``grad``."""

    membrane: Floats
    by_input: Floats
    by_weight: Floats


def prepare(backend: str) -> None:
    """What has to be set before a library makes its first array: float64 in JAX."""
    if backend == "jax":
        importlib.import_module("jax").config.update("jax_enable_x64", True)


def supported(backend: Backend, dtype: str) -> bool:
    """Whether the library has this dtype and computes in it here."""
    xp = backend.namespace(backend.from_numpy(np.zeros(1, np.float32)))
    if not hasattr(xp, dtype):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX without x64 gives float32, and says so
            array = xp.astype(backend.from_numpy(np.zeros(1, np.float32)), getattr(xp, dtype))
        return bool(array.dtype == getattr(xp, dtype) and backend.to_numpy(array + array)[0] == 0)
    except (TypeError, ValueError, RuntimeError):  # MLX: no float64 on GPUs
        return False


def arrays(case: Case) -> dict[str, Floats]:
    """Spikes 0 and 1; weights, bias and the gradient of the membrane -1, 0 and 1."""
    rng = np.random.default_rng(case.seed)
    channels = case.groups * case.c_out
    x = rng.integers(0, 2, (case.steps, case.batch, *case.spatial, case.groups * case.c_in))
    weight = rng.integers(-1, 2, (channels, *case.kernel, case.c_in))
    first: tuple[Any, ...] = (slice(None), *(0,) * len(case.kernel), 0)
    weight[first] = 1  # no channel of zeros
    bias, grad = rng.integers(-1, 2, channels), rng.integers(-1, 2, (case.batch, *case.space, channels))
    named = {"x": x, "weight": weight, "bias": bias, "grad": grad}
    return {name: value.astype(np.float64) for name, value in named.items()}


def plain(case: Case, x: Floats, weight: Floats, bias: Floats, grad: Floats) -> Answer:
    """By the definition: a product for each place of the kernel, summed; the gradients are the same products' other two."""
    frames = np.reshape(x, (-1, *x.shape[2:]))
    padded = np.pad(frames, ((0, 0), *case.padding, (0, 0)))
    out = np.zeros((len(frames), *case.space, case.groups, case.c_out))
    by_padded, by_weight = np.zeros(padded.shape), np.zeros((case.groups, case.c_out, *weight.shape[1:]))
    split = weight.reshape(by_weight.shape)
    slope = np.tile(
        grad.reshape(case.batch, *case.space, case.groups, case.c_out), (case.steps, *(1,) * (out.ndim - 1))
    )
    place: tuple[int, ...]
    for place in product(*map(range, case.kernel)):
        axes = zip(place, case.dilation, case.stride, case.space, strict=True)
        window: tuple[Any, ...] = (slice(None), *(slice(p * d, p * d + s * (n - 1) + 1, s) for p, d, s, n in axes))
        seen = padded[window].reshape(len(frames), *case.space, case.groups, case.c_in)
        at: tuple[Any, ...] = (slice(None), slice(None), *place, slice(None))
        here = split[at]
        out += np.einsum("...gi,goi->...go", seen, here)
        by_weight[at] = np.einsum("ngi,ngo->goi", *(_rows(a) for a in (seen, slope)))
        by_padded[window] += np.einsum("...go,goi->...gi", slope, here).reshape(len(frames), *case.space, -1)
    inside = tuple(slice(low, low + n) for (low, _), n in zip(case.padding, case.spatial, strict=True))
    currents = out.reshape(case.steps, case.batch, *case.space, -1) + (bias if case.bias else 0.0)
    by_input = by_padded[(slice(None), *inside)].reshape(x.shape)
    return Answer(currents.sum(0), by_input, by_weight.reshape(weight.shape))


def _rows(a: Floats) -> Floats:
    return a.reshape(-1, *a.shape[-2:])


def mistake(backend: Backend, case: Case) -> str | None:
    """What is wrong with a backend's answer to a case, or None; an error is an answer."""
    try:
        return _mistake(backend, case)
    except Exception as error:  # noqa: BLE001 (whatever a library raises is what is looked for)
        return f"{type(error).__name__}: {error}"


def _mistake(backend: Backend, case: Case) -> str | None:
    given = arrays(case)
    want = plain(case, **given)
    xp = backend.namespace(backend.from_numpy(np.zeros(1, np.float32)))
    dtype = getattr(xp, case.dtype)
    x, weight, bias, grad = (xp.astype(backend.from_numpy(a.astype(np.float32)), dtype) for a in given.values())

    def membrane(x: Any, weight: Any) -> Any:
        return tacops.conv_lif(
            x,
            weight,
            bias if case.bias else None,
            beta=1.0,
            threshold=1.0,
            reset="none",
            stride=case.stride,
            padding=case.padding,
            dilation=case.dilation,
            groups=case.groups,
            reproducible=case.reproducible,
        ).membrane

    got = [membrane(x, weight)]
    if backend.differentiable:
        got += backend.gradient(lambda x, weight: xp.sum(membrane(x, weight) * grad), [x, weight])
    for name, a, b in zip(Answer._fields, map(backend.to_numpy, got), want, strict=False):
        if a.shape != b.shape:
            return f"{name} has shape {a.shape}, not {b.shape}"
        if not np.array_equal(a.astype(np.float64), b):
            first = tuple(int(n) for n in np.argwhere(a != b)[0])
            return f"{name}: {np.sum(a != b)} of {b.size} wrong, first at {first}: {a[first]}, not {b[first]}"
    return None
