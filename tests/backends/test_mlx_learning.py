"""Neurons that learn in MLX, forwards without a tape and backwards by formula: what the core's operations give."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import surrogate
from tacops._backend.protocol import Backend
from tacops._core.checks import Derivative
from tacops._core.neurons import LIFStep

mx = pytest.importorskip("mlx.core", reason="MLX's neurons that learn are not checked: MLX is not installed")

from tacops.backends._mlx import formula, learning
from tacops.backends.mlx_ import BACKEND

SURROGATES: tuple[Any, ...] = (
    surrogate.arctan(1.5),
    surrogate.sigmoid(),
    surrogate.fast_sigmoid(2.0),
    surrogate.triangular(0.7),
    surrogate.straight_through(0.3),
    lambda x: 1.0 / (1.0 + x * x),
    lambda x: 0.5,
    lambda x: x / mx.max(mx.abs(x)),  # of all neurons of a step
)
MUTANTS = {
    "a slope of another place": ("x = v - step.threshold", "x = v + 0.0"),
    "a unit that is forgotten": ("x if step.unit is None else x * step.unit", "x"),
    "a unit by half": ("slope if step.unit is None else slope * step.unit", "slope"),
    "infinite slopes": (
        "_only(_asked(step, x) if found is None else found, inside)",
        "_asked(step, _only(x, inside)) if found is None else found",
    ),
    "a tie does not fire": ("(v >= step.threshold)", "(v > step.threshold)"),
    "resets that always count": ("self.step.detach_reset or ", ""),
    "resets that never count": ("return self.step.threshold\n", "return None\n"),
    "zero by the threshold": ("self.step.reset is Reset.ZERO:\n            return", "False:\n            return"),
    "late by what is decayed": ("1.0 if late else decay, decay)", "decay, decay)"),
    "reset by what is not decayed": ("1.0 if late else decay, decay)", "1.0, decay)"),
    "no decay": ("else decay, decay)", "else decay, 1.0)"),
    "the last one is reset late": ("elif late:", "elif False:"),
    "the last one decays, too": ("self._factors(1.0, 1.0)", "factors"),
    "the last one's reset is lost": ("to_last * _rows(self._factors(1.0, 1.0), size)[-1]", "to_last"),
    "all that fired is kept": ("(1.0 - _fired(self.step, self.v)) * decay", "decay"),
    "decay by what fires": ("for g, u in zip(mine, self.before", "for g, u in zip(mine, list(self.v)"),
    "the threshold of spikes alone": ("(reset * self.takes - self.to_spikes)", "-self.to_spikes"),
    "the threshold of resets alone": ("(reset * self.takes - self.to_spikes)", "reset * self.takes"),
    "the threshold's own step": ("total - reset * _spikes(self.step, self.v)", "total"),
    "the threshold late": ("mx.zeros_like(to_last) if g is None", "to_last if g is None"),
    "the threshold undecayed": ("else g * self.step.decay for", "else g for"),
    "the start does not decay": ("first * step.decay, mx.zeros_like", "first + 0 * step.decay, mx.zeros_like"),
    "the start is not reset": ("by_start - lost, more", "by_start, more"),
    "the start resets by nothing": ("more = -first * _spikes(step, start)", "pass"),
    "the start's slope is lost": ("more + lost", "more"),
    "steps of one current": ("mx.sum(mx.reshape", "mx.mean(mx.reshape"),
    "the first slope is the start's": ("course.slopes[-len(course.firing) :]", "course.slopes[: len(course.firing)]"),
}

Gradients = list[np.ndarray[Any, Any]]


def by_core(step: Any, currents: Any, state: Any, repeat: int) -> Any:
    """`Backend.scan`, operation by operation."""
    return Backend.scan(BACKEND, step, currents, state, repeat)


def draw(seed: int, real: str) -> tuple[Callable[..., Any], list[Any], list[Any]]:
    """Neurons as ``function(scan, *arrays)``, the arrays, and cotangents."""
    rng = np.random.default_rng(seed)
    T, repeat, channels = (int(n) for n in rng.integers(1, (8, 4, 5)))
    shape: tuple[int, ...] = (3, 2, channels)[int(rng.integers(2)) :]

    def array(x: Any) -> Any:
        return BACKEND.from_numpy(np.asarray(x, real))

    rounded = bool(rng.integers(3) == 0)
    scale = 4.0 if rounded else 1.0
    x = rng.normal(0.4, 0.8, (T, *shape)) * scale
    options: dict[str, Any] = {
        "reset": ("subtract", "zero", "none", "late")[seed % 4],
        "surrogate": Derivative("lif", BACKEND, SURROGATES[seed // 4 % len(SURROGATES)]),
        "rounded": rounded,
        "unit": array(0.25) if rounded else None,
        "poison": array(0.0) if rng.integers(2) else None,
        "detach_reset": bool(rng.integers(2)),
    }
    if options["reset"] == "zero" and rng.integers(2) and not rounded:
        x[rng.random(x.shape) < 0.1] = np.inf
    given = {"currents": array(np.round(x) if rounded else x)}
    for name, low in (("decay", 0.3), ("threshold", 0.6 * scale)):
        kind = rng.integers(4)
        value = rng.uniform(low, 1.5 * low, channels)
        value = np.round(value) if rounded and name == "threshold" else value
        if kind:
            given[name] = array((value[0], value[:1], value)[kind - 1])
        else:
            options[name] = float(value[0])
    if rng.integers(4):
        given["start"] = array(np.round(rng.normal(0.2, 1, shape) * scale) if rounded else rng.normal(0.2, 1, shape))

    def function(scan: Any, *arrays: Any) -> Any:
        named = dict(zip(given, arrays, strict=True))
        currents, start = named.pop("currents"), named.pop("start", None)
        step = LIFStep(BACKEND, **options, **named)
        spikes, (membrane,) = scan(step, currents, None if start is None else (start,), repeat)
        return spikes, membrane

    towards = [array(rng.normal(0, 1, (T * repeat, *shape))), array(rng.normal(0, 1, shape))]
    return function, list(given.values()), towards


def check(seed: int, real: str, tolerance: float) -> None:
    """Spikes and membranes bit for bit, gradients to rounding."""
    function, given, towards = draw(seed, real)
    kept = [np.array(x) for x in (*given, *towards)]
    (spikes, last), found = mx.vjp(lambda *arrays: function(BACKEND.scan, *arrays), given, towards)
    (want_spikes, want_last), want = mx.vjp(lambda *arrays: function(by_core, *arrays), given, towards)
    np.testing.assert_array_equal(np.array(spikes), np.array(want_spikes))
    np.testing.assert_array_equal(np.array(last), np.array(want_last))
    largest = max(float(np.abs(np.array(due)).max()) for due in want)
    for got, due in zip(found, want, strict=True):
        assert (got.shape, got.dtype) == (due.shape, due.dtype)
        np.testing.assert_allclose(np.array(got), np.array(due), rtol=0, atol=tolerance * largest, err_msg=str(seed))
    for before, after in zip(kept, (*given, *towards), strict=True):
        np.testing.assert_array_equal(before, np.array(after))


@pytest.mark.parametrize(
    ("real", "tolerance", "cached"),
    [("float32", 1e-6, 1 << 17), *(("float64", 1e-12, cached) for cached in (1, 30, 1 << 17))],
)
def test_gradients(real: str, tolerance: float, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of random neurons: every reset and surrogate, rounded, detached, held, with and without parameters and a start.

    The slopes of one step, of some, or of all are computed at once.
    """
    monkeypatch.setattr(formula, "CACHED", cached)
    for seed in range(64):
        check(seed, real, tolerance)


@pytest.mark.parametrize("name", MUTANTS)
def test_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients differ where the formula is wrong."""
    text = Path(str(formula.__file__)).read_text(encoding="utf-8")
    old, new = MUTANTS[name]
    assert text.count(old) == 1, f"bring {old!r} up to date"
    wrong = ModuleType(formula.__name__)
    wrong.__package__ = formula.__package__
    monkeypatch.setitem(sys.modules, wrong.__name__, wrong)  # where dataclasses look for it
    exec(compile(text.replace(old, new), name, "exec"), wrong.__dict__)  # noqa: S102
    monkeypatch.setattr(learning, "gradients", wrong.gradients)
    monkeypatch.setattr(learning, "slope_at", wrong.slope_at)
    with pytest.raises((AssertionError, ValueError, TypeError)):  # noqa: PT012
        for seed in range(64):
            check(seed, "float64", 1e-12)


def loss(scan: Any, function: Any, towards: list[Any]) -> Callable[..., Any]:
    """One number of spikes and membranes, of which gradients differ from place to place."""

    def of(*arrays: Any) -> Any:
        spikes, last = function(scan, *arrays)
        return (spikes * towards[0]).sum() + (last * last * towards[1]).sum()

    return of


def every(given: list[Any]) -> tuple[int, ...]:
    return tuple(range(len(given)))


def total(gradient: Any) -> Any:
    """A number of gradients."""
    return lambda *arrays: sum((g * g).sum() for g in gradient(*arrays))


TRANSFORMS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "jvp": lambda f, given: mx.jvp(f, given, [0.5 * x + 1 for x in given])[1],
    "vmap": lambda f, given: [mx.vmap(f, in_axes=0)(*(mx.stack([x, 0.5 * x]) for x in given))],
    "grad(compile)": lambda f, given: mx.grad(mx.compile(f), every(given))(*given),
    "grad(checkpoint)": lambda f, given: mx.grad(mx.checkpoint(f), every(given))(*given),
    "vmap(grad)": lambda f, given: mx.vmap(mx.grad(f, every(given)))(*(mx.stack([x, 0.5 * x]) for x in given)),
    "vmap(grad) by one": lambda f, given: mx.vmap(mx.grad(f, every(given)), in_axes=(0, *(None for _ in given[1:])))(
        mx.stack([given[0], 0.5 * given[0]]), *given[1:]
    ),
    "grad(vmap)": lambda f, given: mx.grad(
        lambda *arrays: mx.vmap(f)(*(mx.stack([x, 0.5 * x]) for x in arrays)).sum(), every(given)
    )(*given),
    "grad(grad)": lambda f, given: mx.grad(total(mx.grad(f, every(given))), every(given))(*given),
    "jvp(grad)": lambda f, given: mx.jvp(mx.grad(f, every(given)), given, [0.5 * x + 1 for x in given])[1],
    "vmap(grad(grad))": lambda f, given: mx.vmap(mx.grad(total(mx.grad(f, every(given))), every(given)))(
        *(mx.stack([x, 0.5 * x]) for x in given)
    ),
    "grad(vmap(grad))": lambda f, given: mx.grad(
        lambda *arrays: total(mx.vmap(mx.grad(f, every(given))))(*(mx.stack([x, 0.5 * x]) for x in arrays)),
        every(given),
    )(*given),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name: str) -> None:
    """As the core's operations: a rule that is missing would be a gradient of zero, or an error. Compiled ones: test_gradient_transforms.py."""
    some = 0.0
    for seed in (0, 3, 9, 22, 27):  # one of the user's own surrogates among them
        function, given, towards = draw(seed, "float32")
        found = TRANSFORMS[name](loss(BACKEND.scan, function, towards), given)
        want = TRANSFORMS[name](loss(by_core, function, towards), given)
        found, want = ([x] if isinstance(x, mx.array) else list(x) for x in (found, want))
        for got, due in zip(found, want, strict=True):
            numbers = np.array(due)
            some = max(some, float(np.abs(numbers).max()))
            np.testing.assert_allclose(np.array(got), numbers, rtol=0, atol=2e-5 * max(1e-6, np.abs(numbers).max()))
    assert some > 1e-3


def test_slope_that_is_learned() -> None:
    """The gradient of a gradient by what a user's surrogate reads: of a step of descent by its width."""
    x = mx.array(np.random.default_rng(0).normal(0.4, 0.8, (5, 2, 3)).astype("f4"))

    def moved(width: Any) -> Any:
        slope = lambda v: width / (1 + v * v)
        gradient = mx.grad(lambda x: tacops.lif(x, beta=0.5, surrogate=slope).spikes.sum())(x)
        return (gradient * gradient).sum()

    width = mx.array(0.7)
    got = mx.grad(moved)(width).item()
    step = 0.01
    want = ((moved(width + step) - moved(width - step)) / (2 * step)).item()
    assert want > 0.1
    assert got == pytest.approx(want, rel=1e-3)


def test_bad_surrogate() -> None:
    """One sentence, before anything is differentiated."""
    with pytest.raises(ValueError, match="lif: surrogate must be a function that returns an array"):
        tacops.lif(mx.ones((3, 2, 4)), surrogate=lambda x: x[:1])
    with pytest.raises(TypeError, match="lif: surrogate must be a function that returns an array"):
        tacops.lif(mx.ones((3, 2, 4)), surrogate=lambda x: "steep")


def operations(*arrays: Any) -> list[str]:
    """Of the graph that computes these, but for those that compute nothing."""
    graph = io.StringIO()
    mx.export_to_dot(graph, *arrays)
    found = re.findall(r'label ?= ?"(\w+)", shape=rectangle', graph.getvalue())
    views = {"Slice", "Squeeze", "ExpandDims", "StopGradient", "CustomTransforms", "Reshape", "Broadcast"}
    return [name for name in found if name not in views]


def test_operations() -> None:
    """Far fewer than the core's, forwards and backwards; nothing is gathered, nothing is copied but what is stacked."""
    x = mx.ones((16, 2, 3))
    step = LIFStep(BACKEND, 0.9, 1.0, "subtract", surrogate.arctan())
    graphs = {}
    for name, scan in (("learning", BACKEND.scan), ("core", by_core)):
        spikes, (last,) = scan(step, x, None, 1)
        _, gradient = mx.vjp(lambda x, scan=scan: scan(step, x, None, 1)[0], [x], [x])
        graphs[name] = operations(spikes, last), operations(*gradient)
    (forth, back), (forth_by_core, back_by_core) = graphs["learning"], graphs["core"]
    assert len(forth) <= 0.5 * len(forth_by_core)
    assert len(back) <= 0.5 * len(back_by_core)
    assert not {"Gather", "GatherAxis", "Scatter", "ScatterAxis", "SliceUpdate"} & {*forth, *back}
    assert forth.count("Concatenate") == 1
    train = tacops.lif(x, surrogate=surrogate.arctan())  # and this is what the operator does
    assert len(operations(*train)) == len(forth)


def test_what_goes_by_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision, more state than a membrane, steps that are looked at; and neurons without a surrogate."""
    served, learn = [], learning.learn

    def counted(*given: Any) -> Any:
        served.append(1)
        return learn(*given)

    monkeypatch.setattr(learning, "learn", counted)
    x, slope = mx.ones((3, 2, 4)), surrogate.arctan()
    tacops.lif(x.astype(mx.float16), surrogate=slope)
    tacops.lif(x, surrogate=slope, synapse_decay=0.5)
    tacops.lif(x, surrogate=slope, trace=True)
    tacops.lif(x, surrogate=slope, lengths=[1, 2])
    tacops.lif(x)
    assert not served
    tacops.lif(x, surrogate=slope)
    tacops.conv_lif(mx.ones((3, 1, 4, 2)), mx.ones((3, 3, 2)), surrogate=slope, reproducible=True)
    assert len(served) == 2
