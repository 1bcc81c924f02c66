"""The Metal kernel's text, run by this CPU: random neurons equal the core's bit for bit, mistakes are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tacops
from tacops._core.neurons import LIFStep
from tests.cuda.cases import CORE, currents, neurons
from tests.cuda.host import MISSING
from tests.metal.host import HostKernel

COUNT = 200
RNG = np.random.default_rng(0)
SPIKES = RNG.random((6, 2, 5, 4, 2)) < 0.5
WEIGHT = RNG.normal(0, 0.5, (3, 3, 3, 2)).astype(np.float32)
MUTANTS = {
    "a tie does not fire": ("v >= threshold;", "v > threshold;"),
    "decays twice": ("mul(decay, u)", "mul(decay, mul(decay, u))"),
    "one rounding for decay and current": (
        "add(rounded ? rint(decayed) : decayed, current)",
        "rounded ? add(rint(decayed), current) : fma(decay, u, current)",
    ),
    "does not round the membrane": ("rounded ? rint(decayed)", "rounded ? decayed"),
    "rounds halves up": ("rint(decayed)", "floor(add(decayed, (REAL)0.5))"),
    "resets to zero by multiplication": (
        "reset == ZERO && after.fired ? (REAL)0",
        "reset == ZERO ? mul(v, sub((REAL)1, after.spike))",
    ),
    "resets late by the new membrane": ("add(u >= threshold ?", "add(v >= threshold ?"),
    "subtracts where nothing is reset": ("reset == SUBTRACT ? sub", "reset != ZERO ? sub"),
    "forgets the poison": ("poison[0], RESET", "(REAL)0, RESET"),
    "starts from zero": ("RESTING ? (REAL)0 : start[n]", "(REAL)0"),
    "starts from a membrane that is not there": ("bool resting = RESTING;", "bool resting = false;"),
    "rests for ever": ("resting = false;\n            at", "at"),
    "holds a current for one step": ("held < sizes[2]", "held < 1"),
    "misses the last frame": ("frame < (ulong)sizes[1]", "frame + 1 < (ulong)sizes[1]"),
    "has one decay": ("decay[n % (ulong)sizes[3]]", "decay[0]"),
    "has one threshold": ("threshold[n % (ulong)sizes[4]]", "threshold[0]"),
    "reads the first frame": ("currents[frame * neurons + n]", "currents[n]"),
    "writes every step to the first": ("at += neurons;", ""),
    "compact spikes carry the number": ("COMPACT ? (SPIKE)after.fired", "COMPACT ? (SPIKE)after.spike"),
    "keeps the start": ("membrane[n] = u;", "membrane[n] = RESTING ? u : start[n];"),
}


@pytest.fixture
def metal(need: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLX's adapter, told that it is on Metal, with the kernel on the CPU: ``metal.kernel``."""
    need("mlx")
    if MISSING:
        pytest.skip(MISSING)
    from tacops.backends import mlx_
    from tacops.backends._metal import launching

    kernel = HostKernel(launching.header(), launching.body())
    monkeypatch.setattr(mlx_, "_compiles", lambda: True)
    monkeypatch.setattr(launching, "missing", lambda: None)
    monkeypatch.setattr(launching, "_kernel", lambda: kernel)
    # what takes derivatives is not compiled: MLX would call a C++ compiler for every program
    monkeypatch.setattr(mlx_.BACKEND.namespace(None), "compile", lambda function: function)
    mlx_._block.cache_clear()
    monkeypatch.setattr(mlx_, "kernel", kernel, raising=False)
    yield mlx_
    mlx_._block.cache_clear()


def check(mlx: Any, seed: int) -> None:
    """One random set of neurons, by the adapter and by the core."""
    rng = np.random.default_rng(seed)
    steps, repeat, channels = (int(n) for n in rng.integers(1, 5, 3))
    given = neurons(rng, "float32", channels)
    x = currents(rng, "float32", (steps, 3, channels), given["rounded"])
    start = currents(rng, "float32", (3, channels), given["rounded"]) if rng.integers(2) else None
    if given["reset"] == "zero" and not given["rounded"] and rng.integers(2):
        x[rng.random(x.shape) < 0.1] = np.inf
    state = None if start is None else (start,)
    want, (membrane,) = CORE.scan(LIFStep(CORE, **given), x, state, repeat)
    array = mlx.BACKEND.from_numpy
    on_mlx = {name: array(value) if isinstance(value, np.ndarray) else value for name, value in given.items()}
    before = mlx.kernel.launches
    step, begin = LIFStep(mlx.BACKEND, **on_mlx), None if start is None else (array(start),)
    spikes, (after,) = mlx.BACKEND.scan(step, array(x), begin, repeat)
    for got, due in ((mlx.BACKEND.to_numpy(spikes), want), (mlx.BACKEND.to_numpy(after), membrane)):
        assert got.dtype == due.dtype
        np.testing.assert_array_equal(got, due)
        if due.dtype != bool:
            np.testing.assert_array_equal(np.signbit(got[~np.isnan(due)]), np.signbit(due[~np.isnan(due)]))
    assert mlx.kernel.launches == before + 1


@pytest.mark.parametrize("backwards", [False, True])
def test_equals_the_core(metal: Any, backwards: bool) -> None:
    """Spikes and membranes, signs of zero included, in one launch, whichever thread comes first."""
    metal.kernel.backwards = backwards
    for seed in range(COUNT):
        check(metal, seed)


@pytest.mark.parametrize("name", MUTANTS)
def test_mistake_is_found(metal: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results differ where the text is wrong."""
    from tacops.backends._metal import launching

    old, new = MUTANTS[name]
    texts = launching.header(), launching.body()
    assert sum(old in text for text in texts) == 1, f"bring {old!r} up to date"
    kernel = HostKernel(*(text.replace(old, new) for text in texts))
    monkeypatch.setattr(launching, "_kernel", lambda: kernel)
    monkeypatch.setattr(metal, "kernel", kernel)
    with pytest.raises(AssertionError):  # noqa: PT012
        for seed in range(COUNT):
            check(metal, seed)


@pytest.mark.parametrize(
    "options", [{}, {"mode": "preserve", "chunk_size": 3}, {"reproducible": True, "compact": True}]
)
def test_layers(metal: Any, options: dict[str, Any]) -> None:
    """Through the operators."""
    want = tacops.tac_conv(SPIKES, WEIGHT, padding=1, **{"chunk_size": 1, "reproducible": True, **options})
    arrays = metal.BACKEND.namespace(None).array(SPIKES), metal.BACKEND.namespace(None).array(WEIGHT)
    got = tacops.tac_conv(*arrays, padding=1, **{"chunk_size": 1, "reproducible": True, **options})
    assert metal.kernel.launches == 1
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(metal.BACKEND.to_numpy(a), b)


def test_what_it_does_not_serve_goes_by_operations(metal: Any) -> None:
    """Other dtypes, other neurons."""
    x = metal.BACKEND.namespace(None).array(RNG.normal(0.3, 1, (4, 2, 3)).astype(np.float32))
    tacops.lif(x.astype(metal.BACKEND.namespace(None).float16))
    tacops.lif(x, synapse_decay=0.5)
    assert metal.kernel.launches == 0
    tacops.lif(x)
    assert metal.kernel.launches == 1


@pytest.mark.parametrize("options", [{"reset": "late"}, {"reset": "zero", "repeat": 2}, {"reproducible": True}])
def test_neurons_that_learn(metal: Any, options: dict[str, Any]) -> None:
    """One launch where nothing is transformed; operations, with the same spikes, where something is."""
    mx, choice = metal.BACKEND.namespace(None), {"surrogate": tacops.surrogate.arctan(), **options}
    x = mx.array(RNG.normal(0.3, 1, (5, 2, 3)).astype(np.float32))
    spikes = np.array(tacops.lif(x, **choice).spikes)
    assert metal.kernel.launches == 1
    learning = mx.value_and_grad(lambda x: (tacops.lif(x, **choice).spikes * spikes).sum())
    value, gradient = learning(x)
    assert metal.kernel.launches == 1
    assert value.item() == spikes.sum() > 0
    assert np.abs(np.array(gradient)).max() > 0


def test_derivatives_and_vmap(metal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same neurons as operations: MLX can't differentiate a kernel, nor batch it. Here it is one without derivative."""
    from tacops.backends._metal import launching

    mx, launches = metal.BACKEND.namespace(None), []
    x, tangent = (mx.array(RNG.normal(0.3, 1, (5, 2, 3)).astype(np.float32)) for _ in range(2))
    start, beta = mx.array(RNG.normal(0, 1, (2, 3)).astype(np.float32)), mx.array([0.5, 0.9, 0.75])

    def kernel(*, inputs: Any, output_shapes: Any, **_: Any) -> list[Any]:
        # operations without a derivative, forwards or backwards
        currents, u, decay, *_others = (mx.view(mx.view(x, mx.int32), x.dtype) for x in inputs)
        launches.append(1)
        for current in metal.BACKEND.unstack(currents):
            u = decay * u + current
        return [mx.zeros(output_shapes[0]), u]

    def last(x: Any, start: Any, beta: Any) -> Any:
        return (tacops.lif(x, membrane=start, beta=beta, reset="none").membrane ** 2).sum()

    def results() -> list[Any]:
        slopes = mx.grad(last, argnums=(0, 1, 2))(x, start, beta)
        _, forward = mx.jvp(last, [x, start, beta], [tangent, start, beta])
        many = mx.vmap(lambda x: tacops.lif(x, beta=beta).spikes, in_axes=1, out_axes=1)(x[:, :, None])
        return [metal.BACKEND.to_numpy(array) for array in (*slopes, *forward, many)]

    monkeypatch.setattr(launching, "_kernel", lambda: kernel)
    got, count = results(), len(launches)
    assert count >= 3
    monkeypatch.setattr(launching, "missing", lambda: "left to operations")
    for a, b in zip(got, results(), strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert len(launches) == count


def test_why_it_is_not_used(need: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No Metal, the switch, or a kernel that doesn't build: one warning, and the core's operations from then on."""
    need("mlx")
    from tacops.backends import mlx_
    from tacops.backends._metal import launching

    mx = mlx_.BACKEND.namespace(None)
    assert "neurons" not in mlx_.BACKEND.describe() or mx.default_device().type == mx.DeviceType.gpu
    monkeypatch.setattr(launching, "_on_metal", lambda: False)
    assert launching.missing() == "no Metal"
    monkeypatch.setattr(launching, "_on_metal", lambda: True)
    monkeypatch.setenv(launching.SWITCH, "0")
    assert mlx_._neurons() == "MLX's operations, compiled (TACOPS_METAL=0)"
    monkeypatch.delenv(launching.SWITCH)

    def broken() -> Any:
        raise RuntimeError("unable to build\nlong text")

    monkeypatch.setattr(launching, "_kernel", broken)
    launching._failure.cache_clear()
    with pytest.warns(UserWarning, match="slower.*RuntimeError: unable to build$"):
        reason = launching.missing()
    assert launching.missing() == reason
    launching._failure.cache_clear()
    monkeypatch.setattr(launching, "_kernel", lambda: lambda **given: [mx.zeros((1, 1, 1)), mx.zeros((1, 1))])
    with pytest.warns(UserWarning, match="steps one neuron wrong"):
        launching.missing()
    launching._failure.cache_clear()
