"""The PTX that NVRTC makes of the kernels, run by this CPU: the same random cases, equal to the core bit for bit."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tacops._core.neurons import LIFStep
from tests.cuda.cases import CHECKS, plain
from tests.cuda.host import MISSING
from tests.cuda.mutants import MUTANTS, planted
from tests.cuda.ptx import PTXModule, translate
from tests.cuda.test_nvrtc import PLAIN, build, load_nvrtc, source
from tests.support import fake_cupy

pytestmark = pytest.mark.skipif(MISSING is not None, reason=f"compiled PTX is not run: {MISSING}")


@cache
def _on_this_processor(architecture: str, options: tuple[str, ...], code: str) -> PTXModule:
    """Compiled twice, by NVRTC and for this CPU, which takes seconds: once for all tests."""
    return PTXModule(build(architecture, code, options, ptx=True)[0])


def _compiled_for(architecture: str) -> Any:
    """`cupy.RawModule` as NVRTC and then this CPU would have it."""

    def raw_module(*, code: str, options: tuple[str, ...]) -> Any:
        host = _on_this_processor(architecture, options, code)

        def get_function(name: str) -> Any:
            kernel = host.get_function(name)
            return lambda grid, block, args, **shared: kernel(
                grid, block, tuple(a._data if isinstance(a, fake_cupy.ndarray) else a for a in args), **shared
            )

        return SimpleNamespace(get_function=get_function)

    return raw_module


@pytest.fixture(scope="module", autouse=True)
def nvrtc() -> None:
    """Before the stand-in takes CuPy's place."""
    load_nvrtc()


@pytest.fixture(params=["75", "120"])
def compiled(request: pytest.FixtureRequest, module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The adapter on PTX, of the oldest and of a new architecture (whose PTX is another dialect)."""
    build(request.param, source("lif"), PLAIN, ptx=True)  # skips where it can't
    monkeypatch.setattr(module.building.cp, "RawModule", _compiled_for(request.param))
    module.building.kernel.cache_clear()
    yield module
    module.building.kernel.cache_clear()


@pytest.mark.parametrize("kernel", CHECKS)
def test_equals_the_core(compiled: Any, kernel: str) -> None:
    """In float32, on bool frames: every other type takes long to compile, and the same instructions."""
    check, count = CHECKS[kernel]
    for seed in range(count // 3 if kernel == "conv_lif" else count):  # its many instructions take long to compile
        if plain(kernel, seed):
            check(compiled, seed)


@pytest.mark.parametrize("compiled", ["75"], indirect=True)
@pytest.mark.parametrize("name", ["a tie does not fire", "one rounding for decay and current"])
def test_mistake_is_found(compiled: Any, name: str) -> None:
    """So these tests can fail."""
    check, count = CHECKS["lif"]
    with planted(compiled, MUTANTS[name]), pytest.raises(AssertionError):  # noqa: PT012
        for seed in range(count):
            if plain("lif", seed):
                check(compiled, seed)


def test_subnormal_membranes_become_zero(compiled: Any) -> None:
    """CuPy compiles with ``-ftz=true``; the page on GPUs says so."""
    start = fake_cupy.ndarray(np.full((1, 1), 2e-38, np.float32))
    _, (after,) = compiled.BACKEND.scan(
        LIFStep(compiled.BACKEND, 0.5, 1.0, "subtract"), fake_cupy.ndarray(np.zeros((1, 1, 1), np.float32)), (start,), 1
    )
    assert after._data.item() == 0.0
    assert np.float32(2e-38) * np.float32(0.5) > 0


def test_unknown_instructions_are_refused() -> None:
    """Nothing is guessed."""
    for line in ("shfl.sync.bfly.b32 %r1, %r2, 1, 31, -1;", "add.sat.f32 %f1, %f2, %f3;", "cvt.rzi.s32.f32 %r1, %f1;"):
        with pytest.raises(NotImplementedError):
            translate(f".visible .entry k(\n.param .u64 k_0\n)\n{{\n{line}\n}}")
