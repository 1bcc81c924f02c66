"""Spikes from .npy and .npz files: no pickles, bounded sizes, one sentence if something is wrong."""

from __future__ import annotations

import random
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["bin_events", "read_spikes"]

LARGEST = 2**32
"""Bytes that the arrays of one file may take in memory."""
CELLS = 2**27
"""Numbers in the frames that are made of events."""

Arrays = Mapping[str, NDArray[Any]]


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
        A .npy file that holds frames; or a .npz file that holds frames, in its only array or the one called `name`, or
        events in arrays x, y, t and perhaps p, with `offsets` (B + 1,) where there are several recordings and
        `sensor_size` (width, height[, polarities]) where the largest coordinates don't tell.
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
        If the file is missing, damaged, too large, of another kind, or holds pickled objects.
    """
    arrays = _read(Path(path), name)
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if {"x", "y", "t"} <= arrays.keys():
        counts = bin_events(arrays, frames=frames, samples=samples, seed=seed)
        return counts if layout == "channels_last" else np.moveaxis(counts, -1, 2)
    held = ", ".join(sorted(arrays))
    raise _fail("hold one array, or events in arrays x, y and t, or be read with the name of an array", held)


def _read(path: Path, name: str | None) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            start = file.read(6)
        if start == b"\x93NUMPY":
            return {path.stem: _load_npy(path)}
        if start[:4] == b"PK\x03\x04":
            return _load_npz(path, name)
    except OSError as error:
        raise _fail("be readable", error.strerror or str(error)) from error
    except (EOFError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _fail("be a whole .npy or .npz file", str(error) or type(error).__name__) from error
    raise _fail("be a .npy or .npz file", "another kind of file" if start else "an empty file")


def _load_npy(path: Path) -> NDArray[Any]:
    """Mapped, not read: `advise` looks at a part of large arrays."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:  # NumPy's own words for object arrays, short files and odd headers
        raise _fail("be a whole .npy file without pickled objects", str(error)) from error
    return _plain("the array", array)


def _load_npz(path: Path, name: str | None) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    if not sizes or (name is not None and name not in sizes):
        raise _fail("hold an array" + ("" if name is None else f" called {name!r}"), ", ".join(sorted(sizes)) or "none")
    events = {"x", "y", "t", "p", "offsets", "sensor_size"}
    wanted = [name] if name is not None else [n for n in sizes if not {"x", "y", "t"} <= sizes.keys() or n in events]
    if (total := sum(sizes[n] for n in wanted)) > LARGEST:
        raise _fail(f"hold at most {LARGEST:,} bytes", f"{total:,}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {n: _plain(n, archive[n]) for n in wanted}
    except ValueError as error:
        raise _fail("be a whole .npz file without pickled objects", str(error)) from error


def _plain(name: str, array: Any) -> NDArray[Any]:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise _fail("hold bool, integer or floating arrays", f"{name} of {getattr(array, 'dtype', type(array))}")
    return array


def bin_events(arrays: Arrays, *, frames: int = 16, samples: int = 32, seed: int = 0) -> NDArray[np.float32]:
    """Event counts (T, B, height, width, polarities): every recording in `frames` parts of equal duration.

    Parameters
    ----------
    arrays : mapping of str to array
        x, y, t of shape (N,), times in any unit and order; perhaps p (N,), positive for ON; offsets; sensor_size.
    frames, samples, seed : int
        As for `read_spikes`.
    """
    x, y, t = (arrays[n] for n in ("x", "y", "t"))
    p = arrays.get("p")
    if x.ndim != 1 or len({a.shape for a in (x, y, t, x if p is None else p)}) != 1 or not x.size:
        shapes = ", ".join(f"{n} {arrays[n].shape}" for n in ("x", "y", "t", "p") if n in arrays)
        raise _fail("hold events in nonempty arrays of one length", shapes)
    if x.dtype.kind not in "iu" or y.dtype.kind not in "iu":
        raise _fail("hold integer pixel coordinates", f"x of {x.dtype}, y of {y.dtype}")
    width, height, sides = _sensor(arrays, x, y, p)
    cells = frames * height * width * sides
    if cells > CELLS:
        raise _fail(f"give at most {CELLS:,} numbers per recording", f"{frames} x {height} x {width} x {sides}")
    offsets = _offsets(arrays, x.size)
    count = len(offsets) - 1
    chosen = sorted(random.Random(seed).sample(range(count), min(count, samples, max(1, CELLS // cells))))
    out = np.zeros((len(chosen), frames, height, width, sides), np.float32)
    for place, i in enumerate(chosen):
        part = slice(int(offsets[i]), int(offsets[i + 1]))
        time = t[part].astype(np.float64)
        if not time.size:
            continue
        span = float(time.max() - time.min()) or 1.0
        step = np.minimum((time - time.min()) * (frames / span), frames - 1).astype(np.int64)
        side = 0 if p is None else (p[part] > 0).astype(np.int64)
        flat = ((step * height + y[part]) * width + x[part]) * sides + side
        out[place] = np.bincount(flat, minlength=cells).reshape(out.shape[1:])
    return np.moveaxis(out, 0, 1)


def _sensor(arrays: Arrays, x: NDArray[Any], y: NDArray[Any], p: NDArray[Any] | None) -> tuple[int, int, int]:
    """Width, height and polarities, which must hold all events."""
    sides = 1 if p is None else 2
    width, height = int(x.max()) + 1, int(y.max()) + 1
    if int(x.min()) < 0 or int(y.min()) < 0:
        raise _fail("hold pixel coordinates of at least 0", f"x {int(x.min())}, y {int(y.min())}")
    if "sensor_size" in arrays:
        given = [int(v) for v in arrays["sensor_size"].ravel()[:2]]
        if len(given) < 2 or given[0] < width or given[1] < height:
            raise _fail(f"have a sensor_size that holds its events ({width} x {height})", given)
        width, height = given
    return width, height, sides


def _offsets(arrays: Arrays, events: int) -> NDArray[Any]:
    offsets = arrays.get("offsets", np.array([0, events]))
    ordered = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) >= 2
    if not ordered or int(offsets[0]) != 0 or int(offsets[-1]) != events or (offsets[1:] < offsets[:-1]).any():
        raise _fail(f"have offsets that rise from 0 to its {events} events", f"shape {offsets.shape}")
    return offsets


def _fail(rule: str, got: object) -> ValueError:
    return ValueError(f"advise: FILE must {rule}; got {got}")
