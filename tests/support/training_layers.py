"""Neurons that learn, on PyTorch: their gradients by compiled loops, and by the core's steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np

import tacops
from tacops import surrogate

__all__ = ["CASES", "SURROGATES", "Neurons", "by_core", "differs", "gradients"]

SURROGATES: dict[str, Any] = {
    "none": None,
    "arctan": surrogate.arctan(1.5),
    "sigmoid": surrogate.sigmoid(),
    "fast_sigmoid": surrogate.fast_sigmoid(2.0),
    "triangular": surrogate.triangular(0.7),
    "straight_through": surrogate.straight_through(0.3),
}


@dataclass(frozen=True)
class Neurons:
    """One call of `lif`."""

    reset: Any = "subtract"
    surrogate: str = "arctan"
    membrane: bool = False
    detached: bool = False
    reproducible: bool = False
    repeat: int = 1
    infinite: bool = False
    """A current, so that a membrane is."""


CASES = [
    *(
        Neurons(*options)
        for options in product(
            ("subtract", "zero", "none", "late"), SURROGATES, (False, True), (False, True), (False, True)
        )
    ),
    *(Neurons(reset, membrane=True, repeat=3) for reset in ("subtract", "zero", "none", "late")),
    *(Neurons(reset, infinite=True) for reset in ("zero", "none")),
]


def by_core() -> Any:
    """A context in which gradients are the core's."""
    return patch("tacops.backends.torch_.train_neurons", lambda *given: None)


def gradients(case: Neurons, dtype: str = "float64", shape: tuple[int, ...] = (6, 3, 7, 5)) -> list[Any]:
    """By currents, decay, threshold and membrane, of weighed sums of spikes and membranes; and those themselves."""
    import torch

    rng = np.random.default_rng(5)

    def draw(scale: float, mean: float, *size: int) -> Any:
        return torch.from_numpy(rng.normal(mean, scale, size).astype(dtype))

    current, channels = draw(0.8, 0.3, *shape), shape[-1]
    beta = torch.linspace(0.3, 0.99, channels, dtype=current.dtype)
    threshold = torch.linspace(0.5, 1.3, channels, dtype=current.dtype)
    leaves = [current, beta, threshold, *([draw(1, 0, *shape[1:])] if case.membrane else [])]
    if case.infinite:
        current[2, 0, 0, 0] = float("inf")
    for leaf in leaves:
        leaf.requires_grad_()
    given = {
        "beta": beta, "threshold": threshold, "reset": case.reset, "surrogate": SURROGATES[case.surrogate],
        "detach_reset": case.detached, "reproducible": case.reproducible,
        "membrane": leaves[3] if case.membrane else None,
    }  # fmt: skip
    if case.repeat == 1:
        train = tacops.lif(current, **given)
    else:
        one = torch.eye(channels, dtype=current.dtype)
        given["aggregation"] = torch.tensor([1.0, *(0.0,) * (case.repeat - 1)], dtype=current.dtype)
        frames = current.reshape(shape[0], -1, channels)
        if case.membrane:
            given["membrane"] = leaves[3].reshape(-1, channels)
        train = tacops.tac_linear(frames, one, chunk_size=case.repeat, mode="preserve", **given)
    factors = draw(1, 0, *train.spikes.shape), draw(1, 0, *train.membrane.shape)
    finite = torch.where(torch.isfinite(train.membrane), train.membrane, 0.0)
    loss = (train.spikes * factors[0]).sum() + (finite * factors[1]).sum()
    found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return [x.detach() for x in (*found, *train)]  # zeros that PyTorch 2.6 fills in ask for gradients


def differs(got: list[Any], want: list[Any], tolerance: float) -> bool:
    """By more than `tolerance` of the largest entry of an array."""
    for a, b in zip(got, want, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return True
        a, b = a.numpy(), b.numpy()
        whole = np.isfinite(b)
        if (np.isfinite(a) != whole).any():
            return True
        largest = np.abs(b[whole]).max(initial=0)
        if not (np.abs(a[whole] - b[whole]) <= tolerance * largest).all():
            return True
    return False


def wrong(tolerance: float = 1e-12) -> Iterator[Neurons]:
    """Cases that the loops, as they are now, get wrong."""
    for case in CASES:
        with by_core():
            want = gradients(case)
        try:
            got = gradients(case)
        except Exception:  # noqa: BLE001 (an index out of bounds is found as well as a wrong sum)
            yield case
            continue
        if differs(got, want, tolerance):
            yield case
