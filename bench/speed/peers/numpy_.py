"""Plain NumPy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from bench.timing.cases import THRESHOLD, Case, Floats, Mode
from bench.timing.subject import Subject, UnsupportedError, Variant


class PlainNumPy(Subject):
    """im2col and one matrix product per frame, all of it in buffers made once per call."""

    def version(self) -> str:
        """NumPy's."""
        return f"NumPy {np.__version__}"

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """One way."""
        if mode.reproducible or mode.by:
            raise UnsupportedError("plain code has no such mode")
        x, w = case.arrays()
        drive = _Dense if not case.space else _DepthWise if case.groups > 1 else _Unfolded
        return [
            Variant("im2col" if case.groups == 1 else "shifts", lambda: layer(x, w, case, mode, drive), lambda out: out)
        ]


def layer(x: Floats, w: Floats, case: Case, mode: Mode, drive: Any) -> Floats:
    """Simulate, as plain as it gets."""
    if mode.chunk > 1:
        row = np.array([mode.weights], dtype=np.float32)
        x = np.matmul(row, x.reshape(len(x) // mode.chunk, mode.chunk, -1)).reshape(-1, *x.shape[1:])
    shape = (case.B, *case.space, case.c_out)
    out = np.empty((len(x) * mode.hold, *shape), np.float32)
    u, current, fired = np.zeros(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, bool)
    convolve = drive(w, case)
    for t, frame in enumerate(x):
        convolve(frame, current)
        for spikes in out[t * mode.hold : (t + 1) * mode.hold]:
            u *= np.float32(mode.decay)
            u += current
            np.greater_equal(u, THRESHOLD, out=fired)
            np.copyto(spikes, fired)
            u -= spikes
    return out


class _Padded:
    """A frame with zeros around it."""

    def __init__(self, w: Floats, case: Case) -> None:
        self.w, self.case, p = w, case, case.padding
        self.frame = np.zeros((case.B, *(size + 2 * p for size in case.space), case.c_in), np.float32)
        self.inside = self.frame[(slice(None), *(slice(p, p + size) for size in case.space))]

    def shifts(self) -> list[Floats]:
        """The frame as every element of the kernel sees it."""
        kernel, space = range(self.case.kernel), self.case.space
        places = product(kernel, repeat=len(space))
        return [
            self.frame[(slice(None), *(slice(k, k + n) for k, n in zip(place, space, strict=True)))] for place in places
        ]


class _Unfolded(_Padded):
    def __init__(self, w: Floats, case: Case) -> None:
        super().__init__(w, case)
        self.columns = np.empty((case.B, *case.space, case.depth // case.c_in, case.c_in), np.float32)
        self.matrix = w.reshape(case.c_out, -1).T
        windows = np.lib.stride_tricks.sliding_window_view(
            self.frame, (case.kernel,) * len(case.space), axis=tuple(range(1, 1 + len(case.space)))
        )
        self.windows = np.moveaxis(windows, 1 + len(case.space), -1)

    def __call__(self, frame: Floats, out: Floats) -> None:
        np.copyto(self.inside, frame)
        np.copyto(self.columns.reshape(self.windows.shape), self.windows)
        np.matmul(self.columns.reshape(self.case.rows, -1), self.matrix, out=out.reshape(self.case.rows, -1))


class _DepthWise(_Padded):
    def __init__(self, w: Floats, case: Case) -> None:
        super().__init__(w, case)
        self.views = self.shifts()
        self.taps = np.ascontiguousarray(w.reshape(case.c_out, -1).T)
        self.scratch = np.empty((case.B, *case.space, case.c_out), np.float32)

    def __call__(self, frame: Floats, out: Floats) -> None:
        np.copyto(self.inside, frame)
        out[...] = 0
        for view, tap in zip(self.views, self.taps, strict=True):
            out += np.multiply(view, tap, out=self.scratch)


class _Dense:
    def __init__(self, w: Floats, case: Case) -> None:
        self.matrix = w.T

    def __call__(self, frame: Floats, out: Floats) -> None:
        np.matmul(frame, self.matrix, out=out)
