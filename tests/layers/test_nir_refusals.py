"""NIR: what can't be said, graphs that are no layers, and damaged files, each refused in one sentence."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops.layers import Flatten, FrozenLayer, Pool2d
from tests.support.layer_frameworks import Array
from tests.support.nir_networks import RANDOM, RNG, SHAPE, run

nir = pytest.importorskip("nir", reason="nir is not installed (it is part of the extra dev)")
from tacops.backends.nir_layers import from_nir, to_nir

WEIGHT = np.full((4, 3), 0.5, np.float32)
KERNEL = RANDOM[0]
ZERO: dict[str, Any] = {"chunk_size": 1, "reset": "zero"}


def dense(arrays: dict[str, Array] | None = None, **options: Any) -> FrozenLayer:
    return FrozenLayer({"weight": WEIGHT, **(arrays or {})}, {**ZERO, **options})


def conv(weight: Array = KERNEL, **options: Any) -> FrozenLayer:
    return FrozenLayer({"weight": weight}, {**ZERO, "layout": "channels_first", **options})


@pytest.mark.parametrize(
    ("layers", "shape", "words"),
    [
        ([dense(reset="subtract")], (3,), r"layers\[0\] must be with reset='zero', the only one that NIR has; got 'subtract'"),
        ({"a": dense(reset="late")}, (3,), r"layers\['a'\] must be with reset='zero'.*; got 'late'"),
        ([dense(chunk_size=2, mode="preserve")], (3,), "with chunk_size=1, or collapse .*; got chunk_size=2, mode='preserve'"),
        ([dense(chunk_size=2)], (3,), "with chunk_size=1, or collapse time with aggregation='sum'"),
        ([dense(), FrozenLayer({"weight": np.ones((2, 4), np.float32)}, {**ZERO, "chunk_size": 2, "aggregation": "sum"})], (3,), r"layers\[1\] must be the first layer, to collapse"),
        ([dense({"aggregation": np.ones(2, np.float32)}, chunk_size=2)], (3,), "without learned aggregation weights"),
        ([dense({"beta": np.array([1, 1, 0.5, 0.5], np.float32)})], (3,), "with betas that are all 1, or all below; got both"),
        ([dense(beta=1.0, synapse_decay=0.5)], (3,), "with a beta and a synapse_decay below 1"),
        ([conv(np.ones((4, 1, 3, 3, 2), np.float32))], (2, 5, 5), "of one or two dimensions, as NIR has them; got 3"),
        ([conv(padding=((1, 0), (1, 0)))], SHAPE, r"padded alike on both sides, as NIR has it; got padding \(\(1, 0\), "),
        ([conv(KERNEL[..., :1], groups=2)], SHAPE, "of one group: the nir package refuses the shapes of others; got groups=2"),
        ([conv(np.ones((4, 3, 1, 2), np.float32)), conv(np.ones((2, 1, 1, 4), np.float32))], SHAPE, "such that the nir package's own check of shapes passes; got "),
        ([conv()], (3, 10, 10), r"a layer of frames of shape \(3, 10, 10\) \(channels first\); got weights for 2 channels"),
        ([conv(), FrozenLayer({"weight": np.ones((4, 3, 3, 4), np.float32)}, ZERO)], SHAPE, r"layers\[1\] must be channels_first, as the layers before it; got channels_last"),
        ([dense()], (4,), r"a layer of frames of shape \(4,\); got weights for 3 features"),
        ([dense()], (3, 1, 1), r"a layer of frames of shape \(3, 1, 1\); got weights for 3 features"),
        ([Flatten()], (3,), "layers must be at least one FrozenLayer; got none"),
        ([Pool2d("sum", 2), dense()], (3,), "behind spikes with two spatial axes"),
        ([dense()], (), r"input_shape must be one to three ints, a frame's shape; got \(\)"),
        ([dense()], (0,), "input_shape must be at least 1; got 0"),
    ],
)  # fmt: skip
def test_layers_that_nir_cannot_say(layers: Any, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=f"^to_nir: .*{words}"):
        to_nir(layers, shape)


def test_other_types() -> None:
    for layers in (3, None, [3], [len], {"a": None}, dense()):
        with pytest.raises(TypeError, match="to_nir: layers must be "):
            to_nir(layers, (3,))  # type: ignore[arg-type]
    for dt, error in (("a", TypeError), (True, TypeError), (0.0, ValueError), (float("nan"), ValueError)):
        for call in (lambda dt: to_nir([dense()], (3,), dt=dt), lambda dt: from_nir(to_nir([dense()], (3,)), dt=dt)):
            with pytest.raises(error, match=r"(to|from)_nir: dt must be "):
                call(dt)
    for graph in (3, None, dense()):
        with pytest.raises(TypeError, match=r"from_nir: graph must be a nir.NIRGraph, or the path of a file; got"):
            from_nir(graph)
    graph = to_nir([dense()], (3,))
    with pytest.raises(ValueError, match="from_nir: reset must be one of"):
        from_nir(graph, reset="hard")
    with pytest.raises(TypeError, match="from_nir: ties must be True or False"):
        from_nir(graph, ties=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="from_nir: reproducible must be True, False or a"):
        from_nir(graph, reproducible=1)  # type: ignore[arg-type]


def lif(*shape: int, **given: Any) -> Any:
    start = {"tau": 1e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **given}
    return nir.LIF(**{name: np.broadcast_to(value, shape).copy() for name, value in start.items()})


def chain(*nodes: Any, shape: tuple[int, ...] = (3,), edges: Any = (), **others: Any) -> Any:
    """A graph in a line, and what is not in it."""
    named = {"input": nir.Input(np.array(shape))} | {f"n{n}": node for n, node in enumerate(nodes)}
    named["output"] = nir.Output(np.array(shape))
    names = list(named)
    line = [*pairwise(names), *edges]
    return nir.NIRGraph({**named, **others}, line, type_check=False)


AFFINE = nir.Affine(np.ones((3, 3)), np.ones(3))
PIXELS = nir.Conv2d((4, 4), np.ones((2, 3, 3, 3)), 1, 1, 1, 1, np.zeros(2))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (chain(AFFINE, lif(3), nir.Delay(np.ones(3))), "graph must be a graph of Input, .*; got a Delay, 'n2'"),
        (chain(AFFINE, nir.LI(*np.ones((3, 3)))), "got a LI, 'n1'"),
        (chain(AFFINE, lif(3), sub=nir.NIRGraph({}, [], type_check=False)), "got a NIRGraph, 'sub'"),
        (chain(AFFINE, lif(3), edges=[("n1", "n0")]), "a chain, without branches and recurrence; got node 'n1', which leads to 'output' and 'n0'"),
        (chain(AFFINE, lif(3), apart=lif(3)), "a chain from Input to Output; got node 'apart' apart"),
        (chain(AFFINE, lif(3), again=nir.Input(np.array([3]))), "one with a single Input; got 2"),
        (chain(AFFINE), "one whose node 'n0' drives neurons; got none behind it"),
        (chain(AFFINE, AFFINE, lif(3)), "one whose node 'n0' drives neurons; got a Affine behind it, 'n1'"),
        (chain(AFFINE, lif(3, v_leak=0.5)), "one whose node 'n1' has a v_leak of 0; got 0.5"),
        (chain(AFFINE, lif(3, v_reset=0.5)), "one whose node 'n1' has a v_reset of 0; got 0.5"),
        (chain(AFFINE, lif(3, tau=1e-5)), "one whose node 'n1' has a tau of at least dt=0.0001; got 1e-05"),
        (chain(AFFINE, lif(3, v_threshold=-1.0)), "one whose node 'n1' has a v_threshold above 0"),
        (chain(AFFINE, lif(2)), r"one whose node 'n1' has a tau for 3 channels; got shape \(2,\)|v_leak for 3 channels"),
        (chain(PIXELS, lif(2, 4, 4, tau=np.arange(1, 5) * 1e-3), shape=(3, 4, 4)), "one whose node 'n1' has one tau for a channel"),
        (chain(PIXELS, lif(2, 4, 4), shape=(2, 4, 4)), "one whose node 'n0' fits the frames"),
        (chain(AFFINE, lif(3), shape=(4,)), "one whose node 'n0' takes vectors"),
        (chain(nir.Flatten({"input": np.array([3, 4, 4])}, 1, -1), lif(3, 16), shape=(3, 4, 4)), "one whose node 'n0' flattens all axes; got from 1 to -1"),
        (chain(nir.SumPool2d(2, 2, 0), lif(3), shape=(3, 4)), "one whose node 'n0' pools two spatial axes"),
    ],
)  # fmt: skip
def test_graphs_that_are_no_layers(graph: Any, words: str) -> None:
    """Refused by the name of the node."""
    with pytest.raises((ValueError, TypeError), match=f"^from_nir: .*({words})"):
        from_nir(graph)


def test_graphs_of_others() -> None:
    """Neurons without weights, factors behind weights, two names for one flattening, groups, an edge written twice."""
    layers: Any = from_nir(chain(lif(3, r=10.0), edges=[("input", "n0")]))
    np.testing.assert_allclose(layers["n0"].arrays["weight"], np.eye(3), rtol=1e-6)
    pixels: Any = from_nir(chain(lif(3, 4, 4, r=10.0), shape=(3, 4, 4)))["n0"]
    frames = RNG.random((5, 2, 3, 4, 4)) < 0.5
    np.testing.assert_array_equal(
        pixels(frames).spikes, run(from_nir(chain(lif(3, 4, 4, r=10.0), shape=(3, 4, 4))), frames)
    )
    assert pixels.options["groups"] == 3
    scaled: Any = from_nir(chain(AFFINE, nir.Scale(np.array([1.0, 2.0, 3.0])), lif(3, r=10.0)))["n0"]
    np.testing.assert_allclose(scaled.arrays["weight"][:, 0], [1, 2, 3], rtol=1e-6)
    np.testing.assert_allclose(scaled.arrays["bias"], [1, 2, 3], rtol=1e-6)
    wide = nir.Affine(np.ones((2, 48)), np.ones(2))
    for start in (0, 1):
        found = from_nir(chain(nir.Flatten({"input": np.array([3, 4, 4])}, start, -1), wide, lif(2), shape=(3, 4, 4)))
        assert list(found) == ["n0", "n1"]


def test_damaged_files(tmp_path: Path) -> None:
    """Missing, of another kind, cut short, or with flipped bytes: a graph, or one sentence."""
    path = tmp_path / "net.nir"
    with pytest.raises(
        ValueError, match=r"from_nir: graph .*net\.nir must be a file that the nir package reads; got ."
    ):
        from_nir(path)
    nir.write(path, to_nir([dense()], (3,)))
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"from_nir: graph .*net\.nir must be a file that the nir package reads"):
            from_nir(path)
