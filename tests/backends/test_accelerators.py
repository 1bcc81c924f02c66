"""What can be said without a GPU or a TPU about the libraries that run on them: what they are asked for, not what they answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import tacops
from tests.support import ROOT

RNG = np.random.default_rng(0)
SPIKES = RNG.random((8, 4, 7, 7, 2)) < 0.4
WEIGHT = RNG.normal(0, 0.5, (4, 3, 3, 2)).astype(np.float32)
SHARDED = """
import jax, jax.numpy as jnp, numpy as np, tacops
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from tests.backends.test_accelerators import SPIKES, WEIGHT
assert len(jax.devices()) == 4
mesh = Mesh(np.array(jax.devices()), ("batch",))
spread = NamedSharding(mesh, P(None, "batch"))
spikes, weight = jnp.asarray(SPIKES), jnp.asarray(WEIGHT)
for options in ({"chunk_size": 1}, {"chunk_size": 4}, {"chunk_size": 4, "mode": "preserve"}):
    layer = jax.jit(lambda x, w: tacops.tac_conv(x, w, padding=1, reproducible=True, **options))
    alone = layer(spikes, weight)
    shared = layer(jax.device_put(spikes, spread), jax.device_put(weight, NamedSharding(mesh, P())))
    assert shared.spikes.sharding.is_equivalent_to(spread, 5), shared.spikes.sharding
    assert len(shared.membrane.sharding.device_set) == 4
    assert np.array_equal(alone.spikes, shared.spikes) and np.array_equal(alone.membrane, shared.membrane)
print("same")
"""


def _layer(x: Any, w: Any) -> Any:
    return tuple(tacops.tac_conv(x, w, chunk_size=4, padding=1))


def _linear(x: Any, w: Any) -> Any:
    return tuple(tacops.tac_linear(x, w, chunk_size=4))


def _products(jaxpr: Any) -> Iterator[Any]:
    """Matrix products and convolutions, inner programs' too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """``pretend(platform)`` is JAX, said to run on another machine; nothing traced so stays behind."""
    jax = pytest.importorskip("jax", reason="what JAX is asked for is not checked: JAX is not installed")

    def run_on(platform: str) -> Any:
        monkeypatch.setattr(jax, "default_backend", lambda: platform)
        jax.clear_caches()
        return jax

    yield run_on
    jax.clear_caches()


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_jax_is_asked_for_full_float32(platform: str, pretend: Callable[[str], Any]) -> None:
    """Every product and convolution, in the program that the adapter writes for each kind of machine."""
    jax = pretend(platform)
    names = set()
    for function, weight in ((_layer, WEIGHT), (_linear, WEIGHT[:, 0, 0, :])):
        program = jax.make_jaxpr(function)(jax.numpy.asarray(SPIKES), jax.numpy.asarray(weight))
        products = list(_products(program.jaxpr))
        assert products
        for product in products:
            precision = product.params["precision"]
            asked = precision if isinstance(precision, tuple) else (precision,)
            assert set(asked) == {jax.lax.Precision.HIGHEST}, product
        names |= {product.primitive.name for product in products}
    assert ("conv_general_dilated" in names) == (platform != "cpu")


def test_jax_multiplies_integers_in_half_precision(pretend: Callable[[str], Any]) -> None:
    """On GPUs' way, run on the CPU: exact sums of up to 2^24, of integers of up to 2048; float32 gradients."""
    jax = pretend("gpu")
    from tacops.backends import Window
    from tacops.backends._jax.convolution import conv_by_unfolding, conv_in_half, halved

    for groups, kernel in ((1, (4, 2, 2, 2)), (2, (4, 2, 2, 1))):
        window = Window((1, 1), ((1, 0), (0, 1)), (1, 1), groups)
        x = RNG.integers(-2048, 2049, (3, 5, 4, 2)).astype(np.float32)
        weight = RNG.integers(-256, 257, kernel).astype(np.float32)
        weight[0] = 2048 - 1536 * (np.arange(weight[0].size).reshape(kernel[1:]) > 0)
        want = conv_by_unfolding(jax.numpy.asarray(x, float), jax.numpy.asarray(weight, float), None, window)
        assert np.abs(want).max() > 2**21
        for convolve in (halved, partial(conv_in_half, bias=None, exact=True)):
            got = jax.jit(partial(convolve, window=window))(x, weight)
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, want)

        def loss(convolve: Callable[..., Any], x: Any, w: Any, window: Any = window) -> Any:
            return (convolve(x, w, None, window) / 3e5).sum() ** 2

        exactly = partial(conv_in_half, exact=True)
        slopes, plain = (jax.grad(loss, (1, 2))(f, x, weight) for f in (exactly, conv_by_unfolding))
        for a, b in zip(slopes, plain, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_jax_s_reproducible_program_for_gpus_fires_the_same(pretend: Callable[[str], Any]) -> None:
    """Its half precision is for CUDA alone: on another platform the same program multiplies in float32."""
    options: dict[str, Any] = {"chunk_size": 4, "padding": 1, "reproducible": True}
    want = tacops.tac_conv(SPIKES, WEIGHT, **options)
    jax = pretend("gpu")
    layer = jax.jit(lambda x, w: tuple(tacops.tac_conv(x, w, **options)))
    for a, b in zip(layer(jax.numpy.asarray(SPIKES), jax.numpy.asarray(WEIGHT)), want, strict=True):
        np.testing.assert_array_equal(a, b)
    for platform, halves in (("cuda", True), ("rocm", False), ("tpu", False)):
        program = jax.export.export(layer, platforms=[platform])(
            jax.ShapeDtypeStruct(SPIKES.shape, bool), jax.ShapeDtypeStruct(WEIGHT.shape, np.float32)
        ).mlir_module()
        assert ("xf16>" in program) is halves, platform


def test_jax_s_products_in_parts(pretend: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Off unless switched on, and then for bool spikes on CUDA alone; elsewhere, and backwards, float32."""
    jax = pretend("gpu")
    from tacops.backends._switches import TENSOR_CORES

    def layer(x: Any, w: Any, **options: Any) -> Any:
        return tacops.tac_conv(x, w, **{"chunk_size": 1, "padding": 1, **options})

    def loss(w: Any) -> Any:
        return layer(jax.numpy.asarray(SPIKES), w, surrogate=tacops.surrogate.arctan()).membrane.sum()

    def narrow(platform: str, kind: Any, **options: Any) -> bool:
        function = jax.jit(lambda x, w: tuple(layer(x, w, **options)))
        shapes = jax.ShapeDtypeStruct(SPIKES.shape, kind), jax.ShapeDtypeStruct(WEIGHT.shape, np.float32)
        return (
            "num_primitive_operations = 6" in jax.export.export(function, platforms=[platform])(*shapes).mlir_module()
        )

    spikes, weight = jax.numpy.asarray(SPIKES), jax.numpy.asarray(WEIGHT)
    want, slope = layer(spikes, weight), jax.grad(loss)(weight)

    assert not narrow("cuda", bool)
    monkeypatch.setenv(TENSOR_CORES, "1")
    assert narrow("cuda", bool)
    assert not narrow("rocm", bool)
    assert not narrow("cuda", np.float32)
    assert not narrow("cuda", bool, chunk_size=2)
    assert not narrow("cuda", bool, reproducible=True)
    for a, b in zip(layer(spikes, weight), want, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(jax.grad(loss)(weight), slope, rtol=1e-5, atol=1e-5)
    program = jax.export.export(jax.jit(jax.grad(loss)), platforms=["cuda"])(weight).mlir_module()
    assert program.count("num_primitive_operations = 6") == 1


@pytest.mark.parametrize(("platform", "runs_on"), [("cuda", "gpu"), ("tpu", "tpu")])
def test_jax_lowers_for_machines_that_are_not_here(platform: str, runs_on: str, pretend: Callable[[str], Any]) -> None:
    """A portable program in full precision, for NVIDIA GPUs and for TPUs."""
    jax = pretend(runs_on)
    exported = jax.export.export(jax.jit(_layer), platforms=[platform])(
        jax.ShapeDtypeStruct(SPIKES.shape, bool), jax.ShapeDtypeStruct(WEIGHT.shape, np.float32)
    )
    assert exported.platforms == (platform,)
    program = exported.mlir_module()
    assert "stablehlo.convolution" in program
    assert program.count("precision HIGHEST") == 2  # of both operands
    assert "precision DEFAULT" not in program


def test_jax_batches_on_several_devices() -> None:
    """Four devices, each with a quarter of the batch, fire what one fires; the result stays spread."""
    pytest.importorskip("jax", reason="sharded batches are not checked: JAX is not installed")
    environment = {
        "PATH": "/usr/bin:/bin",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "same\n"


def test_jax_reuses_a_donated_membrane() -> None:
    """A streaming step may hand its membrane over."""
    jax = pytest.importorskip("jax", reason="donated membranes are not checked: JAX is not installed")

    def stream(u: Any, x: Any, w: Any) -> Any:
        return tuple(tacops.conv_lif(x, w, padding=1, membrane=u))

    membrane = jax.numpy.zeros((4, 7, 7, 4))
    x, w = jax.numpy.asarray(SPIKES), jax.numpy.asarray(WEIGHT)
    want = jax.jit(stream)(membrane, x, w)
    got = jax.jit(stream, donate_argnums=0)(membrane, x, w)
    assert membrane.is_deleted()
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_mlx_takes_no_winograd_in_reproducible_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metal chooses Winograd inside `conv_general`, which is therefore not called."""
    mx = pytest.importorskip("mlx.core", reason="what MLX is asked for is not checked: MLX is not installed")

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("conv_general was called")

    x, w = mx.array(SPIKES), mx.array(WEIGHT)
    monkeypatch.setattr(mx, "conv_general", refuse)
    out = tacops.conv_lif(x, w, padding=1, reproducible=True)
    want = tacops.conv_lif(SPIKES, WEIGHT, padding=1, reproducible=True)
    np.testing.assert_array_equal(np.asarray(out.spikes), want.spikes)
    with pytest.raises(AssertionError, match="conv_general was called"):
        tacops.conv_lif(x, w, padding=1)


def _full_conv_cases() -> Iterator[tuple[Any, ...]]:
    """Input, weight and `Window`: strides that leave something over, dilation, groups, one to three dimensions."""
    from tacops.backends import Window

    yield (2, 4, 9), (6, 2, 3), Window((2,), ((1, 1),), (1,), 2)
    yield (2, 3, 8, 7), (5, 3, 3, 2), Window((3, 2), ((2, 2), (0, 0)), (2, 1), 1)
    yield (1, 4, 7, 6), (4, 1, 3, 3), Window((1, 1), ((1, 1), (1, 1)), (1, 1), 4)
    yield (2, 2, 4, 5, 6), (3, 2, 2, 1, 3), Window((2, 1, 2), ((0, 0), (0, 0), (1, 1)), (1, 1, 2), 1)


@pytest.mark.parametrize("case", range(4))
def test_full_float32_convolution_of_torch(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes cuDNN's place on GPUs, run on the CPU: PyTorch's values and gradients of both orders, vmap, forward mode.

    It never lets cuDNN use TF32, forwards or backwards.
    """
    torch = pytest.importorskip("torch", reason="what PyTorch is asked for is not checked: PyTorch is not installed")
    from torch.utils._python_dispatch import TorchDispatchMode

    from tacops.backends._torch import full
    from tacops.backends._torch.full import full_conv

    shape, kernel, window = list(_full_conv_cases())[case]
    x, w = (torch.from_numpy(RNG.normal(size=size)).requires_grad_() for size in (shape, kernel))
    convolve = getattr(torch.nn.functional, f"conv{len(shape) - 2}d")
    options = (None, window.stride, tuple(low for low, _ in window.padding), window.dilation, window.groups)
    asked = []

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "conv" in str(function):
                asked.append((function.overloadpacket.__name__, args[-1]))
            return function(*args, **(kwargs or {}))

    def derivatives(out: Any) -> list[Any]:
        first = torch.autograd.grad((out**2).sum(), (x, w), create_graph=True)
        return [out, *first, *torch.autograd.grad(sum((g**2).sum() for g in first), (x, w))]

    with Watch():
        got = derivatives(full_conv(x, w, window))
    assert len(asked) >= 4
    assert set(asked) == {("_convolution", False)}
    for a, b in zip(got, derivatives(convolve(x, w, *options)), strict=True):
        torch.testing.assert_close(a, b)
    monkeypatch.setattr(full, "COLUMNS", 1)  # sample by sample
    torch.testing.assert_close(derivatives(full_conv(x, w, window)), got)
    twice = torch.func.vmap(lambda x: full_conv(x, w, window))(torch.stack([x, 2 * x]))
    torch.testing.assert_close(twice[1], 2 * got[0])


def test_full_float32_convolution_backwards_in_autocast() -> None:
    """Its gradients are not narrowed where the backward pass is called inside autocast."""
    torch = pytest.importorskip("torch", reason="gradients in autocast are not checked: PyTorch is not installed")
    from tacops.backends._torch.full import full_conv

    shape, kernel, window = list(_full_conv_cases())[1]
    x, w = (torch.from_numpy(RNG.normal(size=size)).float().requires_grad_() for size in (shape, kernel))
    out = full_conv(x, w, window)
    want = torch.autograd.grad(out, (x, w), torch.ones_like(out), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        got = torch.autograd.grad(out, (x, w), torch.ones_like(out))
    assert all(map(torch.equal, got, want))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_forward_mode_of_full_float32_convolution() -> None:
    torch = pytest.importorskip("torch", reason="what PyTorch is asked for is not checked: PyTorch is not installed")
    from tacops.backends._torch.full import full_conv

    for shape, kernel, window in _full_conv_cases():
        x, w = (torch.from_numpy(RNG.normal(size=size)) for size in (shape, kernel))
        out, tangent = torch.func.jvp(lambda x, w, window=window: full_conv(x, w, window), (x, w), (x, w))
        torch.testing.assert_close(tangent, 2 * out)


def test_torch_asks_cudnn_for_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that says it is on a GPU goes there, unless its user has switched TF32 off; compiled, it is unfolded."""
    torch = pytest.importorskip("torch", reason="what PyTorch is asked for is not checked: PyTorch is not installed")
    from tacops.backends import Window
    from tacops.backends._torch import convolution

    class OnGPU(torch.Tensor):  # type: ignore[misc, name-defined]
        device = torch.device("cuda")

    seen: list[str] = []

    def named(name: str) -> Callable[..., Any]:
        def same(*args: Any) -> Any:
            seen.append(name)
            return next(x for x in args if isinstance(x, torch.Tensor))

        return same

    monkeypatch.setattr(convolution, "full_conv", named("full"))
    monkeypatch.setattr(convolution, "conv_by_unfolding", named("unfolded"))
    monkeypatch.setattr(convolution, "_CONV", (None, None, named("cudnn"), None))
    x, w = (torch.zeros(shape).as_subclass(OnGPU) for shape in ((2, 5, 5, 3), (4, 3, 3, 3)))
    window = Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert torch._C._get_fp32_precision_getter("cuda", "conv") == "tf32"  # PyTorch's default
    convolution.conv(x, w, None, window, False)
    convolution.conv(x.double(), w.double(), None, window, False)
    convolution.conv(x, w, None, window, True)
    monkeypatch.setattr(convolution, "_cudnn_is_plain", lambda: True)
    convolution.conv(x, w, None, window, False)
    monkeypatch.setattr(convolution, "_cudnn_is_plain", lambda: False)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    convolution.conv(x, w, None, window, False)
    assert seen == ["full", "cudnn", "unfolded", "cudnn", "unfolded"]
