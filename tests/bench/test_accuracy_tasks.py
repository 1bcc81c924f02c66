"""bench accuracy: the tasks, their samples and their folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.accuracy import run as accuracy_run
from bench.accuracy.tasks import RECORDING, SACCADE, SENSOR, TASKS, Data, Settings, digits_of, saccades_of, shuffled
from bench.shared.encoding import moving_dots, rate_code
from tests.support.accuracy_tasks import TINY, quadrants

FOLDS = Settings(0, 0, 1, folds=3, time_steps=4)


@pytest.fixture
def recordings() -> dict[str, Any]:
    """Seven recordings of 60 events, all of them different."""
    rng = np.random.default_rng(0)
    count, events = 7, 60
    t = np.sort(rng.integers(0, RECORDING + 2000, (count, events)), axis=1)
    return {
        "t": t.ravel().astype(np.uint32),
        "x": rng.integers(0, SENSOR, count * events).astype(np.uint8),
        "y": rng.integers(0, SENSOR, count * events).astype(np.uint8),
        "p": rng.integers(0, 2, count * events).astype(np.uint8),
        "offsets": np.arange(count + 1) * events,
        "labels": np.arange(count).astype(np.uint8),
    }


def test_digits_are_cut_into_frames_of_equal_time(recordings: dict[str, Any]) -> None:
    data = digits_of(recordings, FOLDS)
    assert data.samples.shape == (7, 4, SENSOR, SENSOR, 2)
    assert data.labels.tolist() == list(range(7))
    expected = np.zeros_like(data.samples)
    for e in range(7 * 60):
        t = int(recordings["t"][e])
        if t < RECORDING:
            expected[e // 60, 4 * t // RECORDING, recordings["y"][e], recordings["x"][e], recordings["p"][e]] = True
    np.testing.assert_array_equal(data.samples, expected)


def test_saccades_have_merged_polarities_and_equal_counts(recordings: dict[str, Any]) -> None:
    data = saccades_of(recordings, FOLDS)
    assert data.samples.shape == (21, 4, SENSOR, SENSOR, 1)
    assert data.labels.tolist() == [0, 1, 2] * 7
    flipped = saccades_of({**recordings, "p": 1 - recordings["p"]}, FOLDS)
    np.testing.assert_array_equal(data.samples, flipped.samples)
    t, x, y = (recordings[name][:60] for name in "txy")
    for saccade in range(3):
        inside = np.flatnonzero(t // SACCADE == saccade)
        expected = np.zeros_like(data.samples[0])
        for place, e in enumerate(inside):
            expected[4 * place // len(inside), y[e], x[e], 0] = True
        np.testing.assert_array_equal(data.samples[saccade], expected)
        counts = data.samples[saccade].sum(axis=(1, 2, 3))
        assert counts.max() - counts.min() <= 2  # one by rounding, one where two events fell on one pixel


def test_a_saccade_without_events_is_silent(recordings: dict[str, Any]) -> None:
    early = {**recordings, "t": recordings["t"] // 4}
    assert not saccades_of(early, FOLDS).samples[2].any()


def test_reversals_have_the_same_sum_over_time(recordings: dict[str, Any]) -> None:
    data = saccades_of(recordings, FOLDS, reverse=True)
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 5] * 7
    forward, backward = data.samples[data.labels < 3], data.samples[data.labels >= 3]
    np.testing.assert_array_equal(forward[:, ::-1], backward)
    assert (forward != backward).any()


@pytest.mark.parametrize("reverse", [False, True])
def test_folds_are_split_by_recording(recordings: dict[str, Any], reverse: bool) -> None:
    data = saccades_of(recordings, FOLDS, reverse)
    assert data.groups is not None
    tested = []
    for run in range(3):
        chosen, test = data.split(run, FOLDS)
        assert not set(data.groups[chosen]) & set(data.groups[test])
        assert sorted([*chosen, *test]) == list(range(len(data.labels)))
        tested += test.tolist()
    assert sorted(tested) == list(range(len(data.labels)))
    windows = 6 if reverse else 3
    for group in range(7):
        of_one = data.samples[data.groups == group]
        assert len(of_one) == windows
        np.testing.assert_array_equal(of_one[:3], saccades_of(recordings, FOLDS).samples[3 * group : 3 * group + 3])


def test_a_quick_task_is_cut_down_and_still_split() -> None:
    task = TASKS["saccade"].quick()
    assert task.settings.training == 500
    data = Data(np.zeros((1200, 1, 1, 1, 1), np.bool_), np.zeros(1200, np.uint8), groups=np.arange(1200) // 3)
    chosen, tested = data.split(0, task.settings)
    assert (len(chosen), len(tested)) == (500, 240)
    assert set(task.modes) <= set(TASKS["saccade"].modes)
    assert TASKS["mnist"].quick().settings.epochs == 1


def test_a_given_test_set_is_the_same_for_all_seeds() -> None:
    data = quadrants(TINY.settings)
    for run in range(2):
        chosen, tested = data.split(run, TINY.settings)
        assert (chosen.tolist(), tested.tolist()) == (list(range(80)), list(range(80, 120)))


def test_grey_levels_are_rate_coded() -> None:
    data = quadrants(TINY.settings)
    chosen = np.array([3, 7])
    assert data.shape == (8, 8, 1)
    np.testing.assert_array_equal(data.frames(chosen, 5), rate_code(data.samples[chosen], seed=5))


def test_training_spikes_are_never_those_of_the_test() -> None:
    data = quadrants(TINY.settings)
    chosen, _ = data.split(0, TINY.settings)
    seen = [
        frames.tobytes()
        for run in range(2)
        for epoch in range(2)
        for frames, _ in accuracy_run.batches(data, chosen, TINY.settings, run, epoch)
    ]
    assert len(set(seen)) == len(seen) == 16


def test_shuffled_frames_are_the_same_frames(recordings: dict[str, Any]) -> None:
    data = digits_of(recordings, FOLDS)
    other = shuffled(data)
    assert (other.samples != data.samples).any()
    for before, after in zip(data.samples, other.samples, strict=True):
        assert sorted(frame.tobytes() for frame in before) == sorted(frame.tobytes() for frame in after)


def test_jitter_shifts_each_sample_by_itself() -> None:
    frames = np.zeros((2, 50, 9, 9, 1), np.bool_)
    frames[:, :, 4, 4] = True
    moved = accuracy_run.jittered(frames, 2, np.random.default_rng(0))
    places = np.argwhere(moved[0, :, :, :, 0])[:, 1:]
    assert moved.sum() == frames.sum()
    np.testing.assert_array_equal(moved[0], moved[1])
    assert set(np.unique(places)) == {2, 3, 4, 5, 6}
    assert len({tuple(place) for place in places}) > 15


@pytest.mark.parametrize("size", [1, 2])
def test_dots_move_where_their_label_says(size: int) -> None:
    spikes, labels = moving_dots(80, size)
    steps = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
    assert spikes.shape == (80, 16, 16, 16, 1)
    assert 0.03 < spikes.mean() < 0.12
    for sample, label in zip(spikes[..., 0], labels, strict=True):
        matches = [(np.roll(sample[:-1], step, axis=(1, 2)) & sample[1:]).sum() for step in steps]
        assert np.argmax(matches) == label
