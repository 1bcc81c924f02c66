"""JAX on two processes (`jax.distributed`): each has half of the batch, and both have one device's answers."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.processes import HANGS

pytest.importorskip("jax", reason="JAX's processes are not checked: JAX is not installed")

WORKER = """
import re, sys
import jax

jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", num_processes=2, process_id=int(sys.argv[2]))

import numpy as np
import tacops
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from tacops.layers import FrozenLayer

assert jax.device_count() == 2 and jax.local_device_count() == 1
rng = np.random.default_rng(0)
x = rng.random((4, 4, 6, 6, 3)) < 0.4
w, bias = rng.normal(0, 0.4, (4, 3, 3, 3)).astype("f4"), rng.normal(0, 0.3, 4).astype("f4")
beta = np.array([0.5, 0.9, 0.3, 0.8], "f4")
mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))
COMMON = {"padding": 1, "reproducible": True}

def put(array, *spec):
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh, P(*spec)), lambda index: array[index])

def same(name, got, want, **near):
    # every process looks at the parts that it has
    for one, other in zip(got, want, strict=True):
        for shard in one.addressable_shards:
            part, whole = np.asarray(shard.data), np.asarray(other)[shard.index]
            if near:
                np.testing.assert_allclose(part, whole, err_msg=name, **near)
            else:
                np.testing.assert_array_equal(part, whole, err_msg=name)

def collectives(program):
    return re.findall(r"\\b(all-[a-z]+|collective-permute|reduce-scatter)(?:-start)?\\(", program.as_text())

def conv_lif(x, w, bias, beta):
    return tuple(tacops.conv_lif(x, w, bias, beta=beta, **COMMON))

def tac_conv(x, w, bias, beta):
    return tuple(tacops.tac_conv(x, w, bias, chunk_size=2, beta=beta, **COMMON))

alone = tuple(map(jax.numpy.asarray, (w, bias, beta, x)))  # on one device of this process
spread = (put(w), put(bias), put(beta), put(x, None, "b"))
cut = put(beta, "b")
assert not cut.is_fully_addressable and not cut.is_fully_replicated
frozen = FrozenLayer({"weight": w, "bias": bias, "beta": beta}, {"chunk_size": 2, **COMMON})

def tac_conv(w, bias, beta, x):
    return tuple(tacops.tac_conv(x, w, bias, chunk_size=2, beta=beta, **COMMON))

def conv_lif(w, bias, beta, x):
    return tuple(tacops.conv_lif(x, w, bias, beta=beta, **COMMON))

for layer in (conv_lif, tac_conv):
    want = jax.jit(layer)(*alone)
    assert 0.05 < want[0].mean() < 0.95
    program = jax.jit(layer).lower(*spread).compile()
    assert collectives(program) == [], collectives(program)
    got = program(*spread)
    assert got[0].sharding.spec[1] == got[1].sharding.spec[0] == "b"
    same(layer.__name__, got, want)
same("a cut beta", tac_conv(*spread[:2], cut, spread[3]), want)
same("frozen", frozen(spread[3]), want)
program = jax.jit(lambda x: tuple(frozen(x))).lower(spread[3]).compile()
assert collectives(program) == [], collectives(program)
same("frozen under jit", program(spread[3]), want)

def loss(w, bias, beta, x):
    train = tacops.tac_conv(
        x, w, bias, chunk_size=2, beta=beta, mode="preserve", padding=1, surrogate=tacops.surrogate.arctan()
    )
    return train.spikes.mean() + (train.membrane**2).mean()

slope = jax.jit(jax.grad(loss, (0, 1, 2)))
want = slope(*alone)
program = slope.lower(*spread).compile()
assert collectives(program) == ["all-reduce"], collectives(program)
got = program(*spread)
assert all(g.is_fully_replicated for g in got)
same("gradient", got, want, rtol=1e-4, atol=1e-6)
print("same")
jax.distributed.shutdown()
"""


def test_two_processes() -> None:
    """Operators and frozen layers bit for bit one device's, without messages; the gradient of a training step has one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, port, str(rank)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [worker.communicate(timeout=HANGS) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for worker, (out, err) in zip(workers, said, strict=True):
        assert worker.returncode == 0, err[-3000:]
        assert out.splitlines()[-1] == "same", out
