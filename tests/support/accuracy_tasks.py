"""A task that trains in a second."""

from __future__ import annotations

import numpy as np

from bench.accuracy.tasks import Data, Settings, Task


def quadrants(settings: Settings) -> Data:
    """Bright quadrants of small images: four classes that a network learns in seconds."""
    rng = np.random.default_rng(0)
    labels = np.arange(settings.training + settings.test) % 4
    images = rng.integers(0, 60, (len(labels), 8, 8))
    for n, label in enumerate(labels):
        images[n, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 150
    return Data(images.astype(np.uint8), labels.astype(np.uint8), settings.training)


TINY = Task(
    "tiny", "Tiny", 4, ("exact", "collapse4", "preserve4"), 2, Settings(80, 40, 6, batch=20, rate=2e-2), quadrants, 1.0
)
