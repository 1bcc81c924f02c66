"""PyTorch on CPUs runs the engine that NumPy runs: the same bits, whatever surrounds it, and nothing is copied or seen by nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")
pytest.importorskip("numba", reason="the engine's loops are not tried: Numba is not installed")

import tacops
from bench.spikes.digests import differing, load_reference, records
from tacops import SpikeTrain, surrogate
from tacops.backends import get_backend
from tacops.backends._cpu import choose, tiles
from tacops.backends._torch import engine
from tacops.testing import Check, NotApplicable, conformance_checks
from tests.backends.test_torch_settings import SETTINGS, state
from tests.support.engine_layers import GEOMETRIES, EngineLayer, assert_same, run

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")

WAYS: tuple[choose.Way, ...] = choose.WAYS


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of each call of the engine: no test passes because nothing went there."""
    calls: list[Any] = []
    layer, neurons = choose.run_layer, tiles.scan_tiles

    def spy(*args: Any) -> Any:
        calls.append(args)
        return layer(*args)

    def spy_neurons(*args: Any) -> Any:
        calls.append(args)
        return neurons(*args)

    monkeypatch.setattr(choose, "run_layer", spy)
    monkeypatch.setattr(engine, "scan_tiles", spy_neurons)
    return calls


def tensors(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def run_torch(way: choose.Way | None, x: Any, w: Any, given: dict[str, Any]) -> SpikeTrain:
    """`run` on tensors, and its results as arrays."""
    train = run(way, tensors(x), tensors(w), {key: tensors(value) for key, value in given.items()})
    return SpikeTrain(train.spikes.numpy(), train.membrane.numpy())


LAYERS = {
    **GEOMETRIES,
    "membrane": EngineLayer(membrane=True, frames=7, options={"padding": 1, "reset": "zero", "threshold": 0.7}),
    "compact": EngineLayer(options={"padding": 1, "compact": True, "reset": "late"}),
    "preserve": EngineLayer(frames=7, options={"padding": 1, "chunk_size": 3, "mode": "preserve"}),
    "collapse": EngineLayer(frames=7, options={"chunk_size": 3}),
    "per channel": EngineLayer(
        options={"padding": 1, "beta": np.linspace(0.2, 1, 5), "threshold": np.linspace(0.3, 2, 5)}
    ),
    "aggregation": EngineLayer(options={"chunk_size": 2, "aggregation": np.array([0.5, 1.5])}),
    "counts": EngineLayer(values=(1, 2, 3), options={"padding": 1, "reproducible": tacops.Grid(input_max=3)}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_bits(name: str, dtype: str, seen: list[Any]) -> None:
    """Every geometry and option, by every way: what NumPy's dense products give."""
    layer = LAYERS[name]
    for density in (0.0, 0.05, 1.0):
        for kind in ("uint8",) if name == "counts" else ("bool", dtype):
            x, w, given = layer.arrays(density, dtype, kind)
            if name == "channels first":
                given["layout"] = "channels_first"
                x, w = np.moveaxis(x, -1, 2), np.moveaxis(w, -1, 1)
            want = run("dense", x, w, given)
            for way in WAYS:
                seen.clear()
                assert_same(run_torch(way, x, w, given), want)
                assert seen


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("check", list(conformance_checks()), ids=str)
def test_conformance(check: Check, way: choose.Way) -> None:
    """The suite, whose layers are too small to leave PyTorch's path otherwise."""
    with choose.force(way):
        try:
            check(get_backend("torch"))
        except NotApplicable as reason:
            pytest.skip(str(reason))


@pytest.mark.parametrize("way", WAYS)
def test_digests(way: choose.Way, seen: list[Any]) -> None:
    """The spikes that every machine fires."""
    with choose.force(way):
        assert not differing(records(get_backend("torch")), load_reference())
    assert seen


@pytest.mark.parametrize("around", [*SETTINGS, "inference", "no_grad"])
@pytest.mark.parametrize("way", ["dense", "events"])
def test_settings(way: choose.Way, around: str, seen: list[Any]) -> None:
    """None changes a bit, on the default path neither, nor is any changed."""
    contexts = {**SETTINGS, "inference": torch.inference_mode, "no_grad": torch.no_grad}
    for options in ({"padding": 1}, {"padding": 1, "reproducible": False, "bias": None}):
        x, w, given = EngineLayer(frames=6, membrane=True, options=options).arrays(0.2)
        want = run(way, x, w, given)
        native = [tensors(x), tensors(w), {key: tensors(value) for key, value in given.items()}]
        with contexts[around]():
            before = state()
            train = run(way, *native)
            assert state() == before
            assert train.spikes.is_inference() == torch.is_inference_mode_enabled()
        assert_same(SpikeTrain(train.spikes.numpy(), train.membrane.numpy()), want)
        assert train.spikes.device.type == "cpu"
    assert len(seen) >= 2


def test_memory_is_shared(seen: list[Any]) -> None:
    """Input and weights are read where they lie, never written; strided ones and parameters too."""
    options: dict[str, Any] = {"padding": 1, "reproducible": False}
    x, w, given = EngineLayer(options=options, bias=False).arrays(0.2, kind="float32")
    want = run("events", x, w, given)
    wide = torch.from_numpy(np.repeat(x, 2, axis=-1))
    for some in (tensors(x), wide[..., ::2], tensors(x) > 0, torch.nn.Parameter(tensors(x), requires_grad=False)):
        seen.clear()
        weight, before = tensors(w.copy()), some.clone()
        assert_same(run_torch("events", some, weight, given), want)
        assert seen[0][0].ctypes.data == some.data_ptr()
        assert seen[0][2].ctypes.data == weight.data_ptr()
        assert torch.equal(some, before)
        assert np.array_equal(weight.numpy(), w)
    train = run("events", tensors(x), tensors(w), {key: tensors(value) for key, value in given.items()})
    train.spikes.add_(1)  # ours alone
    assert_same(run_torch("events", x, w, given), want)


def test_threads_of_pytorch(seen: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than PyTorch may take, with enough to do for all cores."""
    shares: list[int] = []
    real: Callable[..., Any] = vars(tiles)["share_out"]

    def spy(run: Any, parts: Any) -> Any:
        shares.append(len(parts))
        return real(run, parts)

    monkeypatch.setattr(tiles, "share_out", spy)
    for name, value in (("count_cores", lambda: 4), ("PARALLEL", 0), ("TILE", 1)):
        monkeypatch.setattr(tiles, name, value)
    x, w, given = EngineLayer(options={"padding": 1}).arrays(0.2)
    currents = torch.zeros(5, 4, 1 << 14)
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for way in WAYS:
                shares.clear()
                run_torch(way, x, w, given)
                assert set(shares) <= {count}
                assert shares or count == 1
            shares.clear()
            tacops.lif(currents)
            assert set(shares) == ({count} if count > 1 else set())
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none", "late"])
def test_neurons_alone(reset: Any, seen: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`lif` of enough steps takes the compiled loop, of few neurons NumPy, and gives what the loop in place gives."""
    rng = np.random.default_rng(1)
    for dtype in ("float32", "float64"):
        currents, start = (
            rng.normal(0.3, 1, (9, 16, 70, 30)).astype(dtype),
            rng.normal(0, 1, (16, 70, 30)).astype(dtype),
        )
        beta = rng.uniform(0.1, 1, 30).astype(dtype)
        for given in ({}, {"membrane": start}, {"membrane": start, "beta": beta, "compact": True}):
            options = {"reset": reset, **given}
            many = tacops.lif(tensors(currents), **{k: tensors(v) for k, v in options.items()})
            assert seen.pop()
            for most in (0, 1 << 30):
                with monkeypatch.context() as patch:
                    patch.setattr(engine, "FEW", most)
                    few = [tacops.lif(tensors(currents[:, n : n + 1]), **{
                        k: tensors(v[n : n + 1] if k == "membrane" else v) for k, v in options.items()
                    }) for n in range(16)]  # fmt: skip
                assert len(seen) == (16 if most else 0)
                seen.clear()
                assert torch.equal(many.spikes, torch.cat([train.spikes for train in few], 1))
                assert torch.equal(many.membrane, torch.cat([train.membrane for train in few]))


def watched() -> dict[str, Callable[[Any, Any], Any]]:
    """Calls in which somebody has to see every operation, of spikes and weight."""
    from torch.utils.flop_counter import FlopCounterMode

    def call(x: Any, w: Any) -> Any:
        return tacops.conv_lif(x, w, padding=1).membrane

    def given(x: Any, w: Any, **options: Any) -> Any:
        return tacops.conv_lif(x, w, padding=1, surrogate=surrogate.arctan(), **options).membrane

    def dual(x: Any, w: Any) -> Any:
        with torch.autograd.forward_ad.dual_level():
            return call(x, torch.autograd.forward_ad.make_dual(w, w)).clone()

    def modes(x: Any, w: Any) -> Any:
        with FlopCounterMode(display=False) as mode:
            out = call(x, w)
        assert mode.get_total_flops() > 0
        return out

    class Mine(torch.Tensor):  # type: ignore[misc]
        pass

    return {
        "weight learns": lambda x, w: given(x, w.requires_grad_()).detach(),
        "input learns": lambda x, w: given(x.float().requires_grad_(), w).detach(),
        "threshold learns": lambda x, w: given(x, w, threshold=torch.tensor(1.0, requires_grad=True)).detach(),
        "bias learns": lambda x, w: given(x, w, bias=torch.zeros(len(w), requires_grad=True)).detach(),
        "membrane learns": lambda x, w: given(
            x, w, membrane=torch.zeros(*x.shape[1:-1], len(w), requires_grad=True)
        ).detach(),
        "vmap": lambda x, w: torch.func.vmap(call, (None, 0))(x, w[None])[0],
        "compiled": lambda x, w: torch.compile(call, backend="eager", fullgraph=True)(x, w),
        "forward mode": dual,
        "flops": modes,
        "jit.trace": lambda x, w: torch.jit.trace(call, (x, w), check_trace=False)(x, w),
        "subclass": lambda x, w: call(x, w.as_subclass(Mine)).as_subclass(torch.Tensor),
        "bfloat16 counts": lambda x, w: call(x.bfloat16(), w),
        "negated view": lambda x, w: call(x, torch.complex(w, -w).conj().imag),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", watched())
def test_what_is_watched_goes_by_pytorch(name: str, seen: list[Any]) -> None:
    """And gives the same."""
    x, w, _ = EngineLayer(batch=2, bias=False).arrays(0.2)
    with torch.no_grad():
        want = tacops.conv_lif(tensors(x), tensors(w), padding=1).membrane
    with choose.force("events"):
        got = watched()[name](tensors(x), tensors(w.copy()))
    assert not seen
    torch.testing.assert_close(got, want)


def test_without_numba_nothing_changes(seen: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's path, as for all that is too small."""
    x, w, given = EngineLayer(options={"padding": 1}).arrays(0.2)
    want = run("dense", x, w, given)
    assert_same(run_torch(None, x, w, given), want)
    monkeypatch.setattr(engine, "compiled", lambda: None)
    for way in WAYS:
        assert_same(run_torch(way, x, w, given), want)
    tacops.lif(torch.zeros(9, 4, 1 << 14))
    assert not seen


def test_large_layers_go_there_by_themselves(seen: list[Any]) -> None:
    """From the number of products at which NumPy's look at their spikes."""
    x = torch.zeros(8, 4, 32, 32, 8, dtype=torch.bool)
    tacops.conv_lif(x, torch.ones(16, 3, 3, 8), padding=1)
    assert len(seen) == 1
    tacops.conv_lif(x[:, :2, :16], torch.ones(16, 3, 3, 8), padding=1)
    assert len(seen) == 1


def test_gradients_may_be_off_in_one_thread(seen: list[Any]) -> None:
    """Whether gradients are on is each thread's: a layer that learns follows its spikes where they are off."""
    x, w, _ = EngineLayer(bias=False).arrays(0.2)
    weight, ends = torch.nn.Parameter(tensors(w)), []

    def work(around: Any) -> None:
        with around:
            ends.append(tacops.conv_lif(tensors(x), weight, padding=1).membrane.requires_grad)

    with choose.force("events"):
        for around in (torch.no_grad(), nullcontext()):
            thread = threading.Thread(target=work, args=(around,))
            thread.start()
            thread.join()
    assert ends == [False, True]
    assert len(seen) == 1


@pytest.mark.parametrize("groups", [64, 4])
def test_layers_with_groups_go_by_onednn(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless they are nearly silent, or oneDNN is off, or in float64; the same spikes whichever way."""
    ways: list[bool] = []
    layer = choose.run_layer

    def spy(*args: Any) -> Any:
        ways.append(True)
        return layer(*args)

    monkeypatch.setattr(choose, "run_layer", spy)
    rng = np.random.default_rng(0)
    w = rng.normal(0, 0.4, (64, 3, 3, 64 // groups)).astype(np.float32)
    given: dict[str, Any] = {"padding": 1, "groups": groups, "reproducible": True}
    for density, dtype, on, engines in ((0.1, "f4", True, 0), (0.1, "f4", False, 1), (0.001, "f4", True, 1), (0.1, "f8", True, 1)):  # fmt: skip
        x = rng.random((16, 8, 20, 24, 64)) < density
        want = tacops.conv_lif(x, w.astype(dtype), **given)
        ways.clear()
        with torch.backends.mkldnn.flags(enabled=on):
            got = tacops.conv_lif(torch.from_numpy(x), torch.from_numpy(w.astype(dtype)), **given)
        assert len(ways) == engines
        assert_same(SpikeTrain(got.spikes.numpy(), got.membrane.numpy()), want)
