"""What PyTorch's layers are made of: parameters and buffers of a `LayerSpec`, functions between layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tacops._backend.dispatch import backend_of
from tacops._core.checks import check_flag, fail, show
from tacops._core.grid import Grid
from tacops._core.train import SpikeTrain
from tacops._layers.forward import run, spikes_of
from tacops._layers.mapping import freeze_layer
from tacops._layers.sequence import Wrapped
from tacops._layers.spec import STATISTICS, Initial, LayerSpec
from tacops.layers import FrozenLayer

from .._torch.pytree import name_trains
from .torch_norm import Norm

__all__ = ["Function", "Layer"]

for _type in (torch.Tensor, nn.Parameter):
    backend_of(_type(torch.empty(0)))  # the first call loads the backend, and torch.compile can't follow an import


name_trains()

OWN = ("norm_scale", *STATISTICS, "beta_logit", "threshold_log", "aggregation_logits")
"""Names that the arrays of a layer may have beside those of PyTorch's convolutions, `weight` and `bias`."""


class Layer(nn.Module):  # type: ignore[misc]
    """Parameters and buffers of a `LayerSpec`."""

    def __init__(self, spec: LayerSpec, sync: bool = False) -> None:
        super().__init__()
        self.spec = spec
        if check_flag(spec.layer, "sync", sync) and not spec.norm:
            raise fail(spec.layer, "sync", "False without batch_norm=True: there are no statistics to share", sync)
        for name, initial in spec.initial().items():
            value = self._initial(initial)
            if name in STATISTICS:
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))
        if spec.norm:
            self.norm = Norm(self, sync)

    def _initial(self, initial: Initial) -> torch.Tensor:
        if initial.values is None:
            return torch.empty(initial.shape).uniform_(-self.spec.limit, self.spec.limit)
        # contiguous: a single number would keep the stride 0 of its expansion, which DistributedDataParallel warns of
        return torch.tensor(initial.values).expand(initial.shape).clone(memory_format=torch.contiguous_format)

    def array(self, name: str) -> torch.Tensor:
        """A parameter or buffer; whole, where FSDP has cut it and not put it together for a forward pass."""
        value = getattr(self, name)
        return value.full_tensor() if hasattr(value, "full_tensor") else value

    def assign(self, name: str, value: Any) -> None:
        """Copy a NumPy array into it."""
        own, whole = getattr(self, name), torch.from_numpy(np.array(value))
        if hasattr(own, "full_tensor"):
            from torch.distributed.tensor import distribute_tensor

            whole = distribute_tensor(whole.to(own.device), own.device_mesh, own.placements)
        with torch.no_grad():
            own.copy_(whole)

    def forward(
        self,
        spikes: torch.Tensor | SpikeTrain,
        *,
        membrane: torch.Tensor | None = None,
        lengths: Any = None,
        trace: bool = False,
    ) -> SpikeTrain:
        """Spikes and membrane of spikes (T, B, ...), or of another layer's train, from `membrane` or from zero.

        `lengths` and `trace` are the operators'.
        """
        arrays = {name: self.array(name) for name in self.spec.initial()}
        options = {**self._mode(), "lengths": lengths, "trace": trace}
        train, statistics = run(self.spec, arrays, spikes_of(spikes), membrane, **options)
        for name, value in statistics.items():
            self.array(name).copy_(value)
        return train

    def _mode(self) -> dict[str, Any]:
        """Whether statistics are those of the batch, of which processes, and the share of the running ones that they replace."""
        if not self.spec.norm:
            return {"training": False}
        norm = self.norm
        if not isinstance(norm, Norm):
            rule = "the layer's own (convert_sync_batchnorm takes the layer, or a module that contains it)"
            raise fail(self.spec.layer, "norm", rule, type(norm).__name__, TypeError)
        if not norm.training:
            return {"training": False}
        return {"training": True, "momentum": norm.share(), "everywhere": norm.everywhere()}

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """As of every module; what ``SyncBatchNorm.convert_sync_batchnorm`` puts into the norm's place is understood."""
        if name == "norm" and isinstance(module, nn.SyncBatchNorm) and isinstance(self.norm, Norm):
            module = self.norm.synchronised(module)
        super().add_module(name, module)

    _version = 2  # what a state_dict says of this module; PyTorch's own, and ours of old, are 1

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local: dict[str, Any], *args: Any) -> None:
        """As of every module; a ``Conv2d``'s too, and files from before `beta_logit` and `threshold_log` had a dimension."""
        weight, own = state_dict.get(prefix + "weight"), self.weight.shape
        ours = any(prefix + name in state_dict for name in OWN)  # what no convolution of PyTorch's has
        if isinstance(weight, torch.Tensor) and weight.ndim == len(own) > 2 and not ours:
            foreign = (own[0], own[-1], *own[1:-1])
            # a shape may be both, of three channels and a 3 x 3 kernel
            if weight.shape == foreign and (foreign != own or local.get("version") == 1):
                state_dict[prefix + "weight"] = weight.movedim(1, -1)
        for name, initial in self.spec.initial().items():
            value = state_dict.get(prefix + name)
            if initial.shape == (1,) and isinstance(value, torch.Tensor) and value.ndim == 0:
                state_dict[prefix + name] = value.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, local, *args)

    def frozen(self, *, reproducible: bool | Grid | None = None) -> FrozenLayer:
        """The layer for inference, on arrays of any library."""
        return freeze_layer(self, reproducible)

    def extra_repr(self) -> str:
        """Sizes, and how time is treated."""
        return self.spec.summary


class Function(Wrapped, nn.Module):  # type: ignore[misc]
    """A function in a list of modules."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, spikes: Any) -> Any:
        """What the function makes of spikes."""
        return self.function(spikes)

    def extra_repr(self) -> str:
        """Which one."""
        return show(self.function)
