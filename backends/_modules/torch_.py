"""What PyTorch's layers are made of: parameters and buffers of a `LayerSpec`, batch statistics, functions between layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tacops._backend.dispatch import backend_of
from tacops._core.checks import fail, show
from tacops._core.grid import Grid
from tacops._core.train import SpikeTrain
from tacops._layers.forward import run, spikes_of
from tacops._layers.mapping import freeze_layer
from tacops._layers.sequence import Wrapped
from tacops._layers.spec import STATISTICS, Initial, LayerSpec
from tacops.layers import FrozenLayer

from .._torch.pytree import name_trains

__all__ = ["Function", "Layer", "Norm"]

for _type in (torch.Tensor, nn.Parameter):
    backend_of(_type(torch.empty(0)))  # the first call loads the backend, and torch.compile can't follow an import


name_trains()

OWN = ("norm_scale", *STATISTICS, "beta_logit", "threshold_log", "aggregation_logits")
"""Names that the arrays of a layer may have beside those of PyTorch's convolutions, `weight` and `bias`."""


class Norm(nn.modules.batchnorm._BatchNorm):  # type: ignore[misc]
    """What PyTorch's tools look for in a layer with batch statistics, `torch.optim.swa_utils.update_bn` first of all.

    It holds no array: the statistics are its layer's. Its mode and its momentum are those that count.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = (layer,)  # in a tuple, because a module's attributes that are modules are its children
        self.batches = 0
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

    def share(self) -> float:
        """Share of the running statistics that this batch replaces; without momentum, of all batches alike."""
        if self.momentum is not None:
            return float(self.momentum)
        self.batches += 1
        return 1.0 / self.batches

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (PyTorch's name)
        """No layer of its own."""
        raise NotImplementedError("a layer's norm is computed by the layer; it can't be called")


class Layer(nn.Module):  # type: ignore[misc]
    """Parameters and buffers of a `LayerSpec`."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        for name, initial in spec.initial().items():
            value = self._initial(initial)
            if name in STATISTICS:
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))
        if spec.norm:
            self.norm = Norm(self)

    def _initial(self, initial: Initial) -> torch.Tensor:
        if initial.values is None:
            return torch.empty(initial.shape).uniform_(-self.spec.limit, self.spec.limit)
        return torch.tensor(initial.values).expand(initial.shape).clone()

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
        training, momentum = self._mode() if self.spec.norm else (False, None)
        options = {"training": training, "momentum": momentum, "lengths": lengths, "trace": trace}
        train, statistics = run(self.spec, arrays, spikes_of(spikes), membrane, **options)
        for name, value in statistics.items():
            self.array(name).copy_(value)
        return train

    def _mode(self) -> tuple[bool, float | None]:
        """Whether statistics are those of the batch, and the share of the running ones that they replace."""
        norm = self.norm
        if not isinstance(norm, Norm):
            rule = "the layer's own; SyncBatchNorm has no place in it (each process has statistics of its own batch)"
            raise fail(self.spec.layer, "norm", rule, type(norm).__name__, TypeError)
        return norm.training, norm.share() if norm.training else None

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
