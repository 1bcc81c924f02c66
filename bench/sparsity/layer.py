"""Whole layers by the operator on NumPy: as its rule chooses, by each of its ways, and the neurons alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

import tacops
from bench.sparsity.cases import NEURONS, RULE, Contender, Workload
from bench.timing.cases import BETA, THRESHOLD
from bench.timing.subject import UnsupportedError
from tacops.backends import Window
from tacops.backends._cpu import choose
from tacops.backends._cpu.neurons import compiled

__all__ = ["check_layer", "layer_call"]

NEURON: dict[str, Any] = {"beta": BETA, "threshold": THRESHOLD, "compact": True}


def layer_call(contender: Contender, x: Any, weight: Any, currents: Callable[[], Any]) -> Callable[[], Any]:
    """The function that is timed.

    Parameters
    ----------
    contender : Contender
        `RULE`, one of `WAYS`, or `NEURONS`.
    x, weight : array
        Spikes (T, B, H, W, C_in) as bool, and weights.
    currents : callable
        Makes the currents of all frames, for the neurons alone.

    Raises
    ------
    UnsupportedError
        If the layer has no such way here.
    """
    if contender == NEURONS:
        made = currents()
        return lambda: tacops.lif(made, **NEURON).spikes

    def run() -> Any:
        return tacops.tac_conv(x, weight, chunk_size=1, padding=weight.shape[1] // 2, **NEURON).spikes

    if contender == RULE:
        return run
    way: Any = contender.name.removeprefix("by ")
    if way != "dense" and compiled() is None:
        raise UnsupportedError("the operator has no other way without Numba")
    border = ((weight.shape[1] // 2,) * 2,) * 2
    shape = choose.shape_of(x.shape, weight.shape, Window((1, 1), border, (1, 1), 1))
    if way == "tables" and not choose.can_tabulate(shape):
        raise UnsupportedError("no table fits the layer")

    def forced() -> Any:
        with choose.force(way):
            return run()

    return forced


@lru_cache(maxsize=1)
def _fired(workload: Workload, currents: Callable[[], Any]) -> Any:
    return tacops.lif(currents(), **NEURON).spikes


def check_layer(out: Any, workload: Workload, contender: Contender, currents: Callable[[], Any]) -> Any:
    """Raise unless the spikes are those of the dense currents."""
    if not np.array_equal(np.asarray(out), _fired(workload, currents)):
        raise RuntimeError(f"{contender.label} on {workload.name}: not the dense layer's spikes")
    return np.ones(1, bool)
