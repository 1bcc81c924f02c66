"""Layers one after the other: as if called one by one, with a state that goes on, frozen and moved between frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tacops
from tacops import Stream
from tacops.layers import Flatten, FrozenLayer, Pool2d, Scale, Sequential
from tests.support.layer_frameworks import EACH, Need, made

RNG = np.random.default_rng(0)
FRAMES = RNG.random((8, 3, 6, 5, 2)) < 0.4


def network(framework: Any) -> tuple[Any, list[Any]]:
    """A convolution that preserves, a pool, and a dense layer that collapses."""
    conv = framework.layer("TACConv", 2, 4, 3, chunk_size=2, mode="preserve", padding=1, threshold=0.4)
    dense = framework.layer("TACLinear", 24, 5, chunk_size=4, threshold=0.2)
    stages = [conv, Pool2d("max", 2), Flatten(), dense]
    return framework.layers.Sequential(*stages), stages


@EACH
def test_is_the_layers_one_by_one(need: Need, name: str) -> None:
    """Spikes, the membrane of each layer (none of functions), a trace of the last; cut in two, it goes on."""
    framework = made(need, name)
    host = framework.backend.to_numpy
    net, (conv, pool, flatten, dense) = network(framework)
    x = framework.array(FRAMES)
    first = conv(x)
    last = dense(flatten(pool(first)), trace=True)
    assert 0 < host(last.spikes).mean() < 1
    train = net(x, trace=True)
    np.testing.assert_array_equal(host(train.spikes), host(last.spikes))
    np.testing.assert_array_equal(host(train.trace), host(last.trace))
    for got, want in zip(train.membrane, (first.membrane, None, None, last.membrane), strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            np.testing.assert_array_equal(host(got), host(want))
    begin = net(framework.array(FRAMES[:4]))
    rest = net(framework.array(FRAMES[4:]), membrane=begin.membrane)
    np.testing.assert_array_equal(np.concatenate([host(begin.spikes), host(rest.spikes)]), host(train.spikes))
    for got, want in zip(rest.membrane[::3], train.membrane[::3], strict=True):
        np.testing.assert_allclose(host(got), host(want), atol=1e-5)
    nested = framework.layers.Sequential(framework.layers.Sequential(conv, pool), flatten, dense)
    np.testing.assert_array_equal(host(nested(x).spikes), host(train.spikes))


@EACH
def test_lengths_go_on(need: Need, name: str) -> None:
    """A sample that ends sooner is what it is alone; behind a layer that collapses time, lengths are in its frames."""
    framework = made(need, name)
    host = framework.backend.to_numpy
    fast = framework.layer("ConvLIF", 2, 4, 3, padding=1, threshold=0.4)
    chunks = framework.layer("TACConv", 4, 4, 3, chunk_size=2, padding=1, threshold=0.4)
    net = framework.layers.Sequential(fast, chunks, Flatten(), framework.layer("TACLinear", 120, 5, chunk_size=1))
    train = net(framework.array(FRAMES), lengths=[8, 5, 2])
    for sample, length in enumerate((8, 5, 2)):
        alone = net(framework.array(FRAMES[:length, sample : sample + 1]))
        np.testing.assert_allclose(host(train.membrane[-1])[sample], host(alone.membrane[-1])[0], atol=1e-5)
        count = len(host(alone.spikes))
        assert count == -(-length // 2)
        assert not host(train.spikes)[count:, sample].any()


@EACH
def test_lengths_of_narrow_integers(need: Need, name: str) -> None:
    """Frames of a layer behind one that collapses time are counted without wrapping."""
    framework = made(need, name)
    host = framework.backend.to_numpy
    first = framework.layer("TACLinear", 2, 4, chunk_size=200, threshold=0.4)
    net = framework.layers.Sequential(first, framework.layer("TACLinear", 4, 5, chunk_size=1, threshold=0.1))
    x = framework.array(RNG.random((255, 3, 2)) < 0.4)
    want = net(x, lengths=[255, 200, 0])
    got = net(x, lengths=framework.array(np.array([255, 200, 0], np.uint8)))
    np.testing.assert_array_equal(host(got.membrane[-1]), host(want.membrane[-1]))
    assert host(want.membrane[-1])[0].any()


@EACH
def test_in_the_frameworks_own_sequential(need: Need, name: str) -> None:
    framework = made(need, name)
    net, _ = network(framework)
    after = framework.layer("TACLinear", 5, 3, chunk_size=1, threshold=0.1)
    x = framework.array(FRAMES)
    want = framework.backend.to_numpy(after(net(x)).spikes)
    both = framework.sequential(net, framework.layers.Sequential(after))
    np.testing.assert_array_equal(framework.backend.to_numpy(both(x).spikes), want)
    if name == "flax":
        with pytest.raises(TypeError, match="Sequential: membrane must be given by its name"):
            net(x, net(x).membrane)


def test_a_wrapped_network_keeps_its_membranes() -> None:
    """`torch.compile` of layers one after the other is still layers one after the other."""
    torch = pytest.importorskip("torch")
    from tacops.backends import torch_layers

    inner = torch_layers.Sequential(torch_layers.TACLinear(2, 3, chunk_size=2))
    net = torch_layers.Sequential(torch.compile(inner, backend="eager"), Flatten())
    assert type(net.frozen().stages[0]) is Sequential
    x = torch.ones(4, 1, 2)
    with torch.compiler.set_stance("force_eager"):
        train = net(x)
        [[membrane], _] = train.membrane
        again = net(x, membrane=train.membrane)
    assert (membrane == inner(x).membrane[0]).all()
    assert (again.spikes == inner(x, membrane=(membrane,)).spikes).all()


def test_no_trace_of_an_inner_function() -> None:
    """It is refused before any layer runs."""
    runs: list[int] = []

    def seen(x: Any) -> Any:
        runs.append(1)
        return x

    with pytest.raises(ValueError, match="Sequential: trace must be False where the last of the layers is a function"):
        Sequential(seen, dense(), Sequential(dense(), Flatten()))(np.ones((2, 1, 2)), trace=True)
    assert not runs


@EACH
def test_frozen_it_fires_the_same_on_numpy_and_in_a_stream(need: Need, name: str) -> None:
    framework = made(need, name)
    net, _ = network(framework)
    frozen = net.frozen(reproducible=True)
    want = frozen(FRAMES)
    got = frozen.on(framework.array(FRAMES))(framework.array(FRAMES))
    np.testing.assert_array_equal(framework.backend.to_numpy(got.spikes), want.spikes)
    stream = Stream(frozen)
    trains = [stream.feed(FRAMES[n : n + 3]) for n in range(0, 8, 3)]
    np.testing.assert_array_equal(np.concatenate([train.spikes for train in trains if train]), want.spikes)
    assert [type(stage).__name__ for stage in frozen] == ["FrozenLayer", "Pool2d", "Flatten", "FrozenLayer"]


@EACH
def test_learns(need: Need, name: str) -> None:
    """All of its parameters are the module's, under the same names in every framework, and get gradients."""
    framework = made(need, name)
    net, _ = network(framework)
    mapping = framework.layers.to_mapping(net)
    weights = {"layers.0.weight", "layers.0.bias", "layers.3.weight", "layers.3.bias"}
    assert weights <= set(mapping)
    assert set(framework.layers.freeze(net)) == {"layers.0", "layers.3"}
    x = framework.array(FRAMES)
    gradients = framework.gradients(net, lambda net: (net(x).spikes ** 2).sum())
    assert all(np.abs(gradients[key]).max() > 0 for key in weights)


def dense(**options: Any) -> FrozenLayer:
    """Two in, two out."""
    return FrozenLayer({"weight": np.eye(2, dtype=np.float32)}, {"chunk_size": 1, **options})


def test_functions_and_pairs_of_states() -> None:
    """A function may be the last; a layer with a synaptic current has a pair."""
    x = np.ones((3, 1, 2), np.float32)
    train = Sequential(dense(synapse_decay=0.5), Scale(np.array([2.0, 0.5], np.float32)))(x)
    assert train.spikes[-1, 0].tolist() == [2.0, 0.5]
    membrane, current = train.membrane[0]
    np.testing.assert_array_equal(current, [[1.75, 1.75]])
    again = Sequential(dense(synapse_decay=0.5))(x, membrane=[(membrane, current)])
    np.testing.assert_array_equal(again.membrane[0][1], [[1.96875, 1.96875]])
    assert repr(Sequential(Flatten())) == "Sequential(Flatten(layout='channels_last'))"


wrong: Any = [dense()]
BAD: list[tuple[Any, str]] = [
    (lambda: Sequential(), "Sequential: layers must be at least one layer; got none"),
    (lambda: Sequential(wrong), "Sequential: layers must be layers, and functions of spikes, given one by one; got "),
    (lambda: Sequential(Flatten), "got the class Flatten, not called"),
    (lambda: Sequential(dense())(np.ones((2, 1, 2)), membrane=np.ones((1, 2))), "Sequential: membrane must be the membrane of a"),
    (lambda: Sequential(dense())(np.ones((2, 1, 2)), membrane=(None, None)), "a tuple of 1; got "),
    (lambda: Sequential(dense(), Flatten())(np.ones((2, 1, 2)), trace=True), "Sequential: trace must be False where the last"),
    (lambda: Sequential(dense())(None), "FrozenLayer: spikes must be an array"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_refusals(number: int) -> None:
    call, words = BAD[number]
    with pytest.raises((TypeError, ValueError), match=words):
        call()


@EACH
def test_trainable_layers_are_not_taken_for_frozen(need: Need, name: str) -> None:
    framework = made(need, name)
    net, (conv, *_) = network(framework)
    for stage in (net, conv):
        with pytest.raises(TypeError, match=r"Sequential: layers must be frozen \(`layer.frozen\(\)`\)"):
            Sequential(stage)
    assert isinstance(tacops.layers.Sequential(net.frozen()), Sequential)
