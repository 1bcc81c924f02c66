"""What a mistake looks like that many make, and what would mend it."""

from __future__ import annotations

from typing import Any

__all__ = ["layout_hint", "uncalled"]

MAKERS = "tacops.surrogate"
"""The module whose functions make surrogates."""


def layout_hint(shape: tuple[int, ...], channels: int, axis: int, weight: tuple[int, ...], groups: int) -> str:
    """What to do where channels are elsewhere: in the spikes, in the weight, or in both."""
    here, there = ("channels_first", "channels_last") if axis == 2 else ("channels_last", "channels_first")
    ours, theirs = ("(C_out, C_in, *kernel)", "(C_out, *kernel, C_in)")[:: 1 if axis == 2 else -1]
    other = -1 if axis == 2 else 2
    meant = weight[-1 if axis == 2 else 1] * groups if weight else 0  # channels if the weight is of the other layout
    if shape[other] == channels:
        return f" (this fits layout={there!r})"
    if shape[other] == meant:
        return f" and a weight of shape {weight}: both fit layout={there!r}"
    if shape[axis] == meant:
        return f" and a weight of shape {weight}, which is {theirs}: layout={here!r} needs {ours}"
    return ""


def uncalled(surrogate: Any) -> str:
    """The name of what makes surrogates, where it is given itself instead of what it makes; else nothing."""
    made_there = getattr(surrogate, "__module__", "") == MAKERS
    return str(surrogate.__qualname__) if made_there and hasattr(surrogate, "__qualname__") else ""
