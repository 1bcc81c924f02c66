"""What operators and layers return, named for PyTorch's exporters: any NamedTuple is a tree, but files need its name.

Importing this file registers them, so that ``torch.export.save`` and AOTInductor can write programs that return them.
"""

from __future__ import annotations

from torch.utils import _pytree as pytree

import tacops

__all__ = ["TRAINS"]

TRAINS = tuple(getattr(tacops, name) for name in ("SpikeTrain", "TracedSpikeTrain") if hasattr(tacops, name))

for _type in TRAINS:
    # NamedTuples can be registered by the private function alone; PyTorch's public ones refuse them or lose their names
    if _type not in pytree.SUPPORTED_SERIALIZED_TYPES:
        pytree._register_namedtuple(_type, serialized_type_name=f"tacops.{_type.__name__}")
