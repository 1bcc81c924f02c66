"""PyTorch's kernels for GPUs as one operation in the graph: compilers, transforms, derivatives of derivatives, launches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cuda.triton_host import MISSING, interpreted

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

import torch

import tacops
from tacops import surrogate
from tacops.backends import torch_
from tacops.backends._torch import operation
from tacops.testing import conformance_checks, run_checks

ARCTAN = surrogate.arctan()
X = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1))
ONES = torch.ones_like(X)


@pytest.fixture
def launches() -> Iterator[Any]:
    """How often each kernel was launched."""
    with interpreted() as count:
        yield count


def neurons(x: Any) -> tuple[Any, Any]:
    train = tacops.lif(x, surrogate=ARCTAN)
    return train.spikes, train.membrane


def loss(x: Any) -> Any:
    spikes, membrane = neurons(x)
    return (spikes * torch.linspace(-1, 1, spikes.numel()).reshape(spikes.shape)).sum() + (membrane**2).sum()


def gradient(x: Any) -> Any:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0]


def tangent(x: Any) -> Any:
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        return forward.unpack_dual(neurons(forward.make_dual(x, ONES))[0]).tangent


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")  # type: ignore[no-any-return]


def trained(x: Any) -> Any:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(compiled(loss)(x), x)[0]


WAYS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], int, int]] = {
    "eager": (gradient, gradient, 1, 1),
    "inference": (neurons, neurons, 1, 0),
    "compiled": (lambda x: compiled(neurons)(x), neurons, 1, 0),
    "compiled training": (trained, gradient, 1, 1),
    "func.grad": (torch.func.grad(loss), gradient, 0, 0),
    "func.vmap": (lambda x: torch.func.vmap(neurons, 1, (1, 0))(x), neurons, 0, 0),
    "func.jvp": (lambda x: torch.func.jvp(neurons, (x,), (ONES,))[1][0], tangent, 0, 0),
    "forward mode": (tangent, tangent, 0, 0),
    "compiled func.jvp": (
        lambda x: compiled(lambda x: torch.func.jvp(neurons, (x,), (ONES,))[1][0])(x),
        tangent,
        0,
        0,
    ),
}
"""What is computed, what by the core gives the same, and how many launches of each kernel it takes."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, when it first loads forward mode's rules
@pytest.mark.parametrize("name", WAYS)
def test_ways(name: str) -> None:
    """The core's numbers, by the kernels or by the core."""
    run, core, forth, back = WAYS[name]
    want = core(X)
    with interpreted() as launches:
        got = run(X)
    torch.testing.assert_close(got, want)
    assert (launches.lif, launches.lif_back) == (forth, back)


def test_a_program_runs_on_in_forward_mode(launches: Any) -> None:
    """One that was compiled without: its tangents would be lost."""
    run = compiled(neurons)
    run(X)
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        got = forward.unpack_dual(run(forward.make_dual(X, ONES))[0]).tangent
    torch.testing.assert_close(got, tangent(X))
    assert float(got.abs().sum()) > 0


def test_gradients_of_gradients() -> None:
    """By the core."""
    want = torch.autograd.functional.hessian(loss, X[:2])
    with interpreted() as launches:
        torch.testing.assert_close(torch.autograd.functional.hessian(loss, X[:2]), want)
    assert launches.lif == 1
    assert float(want.abs().max()) > 0.1


@pytest.mark.parametrize("reset", [0, 1, 2, 3])
def test_opcheck(reset: int, launches: Any) -> None:
    """What PyTorch demands of an operation: schema, fake tensors, autograd, compilers."""
    x = X.transpose(0, 2).contiguous().transpose(0, 2).requires_grad_()
    row, start = torch.full((3,), 0.5), torch.randn(2, 3, requires_grad=True)
    settings = operation.Settings(1.0, 1.0, 2, reset, False, False, False, "arctan", 2.0, True)
    given = x, start, row, row.clone().requires_grad_(), None, torch.tensor(0.0), *settings
    torch.library.opcheck(operation.neurons, given)
    back = [x.detach() if isinstance(x, torch.Tensor) else x for x in given]
    kept, to_spikes = torch.randn(8, 2, 3), torch.randn(8, 2, 3)
    torch.library.opcheck(operation._neurons_back, (*back, kept, to_spikes, None, True, False))


@pytest.mark.parametrize(
    "options",
    [{"synapse_decay": 0.5}, {"trace": True}],
    ids=["synapse_decay", "trace"],
)
def test_what_no_kernel_knows_goes_by_the_core(options: dict[str, Any]) -> None:
    """And has its gradient."""

    def run() -> Any:
        x = X.clone().requires_grad_()
        return torch.autograd.grad(tacops.lif(x, **{"surrogate": ARCTAN, **options}).spikes.sum(), x)[0]

    want = run()
    with interpreted() as launches:
        torch.testing.assert_close(run(), want)
    assert float(want.abs().sum()) > 0
    assert (launches.lif, launches.lif_back) == (0, 0)


def by_channel(x: Any) -> Any:
    return torch.linspace(0.5, 1, x.shape[-1]) / (1 + x * x)


def by_branch(x: Any) -> Any:
    return 1 / (1 + x.abs()) if bool(x.mean() > 0) else torch.exp(-x * x)  # which can't be vectorised


OWN = {"by channel": by_channel, "by the mean": lambda x: 1 / (1 + x * x + x.mean()), "by branch": by_branch, "number": lambda x: 0.5}  # fmt: skip


@pytest.mark.parametrize("reset", ["subtract", "late", "zero"])
@pytest.mark.parametrize("name", OWN)
def test_a_surrogate_of_one_s_own(name: str, reset: Any) -> None:
    """Is called for each step with the membranes of the batch, as by the core, and is no other; again, by the core."""

    def run(again: bool) -> Any:
        x, start = X.clone().requires_grad_(), torch.full((2, 3), 1.2, requires_grad=True)
        beta, threshold = (torch.full((3,), value, requires_grad=True) for value in (0.7, 0.9))
        train = tacops.lif(x, surrogate=OWN[name], reset=reset, membrane=start, beta=beta, threshold=threshold)
        loss = (train.spikes * torch.linspace(-1, 1, 24).reshape(4, 2, 3)).sum() + (train.membrane**2).sum()
        found = torch.autograd.grad(loss, (x, start, beta, threshold), create_graph=again)
        return torch.autograd.grad(sum((g**2).sum() for g in found), x)[0] if again else found

    for again in (False, True):
        want = run(again)
        with interpreted() as launches:
            torch.testing.assert_close(run(again), want)
        assert (launches.lif, launches.lif_back) == (1, 1)


def test_a_wrong_surrogate_of_one_s_own_is_refused_at_once(launches: Any) -> None:
    """Not in the backward pass."""
    with pytest.raises(ValueError, match=r"^lif: surrogate must be a function that returns an array of its argument's"):
        tacops.lif(X.clone().requires_grad_(), surrogate=lambda x: x[0])


def test_a_surrogate_of_one_s_own_changes_no_inference(launches: Any) -> None:
    """Nothing asks for its derivative."""
    tacops.lif(X, surrogate=lambda x: 1 / (1 + x * x))
    assert launches.lif == 1


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_hold_no_operation_of_ours(strict: bool, launches: Any) -> None:
    """They run where this package is not."""

    class Neurons(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return neurons(x)

    neurons(X)  # which loads what Dynamo can't
    assert "tacops" not in str(torch.export.export(Neurons(), (X,), strict=strict).graph)


def test_programs_of_older_compilers_hold_the_kernel(launches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of PyTorch 2.7 to 2.11, in which every compiled program takes itself for an exported one."""
    want = neurons(X)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: torch.compiler.is_dynamo_compiling())
    torch.testing.assert_close(compiled(neurons)(X), want)
    assert launches.lif == 2


def test_kept_memory(launches: Any) -> None:
    """Beside the currents at most 4 bytes for each step of a neuron."""
    x, sizes = torch.randn(8, 4, 64, requires_grad=True), {}

    def keep(tensor: Any) -> Any:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        spikes, _ = neurons(x)
    assert sum(sizes.values()) <= 4 * (x.numel() + spikes.numel())
    assert launches.lif == 1


def test_conformance() -> None:
    """The suite's quick tier and its gradients, neurons by the kernels; without large arrays, which take the interpreter long."""
    checks = [check for check in conformance_checks() if check.tier == 1 or "grad" in check.id]
    with interpreted(block=1 << 12) as launches:
        outcomes = list(run_checks(torch_.BACKEND, [check for check in checks if "large" not in check.id]))
    assert [(outcome.check.id, outcome.message) for outcome in outcomes if outcome.status == "failed"] == []
    assert launches.lif > 150
    assert launches.lif_back > 20
