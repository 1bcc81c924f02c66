"""What JAX keeps of a layer for its backward pass, and that derivatives of every kind go through what it computes again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

jax: Any = pytest.importorskip("jax")

import jax.numpy as jnp

import tacops
from tacops import surrogate


def scans(program: Any) -> Any:
    """All loops, in the order in which they run."""
    for equation in program.eqns:
        if equation.primitive.name == "scan":
            yield equation
        for value in equation.params.values():
            yield from scans(value.jaxpr) if hasattr(value, "jaxpr") else ()


@pytest.mark.parametrize("chunk", [1, 2])
def test_the_backward_pass_keeps_no_unfolded_frames(chunk: int) -> None:
    """Beside spikes, slopes and a mask of what is finite, a layer hands on nothing that grows with the steps."""
    steps, currents = 4, (4, 2, 6, 6, 5)
    frames = jnp.ones((steps * chunk, 2, 6, 6, 3), bool)

    def loss(weight: Any) -> Any:
        given: dict[str, Any] = {"chunk_size": chunk, "padding": 1, "surrogate": surrogate.arctan()}
        return tacops.tac_conv(frames, weight, **given).spikes.sum()

    program = jax.make_jaxpr(jax.grad(loss))(jnp.ones((5, 3, 3, 3)))
    forward = next(scan for scan in scans(program.jaxpr))
    stacked = [out.aval.shape for out in forward.outvars if out.aval.shape[:1] == (steps,)]
    assert sum(map(math.prod, stacked)) <= 3 * math.prod(currents)


def test_derivatives_of_any_kind() -> None:
    """Of currents that a layer computes again: as of currents that are given, by input and weight."""
    rng = np.random.default_rng(2)
    frames, weight = (jnp.asarray(rng.normal(0.4, 1, shape), jnp.float32) for shape in ((3, 1, 2), (2, 2)))
    given: dict[str, Any] = {"beta": 0.7, "surrogate": lambda x: 1.0 / (1.0 + x * x)}

    def inside(frames: Any, weight: Any) -> Any:
        return tacops.tac_linear(frames, weight, chunk_size=1, **given)

    def outside(frames: Any, weight: Any) -> Any:
        return tacops.lif(frames @ weight.T, **given)

    def derivatives(layer: Any) -> list[Any]:
        def loss(frames: Any, weight: Any) -> Any:
            spikes, membrane = layer(frames, weight)
            return (spikes * spikes * weight[0]).sum() + (membrane**2).sum()

        def everything(*arrays: Any) -> Any:
            second = jax.hessian(loss, (0, 1))(*arrays), jax.jvp(loss, arrays, arrays)[1]
            return jax.grad(loss, (0, 1))(*arrays), second

        return [np.asarray(x) for x in jax.tree.leaves(jax.jit(everything)(frames, weight))]

    for got, want in zip(derivatives(inside), derivatives(outside), strict=True):
        assert np.abs(want).max() > 0.1
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
