"""Random neurons for the Triton kernels, held to the core's steps: spikes and membranes bit for bit, gradients to autograd's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tacops import surrogate
from tacops._backend.protocol import Backend
from tacops._core.neurons import LIFStep
from tacops.backends.torch_ import BACKEND

__all__ = ["SURROGATES", "Case", "check_back", "check_forth", "equal"]

SURROGATES: tuple[Any, ...] = (
    None,
    surrogate.fast_sigmoid(2.0),
    surrogate.arctan(1.5),
    surrogate.sigmoid(3.0),
    surrogate.triangular(0.7),
    surrogate.straight_through(0.3),
    lambda x: 1 / (1 + 3 * x * x),
)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12, torch.float16: 2e-2, torch.bfloat16: 2e-1}
"""Of the largest entry. The core's own gradients of half precision are rounded after each operation."""


@dataclass(frozen=True)
class Case:
    """Currents (T, B, ..., C), a membrane or None, how often each current is stepped, and a step."""

    currents: Any
    membrane: Any
    repeat: int
    options: dict[str, Any]

    def step(self, **changed: Any) -> LIFStep:
        """With some of its options changed."""
        return LIFStep(BACKEND, **{**self.options, **changed})


def draw(seed: int) -> Case:
    """Options change with the seed in turn, so that each meets every other; sizes and values at random."""
    rng = np.random.default_rng(seed)
    reset = ("subtract", "zero", "none", "late")[seed % 4]
    dtype, rounded = DTYPES[seed // 4 % 4], seed // 16 % 3 == 0
    channels = int(rng.choice((1, 3, 5, 16)))
    shape = (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(1, 6, rng.integers(0, 3))), channels)
    T, repeat = int(rng.integers(1, 6)), int(rng.choice((1, 1, 2, 3)))

    def numbers(*size: int) -> Any:
        if rounded:
            whole = torch.from_numpy(rng.integers(-60, 90, size) * rng.integers(2, size=size)).to(dtype)
            return torch.where(whole == 0, -0.0, whole)
        quarters = rng.random() < 0.5  # on which membranes meet thresholds
        values = rng.integers(-3, 7, size) / 4 if quarters else rng.normal(0.4, 0.8, size)
        return torch.from_numpy(values).to(dtype)

    def parameter(low: float, high: float) -> Any:
        values = torch.from_numpy(rng.uniform(low, high, channels)).to(dtype)
        return (float(rng.integers(1, 5)) / 4 * high, float(values[0]) * 1.01, values[0], values[:1], values)[
            rng.integers(5)
        ]

    currents = numbers(T, *shape)
    if currents.ndim > 3 and rng.random() < 0.5:  # channels first in memory
        currents = currents.movedim(-1, 2).contiguous().movedim(2, -1)
    elif rng.random() < 0.2:  # with gaps, which have to be copied
        currents = torch.cat([currents, currents], -1)[..., :channels]
    elif rng.random() < 0.2:  # one frame for all
        currents = currents[:1].expand(T, *shape)
    threshold = parameter(0.4, 1.0)
    options = {
        "decay": parameter(0.0, 1.0),
        "threshold": threshold * 40 // 1 + 1 if rounded else threshold,
        "reset": reset,
        "rounded": rounded,
        "poison": None if rng.random() < 0.6 else torch.tensor(rng.choice((0.0, np.nan)), dtype=dtype),
        "compact": bool(rng.integers(2)),
    }
    return Case(currents, numbers(*shape) if rng.random() < 0.5 else None, repeat, options)


def equal(got: Any, want: Any) -> None:
    """Bit for bit: dtype, shape, values, signs of zero; NaN where NaN is due."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    got, want = got.double().numpy(), want.double().numpy()
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(want[~np.isnan(want)]))


def state(membrane: Any) -> Any:
    return None if membrane is None else (membrane,)


def check_forth(seed: int) -> None:
    """`scan`, where nothing is differentiated."""
    case = draw(seed)
    before = [x.clone() for x in (case.currents, case.membrane) if x is not None]
    want = Backend.scan(BACKEND, case.step(), case.currents, state(case.membrane), case.repeat)
    got = BACKEND.scan(case.step(), case.currents, state(case.membrane), case.repeat)
    equal(got[0], want[0])
    equal(*got[1], *want[1])
    for x, kept in zip((case.currents, case.membrane), before, strict=False):
        equal(x, kept)


def check_back(seed: int) -> None:
    """Gradients by currents, membrane, decay and threshold, of weighed sums of spikes and membranes."""
    case, rng = draw(seed), np.random.default_rng(seed)
    dtype, poison = case.currents.dtype, case.options["poison"]
    changed = {
        "surrogate": SURROGATES[6 if seed % 9 == 8 else seed % 6],
        "detach_reset": bool(rng.random() < 0.3),
        "unit": (None, torch.tensor(0.03), torch.linspace(0.01, 0.05, case.currents.shape[-1]))[rng.integers(3)],
        "poison": None if poison is None else torch.zeros_like(poison),
        "compact": bool(rng.random() < 0.1),
    }
    if changed["unit"] is not None:
        changed["unit"] = changed["unit"].to(dtype) * (1 if case.options["rounded"] else 30)
    leaves = [case.currents, case.membrane, case.options["decay"], case.options["threshold"]]
    learned = [isinstance(x, torch.Tensor) and bool(rng.random() < 0.8) for x in leaves]
    kind = rng.integers(4)

    def run(scan: Any) -> list[Any]:
        given = [
            x.detach().clone(memory_format=torch.preserve_format).requires_grad_() if asked else x
            for x, asked in zip(leaves, learned, strict=True)
        ]
        step = case.step(**{"decay": given[2], "threshold": given[3], **changed})
        spikes, (after,) = scan(step, given[0], state(given[1]), case.repeat)
        generator = torch.Generator().manual_seed(seed)
        weights = [torch.randn(x.shape, generator=generator).to(dtype) for x in (spikes, after)]
        parts = (
            []
            if kind == 0 or not spikes.requires_grad
            else [spikes.sum() if kind == 1 else (spikes * weights[0]).sum()]
        )
        parts += [(after * weights[1]).sum()] if kind != 2 and after.requires_grad else []
        wanted = [x for x, asked in zip(given, learned, strict=True) if asked]
        if not parts or not wanted:
            return [spikes.detach(), after.detach()]
        found = torch.autograd.grad(sum(parts), wanted, allow_unused=True, materialize_grads=True)
        return [spikes.detach(), after.detach(), *found]

    want, got = run(lambda *given: Backend.scan(BACKEND, *given)), run(BACKEND.scan)
    for a, b in zip(got[:2], want[:2], strict=True):
        equal(a, b)
    for a, b in zip(got[2:], want[2:], strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        a, b = a.double(), b.double()
        assert bool(torch.isfinite(a).all()) or not bool(torch.isfinite(b).all())
        worst = float((a - b).abs().max())
        assert worst <= TOLERANCE[dtype] * max(1.0, float(b.abs().max())), (worst, float(b.abs().max()))
