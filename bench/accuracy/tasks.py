"""The tasks of ``python -m bench accuracy``: what is classified, how it becomes spikes, and who is tested on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.shared.datasets import FASHION_MNIST, MNIST, Dataset, load_images, load_recordings
from bench.shared.encoding import (
    TIME_STEPS,
    event_frames,
    frames_of_equal_count,
    frames_of_equal_time,
    moving_dots,
    rate_code,
)

Spikes = NDArray[np.bool_]
Indices = NDArray[np.int64]
Recordings = Mapping[str, NDArray[Any]]

SENSOR = 34
SACCADE = 105_000
"""Microseconds from the start of one saccade to the start of the next."""
RECORDING = 3 * SACCADE
QUICK_MODES = ("exact", "collapse4", "collapse16", "preserve4")
FOLDS_SEED = 0


@dataclass(frozen=True)
class Data:
    """Samples of one task, of which ``split`` says which are for training and which for the test.

    ``samples`` are grey levels (N, H, W) uint8 that are rate-coded batch by batch, or spikes (N, T, H, W, C) bool.
    ``groups`` says which recording each sample was cut from; None: the first ``training`` samples are for training.
    """

    samples: NDArray[Any]
    labels: NDArray[np.uint8]
    training: int = 0
    groups: NDArray[np.int64] | None = None

    @property
    def coded(self) -> bool:
        """Whether samples are grey levels."""
        return self.samples.ndim == 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a frame."""
        height, width, channels = (*self.samples.shape[1:], 1) if self.coded else self.samples.shape[2:]
        return height, width, channels

    def frames(self, chosen: Indices, seed: int) -> Spikes:
        """Spikes (T, B, H, W, C) of the chosen samples."""
        if self.coded:
            return rate_code(self.samples[chosen], seed=seed)
        return np.ascontiguousarray(np.moveaxis(self.samples[chosen], 1, 0))

    def split(self, run: int, settings: Settings) -> tuple[Indices, Indices]:
        """Training and test samples of run number ``run``: a fold, or the same for all runs if there are no folds."""
        everything = np.arange(len(self.labels))
        if not settings.folds:
            return everything[: self.training], everything[self.training :]
        groups = everything if self.groups is None else self.groups
        names = np.unique(groups)
        part = np.random.default_rng(FOLDS_SEED).permutation(len(names)) % settings.folds
        tested = np.isin(groups, names[part == run])
        return everything[~tested][: settings.training or None], everything[tested][: settings.test or None]


@dataclass(frozen=True)
class Settings:
    """All that decides the result of a training, besides mode and run number."""

    training: int
    """Samples for training; in a cross-validation at most so many, or all of the fold if 0."""
    test: int
    epochs: int
    folds: int = 0
    """Parts of a cross-validation; 0: the data set has a test set of its own, and runs differ by their seed."""
    batch: int = 100
    rate: float = 5e-3
    """Adam's initial learning rate."""
    jitter: int = 0
    """Each training sample is shifted by at most so many pixels, at random at each step."""
    kernel: int = 3
    time_steps: int = TIME_STEPS


@dataclass(frozen=True)
class Task:
    """A data set and what is asked of it; ``runs`` is the number of seeds, or of folds that are tested."""

    name: str
    title: str
    classes: int
    modes: tuple[str, ...]
    runs: int
    settings: Settings
    load: Callable[[Settings], Data]
    epoch: float
    """Rough seconds of an exact epoch, for the progress bar."""

    def quick(self) -> Task:
        """The same task in a fraction of the time."""
        settings = self.settings
        training, test = settings.training // 4 or 500, settings.test // 8 or 250
        short = replace(settings, training=training, test=test, epochs=max(settings.epochs // 3, 1))
        modes = tuple(name for name in self.modes if name in QUICK_MODES)
        return replace(self, settings=short, modes=modes, runs=2)


def images(dataset: Dataset) -> Callable[[Settings], Data]:
    """Make the loader of a set of images: the first of each split, as many as the settings say."""

    def load(settings: Settings) -> Data:
        (train, train_labels), (test, test_labels) = (load_images(dataset, split) for split in ("train", "test"))
        parts = ((train, train_labels, settings.training), (test, test_labels, settings.test))
        return Data(
            np.concatenate([samples[:count] for samples, _, count in parts]),
            np.concatenate([labels[:count] for _, labels, count in parts]),
            min(settings.training, len(train)),
        )

    return load


def digits(settings: Settings) -> Data:
    """Whole recordings, polarity as two channels, frames of equal time; the label is the digit."""
    return digits_of(load_recordings(), settings)


def digits_of(recordings: Recordings, settings: Settings) -> Data:
    """Cut recordings into frames."""
    shape = (settings.time_steps, SENSOR, SENSOR, 2)
    samples = np.empty((len(recordings["labels"]), *shape), np.bool_)
    for n in range(len(samples)):
        t, x, y, p = _events(recordings, n)
        kept = t < RECORDING
        frame = frames_of_equal_time(t[kept], settings.time_steps, 0, RECORDING)
        samples[n] = event_frames(frame, y[kept], x[kept], p[kept], shape)
    return Data(samples, recordings["labels"].astype(np.uint8), groups=np.arange(len(samples)))


def saccades(settings: Settings) -> Data:
    """Windows of one saccade each, polarities merged; the label is the saccade."""
    return saccades_of(load_recordings(), settings)


def saccades_of(recordings: Recordings, settings: Settings, reverse: bool = False) -> Data:
    """Cut each recording into its three saccades, of frames with equally many events.

    Equal numbers hide how the rate of events rises and falls during a saccade, which would tell the three apart.
    With ``reverse`` each window is there twice, once with its frames in reverse order as one of three more classes:
    both have the same sum over time.
    """
    T = settings.time_steps
    count = len(recordings["labels"])
    samples = np.empty((count, 3, T, SENSOR, SENSOR, 1), np.bool_)
    for n in range(count):
        t, x, y, _ = _events(recordings, n)
        bounds = np.searchsorted(t, np.arange(4) * SACCADE)
        for saccade in range(3):
            inside = slice(bounds[saccade], bounds[saccade + 1])
            frame = frames_of_equal_count(bounds[saccade + 1] - bounds[saccade], T)
            samples[n, saccade] = event_frames(frame, y[inside], x[inside], 0, samples.shape[2:])
    if reverse:
        samples = np.concatenate([samples, samples[:, :, ::-1]], axis=1)
    classes = samples.shape[1]
    labels = np.tile(np.arange(classes, dtype=np.uint8), count)
    return Data(samples.reshape(-1, *samples.shape[2:]), labels, groups=np.repeat(np.arange(count), classes))


def reversals(settings: Settings) -> Data:
    """The saccades, forward and backward."""
    return saccades_of(load_recordings(), settings, reverse=True)


def shuffled(data: Data, seed: int = 0) -> Data:
    """Put the frames of every sample into a random order of its own."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(data.samples.shape[1]), (len(data.samples), 1)), axis=1)
    samples = np.take_along_axis(data.samples, order[:, :, None, None, None], axis=1)
    return Data(samples, data.labels, data.training, data.groups)


def dots(size: int) -> Callable[[Settings], Data]:
    """Make the loader of moving random dots; the label is the direction."""

    def load(settings: Settings) -> Data:
        spikes, labels = moving_dots(settings.training + settings.test, size, settings.time_steps)
        return Data(spikes, labels, settings.training)

    return load


COLLAPSED = ("exact", "collapse2", "collapse4", "collapse8", "collapse16", "preserve2", "preserve4")
CODED = (*COLLAPSED, "learned4", "learned16")
TIMED = (*COLLAPSED, "deep2", "deep4", "sum16", "shuffled")
FEWER = ("exact", "collapse2", "collapse4", "collapse16", "preserve2", "preserve4", "deep2", "deep4")
IMAGES = Settings(10_000, 10_000, 4)
DOTS = Settings(10_000, 2_000, 6)

TASKS = {
    task.name: task
    for task in (
        Task("mnist", "MNIST, rate-coded", 10, CODED, 3, IMAGES, images(MNIST), 8.0),
        Task("fashion", "Fashion-MNIST, rate-coded", 10, CODED, 3, IMAGES, images(FASHION_MNIST), 8.0),
        Task("nmnist", "N-MNIST, digit", 10, FEWER, 10, Settings(0, 0, 15, folds=10, batch=50, jitter=2), digits, 1.5),
        Task("saccade", "N-MNIST, saccade", 3, (*FEWER, "shuffled"), 5, Settings(0, 0, 3, folds=5), saccades, 3.0),
        Task("reversal", "N-MNIST, saccade and its reversal", 6, TIMED, 3, Settings(0, 0, 4, folds=5), reversals, 6.0),
        Task("dots", "moving dots of 1 pixel", 8, TIMED, 3, DOTS, dots(1), 2.5),
        Task("patches", "moving dots of 2 x 2 pixels", 8, TIMED, 3, DOTS, dots(2), 2.5),
    )
}


def _events(recordings: Recordings, n: int) -> tuple[NDArray[Any], ...]:
    """Times, columns, rows and polarities of recording n."""
    inside = slice(recordings["offsets"][n], recordings["offsets"][n + 1])
    t, x, y, p = (recordings[name][inside] for name in "txyp")
    return t, x, y, p
