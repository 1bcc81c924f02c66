"""Events of an event camera to frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._values import check_choice

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["events_to_frames"]


def events_to_frames(
    events: NDArray[Any],
    *,
    sensor_size: Sequence[int] | None = None,
    time_window: float | None = None,
    event_count: int | None = None,
    n_time_bins: int | None = None,
    layout: str = "channels_last",
) -> NDArray[np.float32]:
    r"""Frames of event counts of one recording; options are called as in Tonic's ``ToFrame``.

    .. math:: f_{t,y,x,p} = \#\{\text{events of polarity } p \text{ at } (x, y) \text{ in the frame } t\}

    Parameters
    ----------
    events : NumPy structured array, shape (N,)
        With the integer fields x and y, the times t (of any unit and order), and perhaps the polarities p, which are 0 or -1
        and 1 (or bool); fields are found by their names.
    sensor_size : (width, height) or (width, height, polarities), optional
        As of Tonic's datasets; without it, the largest coordinates tell. Polarities, if given, are those of the result.
    time_window : float, optional
        Frames of this duration, in the unit of t, from the first event on. The last one may not be full; Tonic leaves it out
        unless told ``include_incomplete=True``.
    event_count : int, optional
        Frames of so many successive events, the last one of the rest.
    n_time_bins : int, optional
        T frames of equal duration. Exactly one of these three is given.
    layout : {"channels_last", "channels_first"}

    Returns
    -------
    NumPy array, float32, shape (T, H, W, P), or (T, P, H, W) with ``layout="channels_first"``
        P is 2, OFF and ON, or 1 without polarities. For a batch of recordings, ``numpy.stack(frames, axis=1)``.

    Raises
    ------
    TypeError, ValueError
        For what are no events, and frames of more than 2^26 numbers for each polarity.

    Examples
    --------
    >>> import numpy as np
    >>> import tacops
    >>> rows = [(0, 1, 0, 1), (5, 1, 0, 1), (10, 0, 0, 0), (25, 2, 1, 1)]
    >>> events = np.array(rows, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])
    >>> frames = tacops.events_to_frames(events, time_window=10)
    >>> frames.shape, frames.sum(axis=(1, 2, 3))
    ((3, 2, 3, 2), array([2., 1., 1.], dtype=float32))
    """
    check_choice("events_to_frames", "layout", layout, ("channels_last", "channels_first"))
    from .backends._io import frames

    counts = frames.events_to_frames(events, sensor_size, time_window, event_count, n_time_bins)
    return counts if layout == "channels_last" else counts.transpose(0, 3, 1, 2)
