"""`jax.export`: programs for a number of chunks, and of samples, that is not known, stored and loaded."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tacops
from tacops.backends import Backend
from tacops.layers import Flatten, FrozenLayer, Pool2d, Sequential

jax = pytest.importorskip("jax", reason="JAX's programs are not checked: JAX is not installed")
jnp = jax.numpy

RNG = np.random.default_rng(0)
WEIGHT, DENSE = RNG.normal(0, 0.4, (4, 3, 3, 3)).astype("f4"), RNG.normal(0.05, 0.3, (5, 36)).astype("f4")
NET = Sequential(
    FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2, "padding": 1, "reproducible": True}),
    Pool2d("max", 2),
    Flatten(),
    FrozenLayer({"weight": DENSE}, {"chunk_size": 3, "reproducible": True}),
)


def layer(x: Any, **options: Any) -> tuple[Any, ...]:
    return tuple(tacops.tac_conv(x, jnp.asarray(WEIGHT), padding=1, reproducible=True, **options))


def exported(function: Callable[..., Any], shape: str, constraints: tuple[str, ...] = ()) -> Any:
    symbols = jax.export.symbolic_shape(shape, constraints=constraints)
    return jax.export.export(jax.jit(function))(jax.ShapeDtypeStruct((*symbols, 6, 6, 3), bool))


CASES: dict[str, tuple[Callable[..., Any], str, tuple[str, ...]]] = {
    "a network": (lambda x: tuple(NET(x)), "6*n, b", ()),
    "by a constraint": (lambda x: layer(x, chunk_size=2, mode="preserve", trace=True), "t, b", ("mod(t, 2) == 0",)),
}


@pytest.mark.parametrize("name", CASES)
def test_symbolic_time(need: Callable[[str], Backend], name: str) -> None:
    """One program for any number of whole chunks, one chunk among them, and of samples: bit for bit a call."""
    need("jax")
    function, shape, constraints = CASES[name]
    program = exported(function, shape, constraints)
    if importlib.util.find_spec("flatbuffers"):  # JAX needs it to store programs
        program = jax.export.deserialize(program.serialize())
    for steps, samples in ((6, 1), (12, 3)):
        x = jnp.asarray(np.random.default_rng(steps).random((steps, samples, 6, 6, 3)) < 0.4)
        want = jax.tree.leaves(function(x))
        assert 0.01 < want[0].mean() < 0.99
        for one, other in zip(jax.tree.leaves(program.call(x)), want, strict=True):
            np.testing.assert_array_equal(one, other)


def test_symbolic_time_elsewhere(need: Callable[[str], Backend], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU steps are computed in blocks, but for a number of steps that is not known."""
    need("jax")
    from tacops.backends import jax_

    monkeypatch.setattr(jax_, "_on_cpu", lambda *arrays: False)
    x = jnp.asarray(RNG.random((20, 2, 6, 6, 3)) < 0.4)
    program = exported(lambda x: tuple(tacops.lif(x * 1.0, reproducible=True)), "t, b")
    for one, other in zip(program.call(x), tacops.lif(x * 1.0, reproducible=True), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", [{}, {"mode": "preserve", "trace": True}], ids=str)
def test_symbolic_batch_with_lengths(need: Callable[[str], Backend], options: dict[str, Any]) -> None:
    """Sequences of their own length, of any number of samples: bit for bit a call."""
    need("jax")
    given = {"chunk_size": 2, **options}
    [batch] = jax.export.symbolic_shape("b")
    shapes = jax.ShapeDtypeStruct((5, batch, 6, 6, 3), bool), jax.ShapeDtypeStruct((batch,), np.int32)
    program = jax.export.export(jax.jit(lambda x, lengths: layer(x, lengths=lengths, **given)))(*shapes)
    for samples in (1, 6):
        x, lengths = jnp.asarray(RNG.random((5, samples, 6, 6, 3)) < 0.4), jnp.arange(samples) % 6
        want = layer(x, lengths=lengths, **given)
        for one, other in zip(*map(jax.tree.leaves, (program.call(x, lengths), want)), strict=True):
            np.testing.assert_array_equal(one, other)
    assert 0.01 < want[0].mean() < 0.98


def test_symbolic_batch_with_remat(need: Callable[[str], Backend]) -> None:
    """Parts of a number of frames that is known, of any number of samples."""
    need("jax")
    program = exported(lambda x: layer(x, chunk_size=2, remat=True), "7, b")
    x = jnp.asarray(RNG.random((7, 3, 6, 6, 3)) < 0.4)
    for one, other in zip(*map(jax.tree.leaves, (program.call(x), layer(x, chunk_size=2))), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("function", "shape", "said"),
    [
        (lambda x: layer(x, chunk_size=2), "t, b", "tac_conv: T must be a number, or a symbol for whole chunks such as 2*n"),
        (lambda x: layer(x, chunk_size=4), "2*n, b", "tac_conv: T must be a number, or a symbol for whole chunks such as 4*n"),
        (lambda x: NET(x), "2*n, b", "tac_linear: T must be a number, or a symbol for whole chunks such as 3*n"),
        (lambda x: tacops.aggregate(x * 1.0, 2), "t, b", "aggregate: T must be a number, or a symbol for whole chunks"),
        (lambda x: layer(x, chunk_size=2, remat=True), "2*n, b", "tac_conv: T must be a number, not a symbol, with lengths"),
        (lambda x: tacops.lif(x * 1.0, remat=True), "t, b", "lif: T must be a number, not a symbol, with lengths or remat"),
        (
            lambda x: layer(x, chunk_size=2, lengths=jnp.asarray([3, 2])),
            "2*n, 2",
            "tac_conv: T must be a number, not a symbol, with lengths or remat; got 2*n",
        ),
        (
            lambda x: layer(x, chunk_size=2, lengths=[3, 2]),
            "5, b",
            "tac_conv: lengths must be one for each of the b samples; got shape (2,)",
        ),
    ],
)  # fmt: skip
def test_what_needs_a_number(need: Callable[[str], Backend], function: Any, shape: str, said: str) -> None:
    """A shorter last chunk, sequences of their own length and parts of `remat` are refused, with what to write instead."""
    need("jax")
    with pytest.raises(ValueError, match="^" + re.escape(said)):
        exported(function, shape)
