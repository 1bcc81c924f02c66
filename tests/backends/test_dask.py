"""Dask arrays: any chunking gives what one call gives, nothing is computed early, and tasks are few and small."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

dask = pytest.importorskip("dask", reason="backend dask: it is not installed")
import dask.array as da
from threadpoolctl import threadpool_info

import tacops
from tacops import readout
from tacops.backends import backend_of, get_backend
from tacops.backends._cpu import cores
from tacops.backends.dask_ import DaskBackend
from tacops.layers import FrozenLayer
from tacops.testing import Check, NotApplicable, conformance_checks
from tests.support.dask_calls import calls

SPIKES = np.random.default_rng(0).random((8, 4, 6, 6, 2)) < 0.4
WEIGHT = np.random.default_rng(1).normal(0.05, 0.4, (3, 3, 3, 2)).astype(np.float32)
OPTIONS: dict[str, Any] = {"chunk_size": 2, "padding": 1, "reproducible": True}


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """The tests that are not about threads need none."""
    with dask.config.set(scheduler="synchronous"):
        yield


def cut(*chunks: Any, x: Any = SPIKES) -> Any:
    return da.from_array(x, chunks=chunks)


def kernel() -> Any:
    return da.from_array(WEIGHT, chunks=-1)


class Cut(DaskBackend):
    """The backend, with arrays of three axes and more cut in three along the second: spikes by samples."""

    def from_numpy(self, array: Any, device: str | None = None) -> Any:
        """In three blocks."""
        return da.from_array(np.array(array), chunks={1: -(-array.shape[1] // 3)} if array.ndim > 2 else -1)


@pytest.mark.parametrize("check", list(conformance_checks()), ids=str)
def test_conformance(check: Check) -> None:
    """The suite, a third of the samples in a block."""
    try:
        check(Cut())
    except NotApplicable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("seed", range(18))
def test_any_chunks_give_what_one_call_gives(seed: int) -> None:
    """Bit for bit, shapes and types too, of all operators; the chunks are those that were promised."""
    for name, got, want in calls(seed):
        for one, other in zip(*(_arrays(result) for result in (got, want)), strict=True):
            assert one.dtype == other.dtype, name
            blocks = one.to_delayed().ravel()
            shapes = [block.shape for block in dask.compute(*blocks)]
            assert shapes == [
                tuple(s) for s in np.stack(np.meshgrid(*one.chunks, indexing="ij"), -1).reshape(-1, one.ndim)
            ], name
            computed = one.compute()
            assert computed.dtype == other.dtype, name
            np.testing.assert_array_equal(computed, other, name)


def _arrays(result: Any) -> list[Any]:
    if not isinstance(result, tuple):
        return [result]
    return [array for part in result for array in _arrays(part)]


def test_nothing_is_computed_early() -> None:
    """Graphs of a network on frames and weights that can't be computed."""

    def broken(*args: Any) -> Any:
        raise AssertionError("computed")

    def never(shape: Any, chunks: Any, dtype: Any) -> Any:
        return da.map_blocks(
            broken, da.zeros(shape, chunks=chunks), dtype=dtype, meta=np.empty((0,) * len(shape), dtype)
        )

    spikes, weight = never((8, 4, 6, 6, 2), (4, 2, 3, 6, 2), bool), never((3, 3, 3, 2), -1, np.float32)
    numbers, ends = never((3,), -1, np.float32), never((4,), -1, np.int64)
    train = tacops.tac_conv(
        spikes, weight, numbers, beta=numbers, threshold=numbers, lengths=ends, trace=True, **OPTIONS
    )
    vectors = tacops.flatten(tacops.max_pool(train, 2).rechunk({2: -1, 3: -1}))
    dense = FrozenLayer({"weight": np.ones((5, 27), np.float32)}, {"chunk_size": 2})
    rates = readout.rate(dense(vectors))
    assert rates.shape == (4, 5)
    with pytest.raises(AssertionError, match="computed"):
        rates.compute()


@pytest.mark.parametrize("space", [6, 3])
def test_tasks(space: int) -> None:
    """One task loads a block, one runs it, one hands out its spikes; with cut space a few more for borders."""
    spikes = da.ones((64, 8, 6, 6, 2), chunks=(4, 2, space, 6, 2), dtype=bool)
    train = tacops.tac_conv(spikes, kernel(), **OPTIONS)
    [found] = dask.optimize(train.spikes)
    blocks, tasks = train.spikes.npartitions, len(found.__dask_graph__())
    assert blocks == spikes.npartitions
    assert train.spikes.chunks == ((2,) * 16, *spikes.chunks[1:4], (3,))
    assert tasks <= (3 if space == 6 else 4) * blocks + 4
    pooled = tacops.max_pool(da.ones((8, 8, 8, 8, 2), chunks=(2, 2, 8, 8, 2)), 2)
    assert len(dask.optimize(pooled)[0].__dask_graph__()) <= 2 * pooled.npartitions + 1


@pytest.mark.parametrize("threads", [2, 4])
def test_frames_are_loaded_in_their_turn(threads: int) -> None:
    """Of each chain two blocks at most are in memory, however many threads are idle; none is loaded twice."""
    alive, most, loads = 0, 0, 0
    lock = threading.Lock()

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def load(block_info: Any = None) -> Any:
        nonlocal alive, most, loads
        block = np.ones(block_info[None]["chunk-shape"], bool)
        with lock:
            alive, loads = alive + 1, loads + 1
            most = max(most, alive)
        weakref.finalize(block, gone)
        return block

    meta = np.empty((0,) * 5, bool)
    frames = da.map_blocks(load, chunks=((4,) * 16, (1, 1), (9,), (9,), (2,)), dtype=bool, meta=meta)
    train = tacops.tac_conv(frames, kernel(), **OPTIONS)
    with dask.config.set(scheduler="threads", num_workers=threads):
        counts = train.spikes.sum(axis=(1, 2, 3, 4)).compute()
    gc.collect()
    assert counts.shape == (32,)
    assert loads == frames.npartitions
    assert most <= 2 * 2 + 2  # a finished task's block may live a moment longer
    assert alive == 0


def test_tasks_keep_to_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a block is computed its thread counts one processor and BLAS has one thread; afterwards all is as before."""
    seen: list[tuple[int, set[int]]] = []

    def spy(*args: Any, **options: Any) -> Any:
        seen.append((cores.count_cores(), _blas()))
        return original(*args, **options)

    module: Any = get_backend("numpy")
    original = type(module).schedule
    monkeypatch.setattr(type(module), "schedule", spy)
    before = cores.count_cores(), _blas()
    with dask.config.set(scheduler="threads", num_workers=2):
        tacops.tac_conv(cut(4, 1, 6, 6, 2), kernel(), **OPTIONS).spikes.compute()
    assert seen == [(1, {1})] * 8
    assert (cores.count_cores(), _blas()) == before


def _blas() -> set[int]:
    return {
        info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas" and "numpy" in info["filepath"]
    }


def test_what_can_not_be_done_is_refused_with_what_to_do() -> None:
    weight, unknown = kernel(), cut(4, 2, 6, 6, 2)[da.from_array(np.ones(8, bool), chunks=4)]
    current = cut(4, 2, 6, 6, 1)
    for call, words in (
        (lambda: tacops.tac_conv(cut(3, 2, 6, 6, 2), weight, chunk_size=2), r"tac_conv: spikes must be cut in time at multiples of chunk_size 2, as spikes.rechunk\({0: 2}\) is; got chunks \(3, 3, 2\)"),
        (lambda: tacops.tac_conv(cut(3, 2, 6, 6, 2), weight, chunk_size=16), r"tac_conv: spikes .*, as spikes.rechunk\({0: 16}\) is"),
        (lambda: tacops.conv_lif(current, weight), r"conv_lif: spikes must be in one chunk along the channels, as of spikes.rechunk\({4: -1}\); got chunks \(1, 1\)"),
        (lambda: tacops.lif(current.astype(np.float32)), r"lif: current must be in one chunk along the channels, as of current.rechunk\({4: -1}\)"),
        (lambda: tacops.lif(cut(4, 2, 3, 6, 2).astype(np.float32), layout="channels_first"), r"lif: current .*, as of current.rechunk\({2: -1}\)"),
        (lambda: tacops.lif(current[:, 0, 0, 0].astype(np.float32)), r"lif: current .*, as of current.rechunk\({1: -1}\)"),
        (lambda: tacops.conv_lif(unknown, weight), r"conv_lif: spikes must be a plain array of numbers; got a Dask array of unknown chunk sizes \(its compute_chunk_sizes\(\) finds them\)"),
        (lambda: tacops.max_pool(unknown, 2), r"max_pool: spikes .* unknown chunk sizes"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=f"^{words}"):
            call()
    for refused in (cut(3, 2, 6, 6, 2).rechunk({0: 2}), cut(3, 2, 6, 6, 2).rechunk({0: 16})):
        tacops.tac_conv(refused, weight, chunk_size=2 if len(refused.chunks[0]) > 1 else 16)
    with pytest.raises(TypeError, match=r"weight must be an array of the same library as spikes \(dask\)"):
        tacops.conv_lif(cut(4, 2, 6, 6, 2), WEIGHT)
    stream = tacops.Stream([FrozenLayer({"weight": WEIGHT}, OPTIONS)])
    with pytest.raises(TypeError, match=r"^Stream.feed: spikes must be frames that are at hand; .* got a dask array"):
        stream.feed(cut(4, 2, 6, 6, 2))
    with pytest.raises(ValueError, match="surrogate must be None on arrays that have no gradients"):
        tacops.conv_lif(cut(4, 2, 6, 6, 2), weight, surrogate=tacops.surrogate.arctan())


def test_values_are_checked_when_they_are_known() -> None:
    """What nobody could read when the graph was made is refused by the block that meets it, in the same words."""
    wrong = da.from_array(np.full(3, 1.5, np.float32), chunks=-1)
    ends = da.from_array(np.array([8, 9, 0, 1]), chunks=2)
    large = da.from_array(np.array([2**32 + 1, 2, 3, 4]), chunks=2)  # 1 in 32 bits
    counts = cut(4, 2, 6, 6, 2, x=2 * SPIKES.astype(np.float32))
    for options, words in (
        ({"beta": wrong}, r"tac_conv: beta must be in \[0, 1\]; got an array that holds 1.5"),
        ({"lengths": ends}, r"tac_conv: lengths must be from 0 to the 8 frames; got 9"),
        ({"lengths": large}, r"tac_conv: lengths must be from 0 to the 8 frames; got 4294967297"),
        ({"spikes": counts}, r"tac_conv: spikes must be multiples of 1.0 between -1.0 and 1.0 in reproducible mode"),
    ):
        train = tacops.tac_conv(**{"spikes": cut(4, 2, 6, 6, 2), "weight": kernel(), **OPTIONS, **options})
        with pytest.raises(ValueError, match=f"^{words}"):
            train.spikes.compute()


def test_blocks_of_other_shapes_are_refused() -> None:
    """Of a function that says nothing of the frames it drops; else chunks of time would end elsewhere."""
    shorter = da.map_blocks(lambda block: block[:3], cut(4, 2, 6, 6, 2), dtype=bool, meta=np.empty((0,) * 5, bool))
    words = r"tac_conv: spikes must be in blocks as large as its chunks say, \(4, 2, 6, 6, 2\); got a block of shape \(3, 2, 6, 6, 2\)"
    with pytest.raises(ValueError, match=f"^{words}$"):
        tacops.tac_conv(shorter, kernel(), **OPTIONS).spikes.compute()


def test_chunks_without_anything_are_passed_over() -> None:
    """Dask allows chunks of size 0."""
    spikes = cut((0, 4, 0, 4), (2, 0, 2), (0, 3, 3), 6, 2)
    got, want = (tacops.tac_conv(x, w, **OPTIONS) for x, w in ((spikes, kernel()), (SPIKES, WEIGHT)))
    np.testing.assert_array_equal(got.spikes.compute(), want.spikes)
    np.testing.assert_array_equal(got.membrane.compute(), want.membrane)
    nothing = np.ones((8, 0, 3), np.float32)
    assert tacops.aggregate(da.from_array(nothing, chunks=(4, 1, 1)), 2).compute().shape == (4, 0, 3)


def test_a_recording_goes_on_from_a_membrane() -> None:
    """Of the first half, whose graph is then part of the second's."""
    spikes = cut(2, 2, 3, 6, 2)
    head = tacops.tac_conv(spikes[:4], kernel(), **OPTIONS)
    tail = tacops.tac_conv(spikes[4:], kernel(), membrane=head.membrane, **OPTIONS)
    want = tacops.tac_conv(SPIKES, WEIGHT, **OPTIONS)
    np.testing.assert_array_equal(da.concatenate([head.spikes, tail.spikes]).compute(), want.spikes)
    np.testing.assert_array_equal(tail.membrane.compute(), want.membrane)


def test_weights_of_a_shorter_last_chunk() -> None:
    """A frozen layer whose learned weights sum to one has others there: its frames are a call of their own."""
    table = np.tril(np.ones((2, 2), np.float32))[::-1].copy()
    layer = FrozenLayer({"weight": WEIGHT, "aggregation": table}, {"chunk_size": 2, "reproducible": True})
    got, want = layer(cut(4, 2, 6, 6, 2)[:7]), layer(SPIKES[:7])
    np.testing.assert_array_equal(got.spikes.compute(), want.spikes)
    np.testing.assert_array_equal(got.membrane.compute(), want.membrane)


def test_frames_of_any_graph() -> None:
    """Computed already, optimised, cut anew, made of all of themselves; and processes that get their tasks in pickles."""
    want = tacops.tac_conv(SPIKES, WEIGHT, **OPTIONS)
    loaded = cut(2, 2, 6, 6, 2)
    several = loaded > loaded.mean() / 2  # every block needs all
    for frames in (loaded.persist(), *dask.optimize(loaded), cut(1, 4, 6, 6, 2).rechunk({0: 2}), several):
        np.testing.assert_array_equal(tacops.tac_conv(frames, kernel(), **OPTIONS).spikes.compute(), want.spikes)
    train = tacops.tac_conv(several, kernel(), **OPTIONS)
    np.testing.assert_array_equal(train.spikes.compute(scheduler="processes", num_workers=1), want.spikes)


def test_equal_calls_have_equal_names() -> None:
    """So Dask computes them once; other options or frames have others."""
    names = [
        tacops.tac_conv(spikes, kernel(), **{**OPTIONS, **more}).spikes.name
        for spikes in (cut(4, 2, 6, 6, 2), cut(4, 1, 6, 6, 2))
        for more in ({}, {}, {"beta": 0.5}, {"padding": 0}, {"reset": "zero"})
    ]
    assert len(set(names)) == 8
    assert names[0] == names[1]


def test_blocks_of_another_library(need: Any) -> None:
    """JAX's arrays in Dask's: blocks stay what they are, also where borders are exchanged, and weights go beside them."""
    jax = need("jax")

    def there(x: Any) -> Any:
        meta = jax.from_numpy(np.empty((0,) * x.ndim, x.dtype))
        return x.map_blocks(jax.from_numpy, meta=meta, dtype=x.dtype)

    spikes = there(cut(4, 2, 3, 6, 2))
    layer = FrozenLayer({"weight": WEIGHT}, OPTIONS)
    train = layer(spikes)
    block = train.spikes.blocks[1, 0, 1].compute(optimize_graph=False)
    want = layer(SPIKES)
    assert backend_of(block) is jax
    np.testing.assert_array_equal(jax.to_numpy(block), want.spikes[2:, :2, 3:])
    with pytest.raises(
        ValueError, match=r"weight must be on the same device as spikes \(blocks of jax\); got blocks of numpy"
    ):
        tacops.tac_conv(spikes, kernel(), **OPTIONS)
