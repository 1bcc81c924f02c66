"""Streams: pieces, and saved states, that no network can take are refused, and change nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tacops import Stream
from tacops.backends import Backend, backend_of
from tacops.layers import FrozenLayer, Pool2d
from tests.support.cases import assert_same
from tests.support.layer_frameworks import Array

RNG = np.random.default_rng(5)
CONV, DENSE = RNG.normal(0.1, 0.5, (4, 3, 3, 2)).astype(np.float32), RNG.normal(0.2, 0.5, (4, 3)).astype(np.float32)
FRAMES = RNG.random((12, 2, 6, 5, 2)) < 0.4
LARGE = np.repeat(np.repeat(FRAMES, 3, axis=2), 3, axis=3)


def conv(**options: Any) -> FrozenLayer:
    return FrozenLayer({"weight": CONV}, {"chunk_size": 4, **options})


def dense(**options: Any) -> FrozenLayer:
    return FrozenLayer({"weight": DENSE}, {"chunk_size": 4, **options})


@pytest.mark.parametrize("frames", [np.zeros((0,)), np.zeros((0, 2, 99)), np.zeros((0, 1, 1, 1, 1), bool)])
def test_no_frames_say_nothing_of_the_next(frames: Array) -> None:
    stream = Stream([conv()])
    assert stream.feed(frames) is None
    assert stream.feed(FRAMES) is not None


@pytest.mark.parametrize(
    ("layers", "frames", "right", "words"),
    [
        ([conv()], FRAMES[:1, :, :2, :2], FRAMES, r"Stream.feed: spikes must be at least as large as the dilated kernel \(3, 3\)"),
        ([Pool2d("mean", 1), conv()], RNG.random((1, 2, 6, 5, 3)), FRAMES, r"Stream.feed: layers\[1\]: spikes must be an array .* with 2 channels"),
        ([Pool2d("sum", 3), conv()], FRAMES[:1], LARGE, r"Stream.feed: layers\[1\]: spikes must be at least as large as the"),
        ([conv(layout="channels_first")], np.moveaxis(FRAMES[:1, :, :2, :2], -1, 2), np.moveaxis(FRAMES, -1, 2), "Stream.feed: spikes must be at least as large"),
        ([conv(dilation=3)], FRAMES[:1], LARGE, r"Stream.feed: spikes must be at least as large as the dilated kernel \(7, 7\)"),
        ([lambda x: x[..., :2], conv()], FRAMES[:1, ..., :1], FRAMES, r"Stream.feed: layers\[1\]: spikes must be an array .* with 2 channels"),
    ],
)  # fmt: skip
def test_frames_that_no_layer_can_take_do_not_wait(layers: Any, frames: Array, right: Array, words: str) -> None:
    """Refused when they are fed, not with their chunk: the stream then takes right ones."""
    stream = Stream(layers)
    with pytest.raises(ValueError, match=words):
        stream.feed(frames)
    assert stream.state() == {}
    assert stream.feed(right) is not None


def test_frames_of_another_type_or_library(backend: Backend) -> None:
    """Where none wait for their chunk, too."""
    frames = FRAMES[:4]
    for layer in (conv(), conv(chunk_size=1), conv(chunk_size=3)):
        stream = Stream([layer])
        stream.feed(backend.from_numpy(frames))
        before = stream.state()
        wrong = [backend.from_numpy(frames.astype(np.float32)), backend.from_numpy(frames.astype(np.int32))]
        if backend.name != "numpy":
            wrong.append(frames)
        for other in wrong:
            with pytest.raises(
                ValueError,
                match=r"^Stream.feed: spikes must be of shape \('n', 2, 6, 5, 2\), .*bool, .*, as those before; got shape \(4, 2, 6, 5, 2\), ",
            ):
                stream.feed(other)
        after = stream.state()
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_resumed(need: Callable[[str], Backend], dtype: str, deep: bool) -> None:
    """A state holds float32 for bfloat16: frames that wait, behind a function as well, go on in the type that is fed."""
    need("torch")
    import torch

    layers: list[Any] = [Pool2d("sum", 1), conv()] if deep else [conv()]
    frames = torch.from_numpy(FRAMES).to(getattr(torch, dtype))
    first, second, whole = (Stream(layers) for _ in range(3))
    first.feed(frames[:6])
    second.resume({name: array.astype(np.float32) for name, array in first.state().items()})
    got = second.feed(frames[6:])
    whole.feed(frames[:6])
    want = whole.feed(frames[6:])
    assert got is not None
    assert want is not None
    assert got.spikes.dtype == want.spikes.dtype
    assert got.spikes.equal(want.spikes)
    assert got.membrane.equal(want.membrane)
    inexact = {**first.state(), f"{int(deep)}.frames": np.full((2, 2, 6, 5, 2), 1 / 3, np.float32)}
    second.resume(inexact)
    with pytest.raises(ValueError, match="as those before; got"):
        second.feed(frames[6:])


def potentials(*shape: int, dtype: Any = np.float32) -> Array:
    return np.full(shape, 0.25, dtype)


@pytest.mark.parametrize(
    ("layer", "state", "words"),
    [
        (dense(), {"membrane": potentials(7, 9)}, r"state['0.membrane'] must be an array (B, ..., C) with 4 channels; got shape (7, 9)"),
        (dense(), {"membrane": potentials(4)}, r"state['0.membrane'] must be an array (B, ..., C) with 4 channels; got shape (4,)"),
        (dense(), {"membrane": potentials(2, 4, dtype=bool)}, r"state['0.membrane'] must be of a real floating dtype; got bool"),
        (dense(), {"membrane": potentials(2, 4) * np.nan}, r"state['0.membrane'] must be finite; got NaN or infinity"),
        (dense(), {"current": potentials(2, 4)}, r"state must be one with the key '0.membrane'; got none"),
        (dense(), {"membrane": potentials(2, 4), "current": potentials(2, 4)}, r"state must be without state['0.current']: the layer has no"),
        (dense(synapse_decay=0.5), {"membrane": potentials(2, 4)}, r"state must be one with the key '0.current'; got none"),
        (dense(synapse_decay=0.5), {"membrane": potentials(2, 4), "current": potentials(3, 4)}, r"state['0.current'] must be of shape (2, 4) and float32, as the membrane"),
        (dense(synapse_decay=0.5), {"membrane": potentials(2, 4), "current": potentials(2, 4, dtype=float)}, r"state['0.current'] must be of shape (2, 4) and float32"),
        (dense(), {"membrane": potentials(2, 4), "frames": potentials(1, 3, 3)}, r"state['0.membrane'] must be of 3 samples, as the frames"),
        (dense(), {"frames": potentials(1, 2, 9)}, r"state['0.frames']: spikes must be an array (T, B, ..., F_in) with 3 channels"),
        (dense(), {"frames": potentials(1, 2, 3, dtype=complex)}, r"state['0.frames']: spikes must be of a bool, integer or real floating dtype"),
        (dense(reproducible=True), {"frames": potentials(1, 2, 3)}, r"state['0.frames']: spikes must be multiples of 1.0"),
        (dense(chunk_size=1), {"frames": potentials(1, 2, 3)}, r"state['0.frames'] must be fewer than the 1 frames of a chunk"),
        (conv(), {"frames": potentials(1, 2, 2, 2, 2)}, r"state['0.frames']: spikes must be at least as large as the dilated kernel"),
        (conv(), {"membrane": potentials(2, 4)}, r"state['0.membrane'] must be an array (B, ..., C) with 4 channels and 4 axes"),
        (conv(layout="channels_first"), {"membrane": potentials(2, 3, 3, 4)}, r"state['0.membrane'] must be an array (B, C, *S) with 4 channels and 4"),
    ],
)  # fmt: skip
def test_states_that_no_stream_has_left(layer: FrozenLayer, state: dict[str, Array], words: str) -> None:
    """Refused by `resume`, and the stream is as it was."""
    stream = Stream([layer])
    stream.feed(
        np.moveaxis(FRAMES, -1, 2)
        if "layout" in layer.options
        else FRAMES
        if layer.arrays["weight"].ndim > 2
        else np.ones((5, 2, 3), bool)
    )
    before = stream.state()
    with pytest.raises((ValueError, TypeError), match=f"^Stream.resume: {re.escape(words)}"):
        stream.resume({f"0.{part}": array for part, array in state.items()})
    after = stream.state()
    assert all(np.array_equal(before[key], array) for key, array in after.items())


def test_a_resumed_stream_ends_in_the_library_that_it_was_fed_from(backend: Backend) -> None:
    """Functions of one library alone work after `resume`, too, before more is fed; another library may then feed."""

    def own(x: Any) -> Any:
        assert backend_of(x) is backend, "the function is given arrays of another library"
        return x

    layers: list[Any] = [
        dense(chunk_size=3, mode="preserve"),
        own,
        FrozenLayer({"weight": np.ones((2, 4), np.float32)}, {"chunk_size": 2}),
    ]
    frames = backend.from_numpy(RNG.random((5, 2, 3)) < 0.5)
    stream = Stream(layers)
    stream.feed(frames)
    state, want = stream.state(), stream.peek()
    assert want is not None
    stream.resume(state)
    for train in (stream.peek(), stream.flush()):
        assert train is not None
        assert_same("spikes", backend.to_numpy(train.spikes), backend.to_numpy(want.spikes))
    stream = Stream([dense()])
    stream.feed(frames)
    stream.resume(stream.state())
    assert stream.feed(RNG.random((5, 2, 3)) < 0.5) is not None


def test_what_is_kept_is_computed(need: Callable[[str], Backend]) -> None:
    """MLX computes nothing until it is asked: a stream whose results nobody reads does not keep all that was fed."""
    need("mlx")
    import mlx.core as mx

    stream = Stream(
        [
            conv(chunk_size=1),
            FrozenLayer({"weight": RNG.normal(0, 1, (2, 1, 1, 4)).astype(np.float32)}, {"chunk_size": 3}),
        ]
    )
    used = []
    for _ in range(60):
        stream.feed(mx.array(RNG.random((1, 2, 64, 64, 2)) < 0.3))
        used.append(mx.get_active_memory())
    assert max(used[40:]) < 1.2 * max(used[10:20])
