"""Tier 3, gradients: what complex-step differentiation of the definition gives, for every array of a call.

Without a surrogate nothing is checked here; a backend without gradients must refuse surrogates with the documented error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import tacops

from .._backend.protocol import Array, Backend, Window
from ._check import Check, NotApplicable
from ._host import native, np
from ._reference import Run, chunks, currents_of, draw, simulate

__all__ = ["PROBLEMS", "Problem", "gradient_checks", "reference_gradients"]

SLOPE = 2.0
STEP = 1e-30
"""The complex step: so small that its square is nothing beside it."""
MARGIN = 2e-3
"""No membrane of a problem comes closer to the threshold, so every backend fires the same spikes."""


@dataclass(frozen=True)
class Problem:
    """One call, whose arrays are all differentiated by."""

    function: str
    spikes: tuple[int, ...] = (5, 1, 4, 3, 2)
    weight: tuple[int, ...] = (3, 3, 3, 2)
    chunk_size: int = 1
    mode: str = "collapse"
    aggregation: str = "decay"
    reset: str = "subtract"
    options: Mapping[str, Any] = field(default_factory=dict)


_CHUNKED: dict[str, Any] = {"function": "tac_conv", "chunk_size": 2, "options": {"padding": 1}}
PROBLEMS = {
    "conv-lif-subtract": Problem("conv_lif"),
    "conv-lif-zero": Problem("conv_lif", reset="zero"),
    "conv-lif-none": Problem("conv_lif", reset="none"),
    "conv-lif-late": Problem("conv_lif", reset="late"),
    "collapse-decay": Problem(**_CHUNKED),
    "collapse-given": Problem(**_CHUNKED, aggregation="given"),
    "preserve-normalized-decay": Problem(**_CHUNKED, mode="preserve", aggregation="normalized_decay"),
    "preserve-given": Problem(**_CHUNKED, mode="preserve", aggregation="given", reset="zero"),
    "linear": Problem("tac_linear", (6, 3, 5), (4, 5), chunk_size=3, aggregation="mean"),
    "lif": Problem("lif", (6, 2, 4), ()),
    "lif-long": Problem("lif", (36, 1, 2), ()),
}
_REPRODUCIBLE = ("conv-lif-subtract", "conv-lif-late", "collapse-decay", "preserve-given", "lif")
_ALONE = {
    "collapse-given": ("spikes", "weight", "bias", "aggregation"),
    "lif": ("current", "beta", "threshold", "membrane"),
}
_REMAT = ("collapse-given", "preserve-normalized-decay", "lif")


def gradient_checks() -> Iterator[Check]:
    """Every problem on the default path, some in reproducible mode and with rematerialisation, and the refusal."""
    for name in PROBLEMS:
        yield Check(f"gradients-{name}", 3, partial(_check_gradients, name))
    for name in _REPRODUCIBLE:
        yield Check(f"gradients-reproducible-{name}", 3, partial(_check_gradients, name, reproducible=True))
    for name in _REMAT:
        yield Check(f"gradients-remat-{name}", 3, partial(_check_gradients, name, remat=True))
    for name in _ALONE:
        yield Check(f"gradients-alone-{name}", 3, partial(_check_alone, name))
    yield Check("gradients-surrogates", 3, _check_surrogates)
    yield Check("gradients-none-without-surrogate", 3, _check_no_gradient)
    yield Check("gradients-surrogate-refused", 3, _check_refused)


@cache
def _problem(name: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """Arrays of a call by name, and the two factors of the loss; the first seed with a margin is taken."""
    for seed in range(200):
        arrays = _arrays(PROBLEMS[name], f"gradients-{name}-{seed}")
        spikes, membrane, potentials, _ = _run(PROBLEMS[name], arrays)
        margin = np.min(np.abs(potentials - arrays["threshold"]))
        if margin >= MARGIN and 0.1 < np.mean(spikes) < 0.9:
            factors = {
                "spikes": draw(f"{name}-s", spikes.shape, 1.0),
                "membrane": draw(f"{name}-u", membrane.shape, 1.0),
            }
            return arrays, factors
    raise RuntimeError(f"no seed gives {name} a margin")


def _arrays(problem: Problem, seed: str) -> dict[str, Array]:
    sixteenths = partial(_sixteenths, seed)
    channels = problem.weight[0] if problem.weight else problem.spikes[-1]
    found = {}
    if problem.function == "lif":
        found["current"] = sixteenths(problem.spikes, 0.6, 0.3)
    else:
        found["spikes"] = (draw(f"{seed}-x", problem.spikes, 1.0) > 0.4).astype(np.float32)
        found["weight"] = sixteenths(problem.weight, 0.4, 0.1)
        found["bias"] = sixteenths((channels,), 0.2, 0.1)
    found["beta"] = (0.8 + 0.05 * np.arange(channels)).astype(np.float32)
    found["threshold"] = (0.9 + 0.11 * np.arange(channels)).astype(np.float32)
    if problem.aggregation == "given":
        found["aggregation"] = np.linspace(0.5, 1.0, problem.chunk_size).astype(np.float32)
    shape = _run(problem, found)[1].shape
    found["membrane"] = sixteenths(shape, 0.3)
    return found


def _sixteenths(seed: str, shape: tuple[int, ...], scale: float, mean: float = 0.0) -> Array:
    """Multiples of 1/16, which reproducible mode leaves as they are."""
    return np.round(16 * draw(f"{seed}-{shape}", shape, scale, mean)) / np.float32(16)


def _window(problem: Problem) -> Window:
    dims = max(len(problem.weight) - 2, 0)
    padding = problem.options.get("padding", 0)
    return Window((1,) * dims, ((padding, padding),) * dims, (1,) * dims, 1)


def _run(problem: Problem, arrays: Mapping[str, Array], derivative: Callable[[Array], Array] | None = None) -> Run:
    """The reference."""
    wide = {name: array.astype(np.result_type(array, np.float64)) for name, array in arrays.items()}
    if problem.function == "lif":
        currents, bias = wide["current"], 0.0
    else:
        currents, bias = currents_of(wide["spikes"], wide["weight"], _window(problem)), wide["bias"]
    aggregation = wide.get("aggregation", problem.aggregation)
    mode = {"mode": problem.mode, "aggregation": aggregation, "beta": wide["beta"]}
    parts = chunks(currents, bias, problem.chunk_size, **mode)
    start = wide.get("membrane", 0.0)
    return simulate(parts, start, threshold=wide["threshold"], reset=problem.reset, derivative=derivative)


@cache
def reference_gradients(name: str) -> dict[str, Array]:
    """Derivatives of the loss by every element of every array, one complex step each."""
    arrays, factors = _problem(name)
    found = {}
    for key, array in arrays.items():
        flat = np.zeros(array.size)
        for n in range(array.size):
            moved = array.astype(np.complex128)
            moved.reshape(-1)[n] += 1j * STEP
            spikes, membrane, *_ = _run(
                PROBLEMS[name], {**arrays, key: moved}, lambda x: 1 / (1 + SLOPE * np.abs(x)) ** 2
            )
            loss = np.sum(factors["spikes"] * spikes) + np.sum(factors["membrane"] * membrane)
            flat[n] = loss.imag / STEP
        found[key] = flat.reshape(array.shape)
    return found


def _gradients(backend: Backend, name: str, only: str | None = None, **more: Any) -> dict[str, Array]:
    """The backend's gradients, on the host; by one array `only`, while the others are constants."""
    if not backend.differentiable:
        raise NotApplicable(f"{backend.name} has no gradients")
    problem, (arrays, factors) = PROBLEMS[name], _problem(name)
    chunk = {"chunk_size": problem.chunk_size, "mode": problem.mode} if "tac" in problem.function else {}
    if "tac" in problem.function and problem.aggregation != "given":
        chunk["aggregation"] = problem.aggregation
    options = {**problem.options, **chunk, "reset": problem.reset, **more}
    scale = native(backend, factors)
    keys = [key for key in arrays if only in (None, key)]
    constants = native(backend, {key: array for key, array in arrays.items() if key not in keys})

    def loss(*given: Array) -> Array:
        named = {**constants, **dict(zip(keys, given, strict=True))}
        positional = [named.pop(key) for key in ("current", "spikes", "weight", "bias") if key in named]
        train = getattr(tacops, problem.function)(*positional, **named, **options)
        xp = backend.namespace(train.membrane)
        return xp.sum(train.spikes * scale["spikes"]) + xp.sum(train.membrane * scale["membrane"])

    found = backend.gradient(loss, [native(backend, arrays[key]) for key in keys])
    return {key: backend.to_numpy(g) for key, g in zip(keys, found, strict=True)}


def _check_gradients(name: str, backend: Backend, *, reproducible: bool = False, remat: bool = False) -> str:
    surrogate = tacops.surrogate.fast_sigmoid(slope=SLOPE)
    return _compare(
        name, _gradients(backend, name, surrogate=surrogate, reproducible=reproducible, remat=remat), reproducible
    )


def _check_alone(name: str, backend: Backend) -> str:
    """Each array by itself: a schedule that differentiates must see every one of them."""
    surrogate = tacops.surrogate.fast_sigmoid(slope=SLOPE)
    found: dict[str, Array] = {}
    for key in _ALONE[name]:
        found |= _gradients(backend, name, key, surrogate=surrogate)
    return _compare(name, found)


def _compare(name: str, found: dict[str, Array], reproducible: bool = False) -> str:
    worst = 0.0
    for key, gradient in found.items():
        want = reference_gradients(name)[key]
        got, largest = gradient.astype(np.float64), float(np.max(np.abs(want)))
        if got.shape != want.shape:
            raise AssertionError(f"gradient of {key}: shape {got.shape}, must be {want.shape}")
        # in reproducible mode membranes are rounded on the way, so derivatives are taken at slightly other places
        error, allowed = np.abs(got - want) / largest, 2e-2 if reproducible else 2e-5
        worst = max(worst, float(np.max(error)))
        if not np.all(error <= allowed):
            first = tuple(np.argwhere(~(error <= allowed))[0].tolist())
            raise AssertionError(
                f"gradient of {key}: first wrong at {first}: {float(got[first])!r}, must be {float(want[first])!r} "
                f"within {allowed} of the largest, {largest:.3g}"
            )
    return f"largest error {worst:.1e}"


def _check_surrogates(backend: Backend) -> None:
    """Each surrogate's derivative, one slope after the other, and functions that differ in a value they read."""
    if not backend.differentiable:
        raise NotApplicable(f"{backend.name} has no gradients")
    x = np.array([-0.75, -0.25, 0.125, 0.5, 2.0])
    given = native(backend, (x + 1).astype(np.float32).reshape(1, 1, 5))
    for slope in (2.0, 5.0):
        s = 1 / (1 + np.exp(-slope * x))
        expected: dict[str, tuple[Callable[[Array], Array], Array]] = {
            "fast_sigmoid": (tacops.surrogate.fast_sigmoid(slope), 1 / (1 + slope * np.abs(x)) ** 2),
            "arctan": (tacops.surrogate.arctan(slope), slope / 2 / (1 + (np.pi / 2 * slope * x) ** 2)),
            "sigmoid": (tacops.surrogate.sigmoid(slope), slope * s * (1 - s)),
            "triangular": (tacops.surrogate.triangular(slope), np.maximum(0, 1 - slope * np.abs(x))),
            "straight_through": (tacops.surrogate.straight_through(slope), np.full(5, slope)),
            "a function": (_closure(slope), slope * x),
        }
        for name, (surrogate, want) in expected.items():

            def loss(current: Array, surrogate: Callable[[Array], Array] = surrogate) -> Array:
                train = tacops.lif(current, surrogate=surrogate)
                return backend.namespace(current).sum(train.spikes)

            got = backend.to_numpy(backend.gradient(loss, [given])[0]).reshape(-1)
            if not np.max(np.abs(got - want)) <= 1e-5 * slope:
                raise AssertionError(f"{name}, slope {slope}: derivative {got.tolist()}, must be {want.tolist()}")


def _closure(slope: float) -> Callable[[Array], Array]:
    return lambda v: v * slope


def _check_no_gradient(backend: Backend) -> None:
    """Without a surrogate, spikes are constants, yet the membrane's own gradient flows."""
    found = _gradients(backend, "conv-lif-none")
    if not np.any(found["weight"]):
        raise AssertionError("gradient of weight: all zero, though the membrane depends on it")
    if np.any(found["threshold"]):
        raise AssertionError("gradient of threshold: not zero, though only spikes depend on it")


def _check_refused(backend: Backend) -> None:
    if backend.differentiable:
        raise NotApplicable(f"{backend.name} has gradients")
    arrays = [native(backend, _problem("linear")[0][key]) for key in ("spikes", "weight")]
    try:
        tacops.tac_linear(*arrays, chunk_size=1, surrogate=tacops.surrogate.arctan())
    except ValueError as error:
        if "tac_linear: surrogate must be None" not in str(error):
            raise AssertionError(f"unclear message for a surrogate: {error}") from error
    else:
        raise AssertionError("tac_linear: a surrogate on arrays without gradients must raise ValueError")
