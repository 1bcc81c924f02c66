"""Which way a layer of reproducible mode goes on a GPU: one kernel, products of float16, or as before; the same spikes on all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tests.cuda.triton_host import MISSING, interpreted

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

import torch

import tacops
from tacops import Grid
from tacops._core.grid import fits_half
from tacops.backends._torch import fused, half, kernels

RNG = np.random.default_rng(0)
X = RNG.random((6, 2, 5, 4, 3)) < 0.4
COUNTS = RNG.integers(0, 16, X.shape)
W = RNG.normal(0, 0.4, (5, 3, 2, 3)).astype(np.float32)
BIAS, START = RNG.normal(0, 0.1, 5).astype(np.float32), RNG.normal(0, 0.3, (2, 5, 4, 5)).astype(np.float32)
ROW = RNG.uniform(0.5, 1.0, 5).astype(np.float32)


@pytest.fixture
def launches() -> Iterator[Any]:
    """How often each kernel was launched."""
    with interpreted() as count:
        yield count


def tensors(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def same(x: Any, weight: Any, *more: Any, **options: Any) -> None:
    """As NumPy, bit for bit."""
    dense = weight.ndim == 2
    operator = tacops.tac_linear if dense else tacops.tac_conv
    options = {"chunk_size": 1, "reproducible": True, **({} if dense else {"padding": "same"}), **options}
    want = operator(x, weight, *more, **options)
    got = operator(*map(tensors, (x, weight, *more)), **{name: tensors(value) for name, value in options.items()})
    assert float(want.spikes.mean()) > 0
    np.testing.assert_array_equal(got.spikes.numpy(), want.spikes)
    np.testing.assert_array_equal(got.membrane.numpy(), want.membrane)


FUSED: dict[str, dict[str, Any]] = {
    "exact": {},
    "collapse": {"chunk_size": 4},  # 6 frames: a shorter chunk is another launch
    "preserve": {"chunk_size": 3, "mode": "preserve"},
    "mean": {"chunk_size": 3, "aggregation": "mean", "beta": ROW},
    "parameters": {"beta": ROW, "threshold": ROW, "membrane": START, "reset": "late", "compact": True},
    "grid": {
        "reproducible": Grid(input_step=0.5, input_max=4.0),
        "stride": 2,
        "padding": ((1, 0), (2, 1)),
        "dilation": 2,
    },
}


@pytest.mark.parametrize("name", FUSED)
def test_one_kernel(name: str, launches: Any) -> None:
    """By the operators, on spikes as bool and as float32."""
    for x in (X, X.astype(np.float32)):
        same(x, W, BIAS, **FUSED[name])
    assert launches.conv_lif == 2 * (2 if name == "collapse" else 1)
    assert launches.lif == 0


def test_other_shapes(launches: Any) -> None:
    """Dense layers, of any further dimensions; one spatial dimension; channels first; counts."""
    same(X, W[:, 0, 0], chunk_size=2)
    same(X[:, :, 0], W[:, 0])
    same(COUNTS, W, reproducible=Grid(input_max=15), chunk_size=2)
    same(np.moveaxis(X, -1, 2), np.ascontiguousarray(np.moveaxis(W, -1, 1)), layout="channels_first")
    assert launches.conv_lif == 4


OTHERS: dict[str, Any] = {
    "three dimensions": lambda: same(X[..., None, :], W[..., None, :]),
    "groups": lambda: same(np.concatenate([X, X], -1)[..., :4], RNG.normal(0, 0.5, (4, 3, 3, 2)).astype(np.float32), groups=2),
    "float64": lambda: same(X, W.astype(np.float64)),
    "weights of 12 bits": lambda: same(X, W, reproducible=Grid(weight_bits=12)),
    "2049 in a frame": lambda: same(X, W, reproducible=Grid(input_max=2049, weight_bits=4)),
    "sums of 2049": lambda: same(
        np.repeat(X, 6, 0)[:32], W, chunk_size=32, aggregation="normalized_decay", beta=0.99, mode="preserve"
    ),
    "decays of channels": lambda: same(X, W, chunk_size=2, beta=ROW),
    "traces": lambda: same(X, W, trace=True),
    "lengths": lambda: same(X, W, lengths=np.array([4, 6])),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_ways(name: str, launches: Any) -> None:
    """What the kernel does not know, or could not know to be exact."""
    OTHERS[name]()
    assert launches.conv_lif == 0


def test_largest_sums_of_the_kernel(launches: Any) -> None:
    """2048 in a frame, by the grid or by the weights of 32 frames."""
    same(X, W, reproducible=Grid(input_max=2048, weight_bits=4))
    same(np.repeat(X, 6, 0)[:32], W, chunk_size=32, aggregation="normalized_decay", beta=0.97, mode="preserve")
    assert launches.conv_lif == 2


def test_what_fits_float16() -> None:
    """Known by the grid and by the weights of a chunk, whose signs don't matter; arrays are not read."""
    assert fits_half(Grid(), [1.0])
    assert fits_half(Grid(input_max=4.0, input_step=0.5), [128.0, -128.0])
    assert not fits_half(Grid(input_max=4.0, input_step=0.5), [128.0, -129.0])
    assert not fits_half(Grid(), [1.0, torch.ones(())])
    assert not fits_half(Grid(weight_bits=12), [1.0])


def test_small_layers_of_long_walks_go_another_way(launches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few neurons, and many frames times inputs."""
    neurons, walk = 2 * 5 * 4 * 5, 6 * 18
    for least, most, fuses in ((neurons, 0, True), (neurons + 1, walk - 1, False), (neurons + 1, walk, True)):
        monkeypatch.setattr(fused, "NEURONS", least)
        monkeypatch.setattr(fused, "WALK", most)
        before = launches.conv_lif
        same(X, W)
        assert (launches.conv_lif > before) == fuses


def run(x: Any, weight: Any, **options: Any) -> Any:
    return tacops.conv_lif(tensors(x), weight, reproducible=True, **options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, when it first loads forward mode's rules
def test_learning_and_transforms_go_by_the_core(launches: Any) -> None:
    """With their gradients; without a gradient to keep, the kernel."""
    arctan = tacops.surrogate.arctan()
    weight = torch.from_numpy(W).requires_grad_()
    run(X, weight, surrogate=arctan).spikes.sum().backward()
    assert float(weight.grad.abs().sum()) > 0
    torch.func.vmap(lambda x: run(x[:, None], weight.detach()).spikes, 1, 1)(torch.from_numpy(X))
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        dual = forward.make_dual(weight.detach(), torch.ones_like(weight))
        assert float(forward.unpack_dual(run(X, dual, surrogate=arctan).spikes).tangent.abs().sum()) > 0
    assert launches.conv_lif == 0
    with torch.no_grad():
        run(X, weight, surrogate=arctan)
    assert launches.conv_lif == 1


def test_compiled(launches: Any) -> None:
    """One operation in a graph without breaks."""
    want = tacops.conv_lif(X, W, reproducible=True)
    torch._dynamo.reset()
    got = torch.compile(run, fullgraph=True, backend="aot_eager")(torch.from_numpy(X), torch.from_numpy(W))
    np.testing.assert_array_equal(got.spikes.numpy(), want.spikes)
    np.testing.assert_array_equal(got.membrane.numpy(), want.membrane)
    assert launches.conv_lif == 1


def test_exported_programs_hold_no_operation_of_ours(launches: Any) -> None:
    """They run where this package is not."""

    class Layer(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any, weight: Any) -> Any:
            return run(x, weight).spikes

    given = torch.from_numpy(X), torch.from_numpy(W)
    run(*given)  # which loads what Dynamo can't
    batch = torch.export.Dim("batch", min=1, max=1 << 20)  # sizes that no choice narrows
    assert "tacops" not in str(torch.export.export(Layer(), given, dynamic_shapes=({1: batch}, {})).graph)


@pytest.mark.parametrize("compact", [False, True])
def test_opcheck(compact: bool, launches: Any) -> None:
    """What PyTorch demands of an operation."""
    settings = fused.Settings(0.5, 1.0, 2, 1, True, compact, [2, 1], [1, 0], [0, 2], [1, 2])
    x, weight = torch.from_numpy(COUNTS), torch.randint(-9, 9, (5, 3, 2, 3)).to(torch.float16)
    row, start = torch.full((5,), 3.0), torch.zeros(2, 2, 4, 5)
    torch.library.opcheck(fused.layer, (x, weight, row, start, None, row, torch.tensor(0.0), row, *settings))


def in_float32(a: Any, b: Any) -> Any:
    """In place of a product that PyTorch has on GPUs alone."""
    assert a.dtype == b.dtype == torch.float16
    return a.float() @ b.float()


PRODUCTS: dict[str, Any] = {
    "plain": lambda: same(X, W, BIAS),
    "three dimensions": OTHERS["three dimensions"],
    "groups": OTHERS["groups"],
    "dense": lambda: same(X, W[:, 0, 0], BIAS, chunk_size=2),
    "counts": lambda: same(COUNTS, W, reproducible=Grid(input_max=15), chunk_size=2, mode="preserve"),
    "traces": OTHERS["traces"],
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_float16(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not apply; autocast changes nothing."""
    monkeypatch.setattr(half, "has_products", lambda device: True)
    with patch.object(half, "product", side_effect=in_float32) as product:
        PRODUCTS[name]()
        assert product.call_count > 0
        with torch.autocast("cpu", torch.bfloat16):
            PRODUCTS[name]()


@pytest.mark.parametrize(
    "name", ["float64", "weights of 12 bits", "2049 in a frame", "sums of 2049", "decays of channels"]
)
def test_products_that_float16_can_not_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go the present way."""
    monkeypatch.setattr(half, "has_products", lambda device: True)
    with patch.object(half, "product", side_effect=AssertionError):
        OTHERS[name]()


def test_where_products_of_float16_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """On NVIDIA's GPUs, with PyTorch's own setting, in PyTorch that has them."""
    cuda = torch.device("cuda", 0)
    assert half.has_products(cuda) == hasattr(torch.ops.aten.mm, "dtype")
    assert not half.has_products(torch.device("cpu"))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert not half.has_products(cuda)


def test_sums_of_float16_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of the user's, which is read."""
    monkeypatch.setattr(half, "_sums_are_narrow", lambda: True)
    assert not half.has_products(torch.device("cuda", 0))


PRODUCTS_OF = "float16 on tensor cores" if hasattr(torch.ops.aten.mm, "dtype") else "float32"


def test_which_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m tacops info` says."""
    old = f"products of {PRODUCTS_OF}, then neurons (Triton has no tensor cores for compute capability 7.5)"
    new = f"one Triton kernel on tensor cores, or products of {PRODUCTS_OF}, then neurons; never run on a GPU so far"
    for capability, said in (((7, 5), old), ((9, 0), new)):
        kernels._missing_layers.cache_clear()
        monkeypatch.setattr(kernels, "missing", lambda device: None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index, of=capability: of)
        monkeypatch.setattr(kernels, "_failure", lambda attempt, device: None)
        assert half.describe_half(torch.device("cuda", 0)).startswith(said)
    kernels._missing_layers.cache_clear()


def test_what_is_tried_out(launches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensor cores that don't add exactly are not used, and that is said."""
    kernels._try_out_layer(torch.device("cpu"))
    assert launches.conv_lif == 1
    with interpreted(("convolving", "current = sums", "current = sums.to(tl.float16).to(tl.float32)")), pytest.raises(ArithmeticError):  # fmt: skip
        kernels._try_out_layer(torch.device("cpu"))

    def fail(device: Any) -> None:
        raise ArithmeticError("inexact")

    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(kernels, "_try_out_layer", fail)
    kernels._missing_layers.cache_clear()
    with pytest.warns(UserWarning, match="ArithmeticError: inexact"):
        assert kernels._missing_layers("cuda", 0) is not None
    kernels._missing_layers.cache_clear()
