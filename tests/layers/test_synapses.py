"""Trainable and frozen layers with a synaptic current, and snnTorch's `Synaptic`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tacops
from tacops.layers import load_frozen, save_frozen
from tests.support.cases import assert_same
from tests.support.layer_frameworks import EACH, Need, made

X = np.random.default_rng(3).random((7, 2, 6, 5, 3)) < 0.4


@EACH
def test_layers_are_the_operators(need: Need, name: str, tmp_path: Any) -> None:
    """Trained or not, cut in two, frozen, written and read: `tac_conv` with the layer's numbers."""
    framework = made(need, name)
    options: dict[str, Any] = {
        "chunk_size": 3,
        "mode": "preserve",
        "synapse_decay": 0.6,
        "reproducible": True,
        "padding": 1,
    }
    layer = framework.layer("TACConv", 3, 4, 3, **options)
    host, array = framework.backend.to_numpy, framework.array
    arrays = framework.layers.to_mapping(layer)
    want = tacops.tac_conv(X, 3 * arrays["weight"], arrays["bias"], **options)
    framework.layers.load_mapping(layer, {**arrays, "weight": 3 * arrays["weight"]})
    first = layer(array(X[:3]))
    second = layer(array(X[3:]), membrane=first.membrane)
    spikes = np.concatenate([host(first.spikes), host(second.spikes)])
    assert 0.02 < want.spikes.mean() < 0.98
    assert_same("spikes", spikes, want.spikes)
    for got, other in zip(second.membrane, want.membrane, strict=True):
        assert_same("membrane", host(got), other)
    save_frozen(tmp_path / "net.npz", framework.layers.freeze(layer))
    [frozen] = load_frozen(tmp_path / "net.npz").values()
    train = frozen(X)
    assert_same("spikes", train.spikes, want.spikes)
    assert_same("current", train.membrane[1], want.membrane[1])


@EACH
def test_batch_statistics(need: Need, name: str) -> None:
    """In training with a norm the neurons are driven by normalised currents, in the same two states."""
    framework = made(need, name)
    options = {"padding": 1, "batch_norm": True, "synapse_decay": 0.5}
    layer = framework.layer("ConvLIF", 3, 4, 3, **options, layout="channels_first")
    train = layer(framework.array(np.moveaxis(X, -1, 2)))
    assert [tuple(x.shape) for x in train.membrane] == [(2, 4, 6, 5)] * 2
    spikes = framework.backend.to_numpy(train.spikes)
    assert 0.02 < spikes.mean() < 0.98
    # what drives a channel has mean 0 and variance 1, so the currents of a decay of 1/2 have variance (1 - 4^-T) 4 / 3
    x = framework.backend.to_numpy(train.membrane[1])
    assert abs(x.mean()) < 0.5
    assert 0.5 < x.std() < 2.0


def test_snntorch_synaptic() -> None:
    """The same spikes, potentials and currents as `snntorch.Synaptic` in its default, in float64."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed, which snnTorch needs")
    snn = pytest.importorskip("snntorch", reason="snnTorch is not installed (it is part of the extra dev)")
    drive = torch.from_numpy(np.random.default_rng(4).normal(0.1, 0.6, (20, 3, 8)))
    neurons = snn.Synaptic(alpha=0.75, beta=0.875)
    current, membrane = neurons.reset_mem()
    spikes, trace = [], []
    for x in drive:
        fired, current, membrane = neurons(x, current, membrane)
        spikes.append(fired)
        trace.append(membrane)
    got = tacops.lif(drive, beta=0.875, synapse_decay=0.75, reset="late", trace=True)
    assert 0.02 < float(got.spikes.mean()) < 0.98
    assert_same("spikes", got.spikes.numpy(), torch.stack(spikes).double().detach().numpy())
    np.testing.assert_allclose(got.trace.numpy(), torch.stack(trace).detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.membrane[1].numpy(), current.detach().numpy(), rtol=0, atol=1e-12)
