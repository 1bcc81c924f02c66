"""bench speed beyond layers at the usual share of spikes: other shares, training steps, their memory. Times are not judged."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.shared import events
from bench.shared.machine import machine
from bench.speed import peaks, promises
from bench.speed.command import recorded_share
from bench.speed.extended import density_tables, memory_table, step_table
from bench.speed.extras import measure_beside_products
from bench.speed.peers import PEERS, PLAIN
from bench.speed.report import conditions, extras
from bench.speed.result import SpeedResult, from_dict
from bench.speed.run import run, settings
from bench.speed.targets import targets
from bench.speed.work import densities, differing, steps
from bench.timing.cases import CASES, EVENTS, EXACT, MODES, STEPS, Case, Mode, at
from bench.timing.memory import begin_peak, end_peak
from bench.timing.pool import Worker, environment
from bench.timing.session import Item
from bench.timing.stream import camera, feed, network
from bench.timing.subject import Entry, UnsupportedError
from tacops.backends import get_backend
from tests.support.speed_subjects import PLAN, SMALL, stored_text

CASE = at(replace(SMALL["S1"], c_in=4, c_out=8), 0.3)
NUMPY = Entry("tacops numpy", "tacops", "bench.timing.subject:Tacops", "numpy")
TORCH = Entry("tacops torch", "tacops", "bench.timing.subject:Tacops", "torch")


def gradient(entry: Entry, case: Case, mode: Mode) -> np.ndarray:
    """Of the weight, after a look at the input's."""
    (variant, *_) = entry.make().variants(case, mode)
    assert variant.gradient is not None
    out = variant.call()
    assert len(out) == (3 if mode.by == "both" else 2)
    found = np.asarray(variant.gradient(out))
    assert found.shape == case.weight_shape
    return found


# the work


def test_shares_of_spikes_are_those_asked_for() -> None:
    for share in (0.001, 0.05, 0.5):
        case = at(CASES["S1"], share)
        x, w = case.arrays()
        assert x.mean() == pytest.approx(share, rel=0.1)
        np.testing.assert_array_equal(w, CASES["S1"].arrays()[1])
        assert case.shape == CASES["S1"].shape
        assert (case.name, case.base) == (f"S1 at {100 * share:g} %", "S1")


def test_work_and_traffic_of_a_step_count_its_gradients() -> None:
    case = CASES["S3"]
    weight, both = STEPS["step"], STEPS["step_both"]
    assert [case.performed(mode) / case.flops for mode in (EXACT, weight, both)] == [1, 2, 3]
    x, w = (array.size for array in case.arrays())
    spikes = 16 * case.rows * case.c_out
    assert case.traffic(weight) - case.traffic(EXACT) == 4 * (x + w + spikes)
    assert case.traffic(both) - case.traffic(weight) == 4 * x


def test_recordings_become_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    of = {"offsets": [0, 2, 3], "t": [0, 314_999, 315_000], "x": [1, 2, 3], "y": [4, 5, 6], "p": [0, 1, 1]}
    monkeypatch.setattr(events, "load_recordings", lambda: {name: np.array(value) for name, value in of.items()})
    events.event_input.cache_clear()
    frames = events.event_input(4, 2)
    events.event_input.cache_clear()
    assert frames.shape == (4, 2, 34, 34, 2)
    assert np.argwhere(frames).tolist() == [[0, 0, 4, 1, 0], [3, 0, 5, 2, 1]]


def test_without_recordings_there_is_no_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TACOPS_DATA", str(tmp_path))
    events.event_input.cache_clear()
    assert recorded_share() is None
    assert [work.title for work in densities([CASES["S1"]], (0.1,), [EXACT], None)] == ["S1, densities"]
    (real,) = densities([], (0.1,), [EXACT], 0.06)
    assert (real.title, real.pairs[0][0].density) == (EVENTS.name, 0.06)


# gradients


@pytest.mark.parametrize("mode", STEPS.values(), ids=lambda mode: mode.name)
def test_plain_pytorch_finds_the_same_gradients(mode: Mode) -> None:
    pytest.importorskip("torch")
    mine, plain = (gradient(entry, CASE, mode) for entry in (TORCH, PLAIN["torch"]))
    assert np.abs(mine).max() > 0
    np.testing.assert_allclose(mine, plain, rtol=1e-4, atol=1e-5 * float(np.abs(mine).max()))


@pytest.mark.parametrize("library", ["jax", "mlx"])
def test_other_libraries_find_the_same_gradients(library: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core" if library == "mlx" else library)
    theirs = gradient(TORCH, CASE, STEPS["step"])
    own = Entry(f"tacops {library}", "tacops", "bench.timing.subject:Tacops", library)
    for entry in (own, PLAIN[library]):
        np.testing.assert_allclose(gradient(entry, CASE, STEPS["step"]), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["SpikingJelly", "norse", "snnTorch"])
def test_snn_libraries_train(name: str) -> None:
    if not PEERS[name].found:
        pytest.skip(f"{name} is not installed")
    found = gradient(PEERS[name], CASE, STEPS["step_both"])
    assert np.isfinite(found).all()
    assert found.any()
    if name == "SpikingJelly":  # the same neuron and the same surrogate
        np.testing.assert_allclose(found, gradient(TORCH, CASE, STEPS["step_both"]), rtol=1e-3, atol=1e-3)


def test_what_does_not_differentiate_says_so() -> None:
    for entry in (NUMPY, PLAIN["numpy"]):
        with pytest.raises(UnsupportedError):
            entry.make().variants(CASE, STEPS["step"])


def test_distances_are_relative_to_ours() -> None:
    def item(name: str, values: list[float]) -> Item:
        return Item(name, CASE, STEPS["step"], "only", 1.0, None, np.array(values, np.float32).tobytes())

    found = differing([item("other", [3.0, 5.0]), item("tacops torch", [3.0, 4.0]), item("tacops jax", [9.0, 9.0])])
    key = CASE.name, "step"
    assert found["tacops torch", *key] == 0.0
    assert found["other", *key] == pytest.approx(0.2)


# memory


def test_the_peak_of_a_stretch_is_seen() -> None:
    before = begin_peak()
    block = np.ones(40 << 20, np.uint8)
    del block
    peak = end_peak(before)
    assert 35 << 20 < peak < 80 << 20


# a run


@pytest.fixture(scope="module")
def result() -> SpeedResult:
    """Other shares, a step, and its memory, of NumPy and PyTorch on a tiny layer that is called S1."""
    pytest.importorskip("torch")
    patch = pytest.MonkeyPatch()
    patch.setattr(peaks, "LAYER", replace(SMALL["S1"], c_in=4, space=(32, 32)))
    case = replace(SMALL["S1"], c_out=4)
    few = {"modes": [EXACT], "densities": (0.01, 0.5), "steps": [STEPS["step"]], "memory_over": (4, 16)}
    plan = replace(PLAN, cases=[case], rounds=(1, 1), **few)  # type: ignore[arg-type]
    found = run(plan, [NUMPY, TORCH, PLAIN["torch"]], {}, lambda _: None)
    patch.undo()
    return found


def test_a_run_measures_all_parts(result: SpeedResult) -> None:
    assert not result.failed
    assert set(result.cases) == {"S1", "S1 at 1 %", "S1 at 50 %", "S1 at 5 %"}
    assert result.layers() == ["S1"]
    for case in ("S1 at 1 %", "S1 at 50 %"):
        for name in ("tacops numpy", "tacops torch", "plain torch"):
            row = result.find(case, name, "exact")
            assert row is not None
            assert row.shared == 1.0
    assert result.find("S1 at 1 %", "tacops numpy", "reproducible")
    step = result.find("S1 at 5 %", "plain torch", "step")
    assert step is not None
    assert step.differs is not None
    assert step.differs < 1e-4
    assert result.find("S1 at 5 %", "tacops numpy", "step") is None


def test_its_tables_and_its_file(result: SpeedResult) -> None:
    ((title, head, rows),) = density_tables(result)
    assert title.startswith("S1, exact")
    assert head == ("library", "1 %", "10 %", "50 %")
    assert [row[0] for row in rows][:2] == ["tacops numpy", "tacops torch"]
    ((_, head, rows),) = step_table(result)
    assert [row[1] for row in rows] == ["tacops torch", "plain torch"]
    ((_, head, rows),) = memory_table(result)
    assert head == ("library", "T = 4", "T = 16", "slope")
    assert {row.subject for row in result.step_memory} == {"tacops torch", "plain torch"}
    assert all(row.peak[1] > row.peak[0] for row in result.step_memory), result.step_memory
    assert "Gradient differs" in " ".join(conditions(result))
    content = stored_text(result)
    assert stored_text(from_dict(json.loads(content), "it")) == content
    texts = {target.text for target in targets(result)}
    assert "exact on PyTorch over exact on NumPy, any share of spikes" in texts


def test_promises_say_what_bounds_them(result: SpeedResult) -> None:
    """Memory traffic a layer that follows its spikes, products a training step; plain code stands for an SNN library."""
    peers = [replace(row, kind="peer") if row.subject == "plain torch" else row for row in result.rows]
    copy = replace(result.rows[0], case="S1", subject="ceilings", kind="ceiling", mode="copy")
    held = replace(result, rows=peers, ceilings=[copy])
    case, value, limit = next(iter(promises.over_peers(held, 0.01)))
    assert case == "S1 at 1 %"
    assert value is not None
    assert limit is not None
    row = result.find(case, "tacops numpy", "exact")
    assert row is not None
    traffic = held.layer(case).traffic(EXACT) / held.bandwidth(case)
    assert limit / value == pytest.approx(row.seconds / traffic)
    case, value, limit = next(each for each in promises.step_over_peers(held) if each[1] is not None)
    step = result.find(case, "tacops torch", "step")
    assert step is not None
    assert value / limit == pytest.approx(held.ceiling(step))  # type: ignore[operator]
    assert list(promises.over_peers(result, 0.01)) == [("S1 at 1 %", None, None)]


def test_layers_among_products_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "S4", SMALL["S4"])
    found = SpeedResult(settings(PLAN), machine())
    session: Any = SimpleNamespace(entries={TORCH.name: TORCH}, plan=PLAN, tell=lambda _: None)
    measure_beside_products(session, found)
    assert not found.failed
    assert not found.beside_blas
    assert set(found.beside_openmp) == {"alone", "after", "timeout"}
    assert "with OMP_WAIT_POLICY=passive." in " ".join(extras(found))


def test_libraries_that_are_slow_are_left_out_of_other_shares(result: SpeedResult) -> None:
    slow = replace(
        PLAN, cases=[replace(SMALL["S1"], c_out=4)], rounds=(1, 1), modes=[EXACT], densities=(0.5,), slow=0.0
    )
    found = run(slow, [NUMPY], {}, lambda _: None)
    assert "S1 at 50 %" not in {row.case for row in found.rows}
    assert "left out: exact takes more than" in found.missing["tacops numpy, S1, densities"]


def test_steps_are_planned_at_one_share() -> None:
    (work,) = steps([CASES["S4"]], list(STEPS.values()))
    assert {case.name for case, _ in work.pairs} == {"S4 at 5 %"}
    assert not steps([CASES["S4"]], [])
    assert not set(MODES) & set(STEPS)


def test_a_worker_measures_the_peak_of_a_step() -> None:
    pytest.importorskip("torch")
    with closing(Worker(PLAIN["torch"], environment())) as worker:
        worker.receive(300)
        peak = worker.ask("step_peak", replace(SMALL["S1"], space=(64, 64), c_out=16), STEPS["step"])
    spikes = 4 * 16 * 64 * 64 * 16
    assert spikes < peak < 40 * spikes, "spikes, currents and membranes of 16 steps"


def test_a_stream_whose_memory_grows_is_seen() -> None:
    """One that holds a MiB of every frame; and ours, which doesn't."""
    backend = get_backend("numpy")
    held: list[Any] = []

    class Leaking:
        def __init__(self) -> None:
            self.inner = network()
            self.state = self.inner.state

        def feed(self, frames: Any) -> Any:
            held.append(np.ones(2**17))
            return self.inner.feed(frames)

    ours, theirs = (feed(stream, camera(backend), (15, 79), backend.synchronize) for stream in (network(), Leaking()))
    assert ours["kept"] == theirs["kept"]
    assert ours["kept"][0] == ours["kept"][1]
    assert len(held) == 79
    assert theirs["peak"][1] - theirs["peak"][0] > 60 * 2**20
    assert ours["peak"][1] - ours["peak"][0] < 20 * 2**20
