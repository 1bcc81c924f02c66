"""JAX's arrays on several devices: right, still cut, and no messages but those that must be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import ROOT

pytest.importorskip("jax", reason="JAX's meshes are not checked: JAX is not installed")


def on_four_devices(script: str) -> None:
    """Run a script where JAX takes the processor for four devices; it prints "same" at its end."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "same\n"


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
    on_four_devices(MESH)


CUTS = """
import re, jax, numpy as np, tacops
from collections import Counter
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from tacops.layers import FrozenLayer

rng = np.random.default_rng(0)
x, w = rng.random((6, 8, 8, 8, 4)) < 0.3, rng.normal(0, 0.5, (4, 3, 3, 4)).astype("f4")
CUT = {
    "batch": (P(None, "d"), P()),
    "output channels": (P(), P("d")),
    "space": (P(None, None, "d"), P()),
    "space, the other axis": (P(None, None, None, "d"), P()),
    "time": (P("d"), P()),
    "input channels": (P(None, None, None, None, "d"), P(None, None, None, "d")),
}
NAMES = re.compile(r"\\b(all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter)(?:-start)?\\(")

def layer(x, w, reproducible, surrogate=None):
    options = {"chunk_size": 2, "mode": "preserve", "padding": 1, "reproducible": reproducible, "surrogate": surrogate}
    return tuple(tacops.tac_conv(x, w, **options))

def where(x):
    return *x.sharding.spec, *(None,) * (x.ndim - len(x.sharding.spec))

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
            if kind is AxisType.Explicit and name in ("time", "input channels"):
                for call in (layer, jax.jit(layer, static_argnums=2)):
                    try:
                        call(a, b, reproducible)
                    except ValueError as error:
                        assert str(error).startswith("jax: spikes must be cut along batch and space alone by axes of an exp"), error
                        assert str(error).endswith(f"got {name.split(',')[0]} cut along 'd'"), error
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
            if name.startswith("space"):
                # borders to the one side, and to the other
                assert collectives == {"collective-permute": 2}, (case, collectives)
                assert (where(got[0]), where(got[1])) == (where(a), where(a)[1:]), case
            if name == "space" and not reproducible:
                # gradients of borders go back
                slope, collectives = compiled(jax.grad(loss), b, a)
                assert collectives == {"collective-permute": 4, "all-reduce": 1}, (case, collectives)
# windows of other sizes: rows, kernel, stride, padding, dilation, and what they take
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
TWO, SIX = {"collective-permute": 2}, {"collective-permute": 6}
for rows, size, stride, padding, dilation, must in (
    (16, 5, 1, 2, 1, TWO),
    (16, 3, 1, 2, 2, TWO),
    (16, 3, 2, 1, 1, {"collective-permute": 1}),
    (16, 2, 2, 0, 1, {}),
    (16, 5, 1, 0, 1, SIX),  # 12 rows: every move of the kernel is an exchange
    (8, 3, 1, 0, 1, {**TWO, "all-gather": 2}),  # 6 rows, which four devices don't divide: spikes and membrane become whole
):
    case = rows, size, stride, padding, dilation
    frames, kernel = rng.random((4, 2, rows, 4, 3)) < 0.3, rng.normal(0, 0.5, (4, size, 1, 3)).astype("f4")
    options = {"stride": (stride, 1), "padding": ((padding, padding), (0, 0)), "dilation": (dilation, 1)}
    def layer(x, w):
        return tuple(tacops.tac_conv(x, w, chunk_size=2, reproducible=True, **options))
    want = layer(jax.numpy.asarray(frames), jax.numpy.asarray(kernel))
    a, b = jax.device_put(frames, NamedSharding(mesh, P(None, None, "d"))), jax.device_put(kernel, NamedSharding(mesh, P()))
    got, collectives = compiled(layer, a, b)
    assert collectives == must, (case, collectives)
    assert got[0].sharding.spec == (P() if "all-gather" in must else P(None, None, "d")), case
    for one, other in zip(got, want):
        np.testing.assert_array_equal(one, other, err_msg=str(case))

# batch and space by a mesh of two axes; x and w as above
def both(x, w):
    return tuple(tacops.tac_conv(x, w, chunk_size=2, padding=1, reproducible=True))

want = both(jax.numpy.asarray(x), jax.numpy.asarray(w))
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2, 2), ("b", "s"), axis_types=(kind,) * 2)
    a, b = jax.device_put(x, NamedSharding(mesh, P(None, "b", "s"))), jax.device_put(w, NamedSharding(mesh, P()))
    got, collectives = compiled(both, a, b)
    assert collectives == TWO, (kind, collectives)
    assert (where(got[0]), where(got[1])) == (where(a), where(a)[1:]), kind
    for one, other in zip(got, want):
        np.testing.assert_array_equal(one, other)

# what explicit axes take without layers, and what they do not
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
current = x.astype("f4")
a, b = (jax.device_put(current, NamedSharding(mesh, spec)) for spec in (P(None, "d"), P(None, None, "d")))
want = tacops.lif(jax.numpy.asarray(current), reproducible=True)
assert want.spikes.any()
for one, other in zip((*tacops.lif(a, reproducible=True), *tacops.lif(b, reproducible=True)), (*want, *want)):
    np.testing.assert_array_equal(one, other)
for call in (lambda: tacops.max_pool(b, 2), lambda: tacops.lif(a, lengths=[3] * 8)):
    try:
        call()
    except ValueError as error:
        assert str(error).startswith("jax: arrays must be cut by axes with AxisType.Auto for this call"), error
    else:
        raise AssertionError(call)
print("same")
"""


def test_cuts() -> None:
    """Batch, output channels and space cut over four devices: right, still cut, and no messages but those that must be."""
    on_four_devices(CUTS)
