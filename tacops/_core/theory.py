"""What theory says about aggregation."""

from __future__ import annotations

import math

from .._values import check_number, fail

__all__ = ["membrane_error_bound"]


def membrane_error_bound(rate: float, *, beta: float = 0.9, threshold: float = 1.0) -> float:
    r"""A-priori bound of the membrane error that collapsing time causes, on average over neurons.

    A collapsed layer integrates the same drive as the plain simulation, but resets at chunk boundaries only. With
    subtract reset and spikes at rate :math:`\rho`, the missing and the late resets, each worth one threshold and
    forgotten with :math:`\beta`, add up to at most

    .. math:: |u_{collapse} - u_{exact}| \le \rho \, \vartheta \, \frac{\beta}{1 - \beta}

    in the mean over neurons of that rate. A single neuron can exceed it while its spikes come in bursts; no neuron
    exceeds the bound for ``rate=1``.

    Parameters
    ----------
    rate : float
        Firing rate of the neurons in the plain simulation, spikes per step, in [0, 1].
    beta : float
        Decay per step, in [0, 1); at 1 nothing is ever forgotten and there is no bound.
    threshold : float
        Positive.

    Returns
    -------
    float
        In units of the membrane.

    Raises
    ------
    TypeError, ValueError
        For arguments outside the rules above.

    References
    ----------
    Temporal Aggregated Convolution, arXiv:2603.13810.

    Examples
    --------
    >>> import tacops
    >>> tacops.membrane_error_bound(0.25, beta=0.5)
    0.25
    """
    function = "membrane_error_bound"
    rate = check_number(function, "rate", rate)
    beta = check_number(function, "beta", beta)
    threshold = check_number(function, "threshold", threshold)
    if not 0.0 <= rate <= 1.0:
        raise fail(function, "rate", "in [0, 1]", rate)
    if not 0.0 <= beta < 1.0:
        raise fail(function, "beta", "in [0, 1)", beta)
    if not 0.0 < threshold < math.inf:
        raise fail(function, "threshold", "positive and finite", threshold)
    return rate * threshold * beta / (1.0 - beta)
