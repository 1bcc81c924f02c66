"""Arrays that an explicit mesh cuts: what JAX can't compute on pieces is refused in one sentence."""

from __future__ import annotations

from typing import Any

import jax
from jax import sharding

from tacops._backend.steps import Synapses
from tacops._values import fail

__all__ = ["check_cut"]


def check_cut(frames: Any, conv: Synapses) -> None:
    """Frames (T, B, *S, C) that are whole in time and channels, and in space where kernels reach beyond a pixel's own place.

    Axes of automatic meshes are XLA's to arrange, and not seen here.
    """
    typeof = getattr(jax, "typeof", None)
    spec = getattr(getattr(typeof(frames), "sharding", None), "spec", None) if typeof else None
    if spec is None or all(name is None or name is sharding.PartitionSpec.UNCONSTRAINED for name in spec):
        return
    reach = (*conv.weight.shape[1:-1], *conv.window.stride, *(1 + low + high for low, high in conv.window.padding))
    names = [*spec, *(None for _ in range(frames.ndim - len(spec)))]
    for kind, cut in (
        ("time", names[:1]),
        ("input channels", names[-1:]),
        ("space", names[2:-1] if max(reach, default=1) > 1 else []),
    ):
        if found := [name for name in cut if name is not None]:
            rule = "cut along the batch alone by axes of an explicit mesh (for space, make the mesh with AxisType.Auto)"
            raise fail("jax", "spikes", rule, f"{kind} cut along {found[0]!r}")
