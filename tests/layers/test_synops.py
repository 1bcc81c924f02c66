"""synops: counted by hand, with borders, strides, dilation, groups and weights that are zero."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tacops import LayerOperations, aggregate, synops
from tacops._core.synapses import Convolve
from tacops._layers.sequence import Chain
from tacops.backends import Backend
from tacops.layers import Flatten, FrozenLayer, Pool2d, Sequential

RNG = np.random.default_rng(0)


def frozen(weight: Any, **options: Any) -> FrozenLayer:
    arrays = {name: options.pop(name) for name in ("beta", "aggregation") if isinstance(options.get(name), np.ndarray)}
    return FrozenLayer({"weight": np.asarray(weight, np.float32), **arrays}, {"chunk_size": 4, **options})


def by_hand(x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> tuple[int, int, int]:
    """Effective and dense operations, and places of the output, pair by pair of frames (N, *S, C_in)."""
    outputs, kernel, own = weight.shape[0], weight.shape[1:-1], weight.shape[-1]
    spatial = x.shape[1:-1]
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(spatial, padding, dilation, kernel, stride, strict=True)
    ]
    effective = dense = 0
    for place in itertools.product(*map(range, sizes)):
        for tap in itertools.product(*map(range, kernel)):
            at = tuple(s * o + d * k - p for s, o, d, k, p in zip(stride, place, dilation, tap, padding, strict=True))
            if not all(0 <= a < n for a, n in zip(at, spatial, strict=True)):
                continue
            for out, channel in itertools.product(range(outputs), range(own)):
                given = x[(slice(None), *at, out // (outputs // groups) * own + channel)]
                dense += len(given)
                effective += int((given != 0).sum()) * bool(weight[(out, *tap, channel)] != 0)
    return effective, dense, int(np.prod(sizes))


GEOMETRIES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((7, 6, 2), (4, 3, 3, 2), {"padding": 1}),
    ((7, 6, 4), (6, 3, 2, 2), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}),
    ((9, 3), (3, 4, 1), {"stride": 3, "groups": 3}),
    ((4, 5, 3, 1), (2, 2, 2, 3, 1), {"padding": (0, 1, 2), "stride": (1, 2, 1)}),
]


@pytest.mark.parametrize("mode", ["exact", "collapse", "preserve"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_counted_by_hand(geometry: tuple[Any, ...], mode: str) -> None:
    shape, kernel, options = geometry
    x = RNG.random((10, 3, *shape)) < 0.2
    weight = RNG.normal(size=kernel) * (RNG.random(kernel) < 0.7)
    row = next(row for row in synops(frozen(weight, **options), x) if row.mode == mode)
    frames = x if mode == "exact" else aggregate(x.astype(float), 4)
    dims = len(kernel) - 2
    each = {
        name: value if isinstance(value := options.get(name, start), tuple) else (value,) * dims
        for name, start in (("stride", 1), ("padding", 0), ("dilation", 1))
    }
    effective, dense, places = by_hand(frames.reshape(-1, *shape), weight, **each, groups=options.get("groups", 1))
    assert row.effective == effective
    assert row.dense == dense
    assert (row.accumulates, row.multiply_accumulates) == ((effective, 0) if mode == "exact" else (0, effective))
    assert row.events == (frames != 0).sum()
    assert row.frames == len(frames) == (10 if mode == "exact" else 3)
    assert row.updates == (3 if mode == "collapse" else 10) * 3 * places * kernel[0]


def test_borders_and_strides_by_pencil() -> None:
    """One event in the corner of 4 x 4 reaches 4 of 9 taps with padding 1, one in the middle all; with stride 2, fewer."""
    weight = np.ones((5, 3, 3, 1))
    for place, stride, pairs in (
        ((0, 0), 1, 4),
        ((1, 2), 1, 9),
        ((3, 3), 1, 4),
        ((0, 0), 2, 1),
        ((1, 1), 2, 4),
        ((2, 2), 2, 1),
    ):
        x = np.zeros((1, 1, 4, 4, 1))
        x[0, 0, *place] = 1
        exact = next(iter(synops(frozen(weight, padding=1, stride=stride), x)))
        assert exact.accumulates == 5 * pairs, (place, stride)


def test_bytes_by_pencil() -> None:
    """T = 4, one sample of three features with five events, to two neurons, K = 2; float32."""
    x = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]], bool)[:, None]
    exact, collapse, preserve = synops(frozen(np.ones((2, 3)), chunk_size=2), x)
    assert [row.traffic for row in (exact, collapse, preserve)] == [
        4
        * (12 + 6 + 8 + 3 * 8),  # frames, weight, currents, and 8 neuron steps: current read, membrane read and written
        4 * (12 + 2 * 6 + 6 + 4 + 3 * 4),  # and 2 sums of frames, written and read
        4 * (12 + 2 * 6 + 6 + 4 + 3 * 8),
    ]
    assert [row.events for row in (exact, collapse, preserve)] == [5, 4, 4]
    assert [row.traffic_events for row in (exact, collapse, preserve)] == [
        4 * 5 + 4 * (3 * 10 + 3 * 8),  # places; weight, current twice for each of 10 operations; neurons
        4 * (5 + 4) + 4 * (2 * 5 + 4 + 3 * 8 + 3 * 4),  # sums read and written, and their values
        4 * (5 + 4) + 4 * (2 * 5 + 4 + 3 * 8 + 3 * 8),
    ]
    assert [row.aggregated for row in (exact, collapse, preserve)] == [0, 12, 12]
    assert [row.aggregated_events for row in (exact, collapse, preserve)] == [0, 5, 5]


def test_kinds_of_operations() -> None:
    """Additions where inputs are -1, 0 and 1, whatever their dtype; sums of frames are of two kinds."""
    layer = frozen(np.ones((2, 3)), aggregation="sum")
    signs = np.array([[[1, 0, -1]]] * 4, np.int8)
    exact, collapse, _ = synops(layer, signs)
    assert (exact.accumulates, exact.multiply_accumulates) == (16, 0)
    assert (collapse.accumulates, collapse.multiply_accumulates) == (0, 4)  # sums of 4 and -4
    rare = signs * (np.arange(4) == 1)[:, None, None]
    assert next(iter(synops(layer, 2 * signs))).multiply_accumulates == 16
    assert [row.accumulates for row in synops(layer, rare)][
        1
    ] == 4  # one event in a chunk stays 1 where frames are summed
    assert [row.multiply_accumulates for row in synops(frozen(np.ones((2, 3))), rare)][1] == 4  # or has decayed


def test_learned_weights_of_frames() -> None:
    """A weight of zero, and signs that cancel, leave no event; a shorter last chunk has its own where the layer has."""
    x = np.ones((5, 1, 1))
    assert [row.events for row in synops(frozen([[1.0]], aggregation=np.array([1.0, 0, 0, -1])), x)] == [5, 1, 1]
    table = np.zeros((4, 4))
    table[3] = [1, 1, 1, 1]
    assert [row.events for row in synops(frozen([[1.0]], aggregation=table), x)] == [5, 1, 1]
    table[0, 3] = 1
    assert [row.events for row in synops(frozen([[1.0]], aggregation=table), x)] == [5, 2, 2]
    forgetful = frozen([[1.0]], beta=0.0)  # keeps the last frame of a chunk
    assert [row.events for row in synops(forgetful, x * (np.arange(5) < 2)[:, None, None])] == [2, 0, 0]
    assert [row.events for row in synops(forgetful, x * (np.arange(5) > 2)[:, None, None])] == [2, 2, 2]


@pytest.mark.parametrize("mode", ["collapse", "preserve"])
@pytest.mark.parametrize("aggregation", [None, "mean", "normalized_decay"])
def test_decays_of_channels(monkeypatch: pytest.MonkeyPatch, mode: Any, aggregation: str | None) -> None:
    """Frames that weigh differently in every channel are convolved one by one, as the layer does, and currents summed."""
    options = {"aggregation": aggregation} if aggregation else {}
    layer = frozen(RNG.normal(size=(3, 3, 2)), beta=np.array([0.1, 0.5, 0.9], np.float32), mode=mode, **options)
    x = RNG.random((10, 2, 6, 2)) < 0.3
    exact, *others = synops(layer, x)
    row = next(row for row in others if row.mode == mode)
    convolved, convolve = list[int](), Convolve._convolve

    def counting(self: Convolve, frames: Any, bias: Any) -> Any:
        convolved.append(len(frames))
        return convolve(self, frames, bias)

    monkeypatch.setattr(Convolve, "_convolve", counting)
    layer(x)
    if aggregation == "mean":
        assert row.frames == 3
        return
    assert sum(convolved) == 2 * row.frames == 2 * 10
    places = 2 * 4 * 3
    assert (row.dense, row.accumulates, row.events) == (exact.dense, exact.accumulates, exact.events)
    assert row.aggregated == row.aggregated_events == 10 * places
    saved = (10 - 3) * 3 * places if mode == "collapse" else 0  # of the neurons, which step 3 or 10 times
    assert row.traffic == exact.traffic + 4 * ((10 + 3) * places - saved)  # currents read, their sums written
    assert row.traffic_events == exact.traffic_events + 4 * ((10 + 3) * places - saved)


def test_networks_within_networks() -> None:
    """The layers of a Sequential are counted, wherever it stands; trainable ones are refused."""
    conv, out = frozen(RNG.normal(0, 0.5, (4, 3, 3, 2)), padding=1), frozen(RNG.normal(0, 0.5, (3, 64)))
    inner, x = Sequential(conv, Pool2d("sum", 2)), RNG.random((8, 5, 8, 8, 2)) < 0.2
    flat = list(synops([conv, Pool2d("sum", 2), Flatten(), out], x))
    assert list(synops(Sequential(inner, Flatten(), out), x)) == flat
    assert list(synops([inner, Flatten(), out], x)) == flat
    parts: dict[str, Any] = {"features": inner, "flat": Flatten(), "out": out}
    named = synops(parts, x)
    assert [row.layer for row in named][::3] == ["features.0", "out"]
    assert [row.effective for row in named] == [row.effective for row in flat]


def test_networks() -> None:
    """Each layer of its own input; functions between are not counted; a layer's own K, or one for all."""
    conv = frozen(RNG.normal(0, 0.5, (4, 3, 3, 2)), padding=1)
    out = frozen(RNG.normal(0, 0.5, (3, 64)), chunk_size=2, mode="preserve")
    x = RNG.random((8, 5, 8, 8, 2)) < 0.2
    pool, flat = Pool2d("sum", 2), Flatten()
    stages: dict[str, Any] = {"conv": conv, "pool": pool, "flat": flat, "out": out}
    counted = synops(stages, x)
    assert [(row.layer, row.mode, row.chunk_size) for row in counted] == [
        ("conv", "exact", 1), ("conv", "collapse", 4), ("conv", "preserve", 4),
        ("out", "exact", 1), ("out", "collapse", 2), ("out", "preserve", 2),
    ]  # fmt: skip
    assert counted.samples == 5
    inner = flat(pool(conv(x)))
    assert list(counted)[3:] == [LayerOperations(**{**vars(row), "layer": "out"}) for row in synops(out, inner)]
    assert counted.total("collapse")["dense"] == list(counted)[1].dense + list(counted)[4].dense
    assert {row.chunk_size for row in synops([conv, pool, flat, out], x, chunk_size=8)} == {1, 8}
    text = str(counted)
    assert text.count("\n") == 20  # two tables of a head and nine lines, and a note
    for wide in (text, str(synops(stages, x, picojoules={"ac": 0.1, "mac": 4.6}))):
        assert max(map(len, wide.splitlines())) <= 80
        heads = [line.split("  ") for line in wide.splitlines() if line.startswith("layer")]
        assert sum(head.count("bytes, events") for head in heads) == 1
    assert "conv   collapse K=4       2" in text
    assert f"{list(counted)[3].multiply_accumulates:,}" in text
    assert "pJ" not in text


def test_energy() -> None:
    """Only at the user's prices."""
    x = RNG.random((4, 2, 6)) < 0.5
    layer = frozen(np.ones((3, 6)), chunk_size=2)
    plain = synops(layer, x)
    assert all(row.energy is None and row.energy_events is None for row in plain)
    priced = synops(layer, x, picojoules={"ac": 1, "mac": 10, "byte": 100, "update": 1000})
    for a, b in zip(plain, priced, strict=True):
        assert b.energy == 10 * (a.dense + a.aggregated) + 100 * a.traffic + 1000 * a.updates
        products = a.accumulates + 10 * (a.multiply_accumulates + a.aggregated_events)
        assert b.energy_events == products + 100 * a.traffic_events + 1000 * a.updates
    assert "pJ, events" in str(priced)
    assert "e+" not in str(synops(layer, x, picojoules={"ac": 0.1, "mac": 4567.8}))
    assert priced.total("exact")["energy"] == next(iter(priced)).energy


def test_layouts_and_axes() -> None:
    """Channels first, and features with more axes before them, are the same numbers."""
    x, weight = RNG.random((4, 2, 5, 7, 3)) < 0.3, RNG.normal(size=(2, 3, 3, 3))
    first = frozen(weight, layout="channels_first")
    assert synops(first, np.moveaxis(x, -1, 2)) == synops(frozen(weight), x)
    wide = synops(frozen(np.ones((2, 3))), x)
    assert [row.effective for row in wide] == [
        row.effective for row in synops(frozen(np.ones((2, 3))), x.reshape(4, 70, 3))
    ]
    assert wide.samples == 2


def test_every_library(backend: Backend) -> None:
    x, weight = RNG.random((4, 2, 5, 3)) < 0.3, RNG.normal(size=(2, 3, 3)).astype(np.float32)
    layer = FrozenLayer({"weight": backend.from_numpy(weight)}, {"chunk_size": 2})
    assert synops(layer, backend.from_numpy(x)) == synops(frozen(weight, chunk_size=2), x)


LAYER = frozen(np.ones((2, 3)))
WRONG: Any = 3
CHAIN: Any = Chain()
X = np.ones((4, 1, 3))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: synops(WRONG, X), TypeError, "layers must be a FrozenLayer, or a sequence or a mapping of layers; got int"),
        (lambda: synops([WRONG], X), TypeError, "layers must be FrozenLayers, and functions of spikes; got int"),
        (lambda: synops([], X), ValueError, "layers must be at least one FrozenLayer; got none"),
        (lambda: synops(LAYER, X[..., :2]), ValueError, r"spikes must be an array \(T, B, ..., F_in\) with 3 channels"),
        (lambda: synops(LAYER, X * np.nan), ValueError, "spikes must be finite; got an array that holds NaN or infinity"),
        (lambda: synops(CHAIN, X), TypeError, r"layers must be frozen \(`layer.frozen\(\)`\); got Chain"),
        (lambda: synops([CHAIN], X), TypeError, r"layers must be frozen \(`layer.frozen\(\)`\); got Chain"),
        (lambda: synops(LAYER, X, chunk_size=0), ValueError, "chunk_size must be at least 1; got 0"),
        (lambda: synops(LAYER, X, picojoules=WRONG), TypeError, "picojoules must be a mapping of operations"),
        (lambda: synops(LAYER, X, picojoules={"ac": 1}), ValueError, "picojoules must be a price of 'ac' and of 'mac'"),
        (lambda: synops(LAYER, X, picojoules={"spike": 1}), ValueError, "picojoules must be among 'ac', 'mac', 'update'"),
        (lambda: synops(LAYER, X, picojoules={"ac": -1, "mac": 1}), ValueError, r"picojoules\['ac'\] must be at least 0"),
        (lambda: synops(LAYER, [[1]]), TypeError, "spikes"),
    ],
)  # fmt: skip
def test_wrong_calls(call: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^synops: {words}"):
        call()
