"""NIR: what other libraries read of ours, and what they write, fires the same spikes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.layer_frameworks import Array
from tests.support.nir_networks import FRAMES, KINDS, RANDOM, SHAPE, TIES, network, run

nir = pytest.importorskip("nir", reason="nir is not installed (it is part of the extra dev)")
from tacops.backends.nir_layers import from_nir, to_nir


@pytest.fixture
def peer() -> Callable[[str], Any]:
    """A library, imported without its warnings; the test is skipped where it is missing."""

    def get(name: str) -> Any:
        pytest.importorskip("nirtorch", reason="nirtorch is not installed (it is part of the extra peers)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip(name, reason=f"{name} is not installed (it is part of the extra peers)")

    return get


def loop(module: Any, frames: Array = FRAMES) -> Array:
    """Spikes of another library's module, frame by frame."""
    import torch

    state, out = None, []
    with torch.no_grad():
        for frame in frames:
            spikes, state = module(torch.tensor(frame, dtype=torch.float32), state)
            out.append(spikes.numpy())
    return np.stack(out)


def read_by(peer: Callable[[str], Any], name: str, graph: Any) -> Any:
    """The module that a library makes of a graph."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if name == "snntorch":
            return peer("snntorch.import_nir").import_from_nir(graph)
        if name == "spikingjelly":
            return peer("spikingjelly.activation_based.nir_exchange").import_from_nir(graph, dt=1e-4)
        return peer("norse.torch").from_nir(graph, dt=1e-4, ignore_warnings=True)


@pytest.mark.parametrize("weights", [RANDOM, TIES], ids=["random", "ties"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["snntorch", "spikingjelly", "norse"])
def test_read_by_others(peer: Callable[[str], Any], name: str, kind: str, weights: list[Array]) -> None:
    """No spike of 4320 differs, at ties neither; but see docs/nir.md for two that don't read it so."""
    layers = network(weights, **KINDS[kind])
    want, graph = run(layers, FRAMES), to_nir(layers, SHAPE)
    assert want.size == 4320
    if name == "snntorch" and kind == "IF":
        with pytest.raises(AssertionError, match="r != 1 not supported"):
            read_by(peer, name, graph)
        return
    differing = int(np.sum(loop(read_by(peer, name, graph)) != want))
    if name == "norse" and weights is TIES and "binary" not in kind and kind != "IF":
        assert differing > 0  # it divides by tau in float32, which moves membranes that lie at the threshold
    else:
        assert differing == 0


def test_from_snntorch(peer: Callable[[str], Any]) -> None:
    """Its own network, exported by itself: neurons that reset to zero at once, and those of its default, a step late."""
    import torch

    snn, export = peer("snntorch"), peer("snntorch.export_nir")
    torch.manual_seed(0)
    for reset, options in (("zero", {"reset_mechanism": "zero", "reset_delay": False}), ("late", {})):
        neurons = [  # of full shape, because its own export fails with a number behind a convolution
            snn.Leaky(
                torch.full(shape, 0.75), torch.full(shape, 0.5), init_hidden=True, output=shape[1] == 6, **options
            )
            for shape in [(4, 8, 8), (6, 6, 6)]
        ]
        net = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), neurons[0], torch.nn.Conv2d(4, 6, 3), neurons[1])
        with torch.no_grad():
            want = np.stack([net(torch.tensor(frame, dtype=torch.float32))[0].numpy() for frame in FRAMES])
        for neuron in neurons:
            neuron.reset_hidden()
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            graph = export.export_to_nir(net, torch.zeros(SHAPE))
        assert 0.02 < want.mean() < 0.98
        np.testing.assert_array_equal(run(from_nir(graph, reset=reset), FRAMES), want)


@pytest.mark.parametrize("decay_input", [True, False])
def test_from_spikingjelly(peer: Callable[[str], Any], decay_input: bool) -> None:
    """Its own network, at ties too (``ties=True``: it fires there)."""
    import torch

    exchange, base = peer("spikingjelly.activation_based.nir_exchange"), peer("spikingjelly.activation_based")
    from spikingjelly.activation_based import functional, layer, neuron

    options = {"tau": 4.0, "decay_input": decay_input, "v_threshold": 0.5, "v_reset": 0.0}
    net = torch.nn.Sequential(
        layer.Conv2d(2, 4, 3, bias=False), neuron.LIFNode(**options), layer.Conv2d(4, 6, 3, bias=False), neuron.LIFNode(**options)
    )  # fmt: skip
    for conv, weight in zip((net[0], net[2]), TIES, strict=True):
        conv.weight.data = torch.tensor(np.moveaxis(weight * (4.0 if decay_input else 1.0), -1, 1).copy())
    with torch.no_grad():
        want = np.stack([net(torch.tensor(frame, dtype=torch.float32)).numpy() for frame in FRAMES])
    functional.reset_net(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = exchange.export_to_nir(net, torch.zeros(1, *SHAPE), dt=1e-4)
    assert base is not None
    assert 0.02 < want.mean() < 0.98
    np.testing.assert_array_equal(run(from_nir(graph, dt=1e-4, ties=True), FRAMES), want)
    assert np.any(run(from_nir(graph, dt=1e-4), FRAMES) != want), "no tie to tell apart"


def test_from_norse(peer: Callable[[str], Any]) -> None:
    """It writes dt times the time constants: read at dt squared they are right."""
    import torch

    norse = peer("norse.torch")
    torch.manual_seed(0)
    p = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(250.0), v_th=torch.tensor(0.1))
    net = norse.SequentialState(
        torch.nn.Conv2d(2, 4, 3), norse.LIFBoxCell(p), torch.nn.Conv2d(4, 6, 3), norse.LIFBoxCell(p)
    )
    want = loop(net)
    assert 0.02 < want.mean() < 0.98
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = norse.to_nir(net, torch.zeros(1, *SHAPE), dt=1e-3)
    np.testing.assert_array_equal(run(from_nir(graph, dt=1e-6), FRAMES), want)
