"""Weights that learn on PyTorch's CPUs: where the input is sparse, their gradient follows the spikes, and is autograd's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")
pytest.importorskip("numba", reason="the loops of gradients are not tried: Numba is not installed")

import tacops
from tacops import surrogate
from tacops._backend.window import Window
from tacops.backends import get_backend
from tacops.backends._cpu import choose, weights
from tacops.backends._torch import weighing
from tests.support.weighing_mutants import MUTANTS, planted


class Layer(NamedTuple):
    """A convolution of 19 frames."""

    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    channels: int
    width: int
    values: str = "spikes"


LAYERS = [
    Layer((7, 6), (3, 3), (1, 1), (1, 1), 3, 5),
    Layer((7, 6), (3, 2), (0, 1), (2, 1), 20, 70, "analog"),
    Layer((6, 7), (2, 3), (1, 0), (1, 2), 2, 16, "counts"),
    Layer((9,), (3,), (2,), (2,), 17, 32),
    Layer((4, 5, 3), (2, 3, 1), (1, 2, 0), (2, 1, 1), 3, 33, "analog"),
    Layer((5, 5), (1, 1), (0, 0), (1, 1), 4, 4),
    Layer((3, 4), (3, 3), (2, 0), (1, 1), 2, 3),
]


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the gradients that were asked of the loops are theirs: no test passes because none was."""
    calls: list[bool] = []
    real: Callable[..., Any] = vars(weighing)["weight_back"]

    def spy(*given: Any) -> Any:
        found = real(*given)
        calls.append(found is not None)
        return found

    monkeypatch.setattr(weighing, "weight_back", spy)
    return calls


@pytest.fixture
def forced() -> Iterator[None]:
    """Gradients follow the spikes wherever they can."""
    with choose.force("events"):
        yield


def arrays(layer: Layer, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """Input, weight and bias."""
    rng = np.random.default_rng(7)
    x = (rng.random((19, *layer.spatial, layer.channels)) < 0.25).astype(dtype)
    x[2:9] *= 0  # silent frames
    if layer.values != "spikes":
        x *= rng.normal(size=x.shape) if layer.values == "analog" else rng.integers(1, 4, x.shape)
    weight = rng.normal(size=(layer.width, *layer.kernel, layer.channels))
    given = x, weight.astype(dtype), rng.normal(size=layer.width).astype(dtype)
    tensors = tuple(torch.from_numpy(a).requires_grad_() for a in given)
    return tensors[0], tensors[1], tensors[2]


def gradients(layer: Layer, dtype: Any = np.float64, *, bad: float = 0.0) -> list[Any]:
    """By weight, input and bias, of a weighed sum of currents; and those themselves."""
    x, weight, bias = arrays(layer, dtype)
    window = Window((1,) * len(layer.kernel), tuple((n, n) for n in layer.padding), layer.dilation, 1)
    out = get_backend("torch").conv(x, weight, bias, window, exact=False)
    factors = torch.from_numpy(np.random.default_rng(8).normal(size=out.shape).astype(dtype))
    factors.view(-1)[0] += bad
    return [*torch.autograd.grad((out * factors).sum(), (weight, x, bias)), out.detach()]


def differ(got: list[Any], want: list[Any], tolerance: float) -> bool:
    """By more than `tolerance` of the largest entry of an array, or in what is missing."""
    for a, b in zip(got, want, strict=True):
        whole = torch.isfinite(b)
        if a.shape != b.shape or not torch.equal(torch.isfinite(a), whole):
            return True
        a, b = (torch.where(whole, y.double(), 0.0) for y in (a, b))
        if float((a - b).abs().max()) > tolerance * float(b.abs().max()):
            return True
    return False


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_gradients_of_autograd(forced: None, layer: Layer, dtype: Any, tolerance: float, seen: list[bool]) -> None:
    """By weight, of float64; by input and bias, and forwards, PyTorch's."""
    got = gradients(layer, dtype)
    assert seen == [True]
    with choose.force("dense"):
        want, same = gradients(layer), gradients(layer, dtype)
    assert len(seen) == 1
    assert not differ(got[:1], want[:1], tolerance)
    assert not differ(got[1:], same[1:], tolerance)
    assert torch.equal(got[3], same[3])


def wrong() -> bool:
    """Whether some layer's gradient is, as the loops are now."""
    for layer, bad in [(layer, 0.0) for layer in LAYERS] + [(LAYERS[0], float("inf")), (LAYERS[0], float("nan"))]:
        with choose.force("dense"):
            want = gradients(layer, bad=bad)
        try:
            with choose.force("events"):
                got = gradients(layer, bad=bad)
        except Exception:  # noqa: BLE001 (an index out of bounds is found as well as a wrong sum)
            return True
        if differ(got, want, 1e-12):
            return True
    return infinite_inputs_differ()


def infinite_inputs_differ() -> bool:
    """Whether an infinite input, of which padding makes nothing, gives another gradient than PyTorch's."""
    found = []
    for way in ("dense", "events"):
        weight = torch.ones(2, 3, 1, requires_grad=True)
        x = torch.tensor([float("inf"), 1.0, 0.0, 0.0, 0.0]).reshape(1, 1, 5, 1)
        with choose.force(way):
            tacops.conv_lif(x, weight, padding=1, reset="none").membrane.sum().backward()
        found.append([weight.grad])
    return differ(found[1], found[0], 1e-6)


def test_without_a_mistake_nothing_differs() -> None:
    """The loops in Python, unchanged."""
    with planted(None):
        assert not wrong()


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mistake_is_found(name: str) -> None:
    """By some layer."""
    with planted(name):
        assert wrong()


def test_gradients_of_operators(forced: None, seen: list[bool]) -> None:
    """Chunks, bool input, a decay that learns, and reproducible mode, through neurons."""
    rng = np.random.default_rng(1)
    frames = torch.from_numpy(rng.random((6, 2, 6, 5, 3)) < 0.3)
    for given in ({"chunk_size": 2, "mode": "preserve"}, {"chunk_size": 1, "reproducible": True}):
        found = []
        for way in ("dense", "events"):
            weight = torch.from_numpy(rng.normal(size=(4, 3, 3, 3)) * 0 + 0.1).requires_grad_()
            beta = torch.full((4,), 0.8, dtype=torch.float64, requires_grad=True)
            with choose.force(way):
                train = tacops.tac_conv(frames, weight, padding=1, beta=beta, surrogate=surrogate.arctan(), **given)
            (train.spikes.sum() + train.membrane.sum()).backward()
            found.append([weight.grad, beta.grad])
        assert not differ(found[1], found[0], 1e-12)
    assert seen == [True, True]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of PyTorch's vmap and forward mode
def test_gradients_of_gradients(forced: None) -> None:
    """PyTorch's own, vectorised and along directions, too."""
    x, weight, bias = arrays(Layer((4, 3), (2, 2), (1, 1), (1, 1), 2, 2))
    window = Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)

    def loss(x: Any, weight: Any) -> Any:
        return (get_backend("torch").conv(x, weight, bias, window, exact=False) ** 3).mean()

    got = torch.autograd.functional.hessian(loss, (x[:2], weight), vectorize=True)
    slow = torch.autograd.functional.hessian(loss, (x[:2], weight))
    assert torch.func.grad(loss, 1)(x, weight).abs().sum() > 0
    torch.func.jvp(lambda weight: loss(x, weight), (weight.detach(),), (weight.detach(),))
    with choose.force("dense"):
        want = torch.autograd.functional.hessian(loss, (x[:2], weight))
    for a, b, c in zip(*([t for row in pair for t in row] for pair in (got, slow, want)), strict=True):
        torch.testing.assert_close(a, c)
        torch.testing.assert_close(b, c)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")  # of PyTorch itself
def test_compilers(forced: None, seen: list[bool]) -> None:
    """A step that is compiled has PyTorch's products in its graph; a backward pass that is compiled alone calls the loops."""
    frames = torch.from_numpy(np.random.default_rng(3).random((3, 2, 5, 5, 2)) < 0.3)
    weight = torch.full((3, 3, 3, 2), 0.2, requires_grad=True)

    def loss(weight: Any) -> Any:
        return tacops.conv_lif(frames, weight, surrogate=surrogate.arctan()).spikes.sum()

    (want,) = torch.autograd.grad(loss(weight), weight)
    assert seen == [True]
    torch._dynamo.reset()
    (graph,) = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(weight), weight)
    assert seen == [True]
    value = loss(weight)
    with torch._dynamo.config.patch(compiled_autograd=True):
        torch.compile(lambda value: value.backward(), backend="aot_eager")(value)
    assert seen == [True, True]
    torch.testing.assert_close(graph, want)
    torch.testing.assert_close(weight.grad, want)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opcheck() -> None:
    """What PyTorch demands of an operation."""
    x, gradient = (torch.rand(3, 5, 4, 2) < 0.3).float(), torch.randn(3, 5, 4, 6)
    torch.library.opcheck(weighing._weigh, (x, gradient, [3, 3], [1, 1], [1, 1]))


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch, forced: None, seen: list[bool]) -> None:
    """Frames are cut by their number alone."""
    monkeypatch.setattr(weights, "count_cores", lambda: 3)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(gradients(LAYERS[1], np.float32)[0])
    finally:
        torch.set_num_threads(before)
    assert seen == [True] * 3
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_rule() -> None:
    """Rare spikes on layers of many channels; neither dense input, nor few channels, small layers, strides and groups."""
    window = Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)

    def asked(density: float, channels: int, frames: int = 8, window: Window = window) -> bool:
        x = np.random.default_rng(0).random((frames, 28, 28, channels)) < density
        return weights.follows(x.astype(np.float32), (64, 3, 3, channels // window.groups), window)

    assert asked(0.05, 32)
    assert asked(0.05, 32) == asked(0.05, 32)
    assert not asked(0.4, 32)
    assert not asked(0.05, 2, 64)
    assert not asked(0.05, 32, 1)
    assert not asked(0.05, 32, window=_strided())
    assert asked(0.01, 512)
    assert not asked(0.01, 1024)  # whose sums would take much memory
    for way, expected in (("events", True), ("tables", True), ("dense", False)):
        with choose.force(way):  # type: ignore[arg-type]
            assert asked(0.4, 2, 1) == expected
            assert not asked(0.4, 2, 1, _strided())


def _strided() -> Window:
    return Window((2, 2), ((1, 1), (1, 1)), (1, 1), 1)


def test_what_goes_pytorch_s_way(forced: None, monkeypatch: pytest.MonkeyPatch, seen: list[bool]) -> None:
    """Weights that don't learn, strides, sides of two widths, groups, half precision, no Numba."""
    frames = torch.ones(2, 1, 6, 6, 2)

    def step(given: dict[str, Any], **options: Any) -> None:
        weight = torch.full(given.get("shape", (4, 3, 3, 2)), 0.2, dtype=given.get("dtype", torch.float32))
        weight.requires_grad_()
        tacops.conv_lif(frames, weight, surrogate=surrogate.arctan(), **options).spikes.sum().backward()
        assert weight.grad.abs().sum() > 0

    step({}, stride=2)
    step({}, padding=((0, 1), (1, 1)))
    step({"shape": (4, 3, 3, 1)}, groups=2)
    step({"dtype": torch.bfloat16})
    with torch.no_grad():
        tacops.conv_lif(frames, torch.ones(4, 3, 3, 2, requires_grad=True))
    monkeypatch.setattr(weighing, "can_weigh", lambda dtype: False)
    step({})
    assert not seen


@pytest.mark.parametrize(
    ("frames", "channels", "width", "most"),
    [
        ((128, 32, 32), 2, 32, 0.0),
        ((512, 28, 28), 1, 32, 0.0),
        ((128, 28, 28), 32, 64, 0.2),
        ((64, 16, 16), 64, 128, 0.2),
    ],
    ids=["S1", "S2", "S3", "S4"],
)
def test_what_the_page_says_of_the_rule(frames: tuple[int, ...], channels: int, width: int, most: float) -> None:
    """docs/engine.md: up to about 20 % of spikes on layers like S3 and S4, never on S1 and S2."""
    rng = np.random.default_rng(0)
    window = Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    for density in (0.01, 0.05, 0.2, 0.35):
        x = (rng.random((*frames, channels)) < density).astype(np.float32)
        assert weights.follows(x, (width, 3, 3, channels), window) == (density <= most)
