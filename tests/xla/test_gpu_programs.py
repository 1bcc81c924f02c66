"""Programs that XLA makes for an H100, without one: few kernels, few bytes, and exact products in half precision.

In an environment of its own, with XLA's compiler for NVIDIA's GPUs (`.ci/run` makes it, and says which version: the
figures are that version's).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

import tacops
from tacops import surrogate
from tacops.backends._switches import TENSOR_CORES
from tests.xla.hlo import compiled_for_gpu, cost, on_gpu

if find_spec("jax_plugins") is None or find_spec("jax_plugins.xla_cuda13") is None:
    pytest.skip("programs for GPUs are not counted: jax-cuda13-plugin is not installed", allow_module_level=True)

SIZES = {"S1": (8, 2, 32, 32), "S2": (32, 1, 32, 28), "S3": (8, 32, 64, 28), "S4": (4, 64, 128, 16)}
"""B, C_in, C_out and H of the benchmark's layers, of 16 steps."""
MOST: dict[str, tuple[int, dict[str, float]]] = {
    "exact": (4, {"S1": 73.1, "S2": 225.2, "S3": 136.6, "S4": 44.9}),
    "gradient": (5, {"S1": 120.6, "S2": 383.7, "S3": 225.0, "S4": 73.2}),
    "reproducible": (10, {"S1": 82.1, "S2": 268.5, "S3": 236.3, "S4": 77.2}),
    "collapse": (4, {"S1": 18.6, "S2": 55.8, "S3": 37.0, "S4": 12.4}),
    "preserve": (4, {"S1": 35.4, "S2": 107.2, "S3": 63.5, "S4": 20.7}),
    "in parts": (4, {"S1": 89.9, "S2": 250.9, "S3": 342.1, "S4": 112.0}),
}
"""Kernels, and megabytes on each size."""


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """JAX said to run on a GPU, which is all that the adapter asks; nothing traced so stays behind.

    No program is read from the disk: without a GPU, JAX can't.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", before)
    compilation_cache.reset_cache()
    jax.clear_caches()


def program(kind: str, size: str, steps: int = 16) -> str:
    """One layer, compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TENSOR_CORES, str(int(kind == "in parts")))
        return _program(kind, size, steps)


def _program(kind: str, size: str, steps: int) -> str:
    import jax

    batch, channels, out, side = SIZES[size]
    x, w = (steps, batch, side, side, channels), (out, 3, 3, channels)
    choices: dict[str, dict[str, Any]] = {
        "reproducible": {"chunk_size": 1, "reproducible": True},
        "collapse": {"chunk_size": 4},
        "preserve": {"chunk_size": 4, "mode": "preserve"},
        "long chunks": {"chunk_size": 32, "reproducible": True, "aggregation": "normalized_decay"},
    }
    options = choices.get(kind.removeprefix("gradient of "), {"chunk_size": 1})

    def layer(x: Any, w: Any) -> Any:
        return tuple(tacops.tac_conv(x, w, padding=1, **options))

    def rate(x: Any, w: Any) -> Any:
        return tacops.tac_conv(x, w, padding=1, surrogate=surrogate.arctan(2.0), **options).spikes.sum()

    gradient = kind.startswith("gradient")
    function = jax.grad(rate, (0, 1)) if gradient else layer
    return compiled_for_gpu(function, on_gpu(x, "float32" if gradient else "bool"), on_gpu(w))


def products(text: str) -> list[str]:
    """Types of the matrix products' first operands."""
    return [
        re.search(rf"%{re.escape(operand)} = (\w+)\[", text)[1]  # type: ignore[index]
        for operand in re.findall(r" dot\(%([\w.\-]+),", text)
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", MOST)
def test_launches_and_bytes(kind: str, size: str) -> None:
    """No more than are written down; who makes them fewer writes that down."""
    kernels, megabytes = MOST[kind]
    got = cost(program(kind, size))
    assert got.kernels <= kernels, got
    assert got.moved <= 1.01e6 * megabytes[size], got


def test_long_simulations_go_in_blocks() -> None:
    """Of 16 steps: kernels grow with the number of blocks, not of steps."""
    assert cost(program("exact", "S1", 160)).kernels <= 5 + 4 * 10


def test_reproducible_products_are_of_half_precision() -> None:
    """Where float16 holds all integers; the sums are float32."""
    text = program("reproducible", "S3")
    assert products(text) == ["f16"]
    assert re.search(r"= f32\[[\d,]*\]\S* dot\(", text)


def test_integers_beyond_half_precision_stay_float32() -> None:
    """Chunks of 32 frames sum up to more than 2048 units."""
    assert products(program("long chunks", "S1", 64)) == ["f32"]


def test_gradients_are_of_float32_products() -> None:
    """Both: they are no integers."""
    got = products(program("gradient of reproducible", "S1"))
    assert got.count("f16") == 1
    assert got.count("f32") == 2


def test_products_in_parts() -> None:
    """Where the user asks for tensor cores: XLA's, which sums six products of bfloat16 in float32, in place of a convolution."""
    text = program("in parts", "S3")
    assert products(text) == ["f32"]
    assert "algorithm=dot_bf16_bf16_f32_x6" in text
