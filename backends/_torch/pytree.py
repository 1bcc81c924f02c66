"""What operators and layers return, named for PyTorch's exporters: any NamedTuple is a tree, but a file needs its name."""

from __future__ import annotations

from torch.utils import _pytree as pytree

from tacops._core.train import SpikeTrain, TracedSpikeTrain

__all__ = ["name_trains"]


def name_trains() -> None:
    """Let ``torch.export.save`` and AOTInductor write programs that return a SpikeTrain; a second call does nothing."""
    for train in (SpikeTrain, TracedSpikeTrain):
        if train not in pytree.SUPPORTED_SERIALIZED_TYPES:
            # the private function, because PyTorch's public ones do not take NamedTuples
            pytree._register_namedtuple(train, serialized_type_name=f"tacops.{train.__name__}")
