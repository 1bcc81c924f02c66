"""The default path on tensor cores, which a user has to switch on: bool spikes by three bfloat16 parts of each weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.cuda.triton_host import MISSING, interpreted

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

import torch

import tacops
from tacops._backend.protocol import Backend
from tacops.backends._switches import TENSOR_CORES
from tacops.backends._torch import fused, kernels
from tacops.backends.torch_ import BACKEND
from tests.cuda.triton_cases import equal, state
from tests.cuda.triton_layers import draw

COUNT = 24
RNG = np.random.default_rng(0)
X = RNG.random((6, 2, 5, 4, 3)) < 0.4
W = (RNG.integers(-99, 100, (5, 3, 2, 3)) / 256).astype(np.float32)
ROW = RNG.uniform(0.5, 1.0, 5).astype(np.float32)
START = RNG.normal(0, 0.3, (2, 3, 3, 5)).astype(np.float32)


@pytest.fixture(autouse=True)
def on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch."""
    monkeypatch.setenv(TENSOR_CORES, "1")


@pytest.fixture
def launches() -> Iterator[Any]:
    """How often each kernel was launched."""
    with interpreted() as count:
        yield count


def check_parts(seed: int) -> None:
    """Where sums are exact, spikes and membranes are the core's bit for bit; weights have up to 23 bits."""
    conv, step, frames, membrane, repeat = draw(seed)
    top = (1 << 22) // conv.weight[0].numel()
    large = torch.from_numpy(np.random.default_rng(seed).integers(-top, top, conv.weight.shape, endpoint=True)).float()
    conv = replace(conv, weight=large if seed % 2 else conv.weight, aggregation=None, exact=False, fits_half=False)
    step, spikes = replace(step, rounded=False, poison=None, unit=None), frames != 0
    currents = conv(spikes.reshape(-1, *spikes.shape[2:]))
    currents = currents.reshape(*spikes.shape[:2], *currents.shape[1:])
    want = Backend.scan(BACKEND, step, currents, state(membrane), repeat)
    got = BACKEND.schedule(conv, step, spikes, state(membrane), repeat)
    equal(got[0], want[0])
    equal(got[1][0] + 0.0, want[1][0] + 0.0)


def test_equals_the_core() -> None:
    """In two sizes of programs."""
    for tile in ((16, 16), (64, 32)):
        with interpreted(tile=tile) as launches:
            for seed in range(COUNT):
                check_parts(seed)
        assert launches.conv_lif == COUNT


MUTANTS = {
    "without the lowest bits": ("small = tl.dot(spiked, low, small)", "small = small"),
    "without the middle bits": ("small = tl.dot(spiked, middle, small)", "small = small"),
    "without the small parts": ("if not WHOLE:", "if False:"),
    "middle bits of the weight": ("rest = x - high.to(tl.float32)", "rest = x"),
    "lowest bits of the rest": ("(rest - middle.to(tl.float32)).to", "rest.to"),
    "small parts of all frames": (
        "        small = tl.full([PLACES, FILTERS], 0.0, tl.float32)",
        "        small = tl.full([PLACES, FILTERS], 0.0, tl.float32) if t == 0 else small",
    ),
    "rounds the membrane": ("whole(u * beta) if WHOLE else u * beta", "whole(u * beta)"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mistake_is_found(name: str) -> None:
    """By some case."""
    with interpreted(("convolving", *MUTANTS[name]), tile=(16, 16)):
        for seed in range(COUNT):
            try:
                check_parts(seed)
            except AssertionError:
                return
    pytest.fail("not found")


def test_as_accurate_as_float32(launches: Any) -> None:
    """Of weights of 24 bits, whose sums are not exact; beside what NumPy's float32 loses."""
    x, w = RNG.random((1, 2, 6, 6, 64)) < 0.3, RNG.normal(0, 1, (20, 3, 3, 64)).astype(np.float32)
    want, single = (tacops.conv_lif(x, w.astype(kind), reset="none").membrane for kind in (np.float64, np.float32))
    got = tacops.conv_lif(torch.from_numpy(x), torch.from_numpy(w), reset="none").membrane.numpy()
    assert launches.conv_lif == 1
    assert abs(got - want).max() <= 2 * abs(single - want).max() < 1e-4


def run(x: Any = X, weight: Any = W, **options: Any) -> Any:
    given = {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}
    return tacops.tac_conv(torch.as_tensor(x), torch.as_tensor(weight), **{"chunk_size": 1, **given})


FUSED: dict[str, dict[str, Any]] = {
    "plain": {},
    "padded": {"padding": 1, "stride": 2, "reset": "zero"},
    "parameters": {"beta": ROW, "threshold": ROW, "membrane": START, "reset": "late", "compact": True},
}


@pytest.mark.parametrize("name", FUSED)
def test_one_kernel(name: str, launches: Any) -> None:
    """Sums are exact here, so spikes are NumPy's."""
    want, got = tacops.tac_conv(X, W, **{"chunk_size": 1, **FUSED[name]}), run(**FUSED[name])
    assert 0 < float(want.spikes.mean()) < 1
    np.testing.assert_array_equal(got.spikes.numpy(), want.spikes)
    np.testing.assert_allclose(got.membrane.numpy(), want.membrane, rtol=1e-6, atol=1e-6)
    assert launches.conv_lif == 1


OTHERS: dict[str, Any] = {
    "frames that may be more than 1": lambda: run(X.astype(np.float32)),
    "counts": lambda: run(X.astype(np.int8)),
    "sums of frames": lambda: run(chunk_size=2),
    "float64": lambda: run(weight=W.astype(np.float64)),
    "traces": lambda: run(trace=True),
    "gradients": lambda: run(weight=torch.from_numpy(W).requires_grad_(), surrogate=tacops.surrogate.arctan()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_ways(name: str, launches: Any) -> None:
    """What the kernel does not know."""
    OTHERS[name]()
    assert launches.conv_lif == 0


def test_off_unless_switched_on(launches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which `python -m tacops info` says."""
    cuda = torch.device("cuda", 0)
    assert fused.describe_parts(cuda).startswith("one Triton kernel on tensor cores where spikes are bool")
    monkeypatch.delenv(TENSOR_CORES)
    run()
    assert launches.conv_lif == 0
    assert fused.describe_parts(cuda).endswith(f"with {TENSOR_CORES}=1")


def test_compiled(launches: Any) -> None:
    """One operation in a graph without breaks."""
    want = run()
    torch._dynamo.reset()
    got = torch.compile(run, fullgraph=True, backend="aot_eager")(torch.from_numpy(X), torch.from_numpy(W))
    equal(got.spikes, want.spikes)
    equal(got.membrane, want.membrane)
    assert launches.conv_lif == 2


def test_what_is_tried_out(launches: Any) -> None:
    """Sums that are far from float32's are not taken."""
    kernels._try_out_parts(torch.device("cpu"))
    assert launches.conv_lif == 1
    mutant = ("convolving", *MUTANTS["without the small parts"])
    with interpreted(mutant), pytest.raises(ArithmeticError):
        kernels._try_out_parts(torch.device("cpu"))
