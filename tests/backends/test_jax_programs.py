"""What JAX compiles, and when: programs for a symbolic batch, and none twice."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import tacops
from tacops.backends import Backend

jax = pytest.importorskip("jax", reason="JAX's programs are not checked: JAX is not installed")
jnp = jax.numpy

RNG = np.random.default_rng(0)
WEIGHT, BIAS = jnp.asarray(RNG.normal(0, 0.4, (4, 3, 3, 3)), "f4"), jnp.asarray(RNG.normal(size=4), "f4")
GROUPED, MATRIX = jnp.asarray(RNG.normal(0, 0.4, (6, 3, 3, 1)), "f4"), jnp.asarray(RNG.normal(0, 0.4, (4, 6)), "f4")

LAYERS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "conv": (lambda x, **o: tacops.tac_conv(x, WEIGHT, BIAS, padding=1, **o), (6, 6, 3)),
    "channels first": (
        lambda x, **o: tacops.tac_conv(x, jnp.moveaxis(WEIGHT, -1, 1), layout="channels_first", **o),
        (3, 6, 6),
    ),
    "depth-wise": (lambda x, **o: tacops.tac_conv(x, GROUPED[:3], groups=3, **o), (6, 6, 3)),
    "groups": (lambda x, **o: tacops.tac_conv(x, GROUPED, groups=3, **o), (6, 6, 3)),
    "linear": (lambda x, **o: tacops.tac_linear(x, MATRIX, BIAS, **o), (2, 6)),
}


@pytest.mark.parametrize(
    ("name", "cpu", "steps"),
    [
        *((name, True, 9) for name in LAYERS),
        *((name, False, 9) for name in ("conv", "groups", "linear")),
        *(("conv", cpu, steps) for cpu in (True, False) for steps in (1, 4)),
    ],
)
def test_symbolic_batch(
    need: Callable[[str], Backend], monkeypatch: pytest.MonkeyPatch, name: str, steps: int, cpu: bool
) -> None:
    """Exported once for every batch: several chunks, one chunk, and one that is shorter, as on a CPU and as elsewhere."""
    need("jax")
    from tacops.backends import jax_

    monkeypatch.setattr(jax_, "_on_cpu", lambda *arrays: cpu)
    layer, shape = LAYERS[name]
    (batch,) = jax.export.symbolic_shape("batch")
    for options in ({"reproducible": True}, {"mode": "preserve", "remat": steps == 9}):
        function = jax.jit(lambda x, options=options: tuple(layer(x, chunk_size=4, **options)))
        program = jax.export.export(function)(jax.ShapeDtypeStruct((steps, batch, *shape), bool))
        for size in (1, 3):
            x = jnp.asarray(np.random.default_rng(size).random((steps, size, *shape)) < 0.5)
            for got, want in zip(program.call(x), function(x), strict=True):
                exact = bool(options.get("reproducible"))
                np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=0, atol=0 if exact else 1e-5)


@pytest.fixture
def compiled(need: Callable[[str], Backend]) -> Iterator[list[str]]:
    """One entry for each program that XLA compiles."""
    need("jax")
    events: list[str] = []

    def note(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield events
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.mark.parametrize("remat", [False, True])
def test_a_lambda_is_compiled_once(compiled: list[str], remat: bool) -> None:
    """A surrogate written anew at every step of a training loop, not under jit: no program and no array is added."""
    from tacops.backends import jax_

    x, weight, slope = jnp.ones((7, 2, 6)), jnp.full((4, 6), 0.3), 2.0

    def step(weight: Any) -> Any:
        def loss(weight: Any) -> Any:
            train = tacops.tac_linear(
                x, weight, chunk_size=1, surrogate=lambda v: 1 / (1 + slope * abs(v)) ** 2, remat=remat
            )
            return train.spikes.sum()

        return weight - 0.001 * jax.grad(loss)(weight)

    weight = step(step(weight))
    assert compiled  # the listener listens
    compiled.clear()
    sizes = [cached._cache_size() for cached in (jax_._scan, jax_._schedule, jax_._remat)]
    gc.collect()
    arrays = len(jax.live_arrays())
    for _ in range(50):
        weight = step(weight)
    gc.collect()
    assert compiled == []
    assert [cached._cache_size() for cached in (jax_._scan, jax_._schedule, jax_._remat)] == sizes
    assert len(jax.live_arrays()) <= arrays


@pytest.mark.parametrize("remat", [False, True])
def test_another_slope_is_another_program(need: Callable[[str], Backend], remat: bool) -> None:
    """The same lambda with another value in it, or the same function after its variable has changed."""
    need("jax")
    x, weight = jnp.ones((5, 2, 6)), jnp.full((4, 6), 0.3)

    def gradient(surrogate: Any) -> Any:
        # without a reset, through which the derivative would enter more than once
        options: dict[str, Any] = {"chunk_size": 1, "reset": "none", "surrogate": surrogate, "remat": remat}
        return np.asarray(jax.grad(lambda w: tacops.tac_linear(x, w, **options).spikes.sum())(weight))

    slope = 1.0

    def variable(v: Any) -> Any:
        return slope + 0 * v

    first = gradient(variable)
    assert np.abs(first).max() > 0.1
    slope = 3.0
    np.testing.assert_allclose(gradient(variable), 3 * first, rtol=1e-6)
    for factor in (1.0, 2.0, 5.0):
        np.testing.assert_allclose(gradient(lambda v, f=factor: f + 0 * v), factor * first, rtol=1e-6)
        np.testing.assert_allclose(gradient(partial(lambda f, v: f + 0 * v, factor)), factor * first, rtol=1e-6)


SCALE = 1.0


def scaled(factor: Any) -> Any:
    """A function that reads a variable of its own and a global one."""
    return lambda v: v * factor * SCALE


def test_functions_as_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal where code and values are, and nowhere else."""
    from tacops.backends._jax.by_value import ByValue

    def key(function: Any) -> Any:
        return ByValue(function)

    loop = [key(lambda v: v + 1) for _ in range(2)]
    assert loop[0] == loop[1]
    assert hash(loop[0]) == hash(loop[1])
    assert key(lambda v: v + 1) != key(lambda v: v + 2)
    for same in (1.0, 1, "a", np.float32(0.1), (1, 2.0), float("nan"), tacops.surrogate.arctan(3.0)):
        assert key(scaled(same)) == key(scaled(same))
    for one, other in ((1.0, 2.0), (1, 1.0), (1, True), (0.0, -0.0), ((1, 2), (1, 3)), (np.float32(1), 1.0)):
        assert key(scaled(one)) != key(scaled(other))
    assert key(scaled(tacops.surrogate.arctan(3.0))) != key(scaled(tacops.surrogate.arctan(4.0)))
    one, other = jnp.ones(2), jnp.ones(2)  # arrays are what they are, not what they hold
    assert key(scaled(one)) == key(scaled(one))
    assert key(scaled(one)) != key(scaled(other))
    assert key(scaled(scaled(1.0))) == key(scaled(scaled(1.0))) != key(scaled(scaled(2.0)))
    before = key(scaled(1.0))
    monkeypatch.setitem(scaled.__globals__, "SCALE", 2.0)
    assert key(scaled(1.0)) != before

    def factorial() -> Any:
        def inner(n: int) -> int:
            return 1 if n < 2 else n * inner(n - 1)

        return inner

    assert key(factorial()) == key(factorial())
    assert key(factorial())(5) == 120


def test_a_subclass_is_more_than_its_fields() -> None:
    """A frozen dataclass that holds something beside its fields counts by identity."""
    from tacops.backends._jax.by_value import ByValue

    class Shifted(tacops.surrogate.Surrogate):
        def __call__(self, x: Any) -> Any:
            return x

    one, other = Shifted("arctan", 2.0), Shifted("arctan", 2.0)
    assert ByValue(one) == ByValue(one)
    assert ByValue(one) != ByValue(other)
