"""Spikes from .npy and .npz files: no pickles, bounded sizes, one sentence if something is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacops._files.damage import DAMAGE, reason

from .events import EVENTS, Arrays, as_events
from .npy import map_npy, read_npz
from .recordings import BESIDE, EXTRAS, FileError, bin_recordings, refusal

__all__ = ["read_spikes"]


def read_spikes(
    path: str | Path,
    *,
    name: str | None = None,
    layout: str = "channels_last",
    frames: int = 16,
    samples: int = 32,
    seed: int = 0,
) -> NDArray[Any]:
    """Frames (T, B, ...) from a file of frames or of events.

    Parameters
    ----------
    path : path
        A .npy file or a .npz file. It holds frames, in its only array or the one called `name`; or events, either in a
        structured array with the fields x, y, t and perhaps p in any order, or in arrays of these names. Beside events,
        a .npz file may hold `offsets` (B + 1,) where there are several recordings, and `sensor_size` (width, height, ...)
        where the largest coordinates don't tell.
    name : str, optional
        Which array of a .npz file.
    layout : {"channels_last", "channels_first"}
        Of the frames made of events; other frames stay as they are.
    frames : int
        T for events: every recording is cut into so many frames of equal duration, of event counts.
    samples, seed : int
        Of more recordings, so many are chosen with this seed.

    Raises
    ------
    ValueError
        If the file is missing, damaged, too large, of another kind, or holds pickled objects. The message calls it FILE.
    """
    try:
        arrays = _read(Path(path), name)
        if len(arrays) == 1 and not (arrays.keys() >= EVENTS):
            return _plain(arrays)[next(iter(arrays))]
        counts = bin_recordings(_plain(arrays), frames=frames, samples=samples, seed=seed)
    except FileError as error:
        raise FileError(f"{error} ({path})") from error
    return counts if layout == "channels_last" else np.moveaxis(counts, -1, 2)


def _read(path: Path, name: str | None) -> Arrays:
    """The one array that is asked for, or the arrays of events."""
    try:
        with path.open("rb") as file:
            start = file.read(6)
        if start == b"\x93NUMPY":
            array = map_npy(path)
            return as_events(array) or {path.stem: array}
        if start[:4] == b"PK\x03\x04":
            return _read_npz(path, name)
    except FileError:
        raise
    except DAMAGE as error:
        raise refusal("be a whole .npy or .npz file without pickled objects", reason(error)) from error
    raise refusal("be a .npy or .npz file", "another kind of file" if start else "an empty file")


def _read_npz(path: Path, name: str | None) -> Arrays:
    def choose(sizes: Mapping[str, int]) -> list[str]:
        held = ", ".join(sorted(sizes)) or "none"
        if name is not None and name in sizes:
            return [name]
        if name is not None or not sizes:
            raise refusal("hold an array" + ("" if name is None else f" called {name!r}"), held)
        if sizes.keys() >= EVENTS:
            return [key for key in sizes if key in EVENTS | EXTRAS]
        alone = [key for key in sizes if len(sizes) == 1 or key not in BESIDE]
        if len(alone) != 1:
            rule = "hold one array, or events in arrays x, y and t, or be read with --array NAME"
            raise refusal(rule, held)
        return alone

    arrays = read_npz(path, choose)
    fields = as_events(next(iter(arrays.values()))) if len(arrays) == 1 else None
    if fields is None:
        return arrays
    return {**read_npz(path, lambda sizes: [key for key in sizes if key in BESIDE]), **fields}


def _plain(arrays: Arrays) -> Arrays:
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise refusal(
                "hold bool, integer or floating arrays, or events with the fields x, y, t", f"{name} of {array.dtype}"
            )
    return arrays
