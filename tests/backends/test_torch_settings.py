"""What may be set around PyTorch's operators changes no exact answer, and the operators change none of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest

import tacops
from tacops import surrogate

torch = pytest.importorskip("torch", reason="PyTorch's settings are not tried: it is not installed")

RNG = np.random.default_rng(0)
SPIKES = RNG.random((16, 4, 16, 16, 8)) < 0.3
WEIGHT = RNG.normal(0, 0.3, (16, 3, 3, 8)).astype(np.float32)
CHUNKS: list[dict[str, Any]] = [{"chunk_size": 1}, {"chunk_size": 4}, {"chunk_size": 4, "mode": "preserve"}]
PRECISIONS = [("mkldnn", "all"), ("mkldnn", "matmul"), ("mkldnn", "conv"), ("cuda", "matmul"), ("generic", "all")]
if not hasattr(torch._C, "_get_fp32_precision_getter"):  # before PyTorch 2.9
    PRECISIONS = []
MORE: dict[str, Any] = {"allow_tf32": None} if PRECISIONS else {}


@contextmanager
def precision(backend: str, operation: str, value: str) -> Iterator[None]:
    """A setting of float32's precision, by the functions under ``torch.backends.<...>.fp32_precision``."""
    before = torch._C._get_fp32_precision_getter(backend, operation)
    torch._C._set_fp32_precision_setter(backend, operation, value)
    try:
        yield
    finally:
        torch._C._set_fp32_precision_setter(backend, operation, before)


@contextmanager
def calls(begin: Callable[[Any], Any], value: Any, end: Any) -> Iterator[None]:
    """``begin(value)`` and, afterwards, ``begin(end)``."""
    begin(value)
    try:
        yield
    finally:
        begin(end)


SETTINGS: dict[str, Callable[[], Any]] = {
    "oneDNN off": lambda: torch.backends.mkldnn.flags(enabled=False, **MORE),
    "oneDNN off, TF32": lambda: torch.backends.mkldnn.flags(enabled=False),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast half": lambda: torch.autocast("cpu", dtype=torch.float16),
    "medium": lambda: calls(torch.set_float32_matmul_precision, "medium", "highest"),
    "high": lambda: calls(torch.set_float32_matmul_precision, "high", "highest"),
    "deterministic": lambda: calls(torch.use_deterministic_algorithms, True, False),
    "default float64": lambda: calls(torch.set_default_dtype, torch.float64, torch.float32),
    "default float16": lambda: calls(torch.set_default_dtype, torch.float16, torch.float32),
    "default device": lambda: torch.device("meta"),
    "one thread": lambda: calls(torch.set_num_threads, 1, torch.get_num_threads()),
}
if PRECISIONS:
    SETTINGS |= {
        "ieee": lambda: precision("generic", "all", "ieee"),
        **{f"bf16 {a} {b}": lambda a=a, b=b: precision(a, b, "bf16") for a, b in PRECISIONS if a == "mkldnn"},  # type: ignore[misc]
        "tf32 cuda": lambda: precision("cuda", "matmul", "tf32"),
    }


def state() -> list[Any]:
    """Every setting that is the user's."""
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    return [
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, mkldnn.enabled, torch.is_autocast_enabled("cpu")),
        [torch._C._get_fp32_precision_getter(*where) for where in (*PRECISIONS, ("cuda", "conv")) if PRECISIONS],
        (torch.get_float32_matmul_precision(), cudnn.allow_tf32) if not PRECISIONS else (),
        (torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype(), torch.get_num_threads()),
    ]


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings(setting: str) -> None:
    """Exact: NumPy's bits. Default: float32, and no sample depends on the others. Nothing global is touched."""
    x, w = torch.from_numpy(SPIKES), torch.from_numpy(WEIGHT)
    with SETTINGS[setting]():
        before = state()
        for options in CHUNKS:
            got = tacops.tac_conv(x, w, padding=1, reproducible=True, **options)
            want = tacops.tac_conv(SPIKES, WEIGHT, padding=1, reproducible=True, **options)
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(a.numpy(), b)
            rows = tacops.tac_linear(x[:, :, 0, 0], w[:, 0, 0], reproducible=True, **options)
            alike = tacops.tac_linear(SPIKES[:, :, 0, 0], WEIGHT[:, 0, 0], reproducible=True, **options)
            np.testing.assert_array_equal(rows.membrane.numpy(), alike.membrane)
            every = tacops.tac_conv(x, w, padding=1, reset="none", **options)
            single = tacops.tac_conv(x[:, :1], w, padding=1, reset="none", **options)
            assert every.spikes.dtype == every.membrane.dtype == torch.float32
            torch.testing.assert_close(every.membrane[:1], single.membrane, rtol=0, atol=2e-5)
            tacops.tac_conv(x, w, padding=1, membrane=every.membrane, **options)
        assert state() == before


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("exact", [False, True])
def test_gradients_under_settings(setting: str, exact: bool) -> None:
    """Close to those without the setting; the backward pass runs outside, as PyTorch wants it of autocast."""

    def gradient() -> Any:
        w = torch.from_numpy(WEIGHT).requires_grad_()
        train = tacops.tac_conv(
            torch.from_numpy(SPIKES), w, padding=1, chunk_size=4, surrogate=surrogate.arctan(2.0), reproducible=exact
        )
        return train.spikes.sum() + (train.membrane**2).sum(), w

    with SETTINGS[setting]():
        loss, w = gradient()
    loss.backward()
    plain, same = gradient()
    plain.backward()
    assert w.grad.dtype == torch.float32
    torch.testing.assert_close(w.grad, same.grad, rtol=1e-4, atol=1e-4 * float(same.grad.abs().max()))


def operations(run: Callable[[], Any]) -> list[tuple[str, set[Any]]]:
    """Products and convolutions that PyTorch was asked for, each with its operands' dtypes and dimensions."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = function.overloadpacket.__name__
            if name in ("mm", "bmm", "addmm", "convolution", "_convolution", "convolution_backward"):
                tensors = [a for a in args if isinstance(a, torch.Tensor)]
                seen.append((name, {(a.dtype, a.ndim) for a in tensors if a.ndim > 1}))
            return function(*args, **(kwargs or {}))

    with Watch():
        run()
    return seen


@pytest.mark.parametrize("operator", ["tac_conv", "tac_linear"])
@pytest.mark.parametrize(("library", "operation"), PRECISIONS)
def test_no_product_that_a_setting_narrows(library: str, operation: str, operator: str) -> None:
    """A processor may have no bfloat16 or TF32 to be narrowed to, so look at what is asked for: float64."""
    x, w = torch.from_numpy(SPIKES), torch.from_numpy(WEIGHT)
    if operator == "tac_linear":
        x, w = x[:, :, 0, 0], w[:, 0, 0]
    value = "tf32" if library == "cuda" else "bf16"
    with precision(library, operation, value):
        seen = operations(lambda: getattr(tacops, operator)(x, w, chunk_size=4, reproducible=True))
    assert seen
    assert all(dtype == torch.float64 for _, operands in seen for dtype, _ in operands), seen
    plain = operations(lambda: getattr(tacops, operator)(x, w, chunk_size=4, reproducible=True))
    assert all(dtype == torch.float32 for _, operands in plain for dtype, _ in operands), plain


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dims", [1, 2])
def test_no_convolution_of_nnpack(dims: int, exact: bool) -> None:
    """It has two-dimensional ones alone: without oneDNN, and in compiled exact layers, three-dimensional ones are called."""
    x, w = torch.zeros(20, 1, *(8,) * dims, 4), torch.ones(4, *(3,) * dims, 4)

    def run() -> None:
        tacops.conv_lif(x, w, padding=1, reproducible=exact)

    with torch.backends.mkldnn.flags(enabled=False, **MORE):
        (seen,) = operations(run)
    assert seen[1] == {(torch.float32, 5)}


@pytest.mark.parametrize("fullgraph", [True])
def test_compiles_within_settings(fullgraph: bool) -> None:
    """In one graph, with autocast on or off; the bits are those of the eager layer."""
    x, w = torch.from_numpy(SPIKES[:4]), torch.from_numpy(WEIGHT)

    def layer(x: Any, w: Any) -> Any:
        return tuple(tacops.tac_conv(x, w, padding=1, chunk_size=2, reproducible=True))

    compiled = torch.compile(layer, fullgraph=fullgraph, backend="aot_eager")
    want = layer(x, w)
    for around in (SETTINGS["autocast"], SETTINGS["oneDNN off"], SETTINGS["medium"], torch.no_grad):
        with around():
            for a, b in zip(compiled(x, w), want, strict=True):
                assert torch.equal(a, b)


def test_gradient_of_strided_1x1() -> None:
    """That of oneDNN writes past its buffer (oneDNN#6035), so it isn't asked: values, and no stride in what is called."""
    x = torch.from_numpy(RNG.integers(0, 2, (2, 3, 7, 8, 3)).astype(np.float32)).requires_grad_()
    w = torch.from_numpy(RNG.integers(-2, 3, (2, 1, 1, 3)).astype(np.float32)).requires_grad_()
    tacops.conv_lif(x, w, stride=(2, 3), beta=1.0, reset="none").membrane.sum().backward()
    by_x = np.zeros(x.shape, np.float32)
    by_x[:, :, ::2, ::3] = w.detach().numpy().sum(0).reshape(3)
    np.testing.assert_array_equal(x.grad, by_x)
    np.testing.assert_array_equal(w.grad, np.broadcast_to(x.detach()[:, :, ::2, ::3].sum((0, 1, 2, 3)), w.shape))

    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function.overloadpacket.__name__ == "convolution":
                assert set(args[3]) == {1}
            return function(*args, **(kwargs or {}))

    with Watch():
        tacops.conv_lif(x, w, stride=(2, 3))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("spikes", ["bool", "int16", "same"])
def test_half_precision_sums_in_float32(dtype: str, spikes: str) -> None:
    """4,097 ones are 4,096 in float16 and in bfloat16 when rounded once, 2,048 and 256 when summed in them."""
    half = getattr(torch, dtype)
    kind = half if spikes == "same" else getattr(torch, spikes)
    x = torch.ones(4097, 1, 1, dtype=kind)
    for mode in ("collapse", "preserve"):
        train = tacops.tac_linear(
            x, torch.ones(1, 1, dtype=half), chunk_size=4097, mode=mode, aggregation="sum", beta=0.0, reset="none"
        )
        assert train.membrane.item() == 4096
    if spikes == "same":
        assert tacops.aggregate(x, 4097, aggregation="sum").item() == 4096
    frames = torch.ones(1, 1, 5000, 1, 1, dtype=half)
    out = tacops.conv_lif(frames, torch.ones(1, 4097, 1, 1, dtype=half), reset="none")
    assert set(out.membrane.reshape(-1).tolist()) == {4096}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_unsigned_counts(dtype: str) -> None:
    """PyTorch has no minimum of the wider ones; values beyond the grid, 2^64 - 1 too, are not on it."""
    from tacops.backends import get_backend

    counts = RNG.integers(0, 4, (4, 2, 6, 6, 8)).astype(dtype)
    backend = get_backend("torch")
    assert bool(backend.on_grid(torch.from_numpy(counts), -3.0, 3.0, 1.0))
    assert not bool(backend.on_grid(torch.from_numpy(counts), -2.0, 2.0, 1.0))
    assert not bool(backend.on_grid(torch.from_numpy(counts), -4.0, 4.0, 2.0))
    got = tacops.tac_conv(torch.from_numpy(counts), torch.from_numpy(WEIGHT), padding=1, chunk_size=2, reset="none")
    want = tacops.tac_conv(counts, WEIGHT, padding=1, chunk_size=2, reset="none")
    np.testing.assert_allclose(got.membrane.numpy(), want.membrane, atol=1e-4)
    counts[0, 0, 0, 0, 0] = np.iinfo(dtype).max
    assert not bool(backend.on_grid(torch.from_numpy(counts), -3.0, 3.0, 1.0))


def test_unfit() -> None:
    """Named with the way out; everything else fits."""
    from tacops.backends import get_backend

    unfit = cast(Any, get_backend("torch")).unfit
    eye = torch.eye(4)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # every one of these is a prototype or deprecated
        rows = [torch.ones(2), torch.ones(3)]
        no: dict[str, list[Any]] = {
            "to_dense()": [eye.to_sparse(), eye.to_sparse_csr(), eye.to_sparse_csc(), eye.to_sparse_bsr((2, 2))],
            "to_padded_tensor": [
                torch.nested.nested_tensor(rows, layout=layout) for layout in (torch.strided, torch.jagged)
            ],
            "dequantize()": [torch.quantize_per_tensor(eye, 0.1, 0, kind) for kind in (torch.quint8, torch.qint32)],
            "to_tensor(": [torch.masked.masked_tensor(eye, eye > 0)],
            "float()": [eye.to(kind) for kind in (torch.float8_e4m3fn, torch.float8_e5m2)],
        }
    for way, tensors in no.items():
        for tensor in tensors:
            phrase = unfit(tensor)
            assert phrase is not None
            assert way in phrase
    for kind in ("bool", "uint8", "uint16", "uint64", "int64", "float16", "bfloat16", "float32", "float64"):
        assert unfit(torch.zeros(2, dtype=getattr(torch, kind))) is None
    assert unfit(torch.nn.Parameter(eye)) is None
    torch.func.vmap(lambda row: torch.tensor(unfit(row) is None) & (row > 0))(eye)
