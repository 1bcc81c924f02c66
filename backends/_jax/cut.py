"""Arrays that a mesh cuts, or of unknown size: what JAX can't compute on pieces, or without T, is refused in one sentence."""

from __future__ import annotations

from contextlib import contextmanager
from inspect import signature
from math import prod
from typing import TYPE_CHECKING, Any

import jax
from jax import sharding

from tacops._backend.steps import Synapses
from tacops._values import fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["arranged", "blank", "check_cut", "check_time", "explained", "on_mesh"]

# newer than the oldest JAX that is supported, and of another form at first
_auto_axes: Any = getattr(sharding, "auto_axes", None)
if _auto_axes is not None and "out_sharding" not in signature(_auto_axes).parameters:
    _auto_axes = None


def check_cut(frames: Any, conv: Synapses) -> None:
    """Frames (T, B, *S, C) that are whole in time and channels, and where `arranged` can't help in space.

    Axes of automatic meshes are XLA's to arrange, and not seen here.
    """
    names = _names(frames)
    reach = (*conv.weight.shape[1:-1], *conv.window.stride, *(1 + low + high for low, high in conv.window.padding))
    whole = _auto_axes is None and max(reach, default=1) > 1
    for kind, cut in (
        ("time", names[:1]),
        ("input channels", names[-1:]),
        ("space", names[2:-1] if whole else []),
    ):
        if found := [name for name in cut if name is not None]:
            rule = "cut along batch and space alone by axes of an explicit mesh" + (
                " (for space, make the mesh with AxisType.Auto)" if kind == "space" else ""
            )
            raise fail("jax", "spikes", rule, f"{kind} cut along {found[0]!r}")


def arranged(run: Callable[..., Any], conv: Synapses, step: Any, frames: Any, state: Any) -> Any:
    """``run(conv, step, frames, state)``; where explicit axes cut space, XLA arranges it, and the results are cut alike.

    A result of a size that the devices don't divide is whole on all of them.
    """
    names = _names(frames)
    if _auto_axes is None or not any(names[2:-1]):
        return run(conv, step, frames, state)
    mesh: Any = jax.typeof(frames).sharding.mesh
    sizes = conv.window.output_shape(frames.shape[2:-1], conv.weight.shape[1:-1])
    space = [name if size % _devices(mesh, name) == 0 else None for size, name in zip(sizes, names[2:-1], strict=True)]
    alike = [names[1], *space, _names(conv.weight)[0]]
    leaves, tree = jax.tree.flatten((conv, step, frames, state))
    places = [n for n, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def call(*arrays: Any) -> Any:
        given = dict(zip(places, arrays, strict=True))
        return run(*jax.tree.unflatten(tree, [given.get(n, leaf) for n, leaf in enumerate(leaves)]))

    cut = [sharding.NamedSharding(mesh, sharding.PartitionSpec(*parts)) for parts in ((None, *alike), alike)]
    return _auto_axes(call, out_sharding=tuple(cut))(*(leaves[n] for n in places))


def blank(frames: Any) -> Any:
    """Zeros as `frames[0, 0, ...]`."""
    if _names(frames)[1] is None:
        return jax.numpy.zeros_like(frames[0, 0, ...])
    return jax.numpy.max(jax.numpy.zeros_like(frames[0, ...]), axis=0)


@contextmanager
def explained() -> Iterator[None]:
    """What JAX says of axes of an explicit mesh that it cannot follow becomes one sentence that says what to do."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "ShardingTypeError":  # which is in no public module
            raise
        rule = "cut by axes with AxisType.Auto for this call (explicit axes may cut the batch or space of layers, without lengths)"
        raise fail("jax", "arrays", rule, str(error)) from error


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


def on_mesh(x: Any) -> int:
    """On how many devices an array, or tracer, lies whose pieces XLA arranges; 0 if it does not."""
    typeof = getattr(jax, "typeof", None)
    mesh = getattr(getattr(typeof(x), "sharding", None), "mesh", None) if typeof else None
    if mesh is None or mesh.empty or mesh.size == 1:
        return 0
    return mesh.size if any(kind == sharding.AxisType.Auto for kind in mesh.axis_types or ()) else 0


def _names(x: Any) -> list[Any]:
    """By axis of an array: the explicit axes of a mesh that cut it, or None."""
    typeof = getattr(jax, "typeof", None)
    spec = getattr(getattr(typeof(x), "sharding", None), "spec", None) if typeof else None
    names = [None if name is sharding.PartitionSpec.UNCONSTRAINED else name for name in spec or ()]
    return [*names, *(None for _ in range(x.ndim - len(names)))]


def _devices(mesh: Any, name: Any) -> int:
    """On how many devices an axis is cut that has this name, or several."""
    return prod(mesh.shape[each] for each in (name if isinstance(name, tuple) else (name,)) if each is not None)
