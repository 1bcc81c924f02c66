"""Neurons that learn on PyTorch's CPUs: the compiled loops give autograd's gradients, in whatever way they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")
pytest.importorskip("numba", reason="the loops of gradients are not tried: Numba is not installed")

import tacops
from tacops import surrogate
from tacops.backends import torch_
from tacops.backends._cpu import cores, training
from tacops.backends._torch import loops, operation
from tacops.backends._torch import training as torch_training
from tests.support.training_layers import CASES, SURROGATES, Neurons, by_core, differs, gradients, wrong
from tests.support.training_mutants import MUTANTS, planted


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Which differentiated calls went to the loops: no test passes because nothing did."""
    calls: list[bool] = []
    real: Callable[..., Any] = torch_training.train_neurons

    def spy(*given: Any) -> Any:
        found = real(*given)
        calls.append(found is not None)
        return found

    monkeypatch.setattr(torch_, "train_neurons", spy)
    return calls


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_of_autograd(case: Neurons, dtype: str, tolerance: float, seen: list[bool]) -> None:
    """By currents, decay, threshold and membrane; spikes and membranes bit for bit."""
    got = gradients(case, dtype)
    assert seen
    assert all(seen)
    with by_core():
        want = gradients(case, dtype)
    assert not differs(got, want, tolerance)
    for a, b in zip(got[-2:], want[-2:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(40, 2, 700), (3, 5, 2000, 3), (1, 2, 3), (300, 1, 1)])
def test_sizes(shape: tuple[int, ...], seen: list[bool]) -> None:
    """Blocks, tasks and threads of all sizes, more channels than a block has neurons."""
    for case in (Neurons(membrane=True), Neurons("late", reproducible=True)):
        got = gradients(case, shape=shape)
        with by_core():
            assert not differs(got, gradients(case, shape=shape), 1e-12)
    assert all(seen[:1])


def test_without_a_mistake_nothing_differs() -> None:
    """The loops in Python, unchanged."""
    with planted(None):
        assert not list(wrong())


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mistake_is_found(name: str) -> None:
    """By some case."""
    with planted(name):
        assert any(wrong())


@pytest.mark.parametrize("reset", ["subtract", "zero", "none", "late"])
def test_gradcheck(reset: Any, seen: list[bool]) -> None:
    """The membrane is linear between spikes: numbers say what its derivatives are, second ones too."""
    rng = np.random.default_rng(3)
    current = torch.from_numpy(rng.normal(0.3, 1, (4, 2, 3))).requires_grad_()
    membrane = torch.from_numpy(rng.normal(0, 0.4, (2, 3))).requires_grad_()
    beta, threshold = torch.tensor([0.3, 0.5, 0.9]).double(), torch.tensor([0.7, 1.0, 1.1]).double()

    def last(*given: Any) -> Any:
        current, membrane, beta, threshold = given
        return tacops.lif(current, membrane=membrane, beta=beta, threshold=threshold, reset=reset).membrane

    given = current, membrane, beta.requires_grad_(), threshold.requires_grad_()
    assert torch.autograd.gradcheck(last, given)
    assert torch.autograd.gradgradcheck(last, given)
    assert all(seen)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("reset", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["", "arctan"])
def test_opcheck(name: str, reset: int) -> None:
    """What PyTorch demands of an operation: schema, fake tensors, autograd, compilers."""
    current = torch.randn(4, 2, 3, requires_grad=True)
    row = torch.full((3,), 0.5)
    for membrane in (None, torch.randn(2, 3, requires_grad=True)):
        settings = operation.Settings(1.0, 1.0, 2, reset, False, False, False, name, 2.0, True)
        given = current, membrane, row, row.clone().requires_grad_(), None, None, *settings
        torch.library.opcheck(operation.neurons, given)
        back = [x.detach() if isinstance(x, torch.Tensor) else x for x in given]
        kept, to_spikes, to_last = torch.empty(0), torch.randn(8, 2, 3), torch.randn(2, 3)
        torch.library.opcheck(operation._neurons_back, (*back, kept, to_spikes, to_last, True, False))


def chained(current: Any, beta: Any) -> Any:
    """A loss whose arrays depend on each other: the gradient by one must not run through another."""
    train = tacops.lif(current * beta, beta=beta * 0.9, threshold=beta + 0.3, surrogate=surrogate.sigmoid())
    return (train.spikes * train.spikes).sum() + (train.membrane**2).sum()


def test_gradients_of_gradients(seen: list[bool]) -> None:
    """As of the core's path, with arrays that depend on each other."""
    current, beta = torch.randn(5, 2, 3).double(), torch.tensor([0.4, 0.6, 0.8]).double()
    got = torch.autograd.functional.hessian(chained, (current, beta))
    assert all(seen)
    with by_core():
        want = torch.autograd.functional.hessian(chained, (current, beta))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)
    assert float(want[1][1].abs().max()) > 0.1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_vectorised_gradients(seen: list[bool]) -> None:
    """Many gradients of one call at once."""
    current, beta = torch.randn(5, 2, 3).double(), torch.tensor([0.4, 0.6, 0.8]).double()

    def last(current: Any, beta: Any) -> Any:
        return tacops.lif(current * beta, beta=beta, surrogate=surrogate.arctan()).spikes.sum(0)

    got = torch.autograd.functional.jacobian(last, (current, beta), vectorize=True)
    with by_core():
        want = torch.autograd.functional.jacobian(last, (current, beta))
    assert any(seen)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_of_any_layout(seen: list[bool]) -> None:
    """One number for all, transposed ones, none."""
    current = torch.randn(6, 2, 4, 3).double().requires_grad_()
    losses: list[Callable[[Any], Any]] = [
        lambda train: train.spikes.sum(),
        lambda train: (train.spikes.movedim(-1, 1) * torch.linspace(0, 1, train.spikes.shape[2]).double()).sum(),
        lambda train: train.membrane.sum(),
        lambda train: train.spikes[::2].sum(),
    ]
    for loss in losses:
        for given in (current, current.transpose(1, 2)):
            [got] = torch.autograd.grad(loss(tacops.lif(given, surrogate=surrogate.arctan())), current)
            with by_core():
                [want] = torch.autograd.grad(loss(tacops.lif(given, surrogate=surrogate.arctan())), current)
            torch.testing.assert_close(got, want)
    assert all(seen)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none", "late"])
@pytest.mark.parametrize("detach", [False, True])
def test_what_nothing_depends_on_has_no_gradient(reset: Any, detach: bool) -> None:
    """None, not zeros, with which optimisers would let a threshold decay: of one step, of several, with a membrane."""
    threshold, start = torch.tensor(1.0, requires_grad=True), torch.ones(2, 4)
    options: dict[str, Any] = {
        "reset": reset,
        "detach_reset": detach,
        "surrogate": surrogate.arctan(),
        "threshold": threshold,
    }
    for current, membrane in ((torch.ones(1, 2, 4), None), (torch.ones(3, 2, 4), None), (torch.ones(1, 2, 4), start)):
        current.requires_grad_()

        def found(current: Any = current, membrane: Any = membrane) -> Any:
            after = tacops.lif(current, membrane=membrane, **options).membrane
            return torch.autograd.grad(after.sum(), threshold, allow_unused=True)[0]

        with by_core():
            want = found()
        assert (found() is None) == (want is None)


def test_spikes_are_constants_without_a_surrogate(seen: list[bool]) -> None:
    """Nothing after them is differentiated; the membrane is."""
    train = tacops.lif(torch.ones(3, 2, 4, requires_grad=True), compact=True)
    assert all(seen)
    assert not train.spikes.requires_grad
    assert train.membrane.requires_grad


@pytest.mark.parametrize("name", ["own surrogate", "synapse", "trace", "half", "vmap", "compiled", "functional"])
def test_what_the_loop_can_t_goes_by_the_core(name: str, seen: list[bool]) -> None:
    """And has its gradient."""
    current = torch.full((3, 2, 4), 0.7, requires_grad=True)
    cases: dict[str, dict[str, Any]] = {
        "own surrogate": {"surrogate": lambda x: 1 / (1 + x * x)},
        "synapse": {"synapse_decay": 0.5},
        "trace": {"trace": True},
    }
    given: dict[str, Any] = {"surrogate": surrogate.arctan(), **cases.get(name, {})}

    def loss(current: Any) -> Any:
        return tacops.lif(current, **given).spikes.sum()

    if name == "half":
        current = current.detach().bfloat16().requires_grad_()
    run: Any = torch.compile(loss, backend="aot_eager", fullgraph=True) if name == "compiled" else loss
    if name == "vmap":
        grad = torch.func.vmap(torch.func.grad(loss), 1, 1)(current.detach()[:, :, None])
    elif name == "functional":
        grad = torch.func.grad(loss)(current.detach())
    else:
        [grad] = torch.autograd.grad(run(current), current)
    assert not any(seen)
    assert bool(grad.abs().sum() > 0)


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch, seen: list[bool]) -> None:
    """Sums are cut by sizes alone; no more threads are taken than PyTorch's."""
    shares: list[int] = []
    real: Callable[..., Any] = vars(training)["share_out"]

    def spy(run: Any, parts: Any) -> Any:
        shares.append(len(parts))
        return real(run, parts)

    monkeypatch.setattr(training, "share_out", spy)
    monkeypatch.setattr(training, "count_cores", lambda: 4)
    monkeypatch.setattr(training, "PARALLEL", 0)
    monkeypatch.setattr(training, "BLOCK", 1 << 10)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            shares.clear()
            found.append(gradients(Neurons(membrane=True), "float32", (6, 8, 70, 5)))
            assert set(shares) == ({count} if count > 1 else set())
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert cores.count_cores() >= 1


def test_without_numba_gradients_are_the_core_s(monkeypatch: pytest.MonkeyPatch, seen: list[bool]) -> None:
    """As before."""
    monkeypatch.setattr(loops, "can_train", lambda dtype: False)
    assert gradients(Neurons())[0].abs().sum() > 0
    assert not any(seen)


def test_all_surrogates_are_known() -> None:
    """Each has a loop, of the number by which it is called."""
    from tacops.backends._cpu import backwards
    from tacops.surrogate import _DERIVATIVES

    assert set(backwards.SURROGATES) == {"", *_DERIVATIVES}
    assert set(SURROGATES) == {"none", *_DERIVATIVES}
