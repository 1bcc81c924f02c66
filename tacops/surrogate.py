r"""Surrogate derivatives of the spike.

A spike is a step of the membrane, whose derivative is zero almost everywhere. Training replaces it, in the backward
pass only, by the derivative of a smooth function of :math:`x = v - \vartheta`, the membrane's excess over its
threshold. The forward pass stays exactly 0 and 1. Pass one of these as ``surrogate=`` to an operator, or any function
of your own that maps the array x to the derivative at x.

References
----------
E. O. Neftci, H. Mostafa, F. Zenke, "Surrogate Gradient Learning in Spiking Neural Networks", IEEE Signal Processing
Magazine 36(6), 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._backend.dispatch import backend_of
from ._backend.protocol import Array
from ._core.checks import is_dtype
from ._values import check_choice, check_number, fail, show

__all__ = ["Surrogate", "arctan", "fast_sigmoid", "sigmoid", "straight_through", "triangular"]

STEEPEST = 1e30
"""Steeper slopes are infinite in float32, and their product with 0 is NaN."""


@dataclass(frozen=True)
class Surrogate:
    """A named derivative with its slope; calling it evaluates the derivative.

    Hashable and comparable, so that compilers which cache by argument see two equal surrogates as one.

    Parameters
    ----------
    name : {"arctan", "fast_sigmoid", "sigmoid", "straight_through", "triangular"}
    slope : float
        Larger is narrower: the derivative is a function of ``slope * x``.
    """

    name: str
    slope: float

    def __post_init__(self) -> None:
        check_choice("Surrogate", "name", self.name, list(_DERIVATIVES))
        object.__setattr__(self, "slope", _slope("Surrogate", self.slope))

    def __call__(self, x: Array) -> Array:
        """Derivative of the spike at `x`, the membrane minus the threshold."""
        xp = backend_of(x, function=self.name, names=("x",)).namespace(x)
        if not is_dtype(xp, x.dtype, "real floating"):
            raise fail(self.name, "x", "of a real floating dtype", str(x.dtype), TypeError)
        return _DERIVATIVES[self.name](xp, x, self.slope)


def fast_sigmoid(slope: float = 25.0) -> Surrogate:
    r""":math:`1 / (1 + k |x|)^2` (SuperSpike).

    Examples
    --------
    >>> import numpy as np
    >>> fast_sigmoid(slope=1.0)(np.array([-1.0, 0.0, 1.0]))
    array([0.25, 1.  , 0.25])
    """
    return _make("fast_sigmoid", slope)


def arctan(slope: float = 2.0) -> Surrogate:
    r""":math:`\frac{k}{2} / (1 + (\frac{\pi}{2} k x)^2)`.

    Examples
    --------
    >>> import numpy as np
    >>> arctan(slope=2.0)(np.array([0.0]))
    array([1.])
    """
    return _make("arctan", slope)


def sigmoid(slope: float = 4.0) -> Surrogate:
    r""":math:`k \, \sigma(k x) (1 - \sigma(k x))` with the logistic function :math:`\sigma`.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(slope=4.0)(np.array([0.0]))
    array([1.])
    """
    return _make("sigmoid", slope)


def triangular(slope: float = 1.0) -> Surrogate:
    r""":math:`\max(0, 1 - k |x|)`.

    Examples
    --------
    >>> import numpy as np
    >>> triangular(slope=1.0)(np.array([-2.0, 0.0, 0.5]))
    array([0. , 1. , 0.5])
    """
    return _make("triangular", slope)


def straight_through(slope: float = 1.0) -> Surrogate:
    r""":math:`k` everywhere: the gradient passes as if there were no threshold.

    Examples
    --------
    >>> import numpy as np
    >>> straight_through()(np.array([-3.0, 5.0]))
    array([1., 1.])
    """
    return _make("straight_through", slope)


def _make(name: str, slope: float) -> Surrogate:
    return Surrogate(name, _slope(name, slope))


def _slope(function: str, value: object) -> float:
    slope = check_number(function, "slope", value)
    if not 0.0 < slope <= STEEPEST:
        raise fail(function, "slope", f"positive and at most {STEEPEST}", show(value))
    return slope


def _fast_sigmoid(xp: Any, x: Array, slope: float) -> Array:
    y = abs(x) * slope + 1.0
    return 1.0 / (y * y)


def _arctan(xp: Any, x: Array, slope: float) -> Array:
    y = x * (0.5 * math.pi * slope)
    return (0.5 * slope) / (y * y + 1.0)


def _sigmoid(xp: Any, x: Array, slope: float) -> Array:
    # of |x|, so that the exponential can't overflow; the derivative is even
    y = xp.exp(abs(x) * -slope)
    return slope * y / ((y + 1.0) * (y + 1.0))


def _triangular(xp: Any, x: Array, slope: float) -> Array:
    y = 1.0 - abs(x) * slope
    return xp.where(y > 0.0, y, 0.0)  # abs(x) may have overflowed


def _straight_through(xp: Any, x: Array, slope: float) -> Array:
    return xp.ones_like(x) * slope


_DERIVATIVES: dict[str, Callable[[Any, Array, float], Array]] = {
    "arctan": _arctan,
    "fast_sigmoid": _fast_sigmoid,
    "sigmoid": _sigmoid,
    "straight_through": _straight_through,
    "triangular": _triangular,
}
