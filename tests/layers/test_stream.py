"""Streams: whatever the pieces, what one call gives; states that are saved; memory that does not grow."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tacops import Grid, SpikeTrain, Stream
from tacops.backends import Backend, backend_of
from tacops.layers import FrozenLayer
from tests.support.cases import assert_same
from tests.support.layer_frameworks import EACH, Array, Need, made

RNG = np.random.default_rng(0)
T = 71  # no multiple of anything
FRAMES = RNG.random((T, 2, 6, 5, 2)) < 0.4


def flatten(x: Any) -> Any:
    """A pixel's features in one axis, of any library."""
    return backend_of(x).namespace(x).reshape(x, (x.shape[0], x.shape[1], -1))


def weights(*shape: int) -> Array:
    return RNG.normal(0.1, 0.5, shape).astype(np.float32)


CONV, DENSE, OUT = weights(4, 3, 3, 2), weights(6, 48), weights(3, 6)
TABLE = np.tril(RNG.uniform(0.1, 0.5, (3, 3)))[:, ::-1].astype(np.float32)


def network(reproducible: Any, first: str, second: str) -> list[Any]:
    """Chunks of 2, 3 (learned weights, a shorter chunk has others) and 5; a synaptic current; a read-out of a rate."""
    conv = {"chunk_size": 2, "mode": first, "synapse_decay": 0.5, "aggregation": "sum", "reproducible": reproducible}
    dense = {"chunk_size": 3, "mode": second, "reset": "zero", "reproducible": reproducible}
    readout = {"chunk_size": 5, "aggregation": "mean", "reset": "none", "reproducible": reproducible}
    bias = np.array([0.1, -0.2, 0.3], np.float32)
    return [
        FrozenLayer({"weight": CONV}, {"padding": ((0, 1), (0, 0)), "stride": 1, **conv}),
        lambda x: x[:, :, :4, ...],
        flatten,
        FrozenLayer({"weight": DENSE, "aggregation": TABLE}, dense),
        FrozenLayer({"weight": OUT, "bias": bias}, readout),
    ]


def at_once(layers: list[Any], x: Any) -> Any:
    for layer in layers[:-1]:
        x = layer(x)
        x = getattr(x, "spikes", x)
    return layers[-1](x, trace=True)


def feed(stream: Stream, backend: Backend, frames: Array, sizes: list[int]) -> list[Any]:
    """Trains of all pieces that gave one."""
    trains, start = [], 0
    for size in sizes:
        trains.append(stream.feed(backend.from_numpy(frames[start : start + size].copy())))
        start += size
    assert start == len(frames)
    return [train for train in trains if train is not None]


def joined(backend: Backend, trains: list[Any]) -> tuple[Array, Array, Array]:
    spikes, trace = (
        np.concatenate([backend.to_numpy(getattr(t, part)) for t in trains]) for part in ("spikes", "trace")
    )
    return spikes, trace, backend.to_numpy(trains[-1].membrane)


PIECES = {"frames": [1] * T, "uneven": [3, 0, 31, 1, 1, 35], "whole": [T], "none": [0, T, 0]}


@pytest.mark.parametrize("modes", [("collapse", "collapse"), ("preserve", "collapse"), ("collapse", "preserve")])
def test_pieces_are_one_call(backend: Backend, modes: tuple[str, str]) -> None:
    """Bit for bit in reproducible mode: spikes, the membranes of every step, and the last one."""
    layers = network(True, *modes)
    want = joined(backend, [at_once(layers, backend.from_numpy(FRAMES))])
    assert 0.02 < want[0].mean() < 0.98
    assert len({tuple(row) for row in want[1].reshape(-1, 3)}) > 3, "membranes that are all alike tell nothing"
    for name, sizes in PIECES.items():
        stream = Stream(layers, trace=True)
        trains = feed(stream, backend, FRAMES, sizes)
        seen = stream.peek()
        left = stream.flush()
        assert left is not None
        for mine, theirs in zip((seen.spikes, seen.membrane), (left.spikes, left.membrane), strict=True):  # type: ignore[union-attr]
            assert_same("peek", backend.to_numpy(mine), backend.to_numpy(theirs))
        for got, array in zip(joined(backend, [*trains, left]), want, strict=True):
            assert_same(name, got, array)


def test_default_path_within_rounding(backend: Backend) -> None:
    layers = network(False, "collapse", "collapse")
    want = joined(backend, [at_once(layers, backend.from_numpy(FRAMES))])
    stream = Stream({str(n): layer for n, layer in enumerate(layers)}, trace=True)
    got = joined(backend, [*feed(stream, backend, FRAMES, PIECES["uneven"]), stream.flush()])
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], atol=1e-5)


def test_a_state_goes_on_anywhere(backend: Backend) -> None:
    """Saved after 37 frames in a file, resumed on this backend by another stream: the rest is what one call gives."""
    layers = network(True, "collapse", "collapse")
    want = joined(backend, [at_once(layers, backend.from_numpy(FRAMES))])
    first, file = Stream(layers, trace=True), io.BytesIO()
    head = [train for train in (first.feed(FRAMES[:4]), first.feed(FRAMES[4:37])) if train is not None]
    np.savez(file, **first.state())
    file.seek(0)
    second = Stream(layers, trace=True)
    second.resume(np.load(file))
    tail = [second.feed(backend.from_numpy(FRAMES[37:].copy())), second.flush()]
    numpy = backend_of(FRAMES)
    parts = [joined(numpy, head)] if head else []
    parts.append(joined(backend, [train for train in tail if train is not None]))
    assert_same("spikes", np.concatenate([part[0] for part in parts]), want[0])
    assert_same("membrane", parts[-1][2], want[2])


def test_layers_of_every_framework_are_fed_frozen(need: Need) -> None:
    """As `freeze` returns them; a layer that is not frozen is refused."""
    framework = made(need, "torch")
    net = framework.network({
        "conv": framework.layer("TACConv", 2, 3, 3, chunk_size=2, layout="channels_first", threshold=0.3),
        "next": framework.layer("ConvLIF", 3, 3, 3, layout="channels_first", threshold=0.3),
    })  # fmt: skip
    frames = framework.array(np.moveaxis(FRAMES, -1, 2).copy())
    frozen = framework.layers.freeze(net)
    stream = Stream(frozen)
    trains = [stream.feed(frames[:3]), stream.feed(frames[3:]), stream.flush()]
    spikes = np.concatenate([framework.backend.to_numpy(train.spikes) for train in trains if train is not None])
    assert spikes.mean() > 0.01
    assert_same("spikes", spikes, framework.backend.to_numpy(frozen["next"](frozen["conv"](frames)).spikes))


@EACH
def test_layers_in_training_are_refused(need: Need, name: str) -> None:
    layer = made(need, name).layer("TACLinear", 3, 4, chunk_size=2)
    with pytest.raises(TypeError, match=r"Stream: layers must be frozen \(`layer.frozen\(\)`\); got TACLinear"):
        Stream([layer])


def test_read_out_of_a_rate() -> None:
    """Without reset the last membrane is the mean drive of all frames, streamed or not, and of those so far at any time."""
    layer = FrozenLayer(
        {"weight": OUT}, {"chunk_size": 16, "aggregation": "mean", "reset": "none", "reproducible": True}
    )
    frames, stream = RNG.random((16, 2, 6)) < 0.5, Stream([layer])
    for t in range(15):
        assert stream.feed(frames[t : t + 1]) is None
        so_far = stream.peek()
        assert so_far is not None
        assert_same("so far", so_far.membrane, layer(frames[: t + 1]).membrane)
    train = stream.feed(frames[15:])
    assert train is not None
    assert_same("all", train.membrane, layer(frames).membrane)
    assert stream.flush() is None


@pytest.mark.parametrize(
    ("sizes", "period"),
    [
        ([(4, "collapse"), (3, "collapse")], 12),
        ([(4, "preserve"), (6, "collapse")], 12),
        ([(4, "collapse"), (3, "preserve"), (2, "collapse")], 24),
        ([(1, "collapse")], 1),
    ],
)
def test_period(sizes: list[tuple[int, str]], period: int) -> None:
    """Fed in multiples of it no layer waits for more; fed in its smaller divisors some does."""
    layers = [FrozenLayer({"weight": weights(3, 3)}, {"chunk_size": K, "mode": mode}) for K, mode in sizes]
    stream = Stream(layers)
    waits: dict[int, bool] = {}
    assert stream.period == period
    for n in range(1, period + 1):
        stream.reset()
        for _ in range(3):
            stream.feed(np.ones((n, 2, 3), np.float32))
            waits[n] = waits.get(n, False) or any(key.endswith("frames") for key in stream.state())
    assert [n for n, wait in waits.items() if not wait] == [period]


def test_memory_is_bounded() -> None:
    """After long pieces, and many short ones, no more than a chunk less one frame, and no view of what was fed."""
    layers = network(False, "collapse", "collapse")
    stream = Stream(layers)
    for size in (401, *[1] * 50, 202):
        frames = RNG.random((size, 2, 6, 5, 2)) < 0.3
        stream.feed(frames)
        for name, array in stream.state().items():
            if name.endswith("frames"):
                number = int(name.partition(".")[0])
                assert len(array) < layers[number].options["chunk_size"]
        for memory in stream._memories:
            for array in (memory.frames, memory.membrane, memory.current):
                assert array is None or (array.base is None and not np.shares_memory(array, frames))


def test_nothing_is_shared_with_the_caller(backend: Backend) -> None:
    """A buffer that a camera writes to again, and membranes that a user changes, change nothing of the stream."""
    layers = [FrozenLayer({"weight": weights(3, 3)}, {"chunk_size": 2, "reproducible": True})]
    frames = RNG.random((7, 2, 3)) < 0.5
    want, stream = layers[0](frames), Stream(layers)
    for t in range(7):
        buffer = backend.from_numpy(frames[t : t + 1].copy())
        train = stream.feed(buffer)
        for array in (buffer, *(() if train is None else train)):
            try:
                array[...] = 1
            except (TypeError, ValueError, RuntimeError):
                continue  # arrays that can't be written to
    train = stream.flush()
    assert train is not None
    assert_same("membrane", backend.to_numpy(train.membrane), want.membrane)


def test_gradients_do_not_pile_up(need: Callable[[str], Backend]) -> None:
    need("torch")
    import torch

    stream = Stream([FrozenLayer({"weight": weights(3, 3)}, {"chunk_size": 2})])
    stream.feed(torch.ones(3, 2, 3, requires_grad=True))
    assert all(x is None or not x.requires_grad for m in stream._memories for x in (m.frames, m.membrane))


def test_failed_calls_change_nothing() -> None:
    """A piece that is refused, by the second layer too, leaves the stream as it was."""
    layers = network(Grid(), "collapse", "collapse")
    stream, twin = Stream(layers), Stream(layers)
    for s in (stream, twin):
        s.feed(FRAMES[:5])
    before = stream.state()
    for frames, error, words in (
        (
            FRAMES[5:8, :1],
            ValueError,
            r"Stream.feed: spikes must be of shape \('n', 2, 6, 5, 2\), as those before; got",
        ),
        (
            FRAMES[5:8].astype(np.float32),
            ValueError,
            r"Stream.feed: spikes must be of shape .* bool, .*as those before",
        ),
        (FRAMES[..., 0], ValueError, "Stream.feed: spikes must be of shape"),
        (None, TypeError, "Stream.feed: spikes must be an array; got None"),
        ([1, 2], TypeError, "Stream.feed: spikes must be an array"),
    ):
        with pytest.raises(error, match=words):
            stream.feed(frames)
    other = Stream(layers)
    with pytest.raises(ValueError, match=r"Stream.feed: spikes must be multiples of 1.0 between -1.0 and 1.0"):
        other.feed(np.full((1, 2, 6, 5, 2), 0.5, np.float32))
    for wrong in (np.ones((1, 2, 6, 5, 3)), np.ones((1, 2, 5, 2)), np.float32(1)):
        with pytest.raises((ValueError, TypeError), match=r"Stream\.feed: spikes must be an array"):
            other.feed(wrong)
    after = stream.state()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)

    def broken(x: Any) -> Any:
        return x[1:]

    third = Stream([layers[0], broken, layers[0]])
    with pytest.raises(
        ValueError, match=r"Stream: layers\[1\] must be a function that returns 2 frames, as many as it is"
    ):
        third.feed(FRAMES[:5])
    assert third.state() == {}


def test_a_stream_ends() -> None:
    layers = network(True, "collapse", "collapse")
    stream = Stream(layers)
    assert stream.flush() is None
    for method in (lambda: stream.feed(FRAMES), stream.flush, stream.peek, stream.state):
        with pytest.raises(
            ValueError, match=r"Stream.\w+: the stream must be open; got one that was flushed; reset\(\)"
        ):
            method()
    stream.reset()
    trains = [stream.feed(FRAMES[:, :1]), stream.flush()]  # another batch
    assert all(isinstance(train, SpikeTrain) for train in trains)


def test_wrong_layers_and_states() -> None:
    layer = FrozenLayer({"weight": OUT}, {"chunk_size": 2})
    for layers in (3, None, "conv", layer, [], [3], [layer, flatten], [None, layer]):
        with pytest.raises(TypeError, match=r"^Stream: layers must be ."):
            Stream(layers)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Stream: trace must be True or False; got 1"):
        Stream([layer], trace=1)  # type: ignore[arg-type]
    stream = Stream([layer])
    for state, error, words in (
        (3, TypeError, "state must be a mapping of names to NumPy arrays; got int"),
        ({"1.frames": FRAMES}, ValueError, "state must be that of a stream of the same layers; got the key '1.frames'"),
        ({"0.frames": 3}, TypeError, r"state\['0.frames'\] must be an array of a supported library"),
        (
            {"0.frames": np.ones((2, 2, 6))},
            ValueError,
            r"state\['0.frames'\] must be fewer than the 2 frames of a chunk",
        ),
    ):
        with pytest.raises(error, match=f"Stream.resume: {words}"):
            stream.resume(state)  # type: ignore[arg-type]
