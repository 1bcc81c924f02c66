"""What a backend must be.

A backend adapts one array library. It knows arrays and convolutions, never neurons: the core hands it two pure
functions, `conv(frames) -> currents` (with `conv.aggregate`) and `step(state, current) -> (state, spikes)`, and it may
choose in which order to apply them, nothing else (``steps.py`` says what they are).

To add a library, subclass `Backend` in one file, put an instance in it and name that instance in the entry-point group
``tacops.backends`` (or call `tacops.backends.register_backend`). **Required:**

* `name`, and `owns(array)`: true for every array of the library, tracers included;
* `namespace(array)`: the Array API namespace of those arrays. The core uses it for a short list of functions
  (``tests/project/test_public_api.py`` holds the list) and for nothing else;
* `conv`: a zero- to three-dimensional convolution, channels last, in full precision;
* `from_numpy`, `to_numpy`: copies through host memory, for tests and benchmarks.

**Optional**, with defaults below that are right for any library: `weighted_sum`, `on_grid`, `scan`, `schedule`, `reads_frames`, `rescale`, `round_rows`, `lends` (speed);
`stop_gradient` (override it, and `gradient`, and set `differentiable` for surrogate gradients); `round_through`,
`tangent`, `finite`, `unstack`, `constant` (gradients); `checkpoint`, `remat` (memory); `compile`, `compiles_fast`; `unavailable`,
`unfit`, `is_eager`, `describe`, `read`, `synchronize`, `lazy`; `blockwise`, `run_blocks`, `beside` (arrays of arrays); `crossings`, `ambient` (the conformance checks); `check_time`, `undisturbed`, `blank`, `number`
(settings and types of a library's own); `powers`, `stamp` (launches); `devices`, `on`, `device`, `device_of`, `device_name` (where there are several
devices). Rules for all of them: pure functions, inputs never mutated, no state that two threads can trip over. ``python -m tacops check NAME`` says whether an adapter is right.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

from .devices import Devices
from .exact import Exact
from .steps import State, Step, Synapses
from .whole import Whole
from .window import Array, Window

__all__ = ["Array", "Backend", "BackendUnavailable", "State", "Step", "Synapses", "Window", "sum_dtype"]


class BackendUnavailable(RuntimeError):  # noqa: N818 (it is a state of the machine, not a mistake in a call)
    """The library behind a backend is missing or cannot run here; the message says what would mend it."""


class Backend(Devices, Exact):
    """Base class of all adapters; this module's docstring is the contract."""

    differentiable: ClassVar[bool] = False
    """Whether surrogate gradients flow, that is whether the library differentiates and `stop_gradient` is overridden."""
    compiles_fast: ClassVar[bool] = False
    """Whether users of the library wrap hot functions in `compile` as a matter of course."""
    lazy: ClassVar[bool] = False
    """Whether nothing is computed until a result is asked for: what a stream keeps is then computed by `synchronize`."""
    blockwise: ClassVar[bool] = False
    """Whether arrays are blocks of another library's, so that whole calls go to `run_blocks`."""

    @abstractmethod
    def owns(self, array: object) -> bool:
        """Whether `array` is one of this library's arrays."""

    @abstractmethod
    def namespace(self, array: Array) -> Any:
        """The Array API namespace of `array`."""

    @abstractmethod
    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window, *, exact: bool) -> Array:
        """Convolve, channels last (cross-correlation, as everywhere in deep learning).

        Parameters
        ----------
        x : array, shape (N, *S, C_in)
            Zero to three spatial dimensions; `weight`'s dtype.
        weight : array, shape (C_out, *kernel, C_in // groups)
            With no spatial dimension this is the matrix product ``x @ weight.T``.
        bias : array or None, shape (C_out,)
        window : Window
        exact : bool
            All numbers are integers below 2^24 in every partial sum: use plain sums of products in any order, but
            neither Winograd nor Fourier transforms, whose intermediate results are not integers.

        Returns
        -------
        array, shape (N, *window.output_shape(S, kernel), C_out)
        """

    @abstractmethod
    def to_numpy(self, array: Array) -> Any:
        """Copy an array to host memory; bfloat16 becomes float32."""

    def unfit(self, array: Array) -> str | None:
        """What keeps one of this library's arrays from being used, as a phrase ("a masked array"); None if nothing does."""
        return None

    def unavailable(self) -> str | None:
        """One sentence why the library, though it can be imported, cannot run here; None if it can."""
        return None

    def check_time(self, function: str, frames: Any, chunk_size: int, plain: bool) -> None:
        """Refuse a number of frames that is not known, where a program must be written for it; `plain` without lengths and remat."""

    def undisturbed(self) -> AbstractContextManager[Any] | None:
        """A context in which no setting of the library, of this thread, changes what a call returns or makes it raise.

        Every operator runs in it. None: there is no such setting.
        """
        return None

    def is_eager(self, *arrays: Array | None) -> bool:
        """Whether shapes and dtypes of `arrays` are plain values, and no trace is made of this call: so it can be known again."""
        return False

    def blank(self, frames: Array) -> Array:
        """Zeros as `frames[0, 0, ...]`, one sample of one frame: of its dtype, and where it lies."""
        return self.namespace(frames).zeros_like(frames[0, 0, ...])

    def number(self, value: Array, dtype: Any) -> Array:
        """An array as a parameter of a layer that computes in `dtype`: itself, and cast only where it stands for a plain number."""
        return value

    def weighted_sum(self, x: Array, weights: Sequence[float | Array], dtype: Any) -> Array:
        """``sum_k weights[k] * x[:, k]`` in floating dtype `dtype`; of half precision, summed in float32 and rounded once.

        Parameters
        ----------
        x : array, shape (n, K, ...)
            bool, integer or floating.
        weights : sequence of K floats, or of K arrays that broadcast against ``x[:, k]``
            Arrays have the dtype of the sums: float32 for half precision.
        dtype : dtype
            Of the result.

        Returns
        -------
        array, shape (n, ...)
        """
        xp = self.namespace(x)
        wide = sum_dtype(xp, dtype)
        total = _times(xp.astype(x[:, 0, ...], wide), weights[0])
        for k in range(1, len(weights)):
            total = total + _times(xp.astype(x[:, k, ...], wide), weights[k])
        return total if wide == dtype else xp.astype(total, dtype)

    def scan(self, step: Step, currents: Array, state: State | None, repeat: int) -> tuple[Array, State]:
        """Apply `step` `repeat` times to each current in turn.

        Parameters
        ----------
        step : callable
            ``step(state, current) -> (state, spikes)``. A loop that repeats its arithmetic takes ``step.recipe``, whose state
            is the membrane alone, and leaves steps without one to this default.
        currents : array, shape (n, B, ...)
        state : tuple of arrays, shape (B, ...), or None
            None is a state of zeros, on which the first decay can be skipped.
        repeat : int

        Returns
        -------
        spikes : array, shape (n * repeat, B, ...)
        state : tuple of arrays, shape (B, ...)
        """
        spikes = []
        for current in self.unstack(currents):
            for _ in range(repeat):
                state, fired = step(state, current)
                spikes.append(fired)
        return self.namespace(currents).stack(spikes, axis=0), state or ()

    def schedule(
        self, conv: Synapses, step: Step, frames: Array, state: State | None, repeat: int
    ) -> tuple[Array, State]:
        """Aggregate chunks, convolve them and step the neurons, in whichever order is fastest.

        The default aggregates all chunks, folds them into the batch, convolves once and scans.

        Parameters
        ----------
        conv : callable
            ``conv.aggregate(frames)``, (n * K, B, *S, C) to (n, B, ...), sums every chunk of ``K = conv.chunk_size``
            frames, and ``conv(aggregated) -> currents`` takes any number of those at once, (N, ...) to
            (N, *S_out, C_out).
        step, state, repeat
            As in `scan`.
        frames : array, shape (n * K, B, *S, C)
            bool, integer or floating.

        Returns
        -------
        spikes, state
            As in `scan`; or the state as a `Potential`.
        """
        xp, frames = self.namespace(frames), conv.aggregate(frames)
        n, batch = frames.shape[:2]
        currents = conv(xp.reshape(frames, (n * batch, *frames.shape[2:])))
        return self.scan(step, xp.reshape(currents, (n, batch, *currents.shape[1:])), state, repeat)

    def run_blocks(self, whole: Whole, frames: Array, state: State | None, lengths: Any) -> Any:
        """A whole call, of which ``whole.run`` on arrays of the blocks' library is to be made; asked where `blockwise`.

        Parameters
        ----------
        whole : Whole
        frames : array
            Time first.
        state : tuple of arrays or None
        lengths : array of shape (B,), tuple of B int, or None

        Returns
        -------
        SpikeTrain or array
        """
        return whole.result(frames, state, lengths)

    def beside(self, array: Any, like: Array) -> Array:
        """Copy a NumPy array to the library of the blocks of `like`; asked where `blockwise`."""
        return self.from_numpy(array)

    def stop_gradient(self, x: Array) -> Array:
        """`x` as a constant: the identity with derivative zero."""
        return x

    def constant(self, spikes: Array, state: State, function: str) -> Array:
        """Spikes of a call without a surrogate, which have no gradient; override it where a backward pass through them can raise.

        The `state` depends on all that the spikes would depend on; an error names the `function` that was called.
        """
        return spikes

    def finite(self, x: Array) -> Array:
        """`x`, and 0 without a derivative where it is infinite or NaN."""
        return self.namespace(x).where(abs(x) < float("inf"), x, 0.0)

    def tangent(self, x: Array) -> Array:
        """Zeros, with the derivative of `x` where `x` is finite.

        Added to a constant, it gives that constant the derivative of `x` (straight-through). No compiler can make ``x - x``
        anything but 0; it would be NaN for an infinite `x`.
        """
        x = self.finite(x)
        return x - self.stop_gradient(x)

    def round_through(self, x: Array) -> Array:
        """`x` rounded to integers, ties to even, with the derivative of the identity (straight-through)."""
        rounded = self.namespace(x).round(x)
        if not self.differentiable:
            return rounded
        return self.stop_gradient(rounded) + self.tangent(x)

    def unstack(self, x: Array) -> Sequence[Array]:
        """Cut along the first axis. Override it where the gradient of an index is a whole array of zeros but for a place."""
        return [x[n, ...] for n in range(x.shape[0])]

    def checkpoint(self, function: Callable[..., tuple[Array, ...]], arrays: Sequence[Array]) -> tuple[Array, ...]:
        """``function(*arrays)``, of which a backward pass keeps `arrays` alone and computes the rest again.

        Override it in a library that differentiates; the default keeps everything.
        """
        return function(*arrays)

    def remat(
        self, run: Callable[..., tuple[Array, State]], parts: Array, state: State | None, arrays: Sequence[Array]
    ) -> tuple[Array, State]:
        """Run part after part, each as a `checkpoint`.

        Parameters
        ----------
        run : callable
            ``run(state, frames, *arrays) -> (spikes, state)``.
        parts : array, shape (parts, n, ...)
            The frames of each part.
        state : tuple of arrays or None
        arrays : sequence of array
            What `run` may be differentiated by beside frames and state.

        Returns
        -------
        spikes, state
            Those of all parts, time first, and the last one's.
        """
        fired = []
        for frames in self.unstack(parts):
            given = state or ()
            part = partial(_flat, run, len(given))
            spikes, *after = self.checkpoint(part, [*given, frames, *arrays])
            fired.append(spikes)
            state = tuple(after)
        return fired[0] if len(fired) == 1 else self.namespace(parts).concat(fired, axis=0), state or ()

    def gradient(self, function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
        """Gradients of a scalar function with respect to each of its arrays, in the library's own way.

        The operators need none of this; the conformance checks do, on backends that are `differentiable`.
        """
        raise NotImplementedError

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The library's just-in-time compiled version of `function`, or `function` itself."""
        return function

    def synchronize(self, *arrays: Array) -> None:
        """Wait until `arrays` are computed."""

    def crossings(self) -> Sequence[tuple[tuple[int, ...], tuple[int, ...], int]]:
        """Layers just below and above each size at which this adapter changes its way, for the conformance checks.

        Returns
        -------
        sequence of (spikes, weight, chunk_size)
            Shapes, channels last; stride 1, and one zero around the spatial axes.
        """
        return ()

    def ambient(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Settings of the library, by name, that a user may have changed, for the conformance checks.

        Under none of them may a result of reproducible mode differ.
        """
        return {}

    def read(self, array: Array) -> list[float] | None:
        """The values of a small array, or None where reading would disturb a trace or wait for a device."""
        return None


def _flat(run: Callable[..., tuple[Array, State]], count: int, *given: Array) -> tuple[Array, ...]:
    """``run(state, *others) -> (spikes, *state)`` of a state that is the first `count` of the given arrays."""
    spikes, state = run(given[:count] or None, *given[count:])
    return (spikes, *state)


def _times(x: Array, weight: float | Array) -> Array:
    return x if isinstance(weight, float) and weight == 1.0 else x * weight


def sum_dtype(xp: Any, dtype: Any) -> Any:
    """The dtype in which numbers of a floating dtype are summed: float32 for half precision."""
    return dtype if dtype in (xp.float32, xp.float64) else xp.float32
