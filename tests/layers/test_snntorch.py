"""A network of snnTorch's `Leaky` in its default, trained there, fires the same spikes here with ``reset="late"``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacops import conv_lif, surrogate, tac_linear

torch = pytest.importorskip("torch", reason="PyTorch is not installed, which snnTorch needs")
snn = pytest.importorskip("snntorch", reason="snnTorch is not installed (it is part of the extra dev)")
BETA, STEPS = 0.875, 12  # a beta that float32, which snnTorch keeps it in, holds exactly


def network() -> Any:
    """Convolution, neurons, strided convolution, neurons, read-out: all of snnTorch's defaults, in float64."""
    torch.manual_seed(0)
    nn = torch.nn
    layers = [
        nn.Conv2d(1, 6, 3, padding=1),
        snn.Leaky(beta=BETA),
        nn.Conv2d(6, 8, 3, stride=2),
        snn.Leaky(beta=BETA, threshold=0.75),
        nn.Flatten(),
        nn.Linear(8 * 16, 4),
        snn.Leaky(beta=BETA),
    ]
    return nn.ModuleList(layers).double()


def simulate(net: Any, frames: Any) -> list[Any]:
    """Spikes and membranes (T, B, ...) of each layer of neurons, in snnTorch's own loop."""
    states = {n: layer.reset_mem() for n, layer in enumerate(net) if isinstance(layer, snn.Leaky)}
    kept: dict[int, list[Any]] = {n: [] for n in states}
    for x in frames:
        for n, layer in enumerate(net):
            if n in kept:
                x, states[n] = layer(x, states[n])
                x = x.double()  # snnTorch's spikes are float32 always
                kept[n].append((x, states[n]))
            else:
                x = layer(x)
    return [tuple(torch.stack(part) for part in zip(*steps, strict=True)) for steps in kept.values()]


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    """A network after twenty steps of training, and frames to show it."""
    net, rng = network(), np.random.default_rng(0)
    labels = torch.from_numpy(np.arange(16) % 4)
    rates = rng.random((4, 1, 10, 10))[np.arange(16) % 4]
    frames = torch.from_numpy((rng.random((STEPS, 16, 1, 10, 10)) < rates).astype(np.float64))
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(simulate(net, frames)[-1][0].sum(0), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    return net, frames


def test_same_spikes(trained: tuple[Any, Any]) -> None:
    """Every layer, every step; membranes to rounding."""
    net, frames = trained
    with torch.no_grad():
        want = simulate(net, frames)
        options: dict[str, Any] = {"beta": BETA, "reset": "late", "layout": "channels_first", "trace": True}
        first = conv_lif(frames, net[0].weight, net[0].bias, padding=1, **options)
        second = conv_lif(first.spikes, net[2].weight, net[2].bias, stride=2, threshold=0.75, **options)
        flat = second.spikes.flatten(2)
        last = tac_linear(flat, net[5].weight, net[5].bias, chunk_size=1, beta=BETA, reset="late", trace=True)
    for got, (spikes, membranes) in zip((first, second, last), want, strict=True):
        assert 0.02 < spikes.mean() < 0.9
        assert torch.equal(got.spikes, spikes)
        torch.testing.assert_close(got.trace, membranes, rtol=0, atol=1e-12)


def test_same_gradients(trained: tuple[Any, Any]) -> None:
    """With ``detach_reset=True``, which is snnTorch's way, and its surrogate, arctan of slope 2."""
    net, frames = trained
    weight, bias = net[0].weight, net[0].bias
    spikes, membranes = simulate(net, frames)[0]
    loss = (spikes * torch.linspace(0, 1, STEPS).reshape(-1, 1, 1, 1, 1)).sum() + membranes[-1].square().sum()
    want = torch.autograd.grad(loss, [weight, bias])
    train = conv_lif(
        frames,
        weight,
        bias,
        padding=1,
        beta=BETA,
        reset="late",
        layout="channels_first",
        surrogate=surrogate.arctan(2.0),
        detach_reset=True,
    )
    loss = (train.spikes * torch.linspace(0, 1, STEPS).reshape(-1, 1, 1, 1, 1)).sum() + train.membrane.square().sum()
    for got, expected in zip(torch.autograd.grad(loss, [weight, bias]), want, strict=True):
        torch.testing.assert_close(got / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-9)
