"""Gradients of a layer through each library's transformations: every one gives what complex steps give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tacops.backends import Backend
from tests.operators.test_gradient_agreement import SURROGATES, assert_alike, by_numbers, network, problem, weighed

pytestmark = [
    # what PyTorch's own forward mode and torch.func.linearize warn of
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
]

Need = Callable[[str], Backend]
Function = Callable[..., Any]
Table = dict[str, dict[str, Function]]

CONV, LINEAR, RESET = "tac_conv-collapse", "tac_linear", "subtract"
GIVEN, SMOOTH = SURROGATES["fast_sigmoid"]
TOLERANCE = 1e-5
"""Of the largest entry of each array."""


@dataclass(frozen=True)
class Losses:
    """The loss in three ways, functions of what it is differentiated `by` and of the factors of membrane and spikes."""

    xp: Any
    results: Function
    names: list[str]

    @property
    def by(self) -> tuple[int, ...]:
        """Places of the arrays that are differentiated by."""
        return tuple(range(len(self.names)))

    @property
    def batch(self) -> tuple[int | None, ...]:
        """Which axis of an argument counts samples; None: they share it."""
        return (*map({"input": 1, "membrane0": 0}.get, self.names), 0, 1)

    def whole(self, *values: Any) -> Any:
        """Of all samples."""
        return weighed(self.results(*values[:-2]), values[-2:])

    def sample(self, *values: Any) -> Any:
        """Of one sample, whose arguments have no batch axis."""
        pairs = zip(values, self.batch, strict=True)
        return self.whole(*(v if axis is None else self.xp.expand_dims(v, axis=axis) for v, axis in pairs))

    def stream(self, scan: Function) -> Function:
        """Of pieces of two frames with the membrane handed on by ``scan(piece, membrane, frames)``."""

        def loss(*values: Any) -> Any:
            named = dict(zip(self.names, values[:-2], strict=True))

            def piece(membrane: Any, frames: Any) -> Any:
                return self.results(*(named | {"input": frames, "membrane0": membrane}).values())

            x = named["input"]
            after, spikes = scan(piece, named["membrane0"], self.xp.reshape(x, (-1, 2, *x.shape[1:])))
            return weighed([after, self.xp.reshape(spikes, (-1, *spikes.shape[2:]))], values[-2:])

        return loss


def loop(xp: Any) -> Function:
    """``lax.scan``, as a loop."""

    def scan(piece: Function, membrane: Any, frames: Any) -> tuple[Any, Any]:
        fired = []
        for n in range(frames.shape[0]):
            membrane, spikes = piece(membrane, frames[n, ...])
            fired.append(spikes)
        return membrane, xp.stack(fired)

    return scan


def backward(loss: Function) -> Function:
    """`Tensor.backward`."""

    def gradients(*values: Any) -> list[Any]:
        leaves = [v.detach().clone().requires_grad_() for v in values[:-2]]
        loss(*leaves, *values[-2:]).backward()
        return [leaf.grad for leaf in leaves]

    return gradients


def pulled(vjp: Function, loss: Function) -> Function:
    """The gradient as 1 times the Jacobian; `vjp` is JAX's or PyTorch's."""

    def gradients(*values: Any) -> Any:
        value, pull = vjp(loss, *values)
        return pull(0 * value + 1)

    return gradients


def graph(torch: Any, function: Function) -> Function:
    """`torch.compile` into one graph, without the code generator, which takes long."""
    torch.compiler.reset()
    compiled: Function = torch.compile(function, backend="aot_eager", fullgraph=True)
    return compiled


def dual(torch: Any, loss: Function) -> Function:
    """`torch.autograd.forward_ad`."""
    forward = torch.autograd.forward_ad

    def derivative(values: Any, tangents: Any) -> Any:
        with forward.dual_level():
            return forward.unpack_dual(loss(*map(forward.make_dual, values, tangents))).tangent

    return derivative


def summed(vmap: Function, f: Losses) -> Function:
    """The loss as the sum over vectorised samples."""
    return lambda *v: vmap(f.sample, f.batch)(*v).sum()


GRADIENT: Table = {
    "jax": {
        "grad": lambda jax, f: jax.grad(f.whole, f.by),
        "jit(grad)": lambda jax, f: jax.jit(jax.grad(f.whole, f.by)),
        "grad(jit)": lambda jax, f: jax.grad(jax.jit(f.whole), f.by),
        "jit(value_and_grad)": lambda jax, f: lambda *v: jax.jit(jax.value_and_grad(f.whole, f.by))(*v)[1],
        "vjp": lambda jax, f: pulled(jax.vjp, f.whole),
        "jit(jacfwd)": lambda jax, f: jax.jit(jax.jacfwd(f.whole, f.by)),
        "jit(grad(checkpoint))": lambda jax, f: jax.jit(jax.grad(jax.checkpoint(f.whole), f.by)),
        "jit(grad(vmap))": lambda jax, f: jax.jit(jax.grad(summed(jax.vmap, f), f.by)),
        "jit(grad(scan))": lambda jax, f: jax.jit(jax.grad(f.stream(jax.lax.scan), f.by)),
        "jit(jacfwd(scan))": lambda jax, f: jax.jit(jax.jacfwd(f.stream(jax.lax.scan), f.by)),
        "jit(grad(scan(checkpoint)))": lambda jax, f: jax.jit(
            jax.grad(f.stream(lambda piece, *rest: jax.lax.scan(jax.checkpoint(piece), *rest)), f.by)
        ),
    },
    "mlx": {
        "grad": lambda mx, f: mx.grad(f.whole, f.by),
        "compile(grad)": lambda mx, f: mx.compile(mx.grad(f.whole, f.by)),
        "grad(compile)": lambda mx, f: mx.grad(mx.compile(f.whole), f.by),
        "value_and_grad": lambda mx, f: lambda *v: mx.value_and_grad(f.whole, f.by)(*v)[1],
        "vjp": lambda mx, f: lambda *v: mx.vjp(f.whole, list(v), [mx.array(1.0)])[1],
        "grad(checkpoint)": lambda mx, f: mx.grad(mx.checkpoint(f.whole), f.by),
        "grad(vmap)": lambda mx, f: mx.grad(summed(mx.vmap, f), f.by),
        "compile(grad(vmap))": lambda mx, f: mx.compile(mx.grad(summed(mx.vmap, f), f.by)),
        "grad(stream)": lambda mx, f: mx.grad(f.stream(loop(mx)), f.by),
    },
    "torch": {
        "backward": lambda torch, f: backward(f.whole),
        "func.grad": lambda torch, f: torch.func.grad(f.whole, f.by),
        "func.grad_and_value": lambda torch, f: lambda *v: torch.func.grad_and_value(f.whole, f.by)(*v)[0],
        "func.vjp": lambda torch, f: pulled(torch.func.vjp, f.whole),
        "func.jacrev": lambda torch, f: torch.func.jacrev(f.whole, f.by),
        "func.jacfwd": lambda torch, f: torch.func.jacfwd(f.whole, f.by),
        "backward(checkpoint)": lambda torch, f: backward(
            lambda *v: torch.utils.checkpoint.checkpoint(f.whole, *v, use_reentrant=False)
        ),
        "backward(vmap)": lambda torch, f: backward(summed(torch.func.vmap, f)),
        "func.grad(vmap)": lambda torch, f: torch.func.grad(summed(torch.func.vmap, f), f.by),
        "backward(stream)": lambda torch, f: backward(f.stream(loop(torch))),
        "backward(compile)": lambda torch, f: backward(graph(torch, f.whole)),
        "compile(func.grad)": lambda torch, f: graph(torch, torch.func.grad(f.whole, f.by)),
        "compile(func.grad(vmap))": lambda torch, f: graph(torch, torch.func.grad(summed(torch.func.vmap, f), f.by)),
    },
}
VECTORISED: Table = {
    "jax": {
        "vmap(grad)": lambda jax, loss, by, axes: jax.vmap(jax.grad(loss, by), axes),
        "jit(vmap(grad))": lambda jax, loss, by, axes: jax.jit(jax.vmap(jax.grad(loss, by), axes)),
    },
    "mlx": {
        "vmap(grad)": lambda mx, loss, by, axes: mx.vmap(mx.grad(loss, by), axes),
        "compile(vmap(grad))": lambda mx, loss, by, axes: mx.compile(mx.vmap(mx.grad(loss, by), axes)),
    },
    "torch": {
        "func.vmap(grad)": lambda torch, loss, by, axes: torch.func.vmap(torch.func.grad(loss, by), axes),
        "func.vmap(jacrev)": lambda torch, loss, by, axes: torch.func.vmap(torch.func.jacrev(loss, by), axes),
        "compile(func.vmap(grad))": lambda torch, loss, by, axes: graph(
            torch, torch.func.vmap(torch.func.grad(loss, by), axes)
        ),
    },
}
COMPILED: Table = {name: dict(list(row.items())[-1:]) for name, row in VECTORISED.items()}
FORWARD: Table = {
    "jax": {
        "jvp": lambda jax, loss: lambda v, t: jax.jvp(loss, v, t)[1],
        "jit(jvp)": lambda jax, loss: jax.jit(lambda v, t: jax.jvp(loss, v, t)[1]),
        "jit(linearize)": lambda jax, loss: jax.jit(lambda v, t: jax.linearize(loss, *v)[1](*t)),
    },
    "mlx": {
        "jvp": lambda mx, loss: lambda v, t: mx.jvp(loss, list(v), list(t))[1][0],
    },
    "torch": {
        "func.jvp": lambda torch, loss: lambda v, t: torch.func.jvp(loss, v, t)[1],
        "func.linearize": lambda torch, loss: lambda v, t: torch.func.linearize(loss, *v)[1](*t),
        "autograd.forward_ad": dual,
        "compile(func.jvp)": lambda torch, loss: graph(torch, lambda v, t: torch.func.jvp(loss, v, t)[1]),
    },
}


def rows(table: Table, missing_in_mlx: str = "") -> list[Any]:
    """Library, transformation, network; what MLX has for products alone is tried with convolutions, too."""
    found = []
    for name, transforms in table.items():
        for transform in transforms:
            lacks = name == "mlx" and bool(missing_in_mlx)
            marks = [pytest.mark.xfail(raises=ValueError, strict=False, reason=missing_in_mlx)] if lacks else []
            found.append(pytest.param(name, transform, CONV, marks=marks, id=f"{name}-{transform}"))
            if lacks:
                found.append(pytest.param(name, transform, LINEAR, id=f"{name}-{transform}-linear"))
    return found


def start(backend: Backend, net: str) -> tuple[Any, Losses, tuple[Any, ...]]:
    """The library, the losses and their arguments."""
    arrays, factors = problem(net, RESET)
    values = tuple(backend.from_numpy(a.astype(np.float32)) for a in (*arrays.values(), *factors))
    library = pytest.importorskip({"jax": "jax", "mlx": "mlx.core", "torch": "torch"}[backend.name])
    return library, Losses(backend.namespace(values[0]), network(net, RESET, (GIVEN,)), list(arrays)), values


@pytest.mark.parametrize(("name", "transform", "net"), rows(GRADIENT))
def test_gradient(need: Need, name: str, transform: str, net: str) -> None:
    """The gradient itself."""
    backend = need(name)
    library, f, values = start(backend, net)
    found = GRADIENT[name][transform](library, f)(*values)
    got = {key: backend.to_numpy(g) for key, g in zip(f.names, found, strict=False)}
    assert_alike(got, by_numbers(net, RESET, (SMOOTH,), 1e-30j), TOLERANCE)


NO_VMAP = "MLX 0.32.4: [Primitive::vmap] Not implemented for AsStrided, in the gradient of conv_general by its weight"


@pytest.mark.parametrize(("name", "transform", "net"), rows(VECTORISED, NO_VMAP))
def test_gradient_of_each_sample(need: Need, name: str, transform: str, net: str) -> None:
    """Inputs' and membranes' are the samples' own; the others add up."""
    backend = need(name)
    library, f, values = start(backend, net)
    found = VECTORISED[name][transform](library, f.sample, f.by, f.batch)(*values)
    got = {}
    for key, g, axis in zip(f.names, found, f.batch, strict=False):
        each = backend.to_numpy(g)
        assert np.abs(each).reshape(len(each), -1).max(axis=1).min() > 0.01
        got[key] = each.sum(axis=0) if axis is None else np.moveaxis(each, 0, axis)
    assert_alike(got, by_numbers(net, RESET, (SMOOTH,), 1e-30j), TOLERANCE)


@pytest.mark.parametrize(("name", "transform", "net"), rows(COMPILED, NO_VMAP))
def test_gradient_of_each_network(need: Need, name: str, transform: str, net: str) -> None:
    """An ensemble of two, whose arrays are all different."""
    backend = need(name)
    library, f, values = start(backend, net)
    both = [f.xp.stack([0.75 * v, v]) for v in values]
    found = VECTORISED[name][transform](library, f.whole, f.by, (0,) * len(both))(*both)
    got = {key: backend.to_numpy(g) for key, g in zip(f.names, found, strict=True)}
    assert_alike({key: g[1] for key, g in got.items()}, by_numbers(net, RESET, (SMOOTH,), 1e-30j), TOLERANCE)
    assert all(np.abs(g[0] - g[1]).max() > 0.01 for g in got.values())


@pytest.mark.parametrize(
    ("name", "transform", "net"), rows(FORWARD, "MLX 0.32.4: [Primitive::jvp] Not implemented for Convolution")
)
def test_forward_mode(need: Need, name: str, transform: str, net: str) -> None:
    """The derivative along a direction in each array in turn."""
    backend = need(name)
    library, f, values = start(backend, net)
    derivative = FORWARD[name][transform](library, f.whole)
    rng = np.random.default_rng(5)
    for n, (key, array) in enumerate(by_numbers(net, RESET, (SMOOTH,), 1e-30j).items()):
        direction = rng.uniform(0.5, 1, array.shape) * np.sign(array)  # so that nothing cancels out
        tangent = backend.from_numpy(direction.astype(np.float32))
        tangents = tuple(tangent if n == m else 0 * v for m, v in enumerate(values))
        along = float(derivative(values, tangents))
        np.testing.assert_allclose(along, (direction * array).sum(), rtol=TOLERANCE, err_msg=key)
