"""Tier 4, the backend's own contract: each of its functions by itself, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._backend.dispatch import backend_of
from .._backend.protocol import Array, Backend, State, Window
from ._host import assert_same, native, np
from ._reference import convolve, draw

__all__ = ["CONTRACT"]


def identity(backend: Backend) -> None:
    """A name, a description, and arrays that are its own and nobody else's."""
    probe = backend.from_numpy(np.zeros(2, np.float32))
    if not (isinstance(backend.name, str) and backend.name):
        raise AssertionError(f"name must be a non-empty str; got {backend.name!r}")
    if backend_of(probe) is not backend:
        raise AssertionError(f"arrays of {backend.name} are dispatched to {backend_of(probe).name}")
    for other in (None, 1.0, [0.0], "text", object()):
        if backend.owns(other):
            raise AssertionError(f"owns({other!r}) must be false")
    missing = {"version", "device", "precision"} - set(backend.describe())
    if missing:
        raise AssertionError(f"describe() lacks {', '.join(sorted(missing))}")
    if backend.unavailable() is not None:
        raise AssertionError(f"unavailable() must be None where the checks run; got {backend.unavailable()!r}")


def host_copies(backend: Backend) -> None:
    """from_numpy and to_numpy keep values, shapes and types, and copy."""
    for dtype in ("float32", "bool", "uint8", "int32"):
        array = (np.arange(12).reshape(3, 4) % 5).astype(dtype)
        there = backend.from_numpy(array)
        want = array.copy()
        array[...] = 1
        back = backend.to_numpy(there)
        assert_same(f"to_numpy(from_numpy({dtype}))", back, want)
        back[...] = 0
        assert_same(f"{dtype} array after its host copy was changed", backend.to_numpy(there), want)
        for view in (want[::-1, ::-2], want.T, want[:0], want[0, 0, ...]):
            assert_same(f"a {dtype} view of strides {view.strides}", backend.to_numpy(backend.from_numpy(view)), view)


def convolution(backend: Backend) -> None:
    """`conv` itself, on integers: any window, with and without bias, exact or not, keeping the type."""
    windows = [
        (6, (9,), (3,), Window((2,), ((0, 3),), (2,), 1)),
        (6, (5, 6), (3, 2), Window((1, 2), ((1, 1), (0, 1)), (1, 1), 2)),
        (4, (5, 6), (3, 2), Window((1, 1), ((0, 0), (1, 1)), (1, 1), 4)),
        (6, (5, 6), (1, 1), Window((2, 2), ((1, 1), (1, 1)), (1, 1), 1)),
        (6, (4, 3, 4), (2, 2, 2), Window((1, 1, 1), ((0, 0), (1, 0), (0, 0)), (2, 1, 1), 1)),
        (6, (), (), Window((), (), (), 1)),
    ]
    for filters, space, kernel, window in windows:
        x = np.round(draw("conv-x", (3, *space, 4), 2.0))
        weight = np.round(draw("conv-w", (filters, *kernel, 4 // window.groups), 2.0))
        bias = np.arange(1, filters + 1, dtype=np.float32)
        want = convolve(x.astype(np.float64), weight.astype(np.float64), window)
        for exact in (False, True):
            for added in (None, bias):
                there = None if added is None else native(backend, added)
                got = backend.conv(native(backend, x), native(backend, weight), there, window, exact=exact)
                expected = want if added is None else want + bias
                assert_same(f"conv, {window}, exact={exact}", backend.to_numpy(got), expected.astype(np.float32))


def weighted_sum(backend: Backend) -> None:
    """Numbers and arrays as weights, bool, integers and floats as frames."""
    x = np.abs(np.round(draw("sum", (2, 3, 4, 5), 3.0)))
    weights = [0.5, 1.0, -2.0]
    given: list[Any] = [weights, [native(backend, np.array(w, np.float32)) for w in weights]]
    given.append([native(backend, np.full(5, w, np.float32)) for w in weights])
    dtype = native(backend, np.zeros(1, np.float32)).dtype
    for kind in ("float32", "uint8", "bool"):
        frames = x.astype(kind)
        want = sum(w * frames[:, k].astype(np.float32) for k, w in enumerate(weights)).astype(np.float32)
        for each in given:
            got = backend.to_numpy(backend.weighted_sum(native(backend, frames), each, dtype))
            assert_same(f"weighted_sum of {kind}", got, want)


def round_through(backend: Backend) -> None:
    """Ties go to the even integer."""
    x = np.array([-2.5, -1.5, -0.5, -0.25, 0.5, 1.5, 2.5, 8388607.5, 16777215.0], np.float32)
    assert_same("round_through", backend.to_numpy(backend.round_through(native(backend, x))), np.round(x))


def unstack(backend: Backend) -> None:
    """Cut along the first axis, nothing lost."""
    x = draw("unstack", (3, 4, 5), 1.0)
    parts = backend.unstack(native(backend, x))
    assert_same("unstack", np.stack([backend.to_numpy(part) for part in parts]), x)


def remat(backend: Backend) -> None:
    """Part after part from the state of the one before, from rest or not: what `run` returns by itself."""
    parts, factor = np.round(draw("remat", (3, 2, 4, 5), 9.0)), np.full(5, 2, np.float32)
    xp = backend.namespace(native(backend, parts))

    def run(state: State | None, frames: Array, factor: Array) -> tuple[Array, State]:
        drive = frames * factor
        total = xp.sum(drive, axis=0)
        return drive, (total, total) if state is None else (total - state[0], total + state[1])

    start = np.ones((4, 5), np.float32)
    for given in (None, (native(backend, start), native(backend, start))):
        first, second = (start, start) if given else (0.0 * start, 0.0 * start)
        for part in parts:
            total = np.sum(2 * part, axis=0)
            first, second = total - first, total + second
        fired, last = backend.remat(run, native(backend, parts), given, [native(backend, factor)])
        assert_same("remat, spikes", backend.to_numpy(fired), 2 * parts.reshape(6, 4, 5))
        for got, want in zip(last, (first, second), strict=True):
            assert_same("remat, state", backend.to_numpy(got), want)


CONTRACT: tuple[Callable[[Backend], None], ...] = (
    identity,
    host_copies,
    convolution,
    weighted_sum,
    round_through,
    unstack,
    remat,
)
