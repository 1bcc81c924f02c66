"""What surrounds a call on JAX: settings, weak types, the machine; nothing of it changes reproducible mode, or is refused without need."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest

import tacops
from tacops.backends import Backend

jax = pytest.importorskip("jax", reason="JAX's settings are not checked: JAX is not installed")
jnp = jax.numpy

RNG = np.random.default_rng(0)
SPIKES = RNG.random((5, 2, 6, 6, 3)) < 0.4
WEIGHT, BIAS = RNG.normal(0, 0.4, (4, 3, 3, 3)).astype("f4"), RNG.normal(size=4).astype("f4")
CURRENT = RNG.normal(0, 0.8, (5, 2, 3, 4)).astype("f4")
EACH = {"beta": np.array([0.5, 0.9, 0.3, 0.8], "f4"), "threshold": np.array([1, 0.9, 1.3, 0.8], "f4")}

SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "strict dtypes": lambda: jax.numpy_dtype_promotion("strict"),
    "bfloat16 products": lambda: jax.default_matmul_precision("bfloat16"),
    "TF32 products": lambda: jax.default_matmul_precision("tensorfloat32"),
    "x64": lambda: jax.enable_x64(True),
    "no jit": jax.disable_jit,
    "NaNs": lambda: jax.debug_nans(True),
    "guarded": lambda: jax.transfer_guard("disallow"),
    "default device": lambda: jax.default_device("cpu"),
}


def conv(spikes: Any, weight: Any, bias: Any, beta: Any, threshold: Any, **options: Any) -> Any:
    """A padded layer with a surrogate."""
    options = {"chunk_size": 2, "mode": "preserve", "surrogate": tacops.surrogate.arctan(), **options}
    return tacops.tac_conv(spikes, weight, bias, beta=beta, threshold=threshold, padding=1, **options)


def neurons(current: Any, beta: Any, threshold: Any) -> Any:
    """Neurons alone."""
    return tacops.lif(current, beta=beta, threshold=threshold, surrogate=tacops.surrogate.arctan(), reproducible=True)


LAYERS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "default": (conv, (SPIKES, WEIGHT, BIAS, *EACH.values())),
    "reproducible, remat": (lambda *a: conv(*a, reproducible=True, remat=True), (SPIKES, WEIGHT, BIAS, *EACH.values())),
    "neurons": (neurons, (CURRENT, *EACH.values())),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_setting(setting: str, layer: str) -> None:
    """Forward and backward: the same bits in reproducible mode, the same spikes by default."""
    function, values = LAYERS[layer]
    arrays = tuple(map(jnp.asarray, values))
    places = tuple(range(int(layer != "neurons"), len(arrays)))
    gradient = jax.jit(jax.grad(lambda *a: function(*a).spikes.sum(), places))  # jax.grad itself moves a number, a 1
    want = function(*arrays), gradient(*arrays)
    assert 0.02 < np.asarray(want[0].spikes).mean() < 0.98
    with SETTINGS[setting]():
        got = function(*arrays), gradient(*arrays)
    np.testing.assert_array_equal(np.asarray(got[0].spikes), np.asarray(want[0].spikes))
    exact = {} if layer != "default" else {"rtol": 1e-5, "atol": 1e-5}
    compare: Any = np.testing.assert_allclose if exact else np.testing.assert_array_equal
    compare(np.asarray(got[0].membrane), np.asarray(want[0].membrane), **exact)
    for one, other in zip(got[1], want[1], strict=True):  # gradients are sums of floats in every mode
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-4, atol=1e-4)


def test_settings_are_as_before() -> None:
    """The user's own arithmetic is held to them after a call, and after one that fails."""
    with jax.numpy_rank_promotion("raise"):
        conv(*map(jnp.asarray, LAYERS["default"][1]))
        with pytest.raises(AttributeError, match="nothing"):
            conv(*map(jnp.asarray, LAYERS["default"][1]), surrogate=lambda x: x.nothing())
        with pytest.raises(ValueError, match="rank_promotion"):
            jnp.ones((2, 3)) + jnp.ones(3)


def test_advise_and_aggregate() -> None:
    """The other functions that compute."""
    x = jnp.asarray(SPIKES.astype("f4"))
    want = tacops.advise(x).p_value, np.asarray(tacops.aggregate(x, 2))
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"), jax.transfer_guard("disallow"):
        got = tacops.advise(x).p_value, tacops.aggregate(x, 2)
    assert got[0] == want[0]
    np.testing.assert_array_equal(np.asarray(got[1]), want[1])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_python_numbers_through_jit(dtype: str) -> None:
    """They arrive as arrays of a weak type: float32, or float64 with x64, whatever the weight; ints too."""
    with jax.enable_x64(dtype == "float64"):
        x, w = jnp.asarray(SPIKES), jnp.asarray(WEIGHT, dtype)
        layer = jax.jit(
            lambda x, w, beta, threshold: tuple(tacops.tac_conv(x, w, chunk_size=2, beta=beta, threshold=threshold))
        )
        for beta, threshold in ((0.5, 2), (1, 0.5)):
            spikes, membrane = layer(x, w, beta, threshold)
            want = layer(x, w, jnp.asarray(beta, dtype), jnp.asarray(threshold, dtype))
            assert spikes.dtype == membrane.dtype == w.dtype
            assert bool((spikes == want[0]).all()), (beta, threshold)
            assert bool((membrane == want[1]).all()), (beta, threshold)


def test_weak_types_with_x64() -> None:
    """A float32 layer whose decay comes as a float64 of weak type; a float64 that is meant is refused."""
    with jax.enable_x64(True):
        x, w = jnp.asarray(SPIKES), jnp.asarray(WEIGHT)
        layer = jax.jit(lambda beta: tacops.conv_lif(x, w, beta=beta).membrane)
        assert layer(0.5).dtype == jnp.float32
        with pytest.raises(TypeError, match=r"^conv_lif: beta must be of the other arrays' dtype float32; got float64"):
            layer(jnp.asarray(0.5, "float64"))


def test_numpy_scalars(backend: Backend) -> None:
    """They count as numbers on every backend."""
    x, w = backend.from_numpy(SPIKES.astype("f4")), backend.from_numpy(WEIGHT)
    want = tacops.conv_lif(x, w, beta=0.5, threshold=0.75)
    for kind in (np.float16, np.float32, np.float64):
        got = tacops.conv_lif(x, w, beta=kind(0.5), threshold=kind(0.75))
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(one), backend.to_numpy(other))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "int4", "uint4"])
def test_unfit_dtypes(need: Callable[[str], Backend], dtype: str) -> None:
    """Numbers of few bits are named; bool, int8 and half precision are fit."""
    jax_ = need("jax")
    assert jax_.unfit(jnp.zeros(3, dtype)) == f"an array of {dtype}"
    for fit in ("bool", "int8", "uint8", "float16", "bfloat16", "float32"):
        assert jax_.unfit(jnp.zeros(3, fit)) is None


def test_unfit_keys(need: Callable[[str], Backend]) -> None:
    """Keys of random numbers are arrays of JAX's, but no numbers."""
    assert need("jax").unfit(jax.random.key(0)) == "an array of key<fry>"


def test_machine_is_that_of_the_arrays(need: Callable[[str], Backend], monkeypatch: pytest.MonkeyPatch) -> None:
    """An array on a CPU takes a CPU's way though the default is a GPU; a tracer goes by the default device."""
    need("jax")
    from tacops.backends import jax_

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert jax_._on_cpu(jnp.ones(3))
    seen = []
    jax.make_jaxpr(lambda x: seen.append(jax_._on_cpu(x)) or x)(1.0)  # type: ignore[func-returns-value]
    with jax.default_device(jax.devices("cpu")[0]):
        jax.make_jaxpr(lambda x: seen.append(jax_._on_cpu(x)) or x)(1.0)  # type: ignore[func-returns-value]
    assert seen == [False, True]


@pytest.mark.parametrize("repeat", [1, 3])
def test_blocks_of_steps_on_gpus(need: Callable[[str], Backend], monkeypatch: pytest.MonkeyPatch, repeat: int) -> None:
    """There a round of the loop is 16 steps, one kernel; the bits are those of the way for CPUs."""
    need("jax")
    from tacops.backends import jax_

    options: dict[str, Any] = {"chunk_size": repeat, "mode": "preserve", "reproducible": True, "padding": 1}
    arrays = jnp.asarray(np.concatenate([SPIKES] * 8)), jnp.asarray(WEIGHT), jnp.asarray(BIAS)
    want = tacops.tac_conv(*arrays, **options)
    monkeypatch.setattr(jax_, "_on_cpu", lambda *arrays: False)
    program = str(jax.make_jaxpr(lambda *a: tuple(tacops.tac_conv(*a, **options)))(*arrays))
    assert f"unroll={16 // repeat}" in program
    for one, other in zip(tacops.tac_conv(*arrays, **options), want, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("cpu", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("steps", [1, 3])
def test_no_library_convolution_in_reproducible_mode(
    need: Callable[[str], Backend], monkeypatch: pytest.MonkeyPatch, cpu: bool, groups: int, steps: int
) -> None:
    """XLA may choose its algorithm; with groups too there are none but plain products."""
    need("jax")
    from tacops.backends import jax_

    monkeypatch.setattr(jax_, "_on_cpu", lambda *arrays: cpu)
    rng = np.random.default_rng(groups)
    x = rng.random((steps, 2, 7, 6, 4)) < 0.4
    w = rng.normal(0, 0.5, (8, 3, 2, 4 // groups)).astype("f4")
    options: dict[str, Any] = {"groups": groups, "padding": 1, "stride": (1, 2), "reproducible": True}
    program = jax.make_jaxpr(lambda x, w: tuple(tacops.conv_lif(x, w, **options)))(x, w)
    assert "conv_general_dilated" not in str(program)
    got, want = tacops.conv_lif(jnp.asarray(x), jnp.asarray(w), **options), tacops.conv_lif(x, w, **options)
    assert 0.02 < want.spikes.mean() < 0.98
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(np.asarray(one), other)
