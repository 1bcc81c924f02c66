"""Neurons that learn on PyTorch's CPUs are one operation in the graph: whatever looks at the graph sees what the core would show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")
pytest.importorskip("numba", reason="the loops of gradients are not tried: Numba is not installed")

import tacops
from tacops import surrogate
from tests.support.training_layers import by_core

ARCTAN = surrogate.arctan()


def currents() -> Any:
    return torch.from_numpy(np.random.default_rng(0).normal(0.3, 1, (5, 2, 3)).astype(np.float32))


def both(call: Callable[[], Any]) -> tuple[Any, Any]:
    """What a call gives by the loops and by the core."""
    got = call()
    with by_core():
        return got, call()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")  # of PyTorch itself
def test_compiled_autograd() -> None:
    """A backward pass that is compiled alone, of a forward pass that was not: zeros once, without a word."""

    def gradient() -> Any:
        x = currents().requires_grad_()
        loss = tacops.lif(x, surrogate=ARCTAN).spikes.sum()
        torch._dynamo.reset()
        with torch._dynamo.config.patch(compiled_autograd=True):
            torch.compile(lambda loss: loss.backward(), backend="aot_eager")(loss)
        return x.grad

    got = gradient()
    x = currents().requires_grad_()
    with by_core():
        tacops.lif(x, surrogate=ARCTAN).spikes.sum().backward()
    assert x.grad.abs().sum() > 1
    torch.testing.assert_close(got, x.grad)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, when it first loads forward mode's rules
@pytest.mark.parametrize("output", ["spikes", "membrane"])
def test_tangents_of_gradients(output: str) -> None:
    """Forward over reverse, where the tangent is born behind the neurons."""

    def tangent() -> Any:
        x = currents().requires_grad_()
        out = getattr(tacops.lif(x, surrogate=ARCTAN), output)
        forward = torch.autograd.forward_ad
        with forward.dual_level():
            scale = forward.make_dual(torch.ones_like(out), torch.full_like(out, 2.0))
            (gradient,) = torch.autograd.grad((out * scale).sum(), x)
            return forward.unpack_dual(gradient).tangent

    got, want = both(tangent)
    assert want.abs().sum() > 0
    torch.testing.assert_close(got, want)


def test_states_of_inference_mode() -> None:
    """A state that was warmed up there, and currents of a frozen part."""
    weight = torch.eye(3).requires_grad_()
    with torch.inference_mode():
        membrane, x = currents()[0], currents()
    threshold = torch.tensor(0.7).requires_grad_()
    frames = torch.ones(6, 2, 3, dtype=torch.bool)

    def gradient() -> list[Any]:
        fired = tacops.tac_linear(frames, weight, chunk_size=1, membrane=membrane, surrogate=ARCTAN).spikes.sum()
        learned = tacops.lif(x, threshold=threshold, surrogate=ARCTAN).spikes.sum()
        return [*torch.autograd.grad(fired, weight), *torch.autograd.grad(learned, threshold)]

    got, want = both(gradient)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("hooked", "used"), [("membrane", "spikes"), ("spikes", "membrane")])
def test_hooks_of_an_output_that_is_not_used(hooked: str, used: str) -> None:
    """Are not called."""
    calls: list[Any] = []
    train = tacops.lif(currents().requires_grad_(), surrogate=ARCTAN)
    getattr(train, hooked).register_hook(calls.append)
    getattr(train, used).sum().backward()
    assert not calls


def test_nothing_depends_on_it() -> None:
    """The decay of a first step, the threshold of neurons that are never reset: no gradient, instead of one of zeros."""
    beta, threshold = torch.tensor(0.5).requires_grad_(), torch.tensor(1.0).requires_grad_()
    assert both(lambda: tacops.lif(currents()[:1], beta=beta).membrane.requires_grad) == (False, False)
    assert both(lambda: tacops.lif(currents(), threshold=threshold, reset="none").membrane.requires_grad) == (
        False,
        False,
    )


def test_a_state_that_is_written_into() -> None:
    """Between forward and backward pass, as training loops keep their states."""
    state, x = torch.zeros(2, 3), currents().requires_grad_()
    train = tacops.lif(x, membrane=state, surrogate=ARCTAN)
    state.copy_(train.membrane.detach())
    train.spikes.sum().backward()
    got, x.grad = x.grad, None
    with by_core():
        tacops.lif(x, membrane=torch.zeros(2, 3), surrogate=ARCTAN).spikes.sum().backward()
    torch.testing.assert_close(got, x.grad)
