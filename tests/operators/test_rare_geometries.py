"""Convolutions that a library under a backend was seen to get wrong, or to crash on; on every backend, and the search for more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main as bench
from bench.spikes import geometries
from bench.spikes.geometry_cases import DTYPES, Case, as_program, draw, shrink
from bench.spikes.geometry_check import Answer, arrays, mistake, plain, supported
from tacops import tac_conv
from tacops.backends import Backend
from tests.support import judge
from tests.support.cases import Layer, assert_exact, run

# oneDNN with AVX-512, as in PyTorch 2.13: wrong numbers where one channel goes in and one column comes out
ONE_COLUMN: list[Any] = [
    ((9, 3, 3, 1), (3, 1, 2, 1), {"stride": (1, 2)}),
    ((12, 7, 3, 1), (2, 3, 2, 1), {"stride": (1, 3)}),
    ((6, 6, 3, 1), (1, 3, 3, 1), {"stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)}),
    ((9, 9, 5, 2, 1), (3, 1, 3, 2, 1), {"stride": (2, 1, 3), "padding": (0, 1, 0), "dilation": (1, 2, 1)}),
]
# and a segmentation fault where a kernel finds nothing but padding (oneDNN#5942)
PADDING_ALONE: list[Any] = [
    ((2, 1, 2), (2, 1, 2), {"stride": 3, "padding": 2, "dilation": 2}),
    ((1, 3, 1, 9), (9, 2, 1, 3), {"stride": (2, 3), "padding": (2, 2), "dilation": (1, 2), "groups": 3}),
]


@pytest.mark.parametrize(("frame", "kernel", "options"), ONE_COLUMN + PADDING_ALONE)
def test_rare_geometry(
    backend: Backend, frame: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]
) -> None:
    """The judge's answer, bit for bit: all numbers are dyadic."""
    rng = np.random.default_rng(0)
    weight, bias = rng.integers(-4, 9, kernel) / 8, rng.integers(-1, 3, kernel[0]) / 8
    layer = Layer(
        rng.integers(0, 2, (4, *frame)).astype(np.float32), weight.astype(np.float32), bias.astype(np.float32)
    )
    options = {"chunk_size": 2, "mode": "collapse", "aggregation": "sum", "beta": 0.5, **options}
    assert_exact(run(backend, tac_conv, *layer, **options), judge.tac(*layer, **options))


BASE = Case(
    "float32", 1, 4, (1, 2, 1), (3, 1, 3), 1, 8, 1, (1, 1, 1), ((1, 1), (0, 0), (1, 1)), (1, 1, 1), False, False, 0
)
RARE = {
    # oneDNN's bfloat16 on AVX-512: memory that nobody wrote
    "depth of one, bfloat16": replace(BASE, dtype="bfloat16"),
    "depth of one, groups": replace(BASE, dtype="bfloat16", groups=3, c_out=2),
    "depth of one, float16": replace(BASE, dtype="float16"),
    # PyTorch 2.13, float64: the weight's gradient, because of a stride along an axis of one
    "one row, strided": Case(
        "float64", 1, 1, (1, 3), (1, 1), 2, 1, 2, (2, 1), ((0, 0), (0, 0)), (1, 1), False, False, 1256017592
    ),
    # oneDNN#6035
    "1 x 1, strided": replace(BASE, spatial=(5, 4, 3), kernel=(1, 1, 1), stride=(2, 1, 3), padding=((0, 0),) * 3),
}


@pytest.mark.parametrize("name", RARE)
def test_rare_case(backend: Backend, name: str) -> None:
    """Values and gradients, where the library has the dtype."""
    if not supported(backend, RARE[name].dtype):
        pytest.skip(f"{backend.name} has no {RARE[name].dtype}")
    assert mistake(backend, RARE[name]) is None


def test_random_cases(backend: Backend) -> None:
    """A few of ``python -m bench geometries``."""
    have = [dtype for dtype in DTYPES if supported(backend, dtype)]
    assert "float32" in have
    for number in range(6 if backend.name == "jax" else 24):
        case = draw(7, number, have)
        assert mistake(backend, case) is None, case


def test_the_search_s_own_sums() -> None:
    """The oracle against the judge, its gradients against differences, which are exact: everything is linear."""
    for number in range(25):
        case = draw(3, number, ["float64"])
        given = arrays(case)
        options = {name: getattr(case, name) for name in ("stride", "padding", "dilation", "groups")}
        bias = given["bias"] if case.bias else None
        want = judge.currents(given["x"], given["weight"], bias, **options).sum(0)
        answer = plain(case, **given)
        np.testing.assert_array_equal(answer.membrane, want)
        for name, by in (("x", answer.by_input), ("weight", answer.by_weight)):
            place = tuple(int(np.random.default_rng(number).integers(n)) for n in given[name].shape)
            moved = given[name].copy()
            moved[place] += 1
            after = plain(case, **{**given, name: moved})
            assert by[place] == np.sum((after.membrane - answer.membrane) * given["grad"])


def test_the_search_finds_a_mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A planted one is made as small as it can be, and what is printed runs; the command fails."""
    case = draw(1, 5, ["float32"])
    assert shrink(case, lambda c: c.c_out > 1 or c.batch > 1).batch == 1
    smallest = shrink(replace(case, c_in=4), lambda c: c.c_in >= 2)
    assert (smallest.c_in, smallest.c_out, smallest.kernel, smallest.spatial) == (2, 1, (1,), (1,))

    def planted(*args: Any) -> Any:
        return ["float32"], as_program("numpy", smallest, "wrong")

    monkeypatch.setattr(geometries, "_search", planted)
    assert bench(["geometries", "--backend", "numpy"]) == 1
    program = capsys.readouterr().out.partition("WRONG\n")[2]
    exec(program)  # noqa: S102 (this test's own)
    assert capsys.readouterr().out == "None\n"  # nothing is wrong with NumPy
    assert bench(["geometries", "--backend", "nothing"]) == 2


def test_a_wrong_answer_is_a_mistake(monkeypatch: pytest.MonkeyPatch, need: Any) -> None:
    """One entry of one result, or an error."""
    from bench.spikes import geometry_check

    case, backend = draw(2, 2, ["float32"]), need("numpy")
    right = plain(case, **arrays(case))
    assert mistake(backend, case) is None
    wrong = right.membrane.copy()
    wrong.flat[-1] += 1
    monkeypatch.setattr(geometry_check, "plain", lambda *args, **named: Answer(wrong, *right[1:]))
    assert "membrane: 1 of" in str(mistake(backend, case))

    def fails(*args: Any, **named: Any) -> Any:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr("tacops.conv_lif", fails)
    assert mistake(backend, case) == "RuntimeError: no kernel image"


def test_the_search_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, which may die."""
    assert bench(["geometries", "--backend", "numpy", "--count", "6"]) == 0
    assert "numpy (float32, float64, float16): 6 cases right" in capsys.readouterr().out
