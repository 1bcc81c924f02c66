"""Neurons that learn on CPUs: the compiled loops of ``_cpu/``, which keep the currents alone and compute membranes once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .._cpu.tiles import scan_tiles
from .._cpu.training import can_train, neurons_back
from .host import is_beyond_loops as is_beyond
from .host import is_traced, shares_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tacops._backend.protocol import Array
    from tacops._backend.steps import Recipe

__all__ = ["back", "forth", "is_beyond", "results", "takes"]

_DTYPES: dict[Any, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


def takes(step: Recipe, tensors: Sequence[Array]) -> bool:
    """Whether the loops know a step, and can read the tensors."""
    if step.poison is not None or tensors[0].dtype not in _DTYPES or any(map(is_traced, tensors)):
        return False
    return all(map(shares_memory, tensors)) and can_train(_DTYPES[tensors[0].dtype])


def results(currents: Array, repeat: int, compact: bool, keep: bool) -> tuple[Array, Array, Array]:
    """Empty ones of `forth`."""
    shape = (currents.shape[0] * repeat, *currents.shape[1:])
    spikes = currents.new_empty(shape, dtype=torch.bool if compact else currents.dtype)
    return spikes, currents.new_empty(currents.shape[1:]), currents.new_empty(0)


def forth(step: Recipe, currents: Array, membrane: Array | None, repeat: int, keep: bool) -> tuple[Array, Array, Array]:
    """Spikes, the last membranes, and nothing else."""
    with np.errstate(all="ignore"):
        found = scan_tiles(_array(currents), _as_arrays(step), _array(membrane), repeat, torch.get_num_threads())
    return torch.from_numpy(found[0]), torch.from_numpy(found[1]), currents.new_empty(0)


def back(
    step: Recipe,
    surrogate: tuple[str, float],
    currents: Array,
    kept: Array,
    membrane: Array | None,
    repeat: int,
    to_spikes: Array | None,
    to_membrane: Array | None,
    parameters: tuple[bool, bool],
) -> tuple[Array | None, ...]:
    """Gradients by currents, membrane, decay and threshold."""
    last = torch.zeros_like(currents[0]) if to_membrane is None else to_membrane
    given = _array(currents), _array(membrane), repeat, _array(_whole(to_spikes)), _array(last)
    with np.errstate(all="ignore"):
        found = neurons_back(_as_arrays(step), surrogate, *given, parameters, torch.get_num_threads())
    return tuple(None if x is None else torch.from_numpy(np.asarray(x)).to(currents.dtype) for x in found)


def _as_arrays(step: Recipe) -> Recipe:
    arrays = {name: _array(getattr(step, name)) for name in ("decay", "threshold", "unit")}
    return step._replace(**arrays)


def _array(x: Any) -> Any:
    return x.detach().numpy() if isinstance(x, torch.Tensor) else x


def _whole(x: Array | None) -> Array | None:
    """Contiguous, but for one number that stands for all."""
    return x if x is None or not any(x.stride()) else x.contiguous()
