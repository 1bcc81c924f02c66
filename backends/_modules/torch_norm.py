"""Batch statistics of PyTorch's layers: as PyTorch's tools find them, and of all processes together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tacops._layers.spec import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tacops._layers.mapping import TrainableLayer

__all__ = ["Norm"]


class Norm(nn.modules.batchnorm._BatchNorm):  # type: ignore[misc]
    """What PyTorch's tools look for in a layer with batch statistics, `torch.optim.swa_utils.update_bn` first of all.

    It holds no array: the statistics are its layer's. Its mode and its momentum are those that count, and its `sync`: whether
    the statistics are those of all processes of its `process_group` (None: of all).
    """

    sync = False  # of the class, too: a norm that was pickled when there was no choice has none of its own
    process_group: Any = None

    def __init__(self, layer: TrainableLayer, sync: bool) -> None:
        self._layer = (layer,)  # in a tuple, because a module's attributes that are modules are its children
        self.batches = 0
        self.sync = sync
        spec = layer.spec
        norm = spec.norm
        assert norm is not None
        super().__init__(spec.channels_out, norm.epsilon, norm.momentum, affine=False, track_running_stats=False)

    def reset_running_stats(self) -> None:
        """Forget all batches."""
        self.batches = 0
        for name, initial in self._layer[0].spec.initial().items():
            if name in STATISTICS:
                self._layer[0].array(name).fill_(initial.values)

    def synchronised(self, found: nn.SyncBatchNorm) -> Norm:
        """The same norm, as ``convert_sync_batchnorm`` has made `found` of it."""
        self.sync, self.process_group = True, found.process_group
        return self

    def share(self) -> float:
        """Share of the running statistics that this batch replaces; without momentum, of all batches alike."""
        if self.momentum is not None:
            return float(self.momentum)
        self.batches += 1
        return 1.0 / self.batches

    def everywhere(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """The sum over all processes, where there are several and their statistics are one."""
        if not self.sync or not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return None
        group = self.process_group
        if torch.distributed.get_world_size(group) == 1:
            return None
        return lambda x: _Everywhere.apply(x, group)

    def extra_repr(self) -> str:
        """As of every norm, and whether it is that of all processes."""
        return f"{super().extra_repr()}, sync={self.sync}"

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (PyTorch's name)
        """No layer of its own."""
        raise NotImplementedError("a layer's norm is computed by the layer; it can't be called")


class _Everywhere(torch.autograd.Function):  # type: ignore[misc]
    """The sum over processes; each one's part has as its gradient, and as its tangent, the sum of theirs.

    In the form that `torch.func` takes, too: what the backward pass needs is put aside in `setup_context`.
    """

    @staticmethod
    def forward(x: torch.Tensor, group: Any) -> torch.Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, Any], output: torch.Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Everywhere.apply(gradient, ctx.group), None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, _: None) -> torch.Tensor:
        return _Everywhere.apply(tangent, ctx.group)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], x: torch.Tensor, group: Any) -> tuple[torch.Tensor, int]:
        return _Everywhere.apply(x, group), in_dims[0]
