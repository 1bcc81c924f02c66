"""The operators inside each library's transformations: compiled and vectorised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tacops import SpikeTrain, tac_conv
from tacops.backends import Backend
from tests.support import judge
from tests.support.cases import assert_exact, grid_layer

LAYER = grid_layer(51, steps=5)
OPTIONS: dict[str, dict[str, Any]] = {
    "collapse": {"chunk_size": 2, "beta": 0.5},
    "preserve": {"chunk_size": 2, "mode": "preserve", "aggregation": "sum", "beta": 0.5},
    "exact": {"chunk_size": 1, "reset": "zero", "beta": 0.5},
}
DIFFERENTIABLE = ["jax", "mlx", "torch"]


def vmap(name: str) -> Any:
    """Return the library's vectorising map."""
    if name == "jax":
        import jax

        return jax.vmap
    if name == "mlx":
        import mlx.core as mx

        return mx.vmap
    import torch

    return torch.func.vmap


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("name", ["jax", "mlx"])
def test_compiled(need: Callable[[str], Backend], name: str, case: str) -> None:
    """Under jax.jit and mx.compile the grid cases still match the judge bit for bit; a second call reuses the program."""
    backend, options = need(name), OPTIONS[case]
    function = backend.compile(lambda x, w, b: tuple(tac_conv(x, w, b, padding=1, **options)))
    want = judge.tac(*LAYER, padding=1, **options)
    for _ in range(2):
        spikes, membrane = function(*(backend.from_numpy(a) for a in LAYER))
        assert_exact(SpikeTrain(backend.to_numpy(spikes), backend.to_numpy(membrane)), want)


@pytest.mark.parametrize("name", ["jax", "mlx"])
def test_compiled_with_traced_parameters(need: Callable[[str], Backend], name: str) -> None:
    """Decay, threshold, aggregation and membrane may be traced arrays: their values are not looked at."""
    backend = need(name)

    def function(x: Any, w: Any, beta: Any, threshold: Any, aggregation: Any, membrane: Any) -> tuple[Any, ...]:
        more = {"beta": beta, "threshold": threshold, "aggregation": aggregation, "membrane": membrane}
        return tuple(tac_conv(x, w, chunk_size=2, **more))

    beta, threshold = np.full(6, 0.5, np.float32), np.array([1, 2, 1, 1, 0.5, 1], np.float32)
    aggregation, membrane = np.array([0.75, 1], np.float32), np.ones((2, 3, 4, 6), np.float32)
    arrays = (LAYER.spikes, LAYER.weight, beta, threshold, aggregation, membrane)
    spikes, last = backend.compile(function)(*(backend.from_numpy(np.asarray(a)) for a in arrays))
    more: dict[str, Any] = {
        "beta": beta,
        "threshold": threshold,
        "aggregation": aggregation,
        "membrane": membrane,
    }
    want = judge.tac(LAYER.spikes, LAYER.weight, chunk_size=2, **more)
    assert_exact(SpikeTrain(backend.to_numpy(spikes), backend.to_numpy(last)), want)


def test_torch_compile(need: Callable[[str], Backend]) -> None:
    """torch.compile traces the operator (the eager executor: what is tested is the tracing, not the code generator)."""
    need("torch")
    import torch

    function = torch.compile(lambda x, w: tuple(tac_conv(x, w, chunk_size=2, beta=0.5)), backend="eager")
    spikes, membrane = function(torch.tensor(LAYER.spikes), torch.tensor(LAYER.weight))
    want = judge.tac(LAYER.spikes, LAYER.weight, chunk_size=2, beta=0.5)
    assert_exact(SpikeTrain(spikes.numpy(), membrane.numpy()), want)


def test_torch_compile_of_what_varies(need: Callable[[str], Backend]) -> None:
    """Numbers that change from call to call make two programs, of the first and of any; so do batches with dynamic=True."""
    need("torch")
    import torch

    programs: list[Any] = []

    def counted(graph: Any, inputs: Any) -> Any:
        programs.append(graph)
        return graph

    def function(x: Any, w: Any, number: float) -> tuple[Any, ...]:
        return tuple(tac_conv(x, w, chunk_size=2, beta=number, threshold=2.0 * number, synapse_decay=number))

    spikes, weight = torch.tensor(LAYER.spikes), torch.tensor(LAYER.weight)
    compiled = torch.compile(function, backend=counted, fullgraph=True)
    for number in (0.5, 0.25, 0.75, 0.375):
        want, got = function(spikes, weight, number), compiled(spikes, weight, number)
        for array, expected in zip((got[0], *got[1]), (want[0], *want[1]), strict=True):
            assert torch.equal(array, expected)
    assert len(programs) == 2
    programs.clear()
    compiled = torch.compile(function, backend=counted, fullgraph=True, dynamic=True)
    for batch in (2, 3, 4):
        x = torch.cat([spikes, spikes], axis=1)[:, :batch].contiguous()
        assert torch.equal(compiled(x, weight, 0.5)[0], function(x, weight, 0.5)[0])
    assert len(programs) == 1


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_vmap(need: Callable[[str], Backend], name: str, case: str) -> None:
    """Over an ensemble of weights for the same input, and over inputs: what a loop gives."""
    backend, options = need(name), OPTIONS[case]
    rng = np.random.default_rng(1)
    weights = np.stack([LAYER.weight, LAYER.weight[::-1], rng.permutation(LAYER.weight)])
    x, w = backend.from_numpy(LAYER.spikes), backend.from_numpy(weights.copy())
    spikes, membrane = vmap(name)(lambda w: tuple(tac_conv(x, w, **options)))(w)
    for n in range(3):
        want = judge.tac(LAYER.spikes, weights[n], **options)
        assert_exact(SpikeTrain(backend.to_numpy(spikes)[n], backend.to_numpy(membrane)[n]), want)
    inputs = np.stack([LAYER.spikes, LAYER.spikes[::-1]])
    spikes, membrane = vmap(name)(lambda x: tuple(tac_conv(x, w[0, ...], **options)))(backend.from_numpy(inputs))
    want = judge.tac(inputs[1], weights[0], **options)
    assert_exact(SpikeTrain(backend.to_numpy(spikes)[1], backend.to_numpy(membrane)[1]), want)
