r"""Spikes from numbers: rate, latency and delta codes, the same spikes on every backend.

The names and the codes are those of snnTorch's ``spikegen``; arrays are of any library, and spikes are bool, a quarter of the
memory of float32 and what the operators take. Nothing here depends on a library's exponentials or generators: `rate` draws
its numbers on the host, from a generator whose output NumPy guarantees never to change, and `latency` compares with limits
that are computed on the host. So an integer as seed means the same spikes on every backend and device.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from ._backend.dispatch import backend_of, undisturbed
from ._backend.protocol import Array
from ._core.checks import is_dtype
from ._values import as_int, check_count, check_flag, check_number, fail, shape_of, show

__all__ = ["delta", "latency", "rate"]

MOST_STEPS = 2**20
MOST = 2**30
"""Spikes of one call."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Some libraries take numbers that are not much smaller for 0."""


@undisturbed
def rate(x: Array, T: int, *, seed: int) -> Array:
    r"""Rate code: independent spikes, in every time step with probability x.

    .. math:: s_t = [r_t < x], \quad r_t \text{ uniform in } [0, 1)

    Parameters
    ----------
    x : array, shape (B, ...)
        Real floating; probabilities in [0, 1] (what lies outside counts as 0 or 1).
    T : int
        Time steps, at most 2^20.
    seed : int
        At least 0. The same seed gives the same spikes on every backend, and sample b of a batch gets the same random numbers
        however many samples there are. Inside `jax.jit` and `mlx.core.compile` the seed is a constant: every call of one
        program gives the same spikes. `torch.compile` can't follow the generator: encode outside.

    Returns
    -------
    array, bool, shape (T, B, ...)

    Raises
    ------
    TypeError, ValueError
        For other dtypes (divide images of 0 to 255 by 255), and more than 2^30 spikes.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops import encode
    >>> spikes = encode.rate(np.array([[0.0, 0.25, 1.0]]), 1000, seed=0)
    >>> spikes.shape, spikes.mean(axis=0).round(1)
    ((1000, 1, 3), array([[0. , 0.2, 1. ]]))
    """
    xp, T = _given("rate", x, T, 1)
    number = as_int(seed)
    if number is None or number < 0:
        raise fail("rate", "seed", "an int of at least 0", show(seed), TypeError if number is None else ValueError)
    from .backends._io.draws import uniform
    from .backends._io.npz import place

    x = _wide(xp, x)
    return xp.astype(place(uniform(number, T, shape_of(x)), x), x.dtype) < x


@undisturbed
def latency(x: Array, T: int, *, tau: float | None = None, threshold: float = 0.01) -> Array:
    r"""Latency code: one spike for each number, the sooner the larger it is.

    .. math:: t = (T - 1)(1 - x) \quad \text{or, with } \tau, \quad t = \tau \ln \frac{x}{x - \vartheta}

    rounded: the second is the time in which a current x charges an RC circuit of time constant tau to the threshold. What
    would fire after the last step never does. snnTorch has the first as ``latency(x, T, normalize=True, linear=True,
    clip=True)``, the second as ``latency(x, T, tau=tau, clip=True, bypass=True)``.

    Parameters
    ----------
    x : array, shape (B, ...)
        Real floating, in [0, 1].
    T : int
        Time steps, at most 2^20.
    tau : float, optional
        Time constant in steps; the code is linear unless given.
    threshold : float
        In [1e-30, 1). Smaller numbers never fire.

    Returns
    -------
    array, bool, shape (T, B, ...)

    Raises
    ------
    TypeError, ValueError
        For other dtypes and numbers, and more than 2^30 spikes.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops import encode
    >>> encode.latency(np.array([[1.0, 0.5, 0.0]]), 5).astype(int)[:, 0]
    array([[1, 0, 0],
           [0, 0, 0],
           [0, 1, 0],
           [0, 0, 0],
           [0, 0, 0]])
    """
    xp, T = _given("latency", x, T, 1)
    least = check_number("latency", "threshold", threshold)
    if not SMALLEST <= least < 1.0:
        raise fail("latency", "threshold", f"in [{SMALLEST}, 1)", show(threshold))
    constant = None if tau is None else check_number("latency", "tau", tau)
    if constant is not None and not 0.0 < constant < math.inf:
        raise fail("latency", "tau", "positive and finite", show(tau))
    from .backends._io.draws import singles
    from .backends._io.npz import place

    x = _wide(xp, x)
    x = xp.where(x >= _as(xp, x, least), x, -1.0)  # below every limit
    limits = [_limit(step, T, constant, least) for step in range(T)]

    def steps(numbers: list[float]) -> Array:
        return xp.astype(xp.reshape(place(singles(numbers), x), (T, *(1,) * x.ndim)), x.dtype)

    return xp.logical_and(x > steps(limits), x <= steps([math.inf, *limits[:-1]]))


@undisturbed
def delta(x: Array, *, threshold: float = 0.1, padding: bool = False, off_spike: bool = False) -> Array:
    r"""Delta code: a spike where a signal rises by the threshold or more from one step to the next.

    .. math:: s_t = [x_t - x_{t-1} \ge \vartheta], \text{ with } off\_spike \text{ minus } [x_t - x_{t-1} \le -\vartheta]

    Parameters
    ----------
    x : array, shape (T, ...)
        Real floating; time first.
    threshold : float
        From 1e-30 to 1e30.
    padding : bool
        What is before the first step: 0, or with True the first step itself, so that it is silent.
    off_spike : bool
        Spikes of -1 where the signal falls.

    Returns
    -------
    array, shape (T, ...)
        bool; with `off_spike` int8 of -1, 0 and 1.

    Raises
    ------
    TypeError, ValueError
        For other dtypes and numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from tacops import encode
    >>> x = np.array([1.0, 2.0, 0.0, 2.0, 2.5])
    >>> encode.delta(x, threshold=1.0, off_spike=True)
    array([ 1,  1, -1,  1,  0], dtype=int8)
    """
    xp, _ = _given("delta", x, 1, 1)
    least = check_number("delta", "threshold", threshold)
    if not SMALLEST <= least <= LARGEST:
        raise fail("delta", "threshold", f"from {SMALLEST} to {LARGEST}", show(threshold))
    check_flag("delta", "padding", padding)
    check_flag("delta", "off_spike", off_spike)
    x = _wide(xp, x)
    least = _as(xp, x, least)
    first = x[:1, ...]
    change = x - xp.concat([first if padding else xp.zeros_like(first), x[:-1, ...]], axis=0)
    rises = change >= least
    return xp.astype(rises, xp.int8) - xp.astype(change <= -least, xp.int8) if off_spike else rises


def _given(function: str, x: Array, T: int, least: int) -> tuple[Any, int]:
    """The namespace of an array of numbers, and a number of steps of which there is room for spikes."""
    if x is None:
        raise fail(function, "x", "an array", None, TypeError)
    xp = backend_of(x, function=function, names=("x",)).namespace(x)
    if not is_dtype(xp, x.dtype, "real floating"):
        rule = "of a real floating dtype (of images of 0 to 255, x / 255)"
        raise fail(function, "x", rule, str(x.dtype), TypeError)
    shape = shape_of(x)
    if len(shape) < least or 0 in shape:
        first = "T" if function == "delta" else "B"
        raise fail(function, "x", f"a nonempty array ({first}, ...)", f"shape {shape}")
    steps = check_count(function, "T", T)
    if steps > MOST_STEPS:
        raise fail(function, "T", f"at most {MOST_STEPS}", steps)
    if steps * math.prod(shape) > MOST:
        raise fail(function, "x", f"so small that there are at most {MOST} spikes", f"shape {shape} in {steps} steps")
    return xp, steps


def _wide(xp: Any, x: Array) -> Array:
    """Half precision as float32, which is exact."""
    return x if x.dtype in (xp.float32, xp.float64) else xp.astype(x, xp.float32)


def _limit(step: int, T: int, tau: float | None, threshold: float) -> float:
    """The number that would fire half a step after `step`; larger ones fire sooner."""
    late = step + 0.5
    if tau is None:
        return _single(max(1.0 - late / (T - 1), 0.0)) if T > 1 else 0.0
    return _single(threshold / -math.expm1(-late / tau))


def _as(xp: Any, x: Array, number: float) -> float:
    """Rounded to the dtype of x, so that a number written alike is equal."""
    return _single(number) if x.dtype == xp.float32 else number


def _single(number: float) -> float:
    """Rounded to float32, so that all libraries compare with the same number."""
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return math.inf
