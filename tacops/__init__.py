"""Spiking-neural-network operators that run on any array type and fire the same spikes everywhere.

A layer of a spiking neural network is a convolution followed by leaky integrate-and-fire neurons, run for T time steps.
Temporal Aggregated Convolution (TAC, arXiv:2603.13810) sums K frames before it convolves once. `tac_conv` does so for
arrays of NumPy, JAX, MLX, PyTorch, CuPy and any other library of the Python Array API standard.
"""

from pathlib import Path as _Path

if not (_Path(__file__).parent / "backends").is_dir():  # a checkout on a system without symbolic links
    __path__.append(str(_Path(__file__).resolve().parents[1]))

from . import encode, plot, readout, surrogate
from ._advise.advice import Advice
from ._advise.advise import advise
from ._core.aggregation import aggregate
from ._core.grid import Grid
from ._core.pool import avg_pool, flatten, max_pool, sum_pool
from ._core.theory import membrane_error_bound
from ._core.train import SpikeTrain, TracedSpikeTrain
from ._currents import conv
from ._events import events_to_frames
from ._layers.operations import LayerOperations, Operations
from ._layers.stream import Stream
from ._layers.synops import synops
from ._layers.times import LayerTime, ModeTimes, mode_times
from ._operators import conv_lif, lif, tac_conv, tac_linear

__all__ = [
    "Advice",
    "Grid",
    "LayerOperations",
    "LayerTime",
    "ModeTimes",
    "Operations",
    "SpikeTrain",
    "Stream",
    "TracedSpikeTrain",
    "advise",
    "aggregate",
    "avg_pool",
    "conv",
    "conv_lif",
    "encode",
    "events_to_frames",
    "flatten",
    "lif",
    "max_pool",
    "membrane_error_bound",
    "mode_times",
    "plot",
    "readout",
    "sum_pool",
    "surrogate",
    "synops",
    "tac_conv",
    "tac_linear",
]

__version__ = "0.1.0"
