"""All time steps of the neurons as one Metal kernel: which neurons it serves, and how MLX launches and differentiates it."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from tacops.backends._step import lif_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tacops._backend.protocol import Array
    from tacops._backend.steps import Recipe

__all__ = ["INPUTS", "OUTPUTS", "SWITCH", "body", "header", "lif", "missing", "serves"]

SWITCH = "TACOPS_METAL"
"""An environment variable: 0 leaves the neurons to MLX's own operations."""
INPUTS = ("currents", "start", "decay", "threshold", "poison", "sizes")
OUTPUTS = ("spikes", "membrane")
THREADS = 256
MOST = 2**32
"""Neurons, each a thread, that one launch numbers."""


def header() -> str:
    """What stands before the kernel: the step."""
    return f"#define REAL float\n{lif_step()}"


@cache
def body() -> str:
    """The kernel's body."""
    return resources.files(__package__).joinpath("lif.metal").read_text(encoding="utf-8")


@cache
def _kernel() -> Any:
    # MLX compiles in Metal's safe mode unless asked otherwise; the fast one would contract and reorder
    return mx.fast.metal_kernel(
        name="tacops_lif", input_names=list(INPUTS), output_names=list(OUTPUTS), source=body(), header=header()
    )


def missing() -> str | None:
    """Why the kernel is not used, or None."""
    if not _on_metal():
        return "no Metal"
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH}=0"
    return _failure()


def _on_metal() -> bool:
    return bool(mx.default_device().type == mx.DeviceType.gpu and mx.metal.is_available())


@cache
def _failure() -> str | None:
    """Why one neuron can't be stepped, tried once."""
    try:
        # in a thread of its own, where no transformation of the caller's sees it
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_try_out).result()
    except Exception as error:  # noqa: BLE001 (a compiler's message may come as anything)
        first = str(error).strip().partition("\n")[0]
        reason = f"the Metal kernel can't be used here: {type(error).__name__}: {first}"
        warnings.warn(f"tacops: neurons go by MLX's operations, which are slower. {reason}", stacklevel=2)
        return reason
    return None


def _try_out() -> None:
    """A neuron that fires, and keeps what is above the threshold."""
    current, none, one = mx.full((1, 1, 1), 1.5), mx.zeros((1,)), mx.ones((1,))
    out = launch(current, none, none, one, none, resting=True, reset=1, rounded=False, compact=False, repeat=1)
    if [x.item() for x in out] != [1.0, 0.5]:
        raise RuntimeError("it steps one neuron wrong")


def serves(step: Recipe | None, currents: Array, start: Array | None) -> bool:
    """Whether these neurons are the kernel's: float32, parameters for each channel or for all, no surrogate."""
    if step is None or step.surrogate is not None or not 0 < currents[0].size < MOST:
        return False
    channels = ((), (1,), currents.shape[-1:])
    given = [x for x in (step.decay, step.threshold) if isinstance(x, mx.array)]
    numbers = [x for x in (currents, start, step.poison, *given) if x is not None]
    return all(x.shape in channels for x in given) and all(x.dtype == mx.float32 for x in numbers)


def launch(
    currents: Array,
    start: Array,
    decay: Array,
    threshold: Array,
    poison: Array,
    *,
    resting: bool,
    reset: int,
    rounded: bool,
    compact: bool,
    repeat: int,
) -> tuple[Array, Array]:
    """Spikes (T * repeat, ..., C) and membranes (..., C) of currents (T, ..., C); the others are arrays of one axis."""
    frames, shape = currents.shape[0], currents.shape[1:]
    neurons = currents.size // frames
    sizes = mx.array([neurons, frames, repeat, decay.size, threshold.size], dtype=mx.int64)
    kind = mx.bool_ if compact else mx.float32
    constants = {"RESET": reset, "ROUNDED": rounded, "RESTING": resting, "COMPACT": compact, "SPIKE": kind}
    spikes, membrane = _kernel()(
        inputs=[currents, start, decay, threshold, poison, sizes],
        template=list(constants.items()),
        grid=(neurons, 1, 1),
        threadgroup=(min(THREADS, neurons), 1, 1),
        output_shapes=[(frames * repeat, *shape), shape],
        output_dtypes=[kind, mx.float32],
    )
    return spikes, membrane


def lif(
    step: Recipe,
    currents: Array,
    start: Array | None,
    repeat: int,
    core: Callable[[Recipe, Array, Array | None], tuple[Array, Array]],
) -> tuple[Array, Array]:
    """One launch; derivatives by `core`, the same as operations, which is given the step's numbers as arrays.

    `mx.vmap` has its rule, too, but MLX 0.32 asks what is inside as well, and its kernels have none: an error.
    """
    poison = mx.array(0.0) if step.poison is None else step.poison
    begin = mx.zeros((1,)) if start is None else mx.broadcast_to(start, currents.shape[1:])
    numbers = [mx.array(x, dtype=mx.float32) for x in (step.decay, step.threshold)]

    def plain(currents: Array, start_: Array, decay: Array, threshold: Array, poison: Array) -> tuple[Array, Array]:
        changed = step._replace(decay=decay, threshold=threshold, poison=poison)
        return core(changed, currents, None if start is None else start_)

    def kernel(*given: Array) -> tuple[Array, Array]:
        # forward mode walks through a function, though it has a rule of its own, and kernels have none
        currents, start_, *rest = map(mx.stop_gradient, given)
        return launch(
            currents,
            start_,
            *(mx.reshape(x, (-1,)) for x in rest),
            resting=start is None,
            reset=int(step.reset),
            rounded=step.rounded,
            compact=step.compact,
            repeat=repeat,
        )

    fused: Any = mx.custom_function(kernel)

    @fused.vjp  # type: ignore[untyped-decorator]
    def backward(primals: Sequence[Array], cotangents: Sequence[Array], _: Any) -> Any:
        return tuple(mx.vjp(plain, list(primals), list(cotangents))[1])

    @fused.jvp  # type: ignore[untyped-decorator]
    def forward(primals: Sequence[Array], tangents: Sequence[Array | None]) -> Any:
        filled = [mx.zeros_like(x) if t is None else t for x, t in zip(primals, tangents, strict=True)]
        return tuple(mx.jvp(plain, list(primals), filled)[1])

    @fused.vmap  # type: ignore[untyped-decorator]
    def batched(primals: Sequence[Array], axes: Sequence[int | None]) -> Any:
        return mx.vmap(plain, in_axes=tuple(axes))(*primals), (0, 0)

    spikes, membrane = fused(currents, begin, *numbers, poison)
    return spikes, membrane
