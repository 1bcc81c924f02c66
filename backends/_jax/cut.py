"""Arrays that a mesh cuts, or of unknown size: what JAX can't compute on pieces, or without T, is refused in one sentence."""

from __future__ import annotations

from typing import Any

import jax
from jax import sharding

from tacops._backend.steps import Synapses
from tacops._values import fail

__all__ = ["check_cut", "check_time", "on_mesh"]


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


def check_time(function: str, frames: Any, chunk_size: int, plain: bool) -> None:
    """A number of frames, or of `jax.export` a symbol for it that is a whole number of chunks.

    A shorter last chunk is another part of the program, and so are samples of their own length and the parts of `remat`:
    whether, and how many, there are must be known when it is written.
    """
    if isinstance(frames, int):
        return
    if not plain:
        raise fail(function, "T", "a number, not a symbol, with lengths or remat", str(frames))
    if frames % chunk_size != 0:
        rule = f"a number, or a symbol for whole chunks such as {chunk_size}*n (layers of K1 and K2 need K1*K2*n)"
        raise fail(function, "T", rule, str(frames))


def on_mesh(x: Any) -> bool:
    """Whether an array, or tracer, lies on several devices of a mesh whose pieces XLA arranges."""
    typeof = getattr(jax, "typeof", None)
    mesh = getattr(getattr(typeof(x), "sharding", None), "mesh", None) if typeof else None
    if mesh is None or mesh.empty or mesh.size == 1:
        return False
    return any(kind == sharding.AxisType.Auto for kind in mesh.axis_types or ())
