"""bench sparsity: every strategy gives the dense result, bit for bit, on spikes of every structure."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.sparsity import cases as workloads
from bench.sparsity.cases import CONTENDERS, DENSE, DENSITIES, INSIDE, STRATEGIES, STRUCTURES, TAC, Workload, structures
from bench.sparsity.subject import BACKENDS, BrainEvent, SparseSubject, check, expected, installed
from bench.timing.cases import CASES, SIZES, Case
from bench.timing.subject import UnsupportedError, Variant
from tacops.backends import available_backends
from tests.support.sparsity_cases import SMALL

STRUCTURE_NAMES = tuple(STRUCTURES)

FOUND = [name for name in BACKENDS if name in available_backends()]


def full(case: Case, density: float, rng: np.random.Generator) -> Any:
    return np.ones((case.T, case.B, *case.space, case.c_in), bool)


def corner(case: Case, density: float, rng: np.random.Generator) -> Any:
    """One spike in each corner, in two frames of one sample: whatever is skipped or padded wrongly shows."""
    x = np.zeros((case.T, case.B, *case.space, case.c_in), bool)
    for frame in (0, case.T - 1):
        x[frame, -1, :: case.space[0] - 1, :: case.space[1] - 1, -1] = True
    return x


@pytest.fixture(autouse=True)
def _extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRUCTURES, "full", full)
    monkeypatch.setitem(STRUCTURES, "corner", corner)


KINDS = {
    "S1": [("iid", 0.0), ("full", 1.0), ("corner", 0.01), ("iid", 0.4), ("events", 0.03)],
    "S2": [("iid", 0.003), ("patches", 0.1)],
    "S3": [("full", 1.0), ("iid", 0.0), ("corner", 0.01), ("patches", 0.03), ("channels", 0.03)],
    "S4": [("iid", 0.003), ("events", 0.1)],
}
"""Spikes on which each strategy must be right."""

COMPILED = {"S1": ["full"], "S2": [], "S3": ["iid", "patches"], "S4": []}
"""Of these for JAX, which compiles anew for every size."""


def kinds(backend: str, size: str) -> list[Workload]:
    return [
        Workload(SMALL[size], structure, density)
        for structure, density in KINDS[size]
        if backend != "jax" or structure in COMPILED[size]
    ]


def answers(subject: SparseSubject, workload: Workload, name: str) -> list[Any]:
    """Currents of all ways; `Variant.spikes` compares each with the dense ones and raises."""
    found: list[Variant] = subject.variants(workload, CONTENDERS[name])
    out = []
    for variant in found:
        answer = variant.call()
        assert variant.spikes is not None
        variant.spikes(answer)
        out.append(subject.backend.to_numpy(answer))
    return out


@pytest.fixture(scope="module", params=FOUND)
def subject(request: pytest.FixtureRequest) -> Iterator[SparseSubject]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its sparse matrices are young
        yield SparseSubject(request.param)


@pytest.mark.filterwarnings("ignore:Sparse :UserWarning")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "brainevent"])
def test_every_strategy_gives_the_dense_result_bit_for_bit(subject: SparseSubject, strategy: str, size: str) -> None:
    if (subject.backend.name, strategy) == ("mlx", "matrix"):
        with pytest.raises(UnsupportedError, match="no sparse matrices"):
            subject.variants(Workload(SMALL[size], "iid", 0.1), CONTENDERS[strategy])
        return
    for workload in kinds(subject.backend.name, size):
        for out in answers(subject, workload, strategy):
            reference = expected(workload)
            assert out.dtype == np.float32
            np.testing.assert_array_equal(out.reshape(reference.shape), reference)


@pytest.mark.parametrize("name", ["dense", *TAC])
def test_dense_and_aggregated_convolutions_are_those_of_numpy(subject: SparseSubject, name: str) -> None:
    workload = Workload(SMALL["S1"], "iid", 0.2)
    for out in answers(subject, workload, name):
        assert out.size == expected(workload).size // CONTENDERS[name].chunk


@pytest.mark.skipif(not installed("brainevent"), reason="brainevent is not installed")
def test_brainevent_gives_the_dense_result_bit_for_bit() -> None:
    subject = BrainEvent()
    for workload in (Workload(SMALL["S1"], "iid", 0.2), Workload(SMALL["S1"], "corner", 0.01)):
        assert len(answers(subject, workload, "brainevent")) == 2


def test_a_wrong_answer_is_noticed() -> None:
    workload = Workload(SMALL["S1"], "iid", 0.2)
    wrong = expected(workload).copy()
    wrong.flat[-1] += 1 / workloads.STEPS
    with pytest.raises(RuntimeError, match=r"dense on S1/iid/0\.2: not the dense result"):
        check(wrong, workload, DENSE)
    with pytest.raises(RuntimeError, match="not the dense result"):
        check(np.zeros_like(expected(workload)[:2]), workload, CONTENDERS["collapse8"])


def test_the_reference_is_a_convolution() -> None:
    workload = Workload(SMALL["S2"], "iid", 0.3)
    x, weight = np.pad(workload.spikes(), [(0, 0)] * 2 + [(1, 1)] * 2 + [(0, 0)]), workload.weight()
    here = np.einsum("tbyxc,oyxc->tbo", x[:, :, 3:6, 2:5].astype(np.float64), weight)
    np.testing.assert_array_equal(expected(workload)[:, :, 3, 2], here)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("size", SIZES)
def test_spikes_have_the_density_and_the_structure_that_are_asked_for(size: str, density: float) -> None:
    case = replace(CASES[size], B=16)
    for structure in (name for name in structures(case) if name in STRUCTURE_NAMES):
        x = Workload(case, structure, density).spikes()
        tolerance = 0.2 if density < 0.01 else 0.1
        assert x.mean() == pytest.approx(density, rel=tolerance), structure
        if density > INSIDE / 4:
            continue
        empty = {
            "patches": ~x.reshape(case.T, case.B, *case.space, -1)[:, :, :7, :7].any(axis=(2, 3, 4)),
            "channels": ~x.any(axis=(0, 1, 2, 3)),
            "events": ~x.any(axis=(1, 2, 3, 4)),
        }.get(structure)
        assert empty is None or empty.mean() >= 0.5, structure
