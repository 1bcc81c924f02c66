"""What JAX compiles, and when: programs for a symbolic batch, for many devices, and none twice."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import tacops
from tacops.backends import Backend
from tests.support import ROOT

jax = pytest.importorskip("jax", reason="JAX's programs are not checked: JAX is not installed")
jnp = jax.numpy

RNG = np.random.default_rng(0)
WEIGHT, BIAS = jnp.asarray(RNG.normal(0, 0.4, (4, 3, 3, 3)), "f4"), jnp.asarray(RNG.normal(size=4), "f4")
GROUPED, MATRIX = jnp.asarray(RNG.normal(0, 0.4, (6, 3, 3, 1)), "f4"), jnp.asarray(RNG.normal(0, 0.4, (4, 6)), "f4")

MESH = """
import jax, numpy as np, tacops
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

assert jax.device_count() == 4
rng = np.random.default_rng(0)
arrays = [rng.random((5, 8, 6, 6, 3)) < 0.4, rng.normal(0, 0.4, (4, 3, 3, 3)).astype("f4"), rng.normal(size=4).astype("f4")]
arrays[0] = arrays[0].astype("f4")
beta = np.array([0.5, 0.9, 0.3, 0.8], "f4")
start = rng.normal(size=(8, 6, 6, 4)).astype("f4")

def layer(x, w, b, beta, **options):
    given = {"chunk_size": 2, "padding": 1, "beta": beta, "surrogate": tacops.surrogate.arctan(), "reproducible": True}
    return tuple(tacops.tac_conv(x, w, b, **{**given, **options}))

def gradient(function):
    def loss(*a):
        spikes, membrane = function(*a)
        return spikes.sum() + (membrane**2).sum()
    return jax.grad(loss, (0, 1, 2, 3))

def same(name, got, want, exact):
    for one, other in zip(got, want, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        if exact:
            np.testing.assert_array_equal(one, other, err_msg=name)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(other).max(), err_msg=name)

CASES = {
    "start": {"membrane": jnp.asarray(start)},
    "collapse": {},
    "one chunk": {"chunk_size": 5},
    "preserve, remat": {"mode": "preserve", "remat": True},
}
GRADIENTS = ("start", "preserve, remat")  # compiling them takes most of the time
explicit = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Explicit,))
automatic = jax.make_mesh((4,), ("b",), axis_types=(AxisType.Auto,))
for name, options in CASES.items():
    one = [jnp.asarray(a) for a in (*arrays, beta)]
    want = layer(*one, **options)
    if name in GRADIENTS:
        slope = jax.jit(gradient(lambda *a: layer(*a, **options)))(*one)
    assert 0.02 < want[0].mean() < 0.98
    membrane = [options["membrane"]] if "membrane" in options else []
    rest = {key: value for key, value in options.items() if key != "membrane"}

    def cut(x, w, b, beta):
        spec = (P(None, "b"), P(), P(), P(), *[P("b") for _ in membrane])
        def inner(x, w, b, beta, *u):
            return layer(x, w, b, beta, **rest, **({"membrane": u[0]} if u else {}))
        return jax.shard_map(inner, mesh=automatic, in_specs=spec, out_specs=(P(None, "b"), P("b")))(x, w, b, beta, *membrane)

    same(name, jax.jit(cut)(*one), want, True)
    if name in GRADIENTS:
        same(name, jax.jit(gradient(cut))(*one), slope, False)
    with jax.set_mesh(explicit):
        spread = [jax.device_put(a, NamedSharding(explicit, P(None, "b") if a.ndim == 5 else P())) for a in one]
        here = rest | {"membrane": jax.device_put(start, NamedSharding(explicit, P()))} if membrane else rest
        got = jax.jit(lambda *a: layer(*a, **here))(*spread)
        assert got[0].sharding.spec[1] == got[1].sharding.spec[0] == "b"
        same(name, got, want, True)
        if name in GRADIENTS:
            same(name, jax.jit(gradient(lambda *a: layer(*a, **here)))(*spread), slope, False)

def inner(x, beta):  # the parameters differ from device to device, the data do not
    return jax.lax.psum(tacops.lif(x, beta=beta, reproducible=True).spikes, "b")

x = jnp.asarray(start[None] + np.zeros((3, 1, 1, 1, 1), "f4"))
betas = jnp.asarray(np.arange(4, dtype="f4") / 4)
got = jax.shard_map(lambda x, beta: inner(x, beta[0]), mesh=automatic, in_specs=(P(), P("b")), out_specs=P())(x, betas)
np.testing.assert_array_equal(got, sum(tacops.lif(x, beta=float(b), reproducible=True).spikes for b in betas))
print("same")
"""


def test_meshes() -> None:
    """A batch cut by `jax.shard_map` with its checks on, or by an explicit mesh: one device's bits, its gradients, still cut."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", MESH], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "same\n"


CUTS = """
import re, jax, numpy as np, tacops
from collections import Counter
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from tacops.layers import FrozenLayer

rng = np.random.default_rng(0)
x, w = rng.random((6, 8, 8, 5, 4)) < 0.3, rng.normal(0, 0.5, (4, 3, 3, 4)).astype("f4")
CUT = {
    "batch": (P(None, "d"), P()),
    "output channels": (P(), P("d")),
    "space": (P(None, None, "d"), P()),
    "time": (P("d"), P()),
    "input channels": (P(None, None, None, None, "d"), P(None, None, None, "d")),
}
NAMES = re.compile(r"\\b(all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter)(?:-start)?\\(")

def layer(x, w, reproducible, surrogate=None):
    options = {"chunk_size": 2, "mode": "preserve", "padding": 1, "reproducible": reproducible, "surrogate": surrogate}
    return tuple(tacops.tac_conv(x, w, **options))

def compiled(function, *arrays):
    program = jax.jit(function).lower(*arrays).compile()
    return program(*arrays), dict(Counter(NAMES.findall(program.as_text())))

for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
    for name, (cut_x, cut_w) in CUT.items():
        frames = x[:4] if name == "time" else x
        a, b = jax.device_put(frames, NamedSharding(mesh, cut_x)), jax.device_put(w, NamedSharding(mesh, cut_w))
        for reproducible in (False, True):
            case = (kind.name, name, reproducible)
            if kind is AxisType.Explicit and name not in ("batch", "output channels"):
                for call in (layer, jax.jit(layer, static_argnums=2)):
                    try:
                        call(a, b, reproducible)
                    except ValueError as error:
                        assert str(error).startswith("jax: spikes must be cut along the batch alone by axes of an exp"), error
                        assert str(error).endswith(f"got {name} cut along 'd'"), error
                    else:
                        raise AssertionError(case)
                continue
            want = layer(jax.numpy.asarray(frames), jax.numpy.asarray(w), reproducible)
            got, collectives = compiled(lambda a, b: layer(a, b, reproducible), a, b)
            for one, other in zip(got, want):
                if reproducible:
                    np.testing.assert_array_equal(one, other, err_msg=str(case))
                else:
                    np.testing.assert_allclose(one, other, atol=1e-5, err_msg=str(case))
            loss = lambda b, a: layer(a, b, reproducible, tacops.surrogate.arctan())[0].mean()
            if name == "batch":
                assert collectives == {}, (case, collectives)
                assert got[0].sharding.spec[1] == "d", case
                slope, collectives = compiled(jax.grad(loss), b, a)
                assert collectives == {"all-reduce": 1}, (case, collectives)
            if name == "output channels":
                assert got[0].sharding.spec[4] == "d", case
                # whether the grid fits is one answer for all channels
                assert collectives == ({"all-reduce": 1} if reproducible else {}), (case, collectives)
            if name == "space":
                assert set(collectives) == {"collective-permute"}, (case, collectives)
                assert got[0].sharding.spec[2] == "d", case
print("same")
"""


def test_cuts() -> None:
    """Batch, output channels and space cut over four devices: right, still cut, and no messages but those that must be."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", CUTS], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "same\n"


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
