"""What a user switches on by an environment variable, because no measurement has said that it pays."""

from __future__ import annotations

import os

__all__ = ["TENSOR_CORES", "wants_tensor_cores"]

TENSOR_CORES = "TACOPS_TENSOR_CORES"
"""1: on NVIDIA's GPUs, at inference, the default path multiplies bool spikes by three bfloat16 parts of each weight."""


def wants_tensor_cores() -> bool:
    """Whether that is on; read whenever a layer is run, or compiled."""
    return os.environ.get(TENSOR_CORES) == "1"
